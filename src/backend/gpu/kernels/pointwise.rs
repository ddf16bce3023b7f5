//! Pointwise programs and copies: `pointwise.wgsl` with the text of the program in its marked lines.

use std::fmt::Write;

use super::{Call, Context, one, replace_line, unary};
use crate::backend::gpu::dispatch::Selection;
use crate::error::{Error, Result};
use crate::graph::op::{Binary, Instr, Program, Unary};
use crate::graph::step::{Arg, PointwiseStep};

const SOURCE: &str = include_str!("../../../../shaders/pointwise.wgsl");

/// The most inputs: `at0` to `at7`.
const INPUTS: usize = 8;

pub(super) fn select(cx: &Context<'_>, pointwise: &PointwiseStep) -> Result<Selection> {
    let count: usize = pointwise.shape.iter().product();
    one(count, || {
        let inputs = cx.step.inputs.len();
        let most = INPUTS.min(cx.caps.max_buffers as usize - 1);
        if inputs > most {
            return Err(Error::unsupported(format!("an expression of {inputs} inputs, the device takes {most}")));
        }
        let is_copy = pointwise.program.is_copy();
        if pointwise.is_int && !is_copy {
            return Err(Error::unsupported("an expression over integers"));
        }
        let layout = Layout::new(cx, pointwise);
        let threads = count / layout.lanes;
        let (row, grid) = cx.fold(threads, 64)?;
        let function = if layout.lanes == 4 { "vec4<f32>" } else { "f32" };
        let half = |arg: Arg| cx.caps.half && !cx.is_int(arg);
        let element = |arg: Arg, lanes: usize| element(is_copy, half(arg), lanes);
        let mut call = Call::new("pointwise", SOURCE).alias("T", function).bits(layout.lanes);
        call = call.alias("E", element(cx.output(), layout.lanes)).write(cx.output());
        if cx.step.inputs.iter().chain([&cx.step.output]).any(|&arg| half(arg)) {
            call = call.with_f16();
        }
        let source = call.shader.source.to_mut();
        let types = (0..inputs).map(|i| element(cx.input(i), layout.input_lanes(i)));
        replace_line(source, "// inputs", &declarations(types));
        replace_line(source, "// places", &layout.places());
        replace_line(source, "// value", &values(&pointwise.program, &layout));
        for &arg in &cx.step.inputs {
            call = call.read(arg);
        }
        let offset = |i: usize| cx.step.inputs.get(i).map_or(0, |arg| arg.offset / layout.input_lanes(i));
        let call = call
            .params(&[threads, cx.output().offset / layout.lanes])?
            .params(&std::array::from_fn::<_, INPUTS, _>(offset))?
            .params(&[row, 0])?;
        Ok(call.dispatch(grid))
    })
}

/// What a buffer is read or written by: as many numbers, or for copies words, which keep every bit.
fn element(is_copy: bool, half: bool, lanes: usize) -> &'static str {
    match (is_copy, half, lanes) {
        (_, true, 4) => "vec4<f16>",
        (_, true, _) => "f16",
        (true, false, 4) => "vec4<u32>",
        (true, false, _) => "u32",
        (false, false, 4) => "vec4<f32>",
        (false, false, _) => "f32",
    }
}

fn declarations(types: impl Iterator<Item = &'static str>) -> String {
    let mut text = String::new();
    for (i, ty) in types.enumerate() {
        let _ = writeln!(text, "@group(0) @binding({}) var<storage, read> x{i}: array<{ty}>;", i + 1);
    }
    text
}

/// How threads find their elements.
struct Layout {
    /// The elements that a thread makes.
    lanes: usize,
    /// The shape in threads, and the strides in elements of the buffers' types.
    shape: Vec<usize>,
    strides: Vec<Vec<usize>>,
    out_strides: Vec<usize>,
    /// Whether an input's buffer is read by scalar where a thread makes four elements.
    splat: Vec<bool>,
}

impl Layout {
    fn new(cx: &Context<'_>, pointwise: &PointwiseStep) -> Self {
        let mut shape = pointwise.shape.clone();
        let mut strides = pointwise.strides.clone();
        let mut out_strides = pointwise.out_strides.clone();
        let innermost = |strides: &[usize]| strides.last().copied().unwrap_or(0);
        let outer = |strides: &[usize]| strides.split_last().is_none_or(|(_, outer)| super::quads(outer));
        let in_quads =
            |strides: &[usize], offset: usize| innermost(strides) == 1 && outer(strides) && super::quads(&[offset]);
        let inputs_fit = (strides.iter().zip(&cx.step.inputs))
            .all(|(strides, arg)| innermost(strides) == 0 || in_quads(strides, arg.offset));
        let wide = shape.last().is_some_and(|n| n % 4 == 0) && in_quads(&out_strides, cx.output().offset) && inputs_fit;
        let mut splat = vec![false; strides.len()];
        let lanes = if wide { 4 } else { 1 };
        if wide {
            *shape.last_mut().expect("checked") /= 4;
            let divide = |strides: &mut Vec<usize>| {
                let (_, outer) = strides.split_last_mut().expect("checked");
                outer.iter_mut().for_each(|stride| *stride /= 4);
            };
            divide(&mut out_strides);
            for (strides, splat) in strides.iter_mut().zip(&mut splat) {
                *splat = innermost(strides) == 0;
                if !*splat {
                    divide(strides);
                }
            }
        }
        Self { lanes, shape, strides, out_strides, splat }
    }

    fn input_lanes(&self, i: usize) -> usize {
        if self.splat[i] { 1 } else { self.lanes }
    }

    /// The statements that give a thread's coordinates, where they matter, and its places in the buffers.
    fn places(&self) -> String {
        let mut text = String::new();
        let places: Vec<String> =
            std::iter::once(&self.out_strides).chain(&self.strides).map(|strides| self.place(strides)).collect();
        if places.iter().any(|place| place.contains('c')) {
            let mut rest = "i".to_owned();
            for (d, size) in self.shape.iter().enumerate().rev().filter(|(_, size)| **size != 1) {
                let _ = writeln!(text, "    let r{d} = {rest} / {size}u;\n    let c{d} = {rest} - r{d} * {size}u;");
                rest = format!("r{d}");
            }
        }
        let _ = writeln!(text, "    let to = {};", places[0]);
        for (i, place) in places[1..].iter().enumerate() {
            let _ = writeln!(text, "    let at{i} = {place};");
        }
        text
    }

    /// The expression of a thread's place in a buffer with these strides.
    fn place(&self, strides: &[usize]) -> String {
        let used = || self.shape.iter().zip(strides).enumerate().filter(|(_, (size, _))| **size != 1);
        let mut dense = 1;
        let is_dense = used().rev().all(|(_, (size, stride))| {
            let fits = *stride == dense;
            dense *= size;
            fits
        });
        if is_dense {
            return "i".to_owned();
        }
        let terms: Vec<String> = used()
            .filter(|(_, (_, stride))| **stride != 0)
            .map(|(d, (_, &stride))| if stride == 1 { format!("c{d}") } else { format!("c{d} * {stride}u") })
            .collect();
        if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") }
    }
}

/// The statements that compute a program's result, `r`.
fn values(program: &Program, layout: &Layout) -> String {
    let mut text = String::new();
    let is_copy = program.is_copy();
    for (n, instr) in program.instrs.iter().enumerate() {
        let value = match *instr {
            Instr::Input(i) => {
                let value = format!("x{i}[p.at{i} + at{i}]");
                match (is_copy, layout.splat[i]) {
                    (true, _) => format!("E({value})"),
                    (false, true) => format!("T(f32({value}))"),
                    (false, false) => format!("T({value})"),
                }
            }
            Instr::Const(value) => literal(value),
            Instr::Unary(unary, x) => call(unary, x, layout.lanes),
            Instr::Binary(Binary::Pow, a, b) => power(program, a, b),
            Instr::Binary(binary, a, b) => match binary {
                Binary::Add => format!("v{a} + v{b}"),
                Binary::Sub => format!("v{a} - v{b}"),
                Binary::Mul => format!("v{a} * v{b}"),
                // A driver may take a written-out division by 0 for one that never happens.
                Binary::Div => match program.instrs[b] {
                    Instr::Const(zero) if zero == 0.0 => format!("v{a} * {}", literal(1.0 / zero)),
                    _ => format!("v{a} / v{b}"),
                },
                Binary::Maximum => format!("larger(v{a}, v{b})"),
                Binary::Minimum => format!("smaller(v{a}, v{b})"),
                Binary::Pow => unreachable!("has its own arm"),
                Binary::Eq if is_infinity(program, b) => {
                    format!("select(T(0.0), T(1.0), bitcast<Bits>(v{a}) == Bits(INFINITY))")
                }
                Binary::Eq => compared(a, "==", b),
                Binary::Ne if a == b => format!("select(T(0.0), T(1.0), size_bits(v{a}) > Bits(INFINITY))"),
                // Not `!=`, which is false of NaN once it is SPIR-V.
                Binary::Ne => format!("select(T(1.0), T(0.0), v{a} == v{b})"),
                Binary::Lt if is_infinity(program, b) => {
                    format!(
                        "select(T(0.0), T(1.0), (size_bits(v{a}) < Bits(INFINITY)) | (bitcast<Bits>(v{a}) == Bits(0xff800000u)))"
                    )
                }
                Binary::Lt => compared(a, "<", b),
                Binary::Le => compared(a, "<=", b),
                Binary::Gt => compared(a, ">", b),
                Binary::Ge => compared(a, ">=", b),
                Binary::Keep => format!("select(v{b}, T(0.0), v{a} == T(0.0))"),
            },
        };
        let _ = writeln!(text, "    let v{n} = {value};");
    }
    let _ = writeln!(text, "    let r = v{};", program.instrs.len() - 1);
    debug_assert!(layout.lanes == 4 || layout.lanes == 1);
    text
}

/// A number, also one that WGSL has no literal for.
fn literal(value: f32) -> String {
    if value.is_normal() {
        format!("T({value:?}f)")
    } else if value == 0.0 {
        format!("T(bitcast<f32>(p.zero | {}u))", value.to_bits())
    } else {
        format!("T(from_bits({}u))", value.to_bits())
    }
}

/// Whether an instruction is the constant infinity, with which is compared by bits.
fn is_infinity(program: &Program, n: usize) -> bool {
    matches!(program.instrs[n], Instr::Const(value) if value == f32::INFINITY)
}

fn compared(a: usize, sign: &str, b: usize) -> String {
    format!("select(T(0.0), T(1.0), v{a} {sign} v{b})")
}

fn call(unary: Unary, x: usize, lanes: usize) -> String {
    let ints = if lanes == 4 { "vec4<i32>" } else { "i32" };
    match unary {
        Unary::FromInt => return format!("T(bitcast<{ints}>(v{x}))"),
        Unary::ToInt => return format!("bitcast<T>({ints}(v{x}))"),
        Unary::Sin | Unary::Cos => return format!("{}(turned(v{x}))", unary.name()),
        unary if !unary.is_activation() => return format!("{}(v{x})", unary.name()),
        _ => {}
    }
    let (kind, a, b) = unary::code(unary);
    format!("unary({kind}u, {a:?}f, {b:?}f, v{x})")
}

/// A power; those that are products or roots without the logarithm, which is less exact.
fn power(program: &Program, a: usize, b: usize) -> String {
    match program.instrs[b] {
        Instr::Const(1.0) => format!("v{a}"),
        Instr::Const(2.0) => format!("v{a} * v{a}"),
        Instr::Const(3.0) => format!("v{a} * v{a} * v{a}"),
        Instr::Const(4.0) => format!("(v{a} * v{a}) * (v{a} * v{a})"),
        Instr::Const(0.5) => format!("sqrt(v{a})"),
        Instr::Const(-0.5) => format!("inverseSqrt(v{a})"),
        Instr::Const(-1.0) => format!("1.0 / v{a}"),
        Instr::Const(-2.0) => format!("1.0 / (v{a} * v{a})"),
        _ => format!("power(v{a}, v{b})"),
    }
}
