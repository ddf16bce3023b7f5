//! Folds multiplications and additions by a constant per output channel into the convolution or linear layer before
//! them: into the scale of its weight and into its bias. BatchNorm and layer scale disappear so.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::{Binary, Fused, Op, Residual};
use crate::graph::{Graph, Node, Var};

pub(super) fn fold(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        let folded = match candidate(graph, &uses, var) {
            Some((binary, producer, constant)) => fold_one(&mut rewrite, binary, producer, constant)?,
            None => None,
        };
        match folded {
            Some(new) => rewrite.set(var, new),
            None => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

/// What `var` is when it combines a convolution or linear layer that nothing else uses with a constant: the function,
/// the layer and the constant.
fn candidate(graph: &Graph, uses: &[usize], var: Var) -> Option<(Binary, Var, Var)> {
    let node = graph.node(var);
    let Op::Binary(binary @ (Binary::Add | Binary::Sub | Binary::Mul)) = node.op else { return None };
    let (a, b) = (node.inputs[0], node.inputs[1]);
    // The layer may be on either side of a commutative function. Whether it is a layer by now is seen in the new
    // graph, where an earlier fold has put it.
    let pairs = if binary == Binary::Sub { vec![(a, b)] } else { vec![(a, b), (b, a)] };
    pairs
        .into_iter()
        .find(|&(x, c)| {
            let constant = graph.node(c).is_constant && !graph.node(x).is_constant;
            constant && uses[x.0 as usize] == 1 && graph.shape(x) == &node.shape
        })
        .map(|(x, c)| (binary, x, c))
}

fn fold_one(rewrite: &mut Rewrite<'_>, binary: Binary, layer: Var, constant: Var) -> Result<Option<Var>> {
    let (layer, constant) = (rewrite.get(layer), rewrite.get(constant));
    let graph = &mut rewrite.new;
    let node = graph.node(layer).clone();
    let (fused, channel_dim) = match &node.op {
        Op::Conv2d(_, fused) => (*fused, 1),
        Op::Linear(fused) => (*fused, node.shape.len() - 1),
        _ => return Ok(None),
    };
    if fused.activation.is_some() || fused.residual != Residual::None {
        return Ok(None);
    }
    let channels = node.shape[channel_dim];
    let Some(constant) = per_channel(graph, constant, &node, channel_dim, channels)? else { return Ok(None) };
    let (mut scale, mut bias) =
        (fused.scale_index().map(|i| node.inputs[i]), fused.bias_index().map(|i| node.inputs[i]));
    match binary {
        Binary::Mul => {
            scale = Some(scale.map_or(Ok(constant), |scale| graph.mul(scale, constant))?);
            bias = bias.map(|bias| graph.mul(bias, constant)).transpose()?;
        }
        Binary::Sub => {
            bias = Some(match bias {
                Some(bias) => graph.sub(bias, constant)?,
                None => graph.neg(constant)?,
            });
        }
        _ => bias = Some(bias.map_or(Ok(constant), |bias| graph.add(bias, constant))?),
    }
    let fused = Fused { scale: scale.is_some(), bias: bias.is_some(), ..fused };
    let op = match &node.op {
        Op::Conv2d(conv, _) => Op::Conv2d(conv.clone(), fused),
        _ => Op::Linear(fused),
    };
    let inputs = node.inputs[..2].iter().copied().chain(scale).chain(bias).collect();
    Ok(Some(graph.add_node(op, inputs, node.shape.clone(), false, &node.name)))
}

/// The constant as `[channels]`, if it is one number or one number per channel of `layer`'s output.
fn per_channel(
    graph: &mut Graph,
    constant: Var,
    layer: &Node,
    channel_dim: usize,
    channels: usize,
) -> Result<Option<Var>> {
    let shape = graph.shape(constant).clone();
    let lead = layer.shape.len() - shape.len();
    let only_channels = (0..shape.len()).all(|d| shape[d] == 1 || (d + lead == channel_dim && shape[d] == channels));
    if !only_channels {
        return Ok(None);
    }
    let flat = graph.reshape(constant, &[-1])?;
    graph.expand(flat, &[channels as isize]).map(Some)
}
