//! Recurrent layers, step by step: the products with the input are one for all steps.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::op::Unary;
use crate::import::program::alias::ViewOp;
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.lstm.input" => |call| layers(call, Cell::Lstm),
        "aten.gru.input" => |call| layers(call, Cell::Gru),
        "aten.rnn_tanh.input" => |call| layers(call, Cell::Plain(Unary::Tanh)),
        "aten.rnn_relu.input" => |call| layers(call, Cell::Plain(Unary::Relu)),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
enum Cell {
    Lstm,
    Gru,
    Plain(Unary),
}

/// The weights of one direction of one layer.
struct Weights {
    input: X,
    hidden: X,
    input_bias: Option<X>,
    hidden_bias: Option<X>,
    projection: Option<X>,
}

fn layers(call: &mut Call<'_, '_>, cell: Cell) -> Result<Out> {
    if call.bool_or("train", false)? && call.float_or("dropout", 0.0)? != 0.0 {
        return Err(Error::unsupported("dropout in training mode").help("call `model.eval()` before the export"));
    }
    let mut x = call.x("input")?;
    let states = match cell {
        Cell::Lstm => call.xs("hx")?,
        _ => vec![call.x("hx")?],
    };
    let has_biases = call.bool_or("has_biases", true)?;
    let count = usize::try_from(call.int("num_layers")?).unwrap_or(0);
    let directions = 1 + usize::from(call.bool_or("bidirectional", false)?);
    let mut weights = weights(call, count * directions, has_biases)?.into_iter();
    // Without a batch there are two dimensions; the steps come first.
    let batched = call.build.rank(&x) == 3;
    if !batched {
        let [steps, size] = call.build.shape(&x)[..] else {
            return Err(Error::shape("an input with other than two or three dimensions"));
        };
        x = call.build.reshape(&x, &[steps, 1, size])?;
    }
    let batch_first = batched && call.bool_or("batch_first", false)?;
    if batch_first {
        x = call.build.view(&x, &ViewOp::Permute(vec![1, 0, 2]))?;
    }
    let mut last: Vec<Vec<X>> = vec![Vec::new(); states.len()];
    for layer in 0..count {
        let mut sides = Vec::new();
        for direction in 0..directions {
            let index = layer * directions + direction;
            let start = states.iter().map(|state| state_of(call, state, index)).collect::<Result<Vec<_>>>()?;
            let weights = weights.next().expect("counted above");
            let (steps, end) = run(call, cell, &x, start, &weights, direction == 1)?;
            sides.push(call.build.cat(&steps, 0)?);
            last.iter_mut().zip(end).for_each(|(all, state)| all.push(state));
        }
        x = if sides.len() == 1 { sides.remove(0) } else { call.build.cat(&sides, 2)? };
    }
    if batch_first {
        x = call.build.view(&x, &ViewOp::Permute(vec![1, 0, 2]))?;
    }
    let mut out = vec![x];
    for states in last {
        let states = states
            .iter()
            .map(|state| {
                let shape = call.build.shape(state);
                call.build.reshape(state, &[1, shape[0], shape[1]])
            })
            .collect::<Result<Vec<_>>>()?;
        out.push(call.build.cat(&states, 0)?);
    }
    if !batched {
        for x in &mut out {
            let shape = call.build.shape(x);
            *x = call.build.reshape(x, &[shape[0], shape[2]])?;
        }
    }
    Ok(Out::Xs(out))
}

fn weights(call: &mut Call<'_, '_>, count: usize, has_biases: bool) -> Result<Vec<Weights>> {
    let params = call.xs("params")?;
    let plain = if has_biases { 4 } else { 2 };
    let each = params.len() / count.max(1);
    if count == 0 || params.len() != each * count || !(each == plain || each == plain + 1) {
        return Err(Error::invalid(format!("{} weights for {count} layers and directions", params.len())));
    }
    let one = |params: &[X]| Weights {
        input: params[0].clone(),
        hidden: params[1].clone(),
        input_bias: has_biases.then(|| params[2].clone()),
        hidden_bias: has_biases.then(|| params[3].clone()),
        projection: params.get(plain).cloned(),
    };
    Ok(params.chunks(each).map(one).collect())
}

/// The state `[batch, size]` of a layer and direction.
fn state_of(call: &mut Call<'_, '_>, states: &X, index: usize) -> Result<X> {
    let shape = call.build.shape(states);
    let state = call.build.view(states, &ViewOp::Slice { dim: 0, start: index, step: 1, len: 1 })?;
    match shape[..] {
        [_, batch, size] => call.build.reshape(&state, &[batch, size]),
        [_, size] => call.build.reshape(&state, &[1, size]),
        _ => Err(Error::shape(format!("a state of {shape:?}"))),
    }
}

fn product(call: &mut Call<'_, '_>, x: &X, weight: &X, bias: Option<&X>) -> Result<X> {
    let dtype = x.dtype;
    let build = &mut *call.build;
    let (x, weight) = (build.var(x)?, build.var(weight)?);
    let bias = bias.map(|bias| build.var(bias)).transpose()?;
    Ok(X::var(build.graph.linear(x, weight, bias)?, dtype))
}

/// The outputs of all steps, `[1, batch, size]` each, and the last states.
fn run(
    call: &mut Call<'_, '_>,
    cell: Cell,
    x: &X,
    mut states: Vec<X>,
    weights: &Weights,
    backwards: bool,
) -> Result<(Vec<X>, Vec<X>)> {
    let [steps, batch, _] = call.build.shape(x)[..] else {
        return Err(Error::shape("an input with other than three dimensions"));
    };
    let gates = product(call, x, &weights.input, weights.input_bias.as_ref())?;
    let width = call.build.shape(&gates)[2];
    let mut out = vec![None; steps];
    let order: Vec<usize> = if backwards { (0..steps).rev().collect() } else { (0..steps).collect() };
    for step in order {
        let input = call.build.view(&gates, &ViewOp::Slice { dim: 0, start: step, step: 1, len: 1 })?;
        let input = call.build.reshape(&input, &[batch, width])?;
        let hidden = product(call, &states[0], &weights.hidden, weights.hidden_bias.as_ref())?;
        states = match cell {
            Cell::Lstm => lstm(call, &input, &hidden, &states[1])?,
            Cell::Gru => vec![gru(call, &input, &hidden, &states[0])?],
            Cell::Plain(unary) => {
                let sum = call.build.binary(Bin::Add, &input, &hidden)?;
                vec![call.build.unary(unary, &sum)?]
            }
        };
        if let Some(projection) = &weights.projection {
            states[0] = product(call, &states[0], projection, None)?;
        }
        let size = call.build.shape(&states[0])[1];
        out[step] = Some(call.build.reshape(&states[0], &[1, batch, size])?);
    }
    Ok((out.into_iter().flatten().collect(), states))
}

/// Equal parts along the last dimension.
fn parts<const N: usize>(call: &mut Call<'_, '_>, x: &X) -> Result<[X; N]> {
    let len = call.build.shape(x)[1] / N;
    let part = |i: usize| call.build.view(x, &ViewOp::Slice { dim: 1, start: i * len, step: 1, len });
    let parts = (0..N).map(part).collect::<Result<Vec<_>>>()?;
    Ok(parts.try_into().expect("N parts"))
}

fn lstm(call: &mut Call<'_, '_>, input: &X, hidden: &X, cell: &X) -> Result<Vec<X>> {
    let sum = call.build.binary(Bin::Add, input, hidden)?;
    let [i, f, g, o] = parts(call, &sum)?;
    let build = &mut *call.build;
    let (i, f, o) =
        (build.unary(Unary::Sigmoid, &i)?, build.unary(Unary::Sigmoid, &f)?, build.unary(Unary::Sigmoid, &o)?);
    let g = build.unary(Unary::Tanh, &g)?;
    let kept = build.binary(Bin::Mul, &f, cell)?;
    let new = build.binary(Bin::Mul, &i, &g)?;
    let cell = build.binary(Bin::Add, &kept, &new)?;
    let shown = build.unary(Unary::Tanh, &cell)?;
    Ok(vec![build.binary(Bin::Mul, &o, &shown)?, cell])
}

fn gru(call: &mut Call<'_, '_>, input: &X, hidden: &X, state: &X) -> Result<X> {
    let [ir, iz, inew] = parts(call, input)?;
    let [hr, hz, hnew] = parts(call, hidden)?;
    let build = &mut *call.build;
    let mut gate = |a: &X, b: &X| -> Result<X> {
        let sum = build.binary(Bin::Add, a, b)?;
        build.unary(Unary::Sigmoid, &sum)
    };
    let (reset, update) = (gate(&ir, &hr)?, gate(&iz, &hz)?);
    let part = build.binary(Bin::Mul, &reset, &hnew)?;
    let sum = build.binary(Bin::Add, &inew, &part)?;
    let new = build.unary(Unary::Tanh, &sum)?;
    let difference = build.binary(Bin::Sub, state, &new)?;
    let kept = build.binary(Bin::Mul, &update, &difference)?;
    build.binary(Bin::Add, &new, &kept)
}
