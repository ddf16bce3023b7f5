//! Padding.

use super::{Call, Context, one, replace_line, word};
use crate::backend::gpu::dispatch::Selection;
use crate::error::{Error, Result};
use crate::graph::op::PadMode;

const SOURCE: &str = include_str!("../../../../shaders/pad.wgsl");

const DIMS: usize = 6;

pub(super) fn select(cx: &Context<'_>, shape: &[usize], pads: &[(usize, usize)], mode: PadMode) -> Result<Selection> {
    // One in front of the missing dimensions.
    let mut sizes = [1; DIMS];
    let mut before = [0; DIMS];
    let mut out = [1; DIMS];
    if shape.len() > DIMS {
        return Err(Error::unsupported(format!("padding of {} dimensions, at most {DIMS}", shape.len())));
    }
    let missing = DIMS - shape.len();
    for (i, (&size, &(first, last))) in shape.iter().zip(pads).enumerate() {
        (sizes[missing + i], before[missing + i], out[missing + i]) = (size, first, first + size + last);
    }
    let count = out.iter().product();
    one(count, || {
        let (mode, value) = match mode {
            PadMode::Constant(value) => (0u32, value),
            PadMode::Reflect => (1, 0.0),
            PadMode::Replicate => (2, 0.0),
            PadMode::Circular => (3, 0.0),
        };
        let is_int = cx.is_int(cx.output());
        let half = cx.caps.half && !is_int;
        let value = if is_int { (value as i32).cast_unsigned() } else { value.to_bits() };
        let (row, grid) = cx.fold(count, 64)?;
        let mut call = Call::new("pad", SOURCE).set("MODE", mode).read(cx.input(0)).write(cx.output());
        if half {
            call = call.half(cx, "E", "f16");
            let constant = "    var bits = f16(bitcast<f32>(p.value));\n";
            replace_line(call.shader.source.to_mut(), "// constant", constant);
        }
        call.immediates = vec![word(count)?, value];
        let call = call.params(&out[1..])?.params(&sizes)?.params(&before)?.params(&[
            cx.input(0).offset,
            cx.output().offset,
            row,
        ])?;
        Ok(call.dispatch(grid))
    })
}
