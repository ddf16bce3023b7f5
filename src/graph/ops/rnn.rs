//! Recurrent layers, step by step: the products with the input are one for all steps.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::tensor::Tensor;

/// What a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

impl Cell {
    /// How many times as high as the state the weights are.
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }
}

/// The weights of one direction of one layer, as PyTorch lays them out.
pub(crate) struct CellWeights {
    /// `[gates * hidden, input]`.
    pub(crate) input: Var,
    /// `[gates * hidden, state]`.
    pub(crate) hidden: Var,
    pub(crate) input_bias: Option<Var>,
    pub(crate) hidden_bias: Option<Var>,
    /// `[state, hidden]`: what is shown of an LSTM's state, where it is not all of it.
    pub(crate) projection: Option<Var>,
}

/// Layers of one kind, each over the outputs of the one before it.
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    /// Those of each layer, the two directions of a layer side by side.
    pub(crate) weights: Vec<CellWeights>,
    pub(crate) bidirectional: bool,
    pub(crate) batch_first: bool,
}

impl Recurrent {
    fn directions(&self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// The outputs of all steps `[steps, batch, directions * state]` and the last states `[layers * directions, batch,
    /// state]`, of `x [steps, batch, input]`; the batch may be the first dimension of input and output, or be missing.
    /// Without `states` they begin as zeros. The states of an LSTM are its output and its cell.
    pub(crate) fn run(&self, graph: &mut Graph, x: Var, states: Option<&[Var]>) -> Result<(Var, Vec<Var>)> {
        let rank = graph.shape(x).len();
        if !matches!(rank, 2 | 3) || graph.shape(x).numel() == 0 {
            return Err(Error::shape(format!("a recurrent layer over an input {}", graph.shape(x)))
                .help("expected [steps, batch, input], [batch, steps, input] with `batch_first`, or [steps, input]"));
        }
        let mut x = match rank {
            2 => graph.unsqueeze(x, 1)?,
            _ if self.batch_first => graph.transpose(x, 0, 1)?,
            _ => x,
        };
        let starts = self.starts(graph, graph.shape(x)[1], rank, states)?;
        let mut ends = vec![Vec::new(); starts[0].len()];
        for (layer, start) in self.weights.chunks(self.directions()).zip(starts.chunks(self.directions())) {
            let mut sides = Vec::new();
            for (direction, (weights, start)) in layer.iter().zip(start).enumerate() {
                let (y, end) = self.one(graph, x, start.clone(), weights, direction == 1)?;
                sides.push(y);
                for (all, state) in ends.iter_mut().zip(end) {
                    all.push(graph.unsqueeze(state, 0)?);
                }
            }
            x = graph.cat(&sides, 2)?;
        }
        let mut last = ends.iter().map(|states| graph.cat(states, 0)).collect::<Result<Vec<_>>>()?;
        if rank == 2 {
            x = graph.squeeze(x, 1)?;
            for state in &mut last {
                *state = graph.squeeze(*state, 1)?;
            }
        } else if self.batch_first {
            x = graph.transpose(x, 0, 1)?;
        }
        Ok((x, last))
    }

    /// The first states of each direction of each layer, `[batch, state]` each.
    fn starts(&self, graph: &mut Graph, batch: usize, rank: usize, states: Option<&[Var]>) -> Result<Vec<Vec<Var>>> {
        let mut sizes = vec![graph.shape(self.weights[0].hidden)[1]];
        if self.cell == Cell::Lstm {
            sizes.push(graph.shape(self.weights[0].hidden)[0] / self.cell.gates());
        }
        let count = self.weights.len();
        let Some(states) = states else {
            let zero = |size: &usize| graph.constant(Tensor::zeros(DType::F32, [batch, *size]));
            let zeros = sizes.iter().map(zero).collect::<Result<Vec<_>>>()?;
            return Ok(vec![zeros; count]);
        };
        let mut starts = vec![Vec::new(); count];
        for (&state, &size) in states.iter().zip(&sizes) {
            let expected = if rank == 2 { vec![count, size] } else { vec![count, batch, size] };
            if graph.shape(state)[..] != expected {
                let found = graph.shape(state);
                return Err(Error::shape(format!("a state {found} of a recurrent layer that expects {expected:?}")));
            }
            for (i, start) in starts.iter_mut().enumerate() {
                let one = graph.slice(state, 0, i, i + 1, 1)?;
                start.push(if rank == 2 { one } else { graph.squeeze(one, 0)? });
            }
        }
        Ok(starts)
    }

    /// The outputs of all steps of one direction, `[steps, batch, state]`, and the last states.
    fn one(
        &self,
        graph: &mut Graph,
        x: Var,
        mut states: Vec<Var>,
        weights: &CellWeights,
        backwards: bool,
    ) -> Result<(Var, Vec<Var>)> {
        let steps = graph.shape(x)[0];
        let gates = graph.linear(x, weights.input, weights.input_bias)?;
        let mut outputs = Vec::with_capacity(steps);
        for step in 0..steps {
            let step = if backwards { steps - 1 - step } else { step };
            let input = graph.slice(gates, 0, step, step + 1, 1)?;
            let input = graph.squeeze(input, 0)?;
            let hidden = graph.linear(states[0], weights.hidden, weights.hidden_bias)?;
            states = match self.cell {
                Cell::Lstm => lstm(graph, input, hidden, states[1])?.to_vec(),
                Cell::Gru => vec![gru(graph, input, hidden, states[0])?],
                Cell::Tanh | Cell::Relu => {
                    let sum = graph.add(input, hidden)?;
                    vec![if self.cell == Cell::Tanh { graph.tanh(sum)? } else { graph.relu(sum)? }]
                }
            };
            if let Some(projection) = weights.projection {
                states[0] = graph.linear(states[0], projection, None)?;
            }
            outputs.push(graph.unsqueeze(states[0], 0)?);
        }
        if backwards {
            outputs.reverse();
        }
        Ok((graph.cat(&outputs, 0)?, states))
    }
}

/// Equal parts of `[batch, N * len]`.
fn parts<const N: usize>(graph: &mut Graph, x: Var) -> Result<[Var; N]> {
    let len = graph.shape(x)[1] / N;
    let parts = (0..N).map(|i| graph.slice(x, 1, i * len, (i + 1) * len, 1)).collect::<Result<Vec<_>>>()?;
    Ok(parts.try_into().expect("N parts"))
}

/// [`nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html): what it shows, and its cell.
fn lstm(graph: &mut Graph, input: Var, hidden: Var, cell: Var) -> Result<[Var; 2]> {
    let sum = graph.add(input, hidden)?;
    let [i, f, g, o] = parts(graph, sum)?;
    let [i, f, o] = [graph.sigmoid(i)?, graph.sigmoid(f)?, graph.sigmoid(o)?];
    let g = graph.tanh(g)?;
    let (kept, new) = (graph.mul(f, cell)?, graph.mul(i, g)?);
    let cell = graph.add(kept, new)?;
    let shown = graph.tanh(cell)?;
    Ok([graph.mul(o, shown)?, cell])
}

/// [`nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html).
fn gru(graph: &mut Graph, input: Var, hidden: Var, state: Var) -> Result<Var> {
    let [input_reset, input_update, input_new] = parts(graph, input)?;
    let [hidden_reset, hidden_update, hidden_new] = parts(graph, hidden)?;
    let reset = graph.add(input_reset, hidden_reset)?;
    let reset = graph.sigmoid(reset)?;
    let update = graph.add(input_update, hidden_update)?;
    let update = graph.sigmoid(update)?;
    let new = graph.mul(reset, hidden_new)?;
    let new = graph.add(input_new, new)?;
    let new = graph.tanh(new)?;
    let difference = graph.sub(state, new)?;
    let kept = graph.mul(update, difference)?;
    graph.add(new, kept)
}
