//! Places the buffers of a run in arenas, so that buffers whose lifetimes do not meet share memory.
//!
//! Greedy by size: the largest buffer first, each at the lowest offset where no placed buffer that lives at the same
//! time is in the way (Pisarchyk and Lee, 2020, <https://arxiv.org/abs/2001.03288>).

use std::ops::Range;

use super::step::{Memory, Schedule};

/// The alignment of buffers in an arena: what GPUs ask of a binding's offset.
pub(crate) const ALIGNMENT: usize = 256;

/// Decides the place of every `Memory::Arena` buffer. With `separate`, no step reads the arena that it writes. Floats
/// take `float_bytes`.
pub(super) fn plan(schedule: &mut Schedule, separate: bool, float_bytes: usize) {
    let lifetimes = lifetimes(schedule);
    let arenas = if separate { colours(schedule, &lifetimes) } else { vec![0; schedule.buffers.len()] };
    let mut order: Vec<usize> = (0..schedule.buffers.len()).filter(|&b| lifetimes[b].is_some()).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(schedule.buffers[b].len), lifetimes[b].clone().map(|life| life.start)));
    let count = order.iter().map(|&b| arenas[b] + 1).max().unwrap_or(0);
    let mut sizes = vec![0; count];
    let mut placed: Vec<(usize, Range<usize>)> = Vec::new();
    for b in order {
        let element = if schedule.buffers[b].is_int { 4 } else { float_bytes };
        let bytes = (schedule.buffers[b].len * element).next_multiple_of(ALIGNMENT).max(ALIGNMENT);
        let life = lifetimes[b].as_ref().expect("filtered above");
        let mut taken: Vec<&Range<usize>> = placed
            .iter()
            .filter(|(other, _)| arenas[*other] == arenas[b] && meet(lifetimes[*other].as_ref().expect("placed"), life))
            .map(|(_, range)| range)
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut offset = 0;
        for range in taken {
            if range.start >= offset + bytes {
                break;
            }
            offset = offset.max(range.end);
        }
        placed.push((b, offset..offset + bytes));
        sizes[arenas[b]] = sizes[arenas[b]].max(offset + bytes);
        schedule.buffers[b].memory = Memory::Arena { arena: arenas[b], offset };
    }
    schedule.arenas = sizes;
}

fn meet(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The time for which each arena buffer is needed: inputs from 0, what step `i` writes from `2 i + 1`, what it reads
/// until `2 i + 2`; so what a step reads and what it writes live at the same time.
fn lifetimes(schedule: &Schedule) -> Vec<Option<Range<usize>>> {
    let mut lifetimes: Vec<Option<Range<usize>>> = vec![None; schedule.buffers.len()];
    let mut touch = |b: usize, from: usize, to: usize| {
        if matches!(schedule.buffers[b].memory, Memory::Arena { .. }) {
            let life = lifetimes[b].get_or_insert(from..to);
            *life = life.start.min(from)..life.end.max(to);
        }
    };
    for port in &schedule.inputs {
        touch(port.buffer.0, 0, 1);
    }
    for (i, step) in schedule.steps.iter().enumerate() {
        for arg in step.inputs.iter().chain([&step.output]) {
            touch(arg.buffer.0, 2 * i + 1, 2 * i + 2);
        }
    }
    for port in &schedule.outputs {
        let end = 2 * schedule.steps.len() + 2;
        touch(port.buffer.0, end - 1, end);
    }
    lifetimes
}

/// An arena for each buffer such that no step's output shares one with the step's inputs.
fn colours(schedule: &Schedule, lifetimes: &[Option<Range<usize>>]) -> Vec<usize> {
    let mut against: Vec<Vec<usize>> = vec![Vec::new(); schedule.buffers.len()];
    for step in &schedule.steps {
        for arg in &step.inputs {
            against[step.output.buffer.0].push(arg.buffer.0);
            against[arg.buffer.0].push(step.output.buffer.0);
        }
    }
    let mut order: Vec<usize> = (0..schedule.buffers.len()).filter(|&b| lifetimes[b].is_some()).collect();
    order.sort_by_key(|&b| lifetimes[b].as_ref().map(|life| life.start));
    let mut colours: Vec<Option<usize>> = vec![None; schedule.buffers.len()];
    for b in order {
        let taken: Vec<usize> = against[b].iter().filter_map(|&other| colours[other]).collect();
        colours[b] = (0..).find(|colour| !taken.contains(colour));
    }
    colours.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Program;
    use crate::graph::step::{Arg, Buffer, BufferId, Kernel, PointwiseStep, Port, Step};
    use crate::{DType, Shape};

    fn copy_step(from: usize, to: usize, len: usize) -> Step {
        let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
        let kernel = Kernel::Pointwise(PointwiseStep {
            shape: vec![len],
            strides: vec![vec![1]],
            out_strides: vec![1],
            program: Program::copy(),
            is_int: false,
        });
        Step { name: "copy".into(), kernel, inputs: vec![arg(from)], output: arg(to) }
    }

    fn chain(lens: &[usize], edges: &[(usize, usize)]) -> Schedule {
        let buffer = |&len: &usize| Buffer { len, is_int: false, memory: Memory::Arena { arena: 0, offset: 0 } };
        let port = |b: usize| Port { buffer: BufferId(b), shape: Shape::from([lens[b]]), dtype: DType::F32 };
        Schedule {
            buffers: lens.iter().map(buffer).collect(),
            prologue: vec![],
            steps: edges.iter().map(|&(from, to)| copy_step(from, to, lens[to])).collect(),
            inputs: vec![port(0)],
            outputs: vec![port(lens.len() - 1)],
            arenas: vec![],
        }
    }

    #[test]
    fn a_chain_alternates_between_two_places() {
        let edges: Vec<(usize, usize)> = (0..9).map(|i| (i, i + 1)).collect();
        let mut schedule = chain(&[64; 10], &edges);
        plan(&mut schedule, false, 4);
        assert_eq!(schedule.arenas, [2 * 256]);
        plan(&mut schedule, true, 4);
        assert_eq!(schedule.arenas, [256, 256]);
    }

    #[test]
    fn what_lives_together_lies_apart() {
        // 0 stays alive past 1, 2 and 3.
        let lens = [100, 300, 200, 100, 50];
        let mut schedule = chain(&lens, &[(0, 1), (1, 2), (2, 3), (0, 4), (3, 4)]);
        for separate in [false, true] {
            plan(&mut schedule, separate, 4);
            let lifetimes = lifetimes(&schedule);
            for a in 0..lens.len() {
                for b in 0..a {
                    let (Memory::Arena { arena: x, offset: i }, Memory::Arena { arena: y, offset: j }) =
                        (&schedule.buffers[a].memory, &schedule.buffers[b].memory)
                    else {
                        panic!("arena buffers stay in arenas")
                    };
                    let overlap = x == y && *i < j + lens[b] * 4 && *j < i + lens[a] * 4;
                    assert!(!overlap || !meet(lifetimes[a].as_ref().unwrap(), lifetimes[b].as_ref().unwrap()));
                }
            }
            for step in &schedule.steps {
                let arena = |b: BufferId| match schedule.buffers[b.0].memory {
                    Memory::Arena { arena, .. } => arena,
                    _ => panic!("arena buffers stay in arenas"),
                };
                assert!(!separate || step.inputs.iter().all(|arg| arena(arg.buffer) != arena(step.output.buffer)));
            }
        }
    }
}
