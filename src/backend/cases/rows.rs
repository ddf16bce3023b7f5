//! Cases of `Reduce`, `Softmax`, `LayerNorm`, `Attention`, `Embedding`.

use super::{Case, Data, Random, Value};
use crate::dtype::DType;
use crate::graph::op::Reduce;
use crate::graph::step::{AttentionStep, Kernel};
#[cfg(feature = "gpu")]
use crate::graph::{
    op::PoolKind,
    step::{AdaptivePoolStep, PoolStep},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = reduce();
    cases.extend(softmax());
    cases.extend(cumsum());
    cases.extend(layer_norm());
    cases.extend(attention());
    cases.extend(embedding());
    cases
}

/// (outer, len, inner)
const LINES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (1, 7, 1),
    (5, 1, 3),
    (3, 33, 1),
    (3, 64, 1),
    (1, 1000, 1),
    (13, 197, 1),
    (2, 1025, 1),
    (1, 4097, 1),
    (300, 5, 1),
    (2, 49, 33),
    (1, 49, 512),
    (3, 19, 2),
    (2, 300, 130),
    (0, 5, 3),
];

/// Kernels whose threads take more steps than some drivers let a loop have: llvmpipe ends a shader's loops after 65,535.
#[cfg(feature = "gpu")]
pub(crate) fn long() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, kernel: Kernel, inputs: &[usize], output: usize, tolerance: f64| {
        let mut random = Random::new(name);
        let inputs = inputs.iter().map(|&len| random.floats(len, 1.0).into()).collect();
        cases.push(Case::new(format!("long {name}"), kernel, inputs, output, tolerance));
    };
    let [outer, len, inner] = [1, 70_001, 3];
    for kind in [Reduce::Mean, Reduce::Sum, Reduce::Max] {
        add(&format!("{kind:?}"), Kernel::Reduce { kind, outer, len, inner }, &[len * inner], inner, 3e-4);
    }
    add("cumsum", Kernel::Cumsum { outer, len, inner }, &[len * inner], len * inner, 3e-3);
    for log in [false, true] {
        let kernel = Kernel::Softmax { outer, len: 30_001, inner, log };
        add(&format!("softmax {log}"), kernel, &[30_001 * inner], 30_001 * inner, 1e-5);
    }
    for kind in [PoolKind::AVG, PoolKind::Max] {
        let (batch, channels, input, output) = (1, 4, [301, 300], [1, 1]);
        let kernel = Kernel::AdaptivePool2d(AdaptivePoolStep { kind, batch, channels, input, output });
        add(&format!("adaptive {kind:?}"), kernel, &[301 * 300 * 4], 4, 1e-5);
        let step = PoolStep {
            kind,
            batch,
            channels,
            input,
            output,
            kernel: input,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
        };
        add(&format!("pool {kind:?}"), Kernel::Pool2d(step), &[301 * 300 * 4], 4, 1e-5);
    }
    let (input, output) = ([1, 100_001], [1, 50_000]);
    let step = AdaptivePoolStep { kind: PoolKind::AVG, batch: 1, channels: 1, input, output };
    add("adaptive places", Kernel::AdaptivePool2d(step), &[100_001], 50_000, 1e-6);
    let [q_len, kv_len, dim] = [2, 29_000, 64];
    let step = AttentionStep { scale: 1.0, ..attention_step(1, 1, q_len, kv_len, dim, dim) };
    add("attention", Kernel::Attention(step), &[q_len * dim, kv_len * dim, kv_len * dim], q_len * dim, 1e-5);
    cases
}

fn reduce() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Reduce::Mean, Reduce::Sum, Reduce::Max] {
        for (outer, len, inner) in LINES {
            let name = format!("reduce {kind:?} {outer}x{len}x{inner}");
            let x = Random::new(&name).floats(outer * len * inner, 1.0);
            let tolerance = 1e-6 * (len as f64).sqrt();
            let kernel = Kernel::Reduce { kind, outer, len, inner };
            cases.push(Case::new(name, kernel, vec![x.into()], outer * inner, tolerance));
        }
    }
    cases
}

fn softmax() -> Vec<Case> {
    let mut cases = Vec::new();
    for log in [false, true] {
        for (outer, len, inner) in LINES {
            for scale in [3.0, 200.0] {
                let name = format!("softmax log_{log} {outer}x{len}x{inner} scale {scale}");
                let x = Random::new(&name).floats(outer * len * inner, scale);
                let kernel = Kernel::Softmax { outer, len, inner, log };
                cases.push(Case::new(name, kernel, vec![x.into()], outer * len * inner, 1e-5));
            }
        }
    }
    cases
}

fn cumsum() -> Vec<Case> {
    let case = |(outer, len, inner): (usize, usize, usize)| {
        let name = format!("cumsum {outer}x{len}x{inner}");
        let x = Random::new(&name).floats(outer * len * inner, 1.0);
        let kernel = Kernel::Cumsum { outer, len, inner };
        // One rounding a step, of sums that grow as a random walk does.
        let tolerance = 1e-6 * (len as f64).sqrt();
        Case::new(name, kernel, vec![x.into()], outer * len * inner, tolerance)
    };
    LINES.into_iter().map(case).collect()
}

fn layer_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, len) in [
        (0, 4),
        (1, 1),
        (1, 768),
        (197, 96),
        (7, 13),
        (3, 1022),
        (3, 1025),
        (300, 3),
        (2, 500),
        (2, 4096),
        (2, 5000),
        (2, 5003),
    ] {
        for affine in [false, true] {
            // The last rows are constant.
            for (shift, scale) in [(0.0, 2.0), (30.0, 2.0), (12345.6, 0.0)] {
                let name = format!("layer_norm {rows}x{len} affine_{affine} shift {shift}");
                let mut random = Random::new(&name);
                let x: Vec<f32> = random.floats(rows * len, scale).into_iter().map(|x| x + shift).collect();
                let mut inputs = vec![x.into()];
                if affine {
                    inputs.push(Value::parameter(&[len], random.exact(len)).stored_as(DType::F32, false));
                    inputs.push(Value::parameter(&[len], random.exact(len)).stored_as(DType::F16, false));
                }
                let kernel = Kernel::LayerNorm { rows, len, eps: 1e-5, affine };
                cases.push(Case::new(name, kernel, inputs, rows * len, 3e-5));
            }
        }
    }
    cases
}

/// Contiguous `[b, h, l, d]`.
fn heads_first([_, h, l, d]: [usize; 4]) -> [usize; 3] {
    [h * l * d, l * d, d]
}

/// Contiguous `[b, l, h, d]`, as a projection leaves it.
fn tokens_first([_, h, l, d]: [usize; 4]) -> [usize; 3] {
    [l * h * d, d, h * d]
}

fn attention_case(name: &str, step: AttentionStep, mask: Option<Vec<f32>>) -> Case {
    let name = format!(
        "attention {name} {}x{}x{}x{}x{}x{} causal_{}",
        step.batch, step.heads, step.q_len, step.kv_len, step.head_dim, step.v_dim, step.causal
    );
    let mut random = Random::new(&name);
    let mut operand = |rows: usize, dim: usize, strides: [usize; 3]| -> Value {
        let last = (step.batch - 1) * strides[0] + (step.heads - 1) * strides[1] + (rows - 1) * strides[2];
        random.floats(last + dim, 2.0).into()
    };
    let q = operand(step.q_len, step.head_dim, step.q);
    let k = operand(step.kv_len, step.head_dim, step.k);
    let v = operand(step.kv_len, step.v_dim, step.v);
    let mut inputs = vec![q, k, v];
    inputs.extend(mask.map(Value::from));
    let out = step.batch * step.heads * step.q_len * step.v_dim;
    Case::new(name, Kernel::Attention(step), inputs, out, 2e-5)
}

/// Attention over contiguous `[b, h, l, d]`, without a mask.
pub(crate) fn attention_step(
    batch: usize,
    heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
    v_dim: usize,
) -> AttentionStep {
    AttentionStep {
        batch,
        heads,
        q_len,
        kv_len,
        head_dim,
        v_dim,
        q: heads_first([batch, heads, q_len, head_dim]),
        k: heads_first([batch, heads, kv_len, head_dim]),
        v: heads_first([batch, heads, kv_len, v_dim]),
        out: heads_first([batch, heads, q_len, v_dim]),
        mask: None,
        scale: 1.0 / (head_dim as f32).sqrt(),
        causal: false,
        blind_is_nan: false,
    }
}

/// Attention of more heads, in all, than a grid has workgroups along a dimension.
#[cfg(feature = "gpu")]
pub(crate) fn many_heads() -> Case {
    attention_case("many heads", attention_step(7, 10_000, 1, 2, 4, 4), None)
}

fn attention() -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, h, l, s, d, e) in [
        (1, 1, 1, 1, 1, 1),
        (1, 2, 5, 5, 8, 8),
        (2, 3, 197, 197, 64, 64),
        (1, 2, 33, 65, 16, 24),
        (1, 1, 130, 7, 20, 5),
        (2, 2, 1, 70, 64, 64),
        (1, 1, 17, 129, 128, 128),
        (1, 1, 9, 11, 33, 65),
        (1, 1, 18, 20, 512, 512),
        (1, 2, 5, 70, 6, 321),
    ] {
        let step = attention_step(b, h, l, s, d, e);
        cases.push(attention_case("plain", step.clone(), None));
        cases.push(attention_case("plain", AttentionStep { causal: true, ..step.clone() }, None));
        let projected = AttentionStep {
            q: tokens_first([b, h, l, d]),
            k: tokens_first([b, h, s, d]),
            v: tokens_first([b, h, s, e]),
            out: tokens_first([b, h, l, e]),
            ..step.clone()
        };
        cases.push(attention_case("projected", projected, None));
        for (name, mask) in [
            ("full mask", [h * l * s, l * s, s, 1]),
            ("mask of rows and columns", [0, 0, s, 1]),
            ("mask of columns", [s, 0, 0, 1]),
            ("mask of heads", [0, 1, 0, 0]),
        ] {
            let sizes = [b, h, l, s];
            let len = (0..4).map(|d| (sizes[d] - 1) * mask[d]).sum::<usize>() + 1;
            let mut random = Random::new(name);
            let mut values = random.floats(len, 3.0);
            // Every row keeps a column: the first is never hidden.
            for (i, x) in values.iter_mut().enumerate() {
                if mask[3] == 1 && i % s != 0 && random.below(3) == 0 {
                    *x = f32::NEG_INFINITY;
                }
            }
            let masked = AttentionStep { mask: Some(mask), ..step.clone() };
            cases.push(attention_case(name, masked.clone(), Some(values.clone())));
            cases.push(attention_case(name, AttentionStep { causal: true, ..masked }, Some(values)));
        }
    }
    // q, k and v interleaved in one projection [b, l, 3, h, d], as in torch.nn.MultiheadAttention.
    let (b, h, l, d) = (2, 3, 19, 8);
    let interleaved = [l * 3 * h * d, d, 3 * h * d];
    let step = AttentionStep {
        q: interleaved,
        k: interleaved,
        v: interleaved,
        out: tokens_first([b, h, l, d]),
        ..attention_step(b, h, l, l, d, d)
    };
    cases.push(attention_case("interleaved", step, None));
    let step = AttentionStep { scale: 8.0, ..attention_step(1, 2, 21, 35, 16, 16) };
    cases.push(attention_case("sharp", step, None));
    cases.extend(blind(&attention_step(2, 3, 40, 300, 16, 16)));
    cases
}

/// Rows that see nothing: by a mask of rows, and by one of columns that hides a whole block of keys, or all.
fn blind(step: &AttentionStep) -> Vec<Case> {
    let (l, s) = (step.q_len, step.kv_len);
    let hidden = |is_hidden: &dyn Fn(usize, usize) -> bool| -> Vec<f32> {
        let rows = (0..l).flat_map(|i| (0..s).map(move |j| (i, j)));
        rows.map(|(i, j)| if is_hidden(i, j) { f32::NEG_INFINITY } else { 0.0 }).collect()
    };
    let masked = AttentionStep { mask: Some([0, 0, s, 1]), ..step.clone() };
    vec![
        attention_case("blind rows", masked.clone(), Some(hidden(&|i, _| i % 5 == 1))),
        attention_case("blind to the first keys", masked.clone(), Some(hidden(&|i, j| i % 5 == 1 || j < 270))),
        attention_case("blind to the last keys", masked.clone(), Some(hidden(&|i, j| i == l - 1 || j > 2))),
        attention_case("blind", masked, Some(vec![f32::NEG_INFINITY; l * s])),
    ]
}

fn embedding() -> Vec<Case> {
    let mut cases = Vec::new();
    for (count, rows, dim) in [(0, 3, 4), (1, 1, 1), (5, 7, 3), (300, 11, 64), (3, 70_000, 5), (33, 10, 129)] {
        for dtype in [DType::F32, DType::F16] {
            let name = format!("embedding {count}x{rows}x{dim} {dtype}");
            let mut random = Random::new(&name);
            let data = Data::I32((0..count).map(|_| random.below(rows) as i32).collect());
            let indices = Value { data, offset: 0, stored: None };
            let table = Value::parameter(&[rows, dim], random.exact(rows * dim)).stored_as(dtype, false);
            let kernel = Kernel::Embedding { outer: 1, count, rows, dim };
            cases.push(Case::new(name, kernel, vec![indices, table], count * dim, 0.0));
        }
    }
    for (outer, count, rows, dim) in [(3, 5, 7, 4), (2, 9, 6, 1), (5, 0, 3, 2), (4, 1, 2, 67)] {
        let name = format!("index_select {outer}x{count}x{rows}x{dim}");
        let mut random = Random::new(&name);
        let data = Data::I32((0..count).map(|_| random.below(rows) as i32).collect());
        let indices = Value { data, offset: 0, stored: None };
        let x = random.exact(outer * rows * dim).into();
        let kernel = Kernel::Embedding { outer, count, rows, dim };
        cases.push(Case::new(name, kernel, vec![indices, x], outer * count * dim, 0.0));
    }
    cases
}
