//! Images sampled at places that a tensor names, and windows of images as columns.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::PadMode;
use crate::graph::op::Unary;
use crate::import::program::alias::ViewOp;
use crate::import::program::host::Host;
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.grid_sampler.default" | "aten.grid_sampler_2d.default" => grid_sampler,
        "aten.im2col.default" => im2col,
        _ => return None,
    })
}

/// One coordinate in pixels: `-1 ..= 1` is the image.
fn pixels(call: &mut Call<'_, '_>, grid: &X, index: usize, size: usize, align: bool) -> Result<X> {
    let shape = call.build.shape(grid);
    let part = call.build.view(grid, &ViewOp::Slice { dim: 3, start: index, step: 1, len: 1 })?;
    let part = call.build.reshape(&part, &shape[..3])?;
    let (scale, shift) = match align {
        true => ((size as f64 - 1.0) / 2.0, (size as f64 - 1.0) / 2.0),
        false => (size as f64 / 2.0, (size as f64 - 1.0) / 2.0),
    };
    let scaled = call.build.with_number(Bin::Mul, &part, scale)?;
    call.build.with_number(Bin::Add, &scaled, shift)
}

/// The four pixels around each place, weighted by how near they are.
fn grid_sampler(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, grid) = (call.x("input")?, call.x("grid")?);
    let (mode, padding) = (call.int_or("interpolation_mode", 0)?, call.int_or("padding_mode", 0)?);
    let align = call.bool_or("align_corners", false)?;
    let (shape, places) = (call.build.shape(&x), call.build.shape(&grid));
    let (&[n, c, h, w], &[_, height, width, 2]) = (&shape[..], &places[..]) else {
        return Err(Error::unsupported(format!("an image {shape:?} sampled at {places:?}")));
    };
    if mode > 1 || padding > 1 {
        return Err(Error::unsupported("cubic sampling, or padding by reflection"));
    }
    let mut coordinates = [pixels(call, &grid, 1, h, align)?, pixels(call, &grid, 0, w, align)?];
    for (coordinate, size) in coordinates.iter_mut().zip([h, w]) {
        if padding == 1 {
            let clamp = Unary::Clamp { min: 0.0, max: size as f32 - 1.0 };
            *coordinate = call.build.unary(clamp, coordinate)?;
        }
        if mode == 1 {
            *coordinate = call.build.unary(Unary::Round, coordinate)?;
        }
    }
    // Pixels are rows of channels.
    let rows = call.build.view(&x, &ViewOp::Permute(vec![0, 2, 3, 1]))?;
    let rows = call.build.reshape(&rows, &[n * h * w, c])?;
    let first = (0..n).map(|i| (i * h * w) as i64).collect();
    let first = X::host(Host::ints(&[n, 1, 1], first), DType::I64);
    let floors = [call.build.unary(Unary::Floor, &coordinates[0])?, call.build.unary(Unary::Floor, &coordinates[1])?];
    let mut sum: Option<X> = None;
    for corner in 0..if mode == 1 { 1 } else { 4 } {
        let offsets = [corner / 2, corner % 2];
        let mut weight: Option<X> = None;
        let mut place = first.clone();
        for d in 0..2 {
            let size = [h, w][d];
            let at = call.build.with_number(Bin::Add, &floors[d], offsets[d] as f64)?;
            let distance = call.build.binary(Bin::Sub, &coordinates[d], &at)?;
            let distance = call.build.unary(Unary::Abs, &distance)?;
            let near = call.build.binary(Bin::Sub, &X::int(1), &distance)?;
            let low = call.build.with_number(Bin::Ge, &at, 0.0)?;
            let high = call.build.with_number(Bin::Le, &at, size as f64 - 1.0)?;
            let inside = call.build.binary(Bin::And, &low, &high)?;
            let part = call.build.binary(Bin::Mul, &near, &inside)?;
            weight = Some(match weight {
                None => part,
                Some(weight) => call.build.binary(Bin::Mul, &weight, &part)?,
            });
            let clamp = Unary::Clamp { min: 0.0, max: size as f32 - 1.0 };
            let at = call.build.unary(clamp, &at)?;
            let step = call.build.with_number(Bin::Mul, &at, if d == 0 { w as f64 } else { 1.0 })?;
            place = call.build.binary(Bin::Add, &place, &step)?;
        }
        let place = call.build.cast(&place, DType::I64)?;
        let place = call.build.reshape(&place, &[n * height * width])?;
        let pixel = call.build.index_select(&rows, 0, &place)?;
        let weight = call.build.reshape(&weight.expect("two dimensions"), &[n * height * width, 1])?;
        let part = call.build.binary(Bin::Mul, &pixel, &weight)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => call.build.binary(Bin::Add, &sum, &part)?,
        });
    }
    let y = call.build.reshape(&sum.expect("a corner"), &[n, height, width, c])?;
    let y = call.build.view(&y, &ViewOp::Permute(vec![0, 3, 1, 2]))?;
    Ok(Out::X(X { dtype: x.dtype, ..y }))
}

/// `[n, c, h, w]` as `[n, c * kh * kw, windows]`: `torch.nn.functional.unfold`.
fn im2col(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let kernel: [usize; 2] = call.sizes("kernel_size", 1)?;
    let (dilation, padding): ([usize; 2], [usize; 2]) = (call.sizes("dilation", 1)?, call.sizes("padding", 0)?);
    let stride: [usize; 2] = call.sizes("stride", 1)?;
    if call.build.rank(&x) != 4 || stride.contains(&0) || kernel.contains(&0) {
        return Err(Error::unsupported("windows of other than a batch of images"));
    }
    if padding != [0, 0] {
        let pads = [(0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])];
        x = super::arrange::pad(call, &x, &pads, PadMode::Constant(0.0))?;
    }
    let shape = call.build.shape(&x);
    let mut counts = [0; 2];
    for d in 0..2 {
        let reach = dilation[d] * (kernel[d] - 1) + 1;
        let free = shape[2 + d].checked_sub(reach);
        counts[d] = free.ok_or_else(|| Error::shape(format!("{shape:?} is too small for {kernel:?}")))? / stride[d] + 1;
    }
    let mut taps = Vec::new();
    for i in 0..kernel[0] {
        for j in 0..kernel[1] {
            let mut tap = x.clone();
            for (d, at) in [i, j].into_iter().enumerate() {
                let view = ViewOp::Slice { dim: 2 + d, start: at * dilation[d], step: stride[d], len: counts[d] };
                tap = call.build.view(&tap, &view)?;
            }
            taps.push(call.build.reshape(&tap, &[shape[0], shape[1], 1, counts[0] * counts[1]])?);
        }
    }
    let y = call.build.cat(&taps, 2)?;
    call.build.reshape(&y, &[shape[0], shape[1] * taps.len(), counts[0] * counts[1]]).map(Out::X)
}
