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
        "aten.grid_sampler.default" | "aten.grid_sampler_2d.default" | "aten.grid_sampler_3d.default" => grid_sampler,
        "aten.affine_grid_generator.default" => affine_grid,
        "aten.im2col.default" => im2col,
        "aten.col2im.default" => col2im,
        _ => return None,
    })
}

/// One coordinate in pixels: `-1 ..= 1` is the image.
fn pixels(call: &mut Call<'_, '_>, grid: &X, index: usize, size: usize, align: bool) -> Result<X> {
    let shape = call.build.shape(grid);
    let dim = shape.len() - 1;
    let part = call.build.view(grid, &ViewOp::Slice { dim, start: index, step: 1, len: 1 })?;
    let part = call.build.reshape(&part, &shape[..dim])?;
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
    /// Height and width, of volumes the depth before them.
    sizes: Vec<usize>,
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

/// Pixels around each place, weighted by how near they are; of images, or of volumes.
fn grid_sampler(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, grid) = (call.x("input")?, call.x("grid")?);
    let (mode, padding) = (call.int_or("interpolation_mode", 0)?, call.int_or("padding_mode", 0)?);
    let align = call.bool_or("align_corners", false)?;
    let (shape, places) = (call.build.shape(&x), call.build.shape(&grid));
    let dims = shape.len().saturating_sub(2);
    if !(2..=3).contains(&dims) || places.len() != shape.len() || places[dims + 1] != dims || places[0] != shape[0] {
        return Err(Error::shape(format!("an image {shape:?} sampled at {places:?}")));
    }
    let (n, c, sizes) = (shape[0], shape[1], shape[2..].to_vec());
    let pixel_count: usize = sizes.iter().product();
    if !(0..=2).contains(&mode) || !(0..=2).contains(&padding) || pixel_count == 0 || (mode == 2 && dims == 3) {
        return Err(Error::unsupported(format!("the mode {mode} and the padding {padding} for {shape:?}")));
    }
    if (n * pixel_count) as f64 > call.build.exact() {
        let most = call.build.exact_shown();
        return Err(Error::unsupported(format!("samples of {} pixels: at most {most}", n * pixel_count)));
    }
    let sampling = Sampling { padding, align, sizes: sizes.clone() };
    // Pixels are rows of channels.
    let order = [&[0], &(2..shape.len()).collect::<Vec<_>>()[..], &[1]].concat();
    let rows = call.build.view(&x, &ViewOp::Permute(order))?;
    let rows = call.build.reshape(&rows, &[n * pixel_count, c])?;
    let mut first = vec![1; dims + 1];
    first[0] = n;
    let first = X::host(Host::ints(&first, (0..n).map(|i| (i * pixel_count) as i64).collect()), DType::I64);
    // The places and weights of each combination of what the dimensions have.
    let mut taps = vec![(first, X::number(1.0, DType::F32))];
    for d in 0..dims {
        let axis = pixels(call, &grid, dims - 1 - d, sizes[d], align)?;
        let stride: usize = sizes[d + 1..].iter().product();
        let mut all = Vec::new();
        for (at, weight) in sampling.taps(call, &axis, d, mode)? {
            let at = call.build.with_number(Bin::Mul, &at, stride as f64)?;
            for (place, before) in &taps {
                all.push((call.build.binary(Bin::Add, place, &at)?, call.build.binary(Bin::Mul, before, &weight)?));
            }
        }
        taps = all;
    }
    let samples: usize = places[..=dims].iter().product();
    let mut sum: Option<X> = None;
    for (place, weight) in taps {
        let place = call.build.cast(&place, DType::I64)?;
        let place = call.build.reshape(&place, &[samples])?;
        let pixel = call.build.index_select(&rows, 0, &place)?;
        let weight = call.build.reshape(&weight, &[samples, 1])?;
        let part = call.build.binary(Bin::Mul, &pixel, &weight)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => call.build.binary(Bin::Add, &sum, &part)?,
        });
    }
    let y = call.build.reshape(&sum.expect("a tap"), &[&places[..=dims], &[c]].concat())?;
    let back = [&[0, dims + 1], &(1..=dims).collect::<Vec<_>>()[..]].concat();
    let y = call.build.view(&y, &ViewOp::Permute(back))?;
    Ok(Out::X(X { dtype: x.dtype, ..y }))
}

/// Where the pixels of an image or a volume come from, by matrices `[n, dims, dims + 1]`.
fn affine_grid(call: &mut Call<'_, '_>) -> Result<Out> {
    let theta = call.x("theta")?;
    let size = call.shape("size")?;
    let align = call.bool_or("align_corners", false)?;
    let dims = size.len().saturating_sub(2);
    if !(2..=3).contains(&dims) || call.build.shape(&theta) != [size[0], dims, dims + 1] {
        return Err(Error::shape(format!("{:?} for images of {size:?}", call.build.shape(&theta))));
    }
    // The coordinates of all pixels in homogeneous form, x first.
    let sizes = &size[2..];
    let count: usize = sizes.iter().product();
    let mut points = Vec::with_capacity(count * (dims + 1));
    for i in 0..count {
        let mut rest = i;
        for &size in sizes.iter().rev() {
            let (at, last) = ((rest % size) as f64, size as f64 - 1.0);
            points.push(match align {
                true if size > 1 => 2.0 * at / last - 1.0,
                true => 0.0,
                false => (2.0 * at + 1.0) / size as f64 - 1.0,
            });
            rest /= size;
        }
        points.push(1.0);
    }
    let points = X::host(Host::floats(&[1, count, dims + 1], points), DType::F32);
    let turned = call.build.view(&theta, &ViewOp::Permute(vec![0, 2, 1]))?;
    let y = super::linear::matmul(call, &points, &turned)?;
    let y = call.build.reshape(&y, &[&size[..1], sizes, &[dims]].concat())?;
    Ok(Out::X(X { dtype: theta.dtype, ..y }))
}

/// `[n, c, h, w]` as `[n, c * kh * kw, windows]`: `torch.nn.functional.unfold`.
fn im2col(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let given = call.build.shape(&x);
    if let [c, h, w] = given[..] {
        x = call.build.reshape(&x, &[1, c, h, w])?;
    }
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
    let out = [shape[0], shape[1] * taps.len(), counts[0] * counts[1]];
    call.build.reshape(&y, &out[4 - given.len()..]).map(Out::X)
}

/// `[n, c * kh * kw, windows]` added up as `[n, c, h, w]`: `torch.nn.functional.fold`.
fn col2im(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let (out, kernel): ([usize; 2], [usize; 2]) = (call.sizes("output_size", 1)?, call.sizes("kernel_size", 1)?);
    let (dilation, padding): ([usize; 2], [usize; 2]) = (call.sizes("dilation", 1)?, call.sizes("padding", 0)?);
    let stride: [usize; 2] = call.sizes("stride", 1)?;
    let given = call.build.shape(&x);
    let taps = kernel[0] * kernel[1];
    let wide = [out[0] + 2 * padding[0], out[1] + 2 * padding[1]];
    let mut counts = [0; 2];
    for d in 0..2 {
        let reach = dilation[d] * kernel[d].saturating_sub(1) + 1;
        let free = wide[d].checked_sub(reach).filter(|_| stride[d] > 0 && taps > 0);
        counts[d] = free.ok_or_else(|| Error::shape(format!("{out:?} is too small for {kernel:?}")))? / stride[d] + 1;
    }
    let (n, rows) = match given[..] {
        [n, rows, _] => (n, rows),
        [rows, _] => (1, rows),
        _ => return Err(Error::shape(format!("{given:?} is no batch of columns"))),
    };
    if rows % taps != 0 || given[given.len() - 1] != counts[0] * counts[1] {
        return Err(Error::shape(format!("{given:?} does not fold into {out:?} by {kernel:?}")));
    }
    let c = rows / taps;
    let x = call.build.reshape(&x, &[n, c, taps, counts[0], counts[1]])?;
    let mut sum: Option<X> = None;
    for tap in 0..taps {
        let at = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
        let part = call.build.view(&x, &ViewOp::Slice { dim: 2, start: tap, step: 1, len: 1 })?;
        let part = call.build.reshape(&part, &[n, c, counts[0], counts[1]])?;
        let zeros = call.build.full(&[n, c, wide[0], wide[1]], x.dtype, 0.0)?;
        let views: Vec<ViewOp> =
            (0..2).map(|d| ViewOp::Slice { dim: 2 + d, start: at[d], step: stride[d], len: counts[d] }).collect();
        let placed = super::arrange::replaced(call, &zeros, &views, &part)?;
        sum = Some(match sum {
            None => placed,
            Some(sum) => call.build.binary(Bin::Add, &sum, &placed)?,
        });
    }
    let mut y = sum.expect("a tap");
    for d in 0..2 {
        y = call.build.view(&y, &ViewOp::Slice { dim: 2 + d, start: padding[d], step: 1, len: out[d] })?;
    }
    let full = [n, c, out[0], out[1]];
    call.build.reshape(&y, &full[3 - given.len()..]).map(Out::X)
}
