//! Moves pointwise functions before a reshape that only drops or adds dimensions of size 1, so that they meet the
//! layer that feeds it: what follows a 1-d convolution, which is a 2-d one between two reshapes.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::Op;
use crate::graph::{Graph, Var};

pub(super) fn hoist(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        let node = graph.node(var);
        let moved = match node.op {
            Op::Unary(unary) => match before_reshape(&rewrite, &uses, node.inputs[0]) {
                Some(x) => Some(rewrite.new.unary(unary, x)?),
                None => None,
            },
            Op::Binary(binary) => {
                let (a, b) = (node.inputs[0], node.inputs[1]);
                let side = [(a, b, false), (b, a, true)].into_iter().find_map(|(x, other, swapped)| {
                    let fits = graph.node(other).is_constant && *graph.shape(x) == node.shape;
                    Some((before_reshape(&rewrite, &uses, x).filter(|_| fits)?, other, swapped))
                });
                match side {
                    Some((x, constant, swapped)) => {
                        let constant = rewrite.get(constant);
                        let constant = as_before(&mut rewrite.new, constant, x, &node.shape)?;
                        let (a, b) = if swapped { (constant, x) } else { (x, constant) };
                        Some(rewrite.new.binary(binary, a, b)?)
                    }
                    None => None,
                }
            }
            _ => None,
        };
        match moved {
            Some(y) => {
                rewrite.new.nodes[y.0 as usize].name = node.name.clone();
                let sizes: Vec<isize> = node.shape.iter().map(|&size| size as isize).collect();
                let y = rewrite.new.reshape(y, &sizes)?;
                rewrite.set(var, y);
            }
            None => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

/// What the reshape `old` reshapes, if it is one of a layer's image that nothing else uses and that only drops or adds
/// one dimension of size 1.
fn before_reshape(rewrite: &Rewrite<'_>, uses: &[usize], old: Var) -> Option<Var> {
    let new = rewrite.get(old);
    let node = rewrite.new.node(new);
    if uses[old.0 as usize] != 1 || !matches!(node.op, Op::Reshape) || node.is_constant {
        return None;
    }
    let x = node.inputs[0];
    let without_ones = |shape: &[usize]| shape.iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
    (without_ones(rewrite.new.shape(x)) == without_ones(&node.shape)).then_some(x)
}

/// `constant`, which broadcasts to `shape`, as it broadcasts to the shape of `x`, which differs by dimensions of size 1.
fn as_before(graph: &mut Graph, constant: Var, x: Var, shape: &[usize]) -> Result<Var> {
    let own = graph.shape(constant).clone();
    if own.numel() == 1 {
        return graph.reshape(constant, &[]);
    }
    // Where each dimension of `shape` that is larger than 1 lies in `x`, in order.
    let lead = shape.len() - own.len();
    let mut sizes = shape
        .iter()
        .enumerate()
        .filter(|(_, size)| **size != 1)
        .map(|(d, _)| d.checked_sub(lead).map_or(1, |d| own[d]));
    let target: Vec<isize> =
        graph.shape(x).iter().map(|&size| if size == 1 { 1 } else { sizes.next().unwrap_or(1) as isize }).collect();
    graph.reshape(constant, &target)
}
