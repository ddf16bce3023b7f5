//! Cases of the pools and `Pad`.

use super::{Case, Random};
use crate::graph::op::{PadMode, PoolKind};
use crate::graph::step::{AdaptivePoolStep, Kernel, PoolStep};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = pool2d();
    cases.extend(adaptive());
    cases.extend(pad());
    cases
}

fn pool_case(name: &str, step: PoolStep) -> Case {
    let name = format!("pool {name} {:?}", step.kind);
    let x = Random::new(&name).floats(step.batch * step.input[0] * step.input[1] * step.channels, 1.0);
    let out = step.batch * step.output[0] * step.output[1] * step.channels;
    Case::new(name, Kernel::Pool2d(step), vec![x.into()], out, 1e-6)
}

fn pool2d() -> Vec<Case> {
    let avg = |count_include_pad, divisor| PoolKind::Avg { count_include_pad, divisor };
    let mut cases = Vec::new();
    for kind in [PoolKind::Max, avg(true, None), avg(false, None), avg(true, Some(5))] {
        let mut add = |name: &str, step| cases.push(pool_case(name, step));
        let step = |channels, input, output, window: [usize; 2]| PoolStep {
            kind,
            batch: 1,
            channels,
            input,
            output,
            kernel: window,
            stride: window,
            padding: [0, 0],
            dilation: [1, 1],
        };
        add("2x2", step(16, [8, 6], [4, 3], [2, 2]));
        add("2x2 odd", PoolStep { batch: 3, ..step(7, [9, 5], [4, 2], [2, 2]) });
        add("one channel", step(1, [6, 6], [3, 3], [2, 2]));
        add("3x3 stride 2", PoolStep { stride: [2, 2], padding: [1, 1], ..step(67, [13, 14], [7, 7], [3, 3]) });
        add("3x3 stride 1", PoolStep { stride: [1, 1], padding: [1, 1], ..step(19, [5, 5], [5, 5], [3, 3]) });
        add("stride over kernel", PoolStep { stride: [3, 4], ..step(4, [8, 9], [3, 3], [2, 1]) });
        add("asymmetric", PoolStep { stride: [2, 1], padding: [0, 1], ..step(9, [7, 6], [3, 7], [3, 2]) });
        add("ceil mode", PoolStep { stride: [2, 2], ..step(5, [6, 8], [3, 4], [3, 3]) });
        // The last window begins on the last column and reaches beyond the padding.
        add("ceil mode padded", PoolStep { stride: [3, 3], padding: [1, 1], ..step(6, [6, 6], [3, 3], [3, 3]) });
        add("whole image", step(130, [7, 5], [1, 1], [7, 5]));
        add("empty batch", PoolStep { batch: 0, ..step(4, [4, 4], [2, 2], [2, 2]) });
        if kind == PoolKind::Max {
            add("dilation", PoolStep { stride: [1, 1], dilation: [2, 3], ..step(8, [9, 9], [5, 3], [3, 3]) });
            let padded =
                PoolStep { stride: [2, 2], padding: [1, 1], dilation: [2, 2], ..step(3, [9, 9], [4, 4], [3, 3]) };
            add("dilation padded", padded);
        }
    }
    let step = PoolStep {
        kind: PoolKind::Max,
        batch: 1,
        channels: 3,
        input: [4, 4],
        output: [2, 2],
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        dilation: [1, 1],
    };
    let x: Vec<f32> = (0..48).map(|i| -1000.0 - i as f32).collect();
    cases.push(Case::new("pool all negative", Kernel::Pool2d(step), vec![x.into()], 12, 0.0));
    cases
}

fn adaptive() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [PoolKind::Max, PoolKind::AVG] {
        for (batch, channels, input, output) in [
            (1, 64, [7, 7], [1, 1]),
            (2, 35, [7, 7], [1, 1]),
            (1, 16, [6, 6], [6, 6]),
            (1, 5, [7, 5], [3, 2]),
            (2, 9, [13, 11], [6, 6]),
            (1, 8, [3, 2], [7, 5]),
            (1, 1, [1, 1], [1, 1]),
            (1, 130, [1, 9], [1, 4]),
            (0, 4, [5, 5], [2, 2]),
        ] {
            let name = format!("adaptive pool {batch}x{channels} {input:?} {output:?} {kind:?}");
            let x = Random::new(&name).floats(batch * channels * input[0] * input[1], 1.0);
            let step = AdaptivePoolStep { kind, batch, channels, input, output };
            let len = batch * output[0] * output[1] * channels;
            cases.push(Case::new(name, Kernel::AdaptivePool2d(step), vec![x.into()], len, 1e-6));
        }
    }
    cases
}

fn pad() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in
        [PadMode::Constant(0.0), PadMode::Constant(-2.5), PadMode::Reflect, PadMode::Replicate, PadMode::Circular]
    {
        for (shape, pads) in [
            (vec![5], vec![(2, 1)]),
            (vec![3, 4], vec![(0, 0), (3, 2)]),
            (vec![2, 5, 6, 3], vec![(0, 0), (1, 2), (3, 0), (0, 0)]),
            (vec![1, 4, 4, 19], vec![(0, 0), (3, 3), (1, 2), (0, 0)]),
            (vec![3, 7, 5], vec![(1, 2), (0, 3), (2, 2)]),
            (vec![2, 3, 2, 3, 2], vec![(1, 0), (0, 1), (1, 1), (0, 0), (1, 1)]),
            (vec![300, 3], vec![(1, 1), (0, 1)]),
        ] {
            let name = format!("pad {shape:?} {pads:?} {mode:?}");
            let x = Random::new(&name).floats(shape.iter().product(), 1.0);
            let out = shape.iter().zip(&pads).map(|(size, (before, after))| before + size + after).product();
            cases.push(Case::new(name, Kernel::Pad { shape, pads, mode }, vec![x.into()], out, 0.0));
        }
    }
    let kernel = Kernel::Pad { shape: vec![2, 0, 3], pads: vec![(0, 0), (1, 1), (0, 0)], mode: PadMode::Constant(1.5) };
    cases.push(Case::new("pad empty", kernel, vec![vec![].into()], 12, 0.0));
    cases
}
