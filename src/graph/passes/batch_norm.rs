//! Writes BatchNorm as a multiplication and an addition per channel, which the next passes fold or fuse.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::Op;
use crate::graph::{Graph, Var};

pub(super) fn decompose(graph: &Graph) -> Result<Graph> {
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        match graph.node(var).op {
            Op::BatchNorm { eps } => {
                let inputs: Vec<Var> = graph.node(var).inputs.iter().map(|&x| rewrite.get(x)).collect();
                let y = write(&mut rewrite.new, &inputs, eps)?;
                rewrite.new.nodes[y.0 as usize].name = graph.node(var).name.clone();
                rewrite.set(var, y);
            }
            _ => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

/// `x * scale + shift` with `scale = weight / sqrt(var + eps)` and `shift = bias - mean * scale`.
fn write(graph: &mut Graph, inputs: &[Var], eps: f32) -> Result<Var> {
    let &[x, mean, var, weight, bias] = inputs else { unreachable!("batch_norm has five inputs") };
    let var = graph.add_scalar(var, eps)?;
    let inverse = graph.rsqrt(var)?;
    let scale = graph.mul(weight, inverse)?;
    let product = graph.mul(mean, scale)?;
    let shift = graph.sub(bias, product)?;
    let mut per_channel = vec![1; graph.shape(x).len() - 1];
    per_channel[0] = -1;
    let scale = graph.reshape(scale, &per_channel)?;
    let shift = graph.reshape(shift, &per_channel)?;
    let y = graph.mul(x, scale)?;
    graph.add(y, shift)
}
