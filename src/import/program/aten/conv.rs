//! Convolutions. Those over volumes and the transposed ones are written as convolutions over images.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::{ConvOptions, PadMode, Padding, PaddingMode};
use crate::import::program::alias::ViewOp;
use crate::import::program::prims::Bin;
use crate::import::program::value::{X, promote};

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.conv1d.default" | "aten.conv1d.padding" => |call| conv(call, 1),
        "aten.conv2d.default" | "aten.conv2d.padding" => |call| conv(call, 2),
        "aten.conv3d.default" | "aten.conv3d.padding" => |call| conv(call, 3),
        "aten.conv_transpose1d.default" => |call| transposed(call, 1),
        "aten.conv_transpose2d.input" => |call| transposed(call, 2),
        "aten.conv_transpose3d.input" => |call| transposed(call, 3),
        "aten.convolution.default" | "aten._convolution.default" => convolution,
        _ => return None,
    })
}

/// A convolution with its sizes, one for each spatial dimension.
struct Conv {
    x: X,
    weight: X,
    bias: Option<X>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    dilation: Vec<usize>,
    groups: usize,
}

impl Conv {
    fn read(call: &mut Call<'_, '_>, dims: usize) -> Result<Self> {
        let conv = Self {
            x: call.x("input")?,
            weight: call.x("weight")?,
            bias: call.opt_x("bias")?,
            stride: sizes(call, "stride", dims, 1)?,
            padding: vec![0; dims],
            dilation: sizes(call, "dilation", dims, 1)?,
            groups: usize::try_from(call.int_or("groups", 1)?).unwrap_or(0),
        };
        let (input, weight) = (call.build.shape(&conv.x), call.build.shape(&conv.weight));
        if weight.len() != dims + 2 || weight.contains(&0) || !(dims + 1..=dims + 2).contains(&input.len()) {
            return Err(Error::shape(format!("input {input:?} and weight {weight:?} over {dims} dimensions")));
        }
        if conv.stride.iter().chain(&conv.dilation).chain([&conv.groups]).any(|&size| size == 0) {
            return Err(Error::shape("groups, stride and dilation must be at least 1"));
        }
        Ok(conv)
    }
}

fn sizes(call: &mut Call<'_, '_>, name: &str, dims: usize, default: usize) -> Result<Vec<usize>> {
    Ok(match dims {
        1 => call.sizes::<1>(name, default)?.to_vec(),
        2 => call.sizes::<2>(name, default)?.to_vec(),
        _ => call.sizes::<3>(name, default)?.to_vec(),
    })
}

fn conv(call: &mut Call<'_, '_>, dims: usize) -> Result<Out> {
    let mut conv = Conv::read(call, dims)?;
    if call.node.target.ends_with(".padding") {
        match call.str_or("padding", "valid")? {
            "valid" => {}
            "same" => same(call, &mut conv)?,
            other => return Err(Error::unsupported(format!("the padding `{other}`"))),
        }
    } else {
        conv.padding = sizes(call, "padding", dims, 0)?;
    }
    run(call, conv).map(Out::X)
}

/// As much padding as keeps the size; what is uneven is added to the input.
fn same(call: &mut Call<'_, '_>, conv: &mut Conv) -> Result<()> {
    if conv.stride.iter().any(|&stride| stride != 1) {
        return Err(Error::shape("padding `same` goes with a stride of 1"));
    }
    let kernel = call.build.shape(&conv.weight)[2..].to_vec();
    let total: Vec<usize> = kernel.iter().zip(&conv.dilation).map(|(k, d)| d * (k - 1)).collect();
    let rank = call.build.rank(&conv.x);
    let mut pads = vec![(0, 0); rank];
    for (d, total) in total.iter().enumerate() {
        pads[rank - total_dims(conv) + d].1 = total % 2;
        conv.padding[d] = total / 2;
    }
    if pads.iter().any(|&pads| pads != (0, 0)) {
        conv.x = super::arrange::pad(call, &conv.x, &pads, PadMode::Constant(0.0))?;
    }
    Ok(())
}

fn total_dims(conv: &Conv) -> usize {
    conv.stride.len()
}

fn convolution(call: &mut Call<'_, '_>) -> Result<Out> {
    let weight = call.x("weight")?;
    let dims = call.build.rank(&weight).saturating_sub(2);
    if !(1..=3).contains(&dims) {
        return Err(Error::unsupported(format!("a convolution over {dims} dimensions")));
    }
    let mut conv = Conv::read(call, dims)?;
    conv.padding = sizes(call, "padding", dims, 0)?;
    if call.bool_or("transposed", false)? {
        let output_padding = sizes(call, "output_padding", dims, 0)?;
        return run_transposed(call, conv, &output_padding).map(Out::X);
    }
    run(call, conv).map(Out::X)
}

fn transposed(call: &mut Call<'_, '_>, dims: usize) -> Result<Out> {
    let mut conv = Conv::read(call, dims)?;
    conv.padding = sizes(call, "padding", dims, 0)?;
    let output_padding = sizes(call, "output_padding", dims, 0)?;
    run_transposed(call, conv, &output_padding).map(Out::X)
}

fn options<const N: usize>(conv: &Conv) -> ConvOptions<N> {
    let sizes = |sizes: &[usize]| sizes.try_into().expect("a size for each dimension");
    ConvOptions {
        stride: sizes(&conv.stride),
        padding: Padding::Explicit(sizes(&conv.padding)),
        dilation: sizes(&conv.dilation),
        groups: conv.groups,
        padding_mode: PaddingMode::Zeros,
    }
}

fn run(call: &mut Call<'_, '_>, conv: Conv) -> Result<X> {
    let dims = conv.stride.len();
    let rank = call.build.rank(&conv.x);
    if rank == dims + 1 {
        let shape = call.build.shape(&conv.x);
        let batched: Vec<usize> = [1].into_iter().chain(shape).collect();
        let x = call.build.reshape(&conv.x, &batched)?;
        let y = run(call, Conv { x, ..conv })?;
        let shape = call.build.shape(&y);
        return call.build.reshape(&y, &shape[1..]);
    }
    if dims == 3 {
        return volume(call, conv);
    }
    let dtype = promote(conv.x.dtype, conv.weight.dtype);
    let build = &mut *call.build;
    let (x, weight) = (build.var(&conv.x)?, build.var(&conv.weight)?);
    let bias = conv.bias.as_ref().map(|bias| build.var(bias)).transpose()?;
    let y = match dims {
        1 => build.graph.conv1d(x, weight, bias, &options::<1>(&conv))?,
        _ => build.graph.conv2d(x, weight, bias, &options::<2>(&conv))?,
    };
    Ok(X::var(y, dtype))
}

/// A convolution over `[n, c, d, h, w]` as one over images.
fn volume(call: &mut Call<'_, '_>, conv: Conv) -> Result<X> {
    let (shape, kernel) = (call.build.shape(&conv.x), call.build.shape(&conv.weight));
    let (&[n, c, d, h, w], &[out, c_in, kd, kh, kw]) = (&shape[..], &kernel[..]) else {
        return Err(Error::shape(format!("input {shape:?} and weight {kernel:?} must have 5 dimensions")));
    };
    let pick = |sizes: &[usize], from: usize| sizes[from..from + 2].to_vec();
    let plain = |sizes: &[usize], value: usize| sizes[1..].iter().all(|&size| size == value);
    if (kh, kw) == (1, 1) && plain(&conv.stride, 1) && plain(&conv.padding, 0) {
        // Along the depth only: an image of the depth and all pixels.
        let x = call.build.reshape(&conv.x, &[n, c, d, h * w])?;
        let weight = call.build.reshape(&conv.weight, &[out, c_in, kd, 1])?;
        let flat = |sizes: &[usize], other: usize| vec![sizes[0], other];
        let image = Conv {
            x,
            weight,
            stride: flat(&conv.stride, 1),
            padding: flat(&conv.padding, 0),
            dilation: flat(&conv.dilation, 1),
            ..conv
        };
        let y = run(call, image)?;
        let depth = call.build.shape(&y)[2];
        return call.build.reshape(&y, &[n, out, depth, h, w]);
    }
    // The depths that meet one tap of the kernel become images; those of all taps are channels of one image.
    let mut x = conv.x.clone();
    let mut size = d;
    if conv.padding[0] > 0 {
        let pad = (conv.padding[0], conv.padding[0]);
        x = super::arrange::pad(call, &x, &[(0, 0), (0, 0), pad, (0, 0), (0, 0)], PadMode::Constant(0.0))?;
        size += 2 * conv.padding[0];
    }
    let reach = conv.dilation[0] * (kd - 1) + 1;
    let depth = size.checked_sub(reach).map(|free| free / conv.stride[0] + 1);
    let depth = depth.ok_or_else(|| Error::shape(format!("input {shape:?} is too small for {kernel:?}")))?;
    let mut taps = Vec::with_capacity(kd);
    for tap in 0..kd {
        let slice = ViewOp::Slice { dim: 2, start: tap * conv.dilation[0], step: conv.stride[0], len: depth };
        let tap = call.build.view(&x, &slice)?;
        let tap = call.build.view(&tap, &ViewOp::Permute(vec![0, 2, 1, 3, 4]))?;
        taps.push(call.build.reshape(&tap, &[n * depth, c, 1, h, w])?);
    }
    let x = if kd == 1 { taps.remove(0) } else { call.build.cat(&taps, 2)? };
    let x = call.build.reshape(&x, &[n * depth, c * kd, h, w])?;
    let weight = call.build.reshape(&conv.weight, &[out, c_in * kd, kh, kw])?;
    let image = Conv {
        x,
        weight,
        stride: pick(&conv.stride, 1),
        padding: pick(&conv.padding, 1),
        dilation: pick(&conv.dilation, 1),
        ..conv
    };
    let y = run(call, image)?;
    let [height, width] = [call.build.shape(&y)[2], call.build.shape(&y)[3]];
    let y = call.build.reshape(&y, &[n, depth, out, height, width])?;
    call.build.view(&y, &ViewOp::Permute(vec![0, 2, 1, 3, 4]))
}

/// A transposed convolution: one with the kernel turned round over the input with zeros between its elements.
fn run_transposed(call: &mut Call<'_, '_>, conv: Conv, output_padding: &[usize]) -> Result<X> {
    let dims = conv.stride.len();
    if call.build.rank(&conv.x) != dims + 2 {
        let shape = call.build.shape(&conv.x);
        let batched: Vec<usize> = [1].into_iter().chain(shape).collect();
        let x = call.build.reshape(&conv.x, &batched)?;
        let y = run_transposed(call, Conv { x, ..conv }, output_padding)?;
        let shape = call.build.shape(&y);
        return call.build.reshape(&y, &shape[1..]);
    }
    let (shape, kernel) = (call.build.shape(&conv.x), call.build.shape(&conv.weight));
    let groups = conv.groups;
    if kernel[0] != shape[1] || kernel[0] % groups != 0 {
        return Err(Error::shape(format!("input {shape:?} does not fit the weight {kernel:?} in {groups} groups")));
    }
    let weight = turned(call, &conv.weight, groups)?;
    if let Some(y) = separate(call, &conv, output_padding, &kernel)? {
        return Ok(y);
    }
    let mut x = conv.x.clone();
    let mut pads = vec![(0, 0); dims + 2];
    for d in 0..dims {
        x = spread(call, &x, 2 + d, conv.stride[d])?;
        let reach = conv.dilation[d] * (kernel[2 + d] - 1);
        let before = reach as isize - conv.padding[d] as isize;
        let after = before + output_padding[d] as isize;
        if before < 0 || after < 0 {
            let (cut_before, cut_after) = ((-before).max(0) as usize, (-after).max(0) as usize);
            let size = call.build.shape(&x)[2 + d];
            let len = size.saturating_sub(cut_before + cut_after);
            x = call.build.view(&x, &ViewOp::Slice { dim: 2 + d, start: cut_before, step: 1, len })?;
        }
        pads[2 + d] = (before.max(0) as usize, after.max(0) as usize);
    }
    if pads.iter().any(|&pads| pads != (0, 0)) {
        x = super::arrange::pad(call, &x, &pads, PadMode::Constant(0.0))?;
    }
    run(call, Conv { x, weight, stride: vec![1; dims], padding: vec![0; dims], ..conv })
}

/// A transposed convolution whose windows do not overlap: a product for each pixel, and its results side by side.
fn separate(call: &mut Call<'_, '_>, conv: &Conv, output_padding: &[usize], kernel: &[usize]) -> Result<Option<X>> {
    let dims = conv.stride.len();
    let fits = dims == 2
        && conv.groups == 1
        && kernel[2..] == conv.stride[..]
        && conv.padding.iter().chain(output_padding).all(|&size| size == 0)
        && conv.dilation.iter().all(|&size| size == 1);
    if !fits {
        return Ok(None);
    }
    let shape = call.build.shape(&conv.x);
    let (c_in, out, kh, kw) = (kernel[0], kernel[1], kernel[2], kernel[3]);
    let weight = call.build.view(&conv.weight, &ViewOp::Permute(vec![2, 3, 1, 0]))?;
    let weight = call.build.reshape(&weight, &[kh * kw * out, c_in, 1, 1])?;
    let product = Conv {
        x: conv.x.clone(),
        weight,
        bias: None,
        stride: vec![1; 2],
        padding: vec![0; 2],
        dilation: vec![1; 2],
        groups: 1,
    };
    let y = run(call, product)?;
    let y = call.build.reshape(&y, &[shape[0], kh, kw, out, shape[2], shape[3]])?;
    let y = call.build.view(&y, &ViewOp::Permute(vec![0, 3, 4, 1, 5, 2]))?;
    let y = call.build.reshape(&y, &[shape[0], out, shape[2] * kh, shape[3] * kw])?;
    match &conv.bias {
        Some(bias) => {
            let bias = call.build.reshape(bias, &[out, 1, 1])?;
            call.build.binary(Bin::Add, &y, &bias).map(Some)
        }
        None => Ok(Some(y)),
    }
}

/// `[in, out / groups, k...]` as `[out, in / groups, k...]`, the kernel turned round.
fn turned(call: &mut Call<'_, '_>, weight: &X, groups: usize) -> Result<X> {
    let shape = call.build.shape(weight);
    let (c_in, out) = (shape[0] / groups, shape[1]);
    let grouped: Vec<usize> = [groups, c_in, out].into_iter().chain(shape[2..].iter().copied()).collect();
    let w = call.build.reshape(weight, &grouped)?;
    let order: Vec<usize> = [0, 2, 1].into_iter().chain(3..grouped.len()).collect();
    let w = call.build.view(&w, &ViewOp::Permute(order))?;
    let flat: Vec<usize> = [groups * out, c_in].into_iter().chain(shape[2..].iter().copied()).collect();
    let mut w = call.build.reshape(&w, &flat)?;
    for dim in 2..flat.len() {
        w = super::gather::flip(call, &w, dim)?;
    }
    Ok(w)
}

/// The value with `stride - 1` zeros between the elements along `dim`.
fn spread(call: &mut Call<'_, '_>, x: &X, dim: usize, stride: usize) -> Result<X> {
    let shape = call.build.shape(x);
    if stride == 1 || shape[dim] <= 1 {
        return Ok(x.clone());
    }
    let mut split = shape.clone();
    split.insert(dim + 1, 1);
    let x = call.build.reshape(x, &split)?;
    let mut pads = vec![(0, 0); split.len()];
    pads[dim + 1].1 = stride - 1;
    let x = super::arrange::pad(call, &x, &pads, PadMode::Constant(0.0))?;
    let mut merged = shape.clone();
    merged[dim] *= stride;
    let x = call.build.reshape(&x, &merged)?;
    let len = (shape[dim] - 1) * stride + 1;
    call.build.view(&x, &ViewOp::Slice { dim, start: 0, step: 1, len })
}
