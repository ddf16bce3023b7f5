//! Pointwise programs made ready to run on blocks: what is computed into which buffer.

use super::isa::Isa;
use super::vector;
use crate::graph::op::{Binary, Instr, Program, Unary};

/// A program over blocks of elements.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) operations: Vec<Operation>,
    /// The value of the program: the target of the last operation, if there is one.
    pub(crate) result: Operand,
    /// The number of buffers.
    pub(crate) buffers: usize,
}

/// One instruction: it never writes a buffer that it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) function: Function,
    /// The buffer that it writes.
    pub(crate) target: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Unary(Unary, Operand),
    Binary(Binary, Operand, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operand {
    Input(usize),
    Number(f32),
    Buffer(usize),
}

/// An operand's elements in a block, all of them or one that they all equal.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    Slice(&'a [f32]),
    Number(f32),
}

impl Compiled {
    pub(crate) fn new(program: &Program) -> Self {
        let instrs = &program.instrs;
        let last_uses = last_uses(instrs);
        let mut operands: Vec<Operand> = Vec::with_capacity(instrs.len());
        let mut operations = Vec::new();
        let mut free = Vec::new();
        let mut buffers = 0;
        for (i, instr) in instrs.iter().enumerate() {
            let function = match *instr {
                Instr::Input(input) => {
                    operands.push(Operand::Input(input));
                    continue;
                }
                Instr::Const(x) => {
                    operands.push(Operand::Number(x));
                    continue;
                }
                _ if last_uses[i].is_none() => {
                    operands.push(Operand::Number(f32::NAN));
                    continue;
                }
                Instr::Unary(op, a) => Function::Unary(op, operands[a]),
                Instr::Binary(op, a, b) => Function::Binary(op, operands[a], operands[b]),
            };
            if let Some(number) = function.constant() {
                operands.push(Operand::Number(number));
                continue;
            }
            let target = free.pop().unwrap_or_else(|| {
                buffers += 1;
                buffers - 1
            });
            operations.push(Operation { function, target });
            operands.push(Operand::Buffer(target));
            // Buffers whose values were used for the last time are free for the next instruction.
            for j in 0..=i {
                if let (Some(last), Operand::Buffer(buffer)) = (last_uses[j], operands[j])
                    && last == i
                    && !free.contains(&buffer)
                {
                    free.push(buffer);
                }
            }
        }
        let result = *operands.last().expect("a program has an instruction");
        Self { operations, result, buffers }
    }
}

/// The last instruction that uses each one for the result. The result is used after all.
fn last_uses(instrs: &[Instr]) -> Vec<Option<usize>> {
    let mut uses = vec![None; instrs.len()];
    uses[instrs.len() - 1] = Some(instrs.len());
    for (i, instr) in instrs.iter().enumerate().rev() {
        if uses[i].is_none() {
            continue;
        }
        let arguments = match *instr {
            Instr::Input(_) | Instr::Const(_) => [None, None],
            Instr::Unary(_, a) => [Some(a), None],
            Instr::Binary(_, a, b) => [Some(a), Some(b)],
        };
        for a in arguments.into_iter().flatten() {
            uses[a] = uses[a].max(Some(i));
        }
    }
    uses
}

impl Function {
    /// Its value when all operands are constants.
    fn constant(self) -> Option<f32> {
        let mut y = [0.0];
        match self {
            Function::Unary(_, Operand::Number(_)) => {}
            Function::Binary(_, Operand::Number(_), Operand::Number(_)) => {}
            _ => return None,
        }
        self.compute(
            Isa::Portable,
            |operand| match operand {
                Operand::Number(x) => Values::Number(x),
                _ => unreachable!("all operands are constants"),
            },
            &mut y,
        );
        Some(y[0])
    }

    /// Writes the function's values to `y`.
    pub(crate) fn compute<'a>(self, isa: Isa, values: impl Fn(Operand) -> Values<'a>, y: &mut [f32]) {
        let (first, rest) = match self {
            Function::Unary(op, a) => match values(a) {
                Values::Slice(a) => return vector::unary(isa, op, a, y),
                Values::Number(a) => {
                    let (first, rest) = y.split_at_mut(1);
                    vector::unary(isa, op, &[a], first);
                    (first[0], rest)
                }
            },
            Function::Binary(op, a, b) => match (values(a), values(b)) {
                (Values::Slice(a), Values::Slice(b)) => return vector::binary(isa, op, a, b, y),
                (Values::Slice(a), Values::Number(b)) => return vector::binary_right(isa, op, a, b, y),
                (Values::Number(a), Values::Slice(b)) => return vector::binary_left(isa, op, a, b, y),
                (Values::Number(a), Values::Number(b)) => {
                    let (first, rest) = y.split_at_mut(1);
                    vector::binary_right(isa, op, &[a], b, first);
                    (first[0], rest)
                }
            },
        };
        rest.fill(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again() {
        let mut instrs = vec![Instr::Input(0)];
        for i in 0..10 {
            instrs.push(Instr::Unary(Unary::Neg, i));
        }
        let compiled = Compiled::new(&Program { instrs });
        assert_eq!((compiled.operations.len(), compiled.buffers), (10, 2));
        let different =
            |op: &Operation| !matches!(op.function, Function::Unary(_, Operand::Buffer(b)) if b == op.target);
        assert!(compiled.operations.iter().all(different));
    }

    #[test]
    fn constants_and_dead_values_cost_nothing() {
        let instrs = vec![
            Instr::Const(3.0),
            Instr::Unary(Unary::Neg, 0),
            Instr::Input(0),
            Instr::Unary(Unary::Exp, 2),
            Instr::Binary(Binary::Mul, 1, 0),
            Instr::Binary(Binary::Add, 2, 4),
        ];
        let compiled = Compiled::new(&Program { instrs });
        let function = Function::Binary(Binary::Add, Operand::Input(0), Operand::Number(-9.0));
        assert_eq!(compiled.operations, [Operation { function, target: 0 }]);
    }
}
