//! Integers in the graph are floats, which hold them exactly up to 2^24. How large each value can be is followed through
//! the graph; a result that may be larger gets a check, so that a rounded integer is an error of the run.

use super::build::Build;
use super::value::{Data, X};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::op::{Binary, Op, PadMode, Reduce, Unary};
use crate::graph::{Graph, Var};
use crate::tensor::Tensor;

/// What an `f32` counts to without leaving out any.
const EXACT: f64 = (1 << 24) as f64;

/// What an `f16` counts to.
const EXACT_IN_HALF: f64 = (1 << 11) as f64;

/// The most elements of a constant that are looked at.
const MAX_SEEN: usize = 1 << 16;

/// The step's name, with which its error begins.
const CHECK: &str = "an integer of 2^24 or more";
const CHECK_IN_HALF: &str = "an integer of 2^11 or more, which f16 rounds";

impl Build<'_> {
    /// What the device's floats count to.
    pub(super) fn exact(&self) -> f64 {
        exact(self.graph)
    }

    pub(super) fn exact_shown(&self) -> &'static str {
        if self.graph.is_half { "2^11 in f16" } else { "2^24" }
    }

    /// The largest size that the finite elements can have, whole numbers unless the dtype is a float.
    pub(super) fn reach(&mut self, x: &X) -> f64 {
        let own = match &x.data {
            Data::Host(host) => (0..host.len()).fold(0.0, |most, i| f64::max(most, host.at(i).abs())),
            &Data::Var(var) => self.reach_of(var),
        };
        own.min(match x.dtype {
            DType::Bool => 1.0,
            DType::U8 => 255.0,
            DType::I8 => 128.0,
            DType::I16 => 32768.0,
            dtype if dtype.is_float() => f64::INFINITY,
            _ => self.exact(),
        })
    }

    fn reach_of(&mut self, var: Var) -> f64 {
        let known = self.bounds.len();
        for var in self.graph.vars().skip(known) {
            let bound = bound(self.graph, &self.bounds, var);
            self.bounds.push(if bound.is_nan() { f64::INFINITY } else { bound });
        }
        self.bounds[var.index()]
    }

    /// `y`, whose integers may have been rounded where those of `sizes`, as many, reach 2^24: an error of the run.
    /// Infinities come from floats, and stay.
    pub(super) fn guarded(&mut self, y: Var, sizes: Var) -> Result<Var> {
        let (shape, graph) = (self.graph.shape(y).clone(), &mut *self.graph);
        let count = shape.numel();
        if count == 0 {
            return Ok(y);
        }
        let size = graph.abs(sizes)?;
        let limit = graph.scalar(exact(graph) as f32);
        let mut bad = graph.binary(Binary::Ge, size, limit)?;
        // In `f16` they are integers, too.
        if !graph.is_half {
            let largest = graph.scalar(f32::MAX);
            let finite = graph.binary(Binary::Le, size, largest)?;
            bad = graph.mul(bad, finite)?;
        }
        let bad = graph.reshape(bad, &[count as isize])?;
        let bad = graph.float_to_int(bad)?;
        let check = if graph.is_half { CHECK_IN_HALF } else { CHECK };
        // A table of one row, which has no row 1.
        let table = graph.constant(Tensor::new([1], [0f32])?)?;
        let zeros = graph.add_node(Op::IndexSelect { dim: 0 }, vec![table, bad], [count].into(), false, check);
        let signed: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
        let zeros = graph.reshape(zeros, &signed)?;
        graph.add(y, zeros)
    }
}

fn exact(graph: &Graph) -> f64 {
    if graph.is_half { EXACT_IN_HALF } else { EXACT }
}

/// The largest size of a node's finite elements, from those of the nodes before it.
fn bound(graph: &Graph, bounds: &[f64], var: Var) -> f64 {
    let node = graph.node(var);
    let of = |i: usize| bounds[node.inputs[i].index()];
    let len = |i: usize| graph.shape(node.inputs[i]).numel() as f64;
    match &node.op {
        Op::Input if node.is_int => exact(graph),
        Op::Constant(tensor) if tensor.shape().numel() <= MAX_SEEN => match tensor.to_f32() {
            Ok(data) => data.iter().fold(0.0, |most, x| f64::max(most, f64::from(x.abs()))),
            Err(_) => f64::INFINITY,
        },
        Op::Unary(unary) => match *unary {
            Unary::Neg | Unary::Abs | Unary::Relu | Unary::FromInt | Unary::ToInt => of(0),
            Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => of(0).ceil(),
            Unary::Clamp { min, max } => f64::from(min.abs().max(max.abs())),
            Unary::Sigmoid | Unary::Tanh | Unary::Sin | Unary::Cos => 1.0,
            _ => f64::INFINITY,
        },
        Op::Binary(binary) => match binary {
            Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => 1.0,
            Binary::Add | Binary::Sub => of(0) + of(1),
            Binary::Mul => of(0) * of(1),
            Binary::Maximum | Binary::Minimum => of(0).max(of(1)),
            Binary::Keep => of(1),
            _ => f64::INFINITY,
        },
        Op::Reduce { kind: Reduce::Sum, .. } => of(0) * len(0) / (graph.shape(var).numel() as f64).max(1.0),
        Op::Reduce { kind: Reduce::Max | Reduce::Mean, .. } => of(0),
        Op::Cumsum { dim } => of(0) * graph.shape(var)[*dim] as f64,
        Op::Softmax { log: false, .. } => 1.0,
        Op::Reshape | Op::Permute(_) | Op::Expand | Op::Slice { .. } | Op::IndexSelect { .. } => of(0),
        Op::Embedding => of(1),
        Op::Cat { .. } => (0..node.inputs.len()).map(of).fold(0.0, f64::max),
        Op::Pad { mode: PadMode::Constant(value), .. } => of(0).max(f64::from(value.abs())),
        Op::Pad { .. } => of(0),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(graph: &Graph) -> Vec<f64> {
        graph.vars().fold(Vec::new(), |mut bounds, var| {
            bounds.push(bound(graph, &bounds, var));
            bounds
        })
    }

    #[test]
    fn bounds_follow_the_graph() {
        let mut graph = Graph::new();
        let x = graph.input([2, 3].into(), DType::I64);
        let x = graph.int_to_float(x).unwrap();
        let two = graph.scalar(2.0);
        let flag = graph.binary(Binary::Gt, x, two).unwrap();
        let counts = graph.sum(flag, &[1], true).unwrap();
        let shifted = graph.sub(counts, two).unwrap();
        let product = graph.mul(x, shifted).unwrap();
        let y = graph.input([2].into(), DType::F32);
        let all = bounds(&graph);
        for (var, expected) in
            [(x, EXACT), (flag, 1.0), (counts, 3.0), (shifted, 5.0), (product, 5.0 * EXACT), (y, f64::INFINITY)]
        {
            assert_eq!(all[var.index()], expected, "{:?}", graph.node(var).op);
        }
    }
}
