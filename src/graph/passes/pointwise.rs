//! Turns pointwise functions into programs, and chains of them into one program.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::{Instr, Op, Program};
use crate::graph::{Graph, Node, Var};

/// The most inputs that a program may have, so that a GPU can bind them all.
const MAX_INPUTS: usize = 6;
/// The most instructions that a program may have.
const MAX_INSTRS: usize = 48;

pub(super) fn fuse(graph: &Graph) -> Result<Graph> {
    Ok(rewrite(graph, &graph.use_counts()))
}

/// A program for each pointwise function, and no chains.
#[cfg(test)]
pub(super) fn convert(graph: &Graph) -> Result<Graph> {
    Ok(rewrite(graph, &vec![usize::MAX; graph.nodes.len()]))
}

fn rewrite(graph: &Graph, uses: &[usize]) -> Graph {
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        match pointwise(&rewrite, uses, graph.node(var)) {
            Some(node) => {
                let new = rewrite.push(node);
                rewrite.set(var, new);
            }
            None => {
                rewrite.copy(var);
            }
        }
    }
    rewrite.finish()
}

/// The node as a program that has swallowed those of its inputs that are programs of the same shape which nothing else
/// uses, or nothing if it is not pointwise.
fn pointwise(rewrite: &Rewrite<'_>, uses: &[usize], node: &Node) -> Option<Node> {
    if !matches!(node.op, Op::Unary(_) | Op::Binary(_)) {
        return None;
    }
    let mut parts: Vec<(Vec<Var>, Program)> = Vec::new();
    let mut swallow = Vec::new();
    for &old in &node.inputs {
        let new = rewrite.get(old);
        let producer = rewrite.new.node(new);
        let program = match &producer.op {
            Op::Pointwise(program)
                if uses[old.0 as usize] == 1
                    && producer.shape == node.shape
                    && producer.is_constant == node.inputs.iter().all(|&x| rewrite.old.node(x).is_constant) =>
            {
                Some((producer.inputs.clone(), program.clone()))
            }
            _ => None,
        };
        swallow.push(program.is_some());
        parts.push(program.unwrap_or_else(|| leaf(&rewrite.new, new)));
    }
    let (mut inputs, mut program) = merge(&node.op, &parts);
    if inputs.len() > MAX_INPUTS || program.instrs.len() > MAX_INSTRS {
        let leaves: Vec<_> = node.inputs.iter().map(|&old| leaf(&rewrite.new, rewrite.get(old))).collect();
        (inputs, program) = merge(&node.op, &leaves);
    }
    Some(Node { op: Op::Pointwise(program), inputs, ..node.clone() })
}

/// The program that reads a value, or names it if it is a constant number.
fn leaf(graph: &Graph, var: Var) -> (Vec<Var>, Program) {
    match &graph.node(var).op {
        Op::Constant(tensor) if tensor.shape().numel() == 1 && !graph.node(var).is_int => {
            let value = tensor.as_slice::<f32>().expect("float constants are f32")[0];
            (vec![], Program { instrs: vec![Instr::Const(value)] })
        }
        _ => (vec![var], Program::copy()),
    }
}

/// One program from those of the arguments, with shared inputs named once.
fn merge(op: &Op, parts: &[(Vec<Var>, Program)]) -> (Vec<Var>, Program) {
    let mut inputs: Vec<Var> = Vec::new();
    let mut instrs: Vec<Instr> = Vec::new();
    let mut results = Vec::new();
    for (part_inputs, program) in parts {
        let mut moved = Vec::with_capacity(program.instrs.len());
        for instr in &program.instrs {
            let instr = match *instr {
                Instr::Input(i) => {
                    let position = inputs.iter().position(|&x| x == part_inputs[i]).unwrap_or_else(|| {
                        inputs.push(part_inputs[i]);
                        inputs.len() - 1
                    });
                    Instr::Input(position)
                }
                Instr::Const(value) => Instr::Const(value),
                Instr::Unary(unary, x) => Instr::Unary(unary, moved[x]),
                Instr::Binary(binary, x, y) => Instr::Binary(binary, moved[x], moved[y]),
            };
            // An instruction that is there already is not computed again. Constants are kept apart: 0 equals -0.
            let same = |&own: &Instr| own == instr && !matches!(own, Instr::Const(_));
            moved.push(instrs.iter().position(same).unwrap_or_else(|| {
                instrs.push(instr);
                instrs.len() - 1
            }));
        }
        results.push(*moved.last().expect("programs are not empty"));
    }
    instrs.push(match *op {
        Op::Unary(unary) => Instr::Unary(unary, results[0]),
        Op::Binary(binary) => Instr::Binary(binary, results[0], results[1]),
        _ => unreachable!("only pointwise ops are merged"),
    });
    (inputs, Program { instrs })
}
