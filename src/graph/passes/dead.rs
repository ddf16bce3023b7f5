//! Removes what no output needs. Inputs stay.

use super::Rewrite;
use crate::graph::Graph;

pub(super) fn remove(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes.len()];
    for &x in graph.outputs.iter().chain(&graph.inputs) {
        live[x.0 as usize] = true;
    }
    for index in (0..graph.nodes.len()).rev() {
        if live[index] {
            for x in &graph.nodes[index].inputs {
                live[x.0 as usize] = true;
            }
        }
    }
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars().filter(|x| live[x.0 as usize]) {
        rewrite.copy(var);
    }
    rewrite.finish()
}
