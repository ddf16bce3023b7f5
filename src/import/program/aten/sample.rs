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

/// How an image is sampled.
struct Sampling {
    /// Zeros, the edge, or the image mirrored.
    padding: i64,
    align: bool,
    /// Height and width.
    sizes: [usize; 2],
}

impl Sampling {
    /// Coordinates moved into the image, as the padding says.
    fn padded(&self, call: &mut Call<'_, '_>, x: &X, d: usize) -> Result<X> {
        let last = self.sizes[d] as f32 - 1.0;
        let clamp = Unary::Clamp { min: 0.0, max: last };
        match self.padding {
            0 => Ok(x.clone()),
            1 => call.build.unary(clamp, x),
            _ => {
                let (low, span) = if self.align { (0.0, f64::from(last)) } else { (-0.5, self.sizes[d] as f64) };
                if span == 0.0 {
                    return call.build.with_number(Bin::Mul, x, 0.0);
                }
                let build = &mut *call.build;
                let distance = build.with_number(Bin::Sub, x, low)?;
                let distance = build.unary(Unary::Abs, &distance)?;
                // Forth in even spans, back in odd ones.
                let place = build.with_number(Bin::Remainder, &distance, 2.0 * span)?;
                let back = build.binary(Bin::Sub, &X::number(2.0 * span, DType::F32), &place)?;
                let place = build.binary(Bin::Minimum, &place, &back)?;
                let place = build.with_number(Bin::Add, &place, low)?;
                build.unary(clamp, &place)
            }
        }
    }

    /// Whether whole coordinates are in the image.
    fn inside(&self, call: &mut Call<'_, '_>, x: &X, d: usize) -> Result<X> {
        let low = call.build.with_number(Bin::Ge, x, 0.0)?;
        let high = call.build.with_number(Bin::Le, x, self.sizes[d] as f64 - 1.0)?;
        call.build.binary(Bin::And, &low, &high)
    }

    /// The whole coordinates along one dimension that a sample is made from, each with its weight.
    fn taps(&self, call: &mut Call<'_, '_>, x: &X, d: usize, mode: i64) -> Result<Vec<(X, X)>> {
        let x = if mode == 2 { x.clone() } else { self.padded(call, x, d)? };
        let x = if mode == 1 { call.build.unary(Unary::Round, &x)? } else { x };
        let floor = call.build.unary(Unary::Floor, &x)?;
        let part = call.build.binary(Bin::Sub, &x, &floor)?;
        let weights: Vec<(f64, X)> = match mode {
            1 => vec![(0.0, X::number(1.0, DType::F32))],
            0 => {
                let near = call.build.binary(Bin::Sub, &X::int(1), &part)?;
                vec![(0.0, near), (1.0, part)]
            }
            _ => {
                let rest = call.build.binary(Bin::Sub, &X::int(1), &part)?;
                let far = |call: &mut Call<'_, '_>, x: &X| -> Result<X> {
                    let x = call.build.with_number(Bin::Add, x, 1.0)?;
                    cubic(call, &x, [-0.75, 3.75, -6.0, 3.0])
                };
                let near = |call: &mut Call<'_, '_>, x: &X| cubic(call, x, [1.25, -2.25, 0.0, 1.0]);
                vec![
                    (-1.0, far(call, &part)?),
                    (0.0, near(call, &part)?),
                    (1.0, near(call, &rest)?),
                    (2.0, far(call, &rest)?),
                ]
            }
        };
        let mut taps = Vec::new();
        for (offset, weight) in weights {
            let mut at = call.build.with_number(Bin::Add, &floor, offset)?;
            if mode == 2 {
                at = self.padded(call, &at, d)?;
            }
            let inside = self.inside(call, &at, d)?;
            let weight = call.build.binary(Bin::Mul, &weight, &inside)?;
            let clamp = Unary::Clamp { min: 0.0, max: self.sizes[d] as f32 - 1.0 };
            taps.push((call.build.unary(clamp, &at)?, weight));
        }
        Ok(taps)
    }
}

/// A polynomial of the third degree, its highest coefficient first.
fn cubic(call: &mut Call<'_, '_>, x: &X, factors: [f64; 4]) -> Result<X> {
    let mut y = call.build.with_number(Bin::Mul, x, factors[0])?;
    for factor in &factors[1..3] {
        y = call.build.with_number(Bin::Add, &y, *factor)?;
        y = call.build.binary(Bin::Mul, &y, x)?;
    }
    call.build.with_number(Bin::Add, &y, factors[3])
}

/// Pixels around each place, weighted by how near they are.
fn grid_sampler(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, grid) = (call.x("input")?, call.x("grid")?);
    let (mode, padding) = (call.int_or("interpolation_mode", 0)?, call.int_or("padding_mode", 0)?);
    let align = call.bool_or("align_corners", false)?;
    let (shape, places) = (call.build.shape(&x), call.build.shape(&grid));
    let (&[n, c, h, w], &[_, height, width, 2]) = (&shape[..], &places[..]) else {
        return Err(Error::unsupported(format!("an image {shape:?} sampled at {places:?}")));
    };
    if !(0..=2).contains(&mode) || !(0..=2).contains(&padding) || h * w == 0 {
        return Err(Error::unsupported(format!("the mode {mode} and the padding {padding} for {shape:?}")));
    }
    let sampling = Sampling { padding, align, sizes: [h, w] };
    let (y, x_axis) = (pixels(call, &grid, 1, h, align)?, pixels(call, &grid, 0, w, align)?);
    let rows_taps = sampling.taps(call, &y, 0, mode)?;
    let columns_taps = sampling.taps(call, &x_axis, 1, mode)?;
    // Pixels are rows of channels.
    let rows = call.build.view(&x, &ViewOp::Permute(vec![0, 2, 3, 1]))?;
    let rows = call.build.reshape(&rows, &[n * h * w, c])?;
    let first = (0..n).map(|i| (i * h * w) as i64).collect();
    let first = X::host(Host::ints(&[n, 1, 1], first), DType::I64);
    let mut sum: Option<X> = None;
    for (row, row_weight) in &rows_taps {
        let row = call.build.with_number(Bin::Mul, row, w as f64)?;
        let row = call.build.binary(Bin::Add, &first, &row)?;
        for (column, column_weight) in &columns_taps {
            let place = call.build.binary(Bin::Add, &row, column)?;
            let place = call.build.cast(&place, DType::I64)?;
            let place = call.build.reshape(&place, &[n * height * width])?;
            let pixel = call.build.index_select(&rows, 0, &place)?;
            let weight = call.build.binary(Bin::Mul, row_weight, column_weight)?;
            let weight = call.build.reshape(&weight, &[n * height * width, 1])?;
            let part = call.build.binary(Bin::Mul, &pixel, &weight)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => call.build.binary(Bin::Add, &sum, &part)?,
            });
        }
    }
    let y = call.build.reshape(&sum.expect("a tap"), &[n, height, width, c])?;
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
