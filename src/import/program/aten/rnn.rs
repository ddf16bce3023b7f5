//! Recurrent layers.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::{Cell, CellWeights, Recurrent, Var};
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.lstm.input" => |call| layers(call, Cell::Lstm),
        "aten.gru.input" => |call| layers(call, Cell::Gru),
        "aten.rnn_tanh.input" => |call| layers(call, Cell::Tanh),
        "aten.rnn_relu.input" => |call| layers(call, Cell::Relu),
        "aten.lstm_cell.default" => |call| cell(call, Cell::Lstm),
        "aten.gru_cell.default" => |call| cell(call, Cell::Gru),
        "aten.rnn_tanh_cell.default" => |call| cell(call, Cell::Tanh),
        "aten.rnn_relu_cell.default" => |call| cell(call, Cell::Relu),
        _ => return None,
    })
}

/// One step: a layer over a sequence of one.
fn cell(call: &mut Call<'_, '_>, cell: Cell) -> Result<Out> {
    let input = call.x("input")?;
    let states = match cell {
        Cell::Lstm => call.xs("hx")?,
        _ => vec![call.x("hx")?],
    };
    let mut sequence = |x: &X| {
        let shape = [&[1], &call.build.shape(x)[..]].concat();
        let x = call.build.reshape(x, &shape)?;
        call.build.var(&x)
    };
    let x = sequence(&input)?;
    let states = states.iter().map(sequence).collect::<Result<Vec<_>>>()?;
    let mut weight = |name: &str| -> Result<Option<Var>> { call.opt_x(name)?.map(|x| call.build.var(&x)).transpose() };
    let missing = || Error::invalid("a weight is missing");
    let weights = vec![CellWeights {
        input: weight("w_ih")?.ok_or_else(missing)?,
        hidden: weight("w_hh")?.ok_or_else(missing)?,
        input_bias: weight("b_ih")?,
        hidden_bias: weight("b_hh")?,
        projection: None,
    }];
    let layers = Recurrent { cell, weights, bidirectional: false, batch_first: false };
    let (_, last) = layers.run(&mut *call.build.graph, x, Some(&states))?;
    let step = |var: Var| {
        let x = X::var(var, input.dtype);
        let shape = call.build.shape(&x)[1..].to_vec();
        call.build.reshape(&x, &shape)
    };
    last.into_iter().map(step).collect::<Result<_>>().map(Out::Xs)
}

fn layers(call: &mut Call<'_, '_>, cell: Cell) -> Result<Out> {
    if call.bool_or("train", false)? && call.float_or("dropout", 0.0)? != 0.0 {
        return Err(Error::unsupported("dropout in training mode").help("call `model.eval()` before the export"));
    }
    let input = call.x("input")?;
    let states = match cell {
        Cell::Lstm => call.xs("hx")?,
        _ => vec![call.x("hx")?],
    };
    let states = states.iter().map(|state| call.build.var(state)).collect::<Result<Vec<_>>>()?;
    let bidirectional = call.bool_or("bidirectional", false)?;
    let count = usize::try_from(call.int("num_layers")?).unwrap_or(0) * (1 + usize::from(bidirectional));
    let layers = Recurrent {
        cell,
        weights: weights(call, count)?,
        bidirectional,
        batch_first: call.bool_or("batch_first", false)?,
    };
    let x = call.build.var(&input)?;
    let (output, last) = layers.run(&mut *call.build.graph, x, Some(&states))?;
    Ok(Out::Xs([output].into_iter().chain(last).map(|var| X::var(var, input.dtype)).collect()))
}

fn weights(call: &mut Call<'_, '_>, count: usize) -> Result<Vec<CellWeights>> {
    let has_biases = call.bool_or("has_biases", true)?;
    let params = call.xs("params")?;
    let params = params.iter().map(|param| call.build.var(param)).collect::<Result<Vec<_>>>()?;
    let plain = if has_biases { 4 } else { 2 };
    let each = params.len() / count.max(1);
    if count == 0 || params.len() != each * count || !(each == plain || each == plain + 1) {
        return Err(Error::invalid(format!("{} weights for {count} layers and directions", params.len())));
    }
    let one = |params: &[Var]| CellWeights {
        input: params[0],
        hidden: params[1],
        input_bias: has_biases.then(|| params[2]),
        hidden_bias: has_biases.then(|| params[3]),
        projection: params.get(plain).copied(),
    };
    Ok(params.chunks(each).map(one).collect())
}
