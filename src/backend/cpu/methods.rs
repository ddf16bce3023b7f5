//! Which of a plan's convolutions are transformed: memory is spent where it saves the most time.

use super::conv::Method;
use super::winograd;
use crate::graph::step::{ConvStep, Kernel, Memory, Schedule};

/// Transformed weights may take so much more memory than those of the file, as a part of all weights. With what panels
/// are filled up by, all stays below 0.3.
const SPARE: f64 = 0.25;

/// The method of every step that is a convolution, as if its weight were the same in every run.
pub(super) fn choose(schedule: &Schedule) -> Vec<Option<Method>> {
    let weights = schedule.buffers.iter().filter(|buffer| matches!(buffer.memory, Memory::Parameter(_)));
    let mut spare = SPARE * weights.map(|buffer| 4 * buffer.len).sum::<usize>() as f64;
    let conv = |at: usize| match &schedule.steps[at].kernel {
        Kernel::Conv2d(conv) => Some(conv),
        _ => None,
    };
    let mut methods: Vec<_> = (0..schedule.steps.len()).map(|at| conv(at).map(Method::plain)).collect();
    let mut wishes: Vec<(usize, &ConvStep, f64)> = (0..schedule.steps.len())
        .filter_map(|at| {
            let conv = conv(at)?;
            Some((at, conv, gain(conv, winograd::sides(conv).next()?)))
        })
        .collect();
    wishes.sort_by(|a, b| b.2.total_cmp(&a.2));
    for (at, conv, _) in wishes {
        if let Some(side) = winograd::sides(conv).find(|&side| extra(conv, side) <= spare) {
            spare -= extra(conv, side);
            methods[at] = Some(Method::Winograd(side));
        }
    }
    methods
}

/// The bytes that transformed weights take more.
fn extra(conv: &ConvStep, side: usize) -> f64 {
    (4 * conv.c_in * conv.c_out * (winograd::points(side) - 9)) as f64
}

/// The multiplications that a byte saves.
fn gain(conv: &ConvStep, side: usize) -> f64 {
    let saved = (winograd::plain_cost(conv) - winograd::cost(conv, side)) * conv.c_in * conv.c_out;
    saved as f64 / extra(conv, side)
}
