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
    // Each convolution's larger tiles are wished for beside its smaller ones: they save less for each byte more.
    let mut wishes: Vec<(usize, &ConvStep, usize, f64)> = (0..schedule.steps.len())
        .filter_map(|at| Some((at, conv(at)?)))
        .flat_map(|(at, conv)| {
            let sides: Vec<_> = winograd::sides(conv).collect();
            let mut before = Method::plain(conv);
            sides.into_iter().rev().map(move |side| {
                let wish = (at, conv, side, gain(conv, before, side));
                before = Method::Winograd(side);
                wish
            })
        })
        .collect();
    wishes.sort_by(|a, b| b.3.total_cmp(&a.3));
    for (at, conv, side, _) in wishes {
        let more = extra(conv, Method::Winograd(side)) - methods[at].map_or(0.0, |method| extra(conv, method));
        if (0.0..=spare).contains(&more) {
            spare -= more;
            methods[at] = Some(Method::Winograd(side));
        }
    }
    methods
}

/// The bytes that a method's weights take more.
fn extra(conv: &ConvStep, method: Method) -> f64 {
    match method {
        Method::Winograd(side) => (4 * conv.c_in * conv.c_out * (winograd::points(side) - 9)) as f64,
        _ => 0.0,
    }
}

/// The multiplications that a byte saves beside another method.
fn gain(conv: &ConvStep, before: Method, side: usize) -> f64 {
    let cost = match before {
        Method::Winograd(side) => winograd::cost(conv, side),
        _ => winograd::plain_cost(conv),
    };
    let saved = (cost as f64 - winograd::cost(conv, side) as f64) * (conv.c_in * conv.c_out) as f64;
    saved / (extra(conv, Method::Winograd(side)) - extra(conv, before))
}
