//! Moves pointwise functions before a permutation, or before a reshape that only drops or adds dimensions of size 1,
//! so that they meet the layer that feeds it: what follows a 1-d convolution, which is a 2-d one between two reshapes,
//! and the scale and residual after a linear layer over channels.

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
            Op::Unary(unary) => match before_view(&rewrite, &uses, node.inputs[0]) {
                Some(view) => Some((rewrite.new.unary(unary, rewrite.new.node(view).inputs[0])?, view)),
                None => None,
            },
            Op::Binary(binary) => {
                let (a, b) = (node.inputs[0], node.inputs[1]);
                let side = [(a, b), (b, a)].into_iter().find_map(|(x, other)| {
                    let same = *graph.shape(x) == node.shape && x != other;
                    let whole = graph.node(other).is_constant || *graph.shape(other) == node.shape;
                    Some((before_view(&rewrite, &uses, x).filter(|_| same && whole)?, other, x != a))
                });
                match side {
                    Some((view, other, swapped)) => {
                        let (x, other) = (rewrite.new.node(view).inputs[0], rewrite.get(other));
                        let other = undo(&mut rewrite.new, other, view)?;
                        let (a, b) = if swapped { (other, x) } else { (x, other) };
                        Some((rewrite.new.binary(binary, a, b)?, view))
                    }
                    None => None,
                }
            }
            _ => None,
        };
        match moved {
            Some((y, view)) => {
                rewrite.new.nodes[y.0 as usize].name = node.name.clone();
                let y = match rewrite.new.node(view).op.clone() {
                    Op::Permute(dims) => {
                        rewrite.new.permute(y, &dims.iter().map(|&d| d as isize).collect::<Vec<_>>())?
                    }
                    _ => rewrite.new.reshape(y, &signed(&node.shape))?,
                };
                rewrite.set(var, y);
            }
            None => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

fn signed(sizes: &[usize]) -> Vec<isize> {
    sizes.iter().map(|&size| size as isize).collect()
}

/// What `old` is by now, if that is a view that nothing else uses and past which pointwise functions move.
fn before_view(rewrite: &Rewrite<'_>, uses: &[usize], old: Var) -> Option<Var> {
    let view = rewrite.get(old);
    let node = rewrite.new.node(view);
    if uses[old.0 as usize] != 1 || node.is_constant {
        return None;
    }
    let without_ones = |shape: &[usize]| shape.iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
    let moves = match node.op {
        Op::Permute(_) => true,
        Op::Reshape => without_ones(rewrite.new.shape(node.inputs[0])) == without_ones(&node.shape),
        _ => false,
    };
    moves.then_some(view)
}

/// `other`, which broadcasts to the shape of `view`, as it broadcasts to what `view` looks at.
fn undo(graph: &mut Graph, other: Var, view: Var) -> Result<Var> {
    let own = graph.shape(other).to_vec();
    let shape = graph.shape(view).to_vec();
    if own.iter().all(|&size| size == 1) {
        return graph.reshape(other, &[]);
    }
    let lead = shape.len() - own.len();
    let sizes: Vec<usize> = (0..shape.len()).map(|d| d.checked_sub(lead).map_or(1, |d| own[d])).collect();
    match graph.node(view).op.clone() {
        Op::Permute(dims) => {
            let full = graph.reshape(other, &signed(&sizes))?;
            let back: Vec<isize> = (0..dims.len())
                .map(|d| dims.iter().position(|&from| from == d).expect("a permutation") as isize)
                .collect();
            graph.permute(full, &back)
        }
        _ => {
            // Dimensions larger than 1 are in the same order on both sides.
            let x = graph.node(view).inputs[0];
            let mut sized = (0..shape.len()).filter(|&d| shape[d] != 1).map(|d| sizes[d] as isize);
            let target: Vec<isize> =
                graph.shape(x).iter().map(|&size| if size == 1 { 1 } else { sized.next().unwrap_or(1) }).collect();
            graph.reshape(other, &target)
        }
    }
}
