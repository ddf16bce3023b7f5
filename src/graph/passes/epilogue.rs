//! Fuses a residual's addition and an activation into the convolution or linear layer before them.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::{Binary, Fused, Op, Residual, Unary};
use crate::graph::{Graph, Node, Var};

pub(super) fn fuse(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        let node = graph.node(var);
        let fused = match node.op {
            Op::Unary(unary) => with_activation(&rewrite, &uses, node.inputs[0], unary),
            Op::Binary(Binary::Add) => with_residual(&rewrite, &uses, node),
            _ => None,
        };
        match fused {
            Some(node) => {
                let new = rewrite.push(node);
                rewrite.set(var, new);
            }
            None => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

/// The layer that `old` has become, if it is one and nothing but the node at hand uses it.
fn layer(rewrite: &Rewrite<'_>, uses: &[usize], old: Var) -> Option<(Node, Fused)> {
    if uses[old.0 as usize] != 1 {
        return None;
    }
    let node = rewrite.new.node(rewrite.get(old));
    match node.op {
        Op::Linear(fused) | Op::Conv2d(_, fused) => Some((node.clone(), fused)),
        _ => None,
    }
}

fn with_fused(node: Node, fused: Fused) -> Node {
    let op = match node.op {
        Op::Conv2d(conv, _) => Op::Conv2d(conv, fused),
        _ => Op::Linear(fused),
    };
    Node { op, ..node }
}

fn with_activation(rewrite: &Rewrite<'_>, uses: &[usize], x: Var, unary: Unary) -> Option<Node> {
    let (node, fused) = layer(rewrite, uses, x)?;
    let free = fused.activation.is_none() && unary.is_activation();
    free.then(|| with_fused(node, Fused { activation: Some(unary), ..fused }))
}

fn with_residual(rewrite: &Rewrite<'_>, uses: &[usize], add: &Node) -> Option<Node> {
    let (a, b) = (add.inputs[0], add.inputs[1]);
    // The layer that comes last has the other side ready in any case.
    let pairs = if a > b { [(a, b), (b, a)] } else { [(b, a), (a, b)] };
    pairs.into_iter().find_map(|(x, other)| {
        let (mut node, fused) = layer(rewrite, uses, x)?;
        let other = rewrite.get(other);
        if fused.residual != Residual::None || node.shape != add.shape || *rewrite.new.shape(other) != add.shape {
            return None;
        }
        let residual = if fused.activation.is_none() { Residual::BeforeActivation } else { Residual::AfterActivation };
        node.inputs.push(other);
        Some(with_fused(node, Fused { residual, ..fused }))
    })
}
