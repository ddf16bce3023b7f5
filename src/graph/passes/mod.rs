//! Passes: they rewrite a graph so that fewer, larger ops compute the same.

mod attention;
mod batch_norm;
mod dead;
mod epilogue;
mod hoist;
mod pointwise;
mod scale;

use super::{Graph, Node, Var};
use crate::error::Result;

/// Every pass, in order. The result has only the ops that [`lower`](super::lower) knows.
pub(crate) fn optimize(graph: &Graph) -> Result<Graph> {
    let mut graph = dead::remove(graph);
    for pass in [attention::fuse, batch_norm::decompose, hoist::hoist, scale::fold, epilogue::fuse, pointwise::fuse] {
        // What a pass leaves behind would count as a use of the values it reads.
        graph = dead::remove(&pass(&graph)?);
    }
    Ok(graph)
}

/// The graph with only the passes without which it does not lower: nothing is folded or fused.
#[cfg(test)]
pub(crate) fn only_needed(graph: &Graph) -> Result<Graph> {
    pointwise::convert(&batch_norm::decompose(&dead::remove(graph))?)
}

/// A graph in the making, and where the old graph's values went.
struct Rewrite<'a> {
    old: &'a Graph,
    new: Graph,
    map: Vec<Option<Var>>,
}

impl<'a> Rewrite<'a> {
    fn new(old: &'a Graph) -> Self {
        Self { old, new: Graph::new(), map: vec![None; old.nodes.len()] }
    }

    /// The new value of an old one that comes earlier.
    fn get(&self, old: Var) -> Var {
        self.map[old.0 as usize].expect("nodes come after their inputs")
    }

    fn set(&mut self, old: Var, new: Var) {
        self.map[old.0 as usize] = Some(new);
    }

    /// Copies an old node as it is, with its inputs' new values.
    fn copy(&mut self, var: Var) -> Var {
        let node = self.old.node(var);
        let inputs = node.inputs.iter().map(|&x| self.get(x)).collect();
        let new = self.push(Node { inputs, ..node.clone() });
        if self.old.inputs.contains(&var) {
            self.new.inputs.push(new);
        }
        self.set(var, new);
        new
    }

    fn push(&mut self, node: Node) -> Var {
        self.new.add_node(node.op, node.inputs, node.shape, node.is_int, &node.name)
    }

    /// The new graph, once every old value that is an output has a new one.
    fn finish(mut self) -> Graph {
        self.new.outputs = self.old.outputs.iter().map(|&x| self.get(x)).collect();
        self.new
    }
}
