//! Pooling. Windows of volumes are taken in two steps, over the pixels and along the depth.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::{AvgPoolOptions, MaxPoolOptions};
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.max_pool2d.default" | "aten.max_pool2d_with_indices.default" => max_pool2d,
        "aten.max_pool1d.default" | "aten.max_pool1d_with_indices.default" => max_pool1d,
        "aten.max_pool3d.default" | "aten.max_pool3d_with_indices.default" => max_pool3d,
        "aten.avg_pool1d.default" => avg_pool1d,
        "aten.avg_pool2d.default" => avg_pool2d,
        "aten.avg_pool3d.default" => avg_pool3d,
        "aten.adaptive_avg_pool1d.default" => |call| adaptive(call, 1, false),
        "aten.adaptive_avg_pool2d.default" | "aten._adaptive_avg_pool2d.default" => |call| adaptive(call, 2, false),
        "aten.adaptive_avg_pool3d.default" | "aten._adaptive_avg_pool3d.default" => |call| adaptive(call, 3, false),
        "aten.adaptive_max_pool1d.default" => |call| adaptive(call, 1, true),
        "aten.adaptive_max_pool2d.default" => |call| adaptive(call, 2, true),
        "aten.adaptive_max_pool3d.default" => |call| adaptive(call, 3, true),
        _ => return None,
    })
}

/// The stride, which is the kernel's size unless it is given.
fn stride<const N: usize>(call: &mut Call<'_, '_>, kernel: [usize; N]) -> Result<[usize; N]> {
    match call.opt_ints("stride")?.filter(|stride| !stride.is_empty()) {
        Some(_) => call.sizes("stride", 1),
        None => Ok(kernel),
    }
}

fn max_options<const N: usize>(call: &mut Call<'_, '_>) -> Result<MaxPoolOptions<N>> {
    let kernel_size = call.sizes("kernel_size", 1)?;
    Ok(MaxPoolOptions {
        kernel_size,
        stride: stride(call, kernel_size)?,
        padding: call.sizes("padding", 0)?,
        dilation: call.sizes("dilation", 1)?,
        ceil_mode: call.bool_or("ceil_mode", false)?,
    })
}

fn avg_options<const N: usize>(call: &mut Call<'_, '_>) -> Result<AvgPoolOptions<N>> {
    let kernel_size = call.sizes("kernel_size", 1)?;
    let divisor = call.opt_int("divisor_override")?;
    Ok(AvgPoolOptions {
        kernel_size,
        stride: stride(call, kernel_size)?,
        padding: call.sizes("padding", 0)?,
        ceil_mode: call.bool_or("ceil_mode", false)?,
        count_include_pad: call.bool_or("count_include_pad", true)?,
        divisor_override: divisor.map(|divisor| usize::try_from(divisor).unwrap_or(0)),
    })
}

fn max_pool2d(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let options = max_options(call)?;
    let var = call.build.var(&x)?;
    Ok(Out::X(X::var(call.build.graph.max_pool2d(var, &options)?, x.dtype)))
}

fn max_pool1d(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let options = max_options(call)?;
    let var = call.build.var(&x)?;
    Ok(Out::X(X::var(call.build.graph.max_pool1d(var, &options)?, x.dtype)))
}

fn avg_pool1d(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let options = avg_options(call)?;
    let var = call.build.var(&x)?;
    Ok(Out::X(X::var(call.build.graph.avg_pool1d(var, &options)?, x.dtype)))
}

fn avg_pool2d(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let options = avg_options(call)?;
    let var = call.build.var(&x)?;
    Ok(Out::X(X::var(call.build.graph.avg_pool2d(var, &options)?, x.dtype)))
}

/// `[n, c, d, h, w]`, or without `n`, with `n` and the original shape.
fn volume(call: &mut Call<'_, '_>) -> Result<(X, Vec<usize>, [usize; 5])> {
    let x = call.x("self")?;
    let shape = call.build.shape(&x);
    match shape[..] {
        [n, c, d, h, w] => Ok((x, shape, [n, c, d, h, w])),
        [c, d, h, w] => Ok((x, shape, [1, c, d, h, w])),
        _ => Err(Error::shape(format!("{shape:?} is no volume"))),
    }
}

/// Applies `plane` to the images of all depths, then `depth` along the depth.
fn in_two_steps(
    call: &mut Call<'_, '_>,
    plane: &mut dyn FnMut(&mut Call<'_, '_>, &X) -> Result<X>,
    depth: &mut dyn FnMut(&mut Call<'_, '_>, &X) -> Result<X>,
) -> Result<Out> {
    let (x, shape, [n, c, d, h, w]) = volume(call)?;
    let images = call.build.reshape(&x, &[n, c * d, h, w])?;
    let images = plane(call, &images)?;
    let sizes = call.build.shape(&images);
    let columns = call.build.reshape(&images, &[n, c, d, sizes[2] * sizes[3]])?;
    let y = depth(call, &columns)?;
    let depth = call.build.shape(&y)[2];
    let out = [&shape[..shape.len() - 3], &[depth, sizes[2], sizes[3]]].concat();
    call.build.reshape(&y, &out).map(Out::X)
}

fn max_pool3d(call: &mut Call<'_, '_>) -> Result<Out> {
    let all: MaxPoolOptions<3> = max_options(call)?;
    let pick = |sizes: [usize; 3]| [sizes[1], sizes[2]];
    let plane = MaxPoolOptions {
        kernel_size: pick(all.kernel_size),
        stride: pick(all.stride),
        padding: pick(all.padding),
        dilation: pick(all.dilation),
        ceil_mode: all.ceil_mode,
    };
    let depth = MaxPoolOptions {
        kernel_size: [all.kernel_size[0], 1],
        stride: [all.stride[0], 1],
        padding: [all.padding[0], 0],
        dilation: [all.dilation[0], 1],
        ceil_mode: all.ceil_mode,
    };
    let pool = |call: &mut Call<'_, '_>, x: &X, options: &MaxPoolOptions<2>| -> Result<X> {
        let var = call.build.var(x)?;
        Ok(X::var(call.build.graph.max_pool2d(var, options)?, x.dtype))
    };
    in_two_steps(call, &mut |call, x| pool(call, x, &plane), &mut |call, x| pool(call, x, &depth))
}

fn avg_pool3d(call: &mut Call<'_, '_>) -> Result<Out> {
    let all: AvgPoolOptions<3> = avg_options(call)?;
    let part = |kernel_size: [usize; 2], stride: [usize; 2], padding: [usize; 2]| AvgPoolOptions {
        kernel_size,
        stride,
        padding,
        ceil_mode: all.ceil_mode,
        count_include_pad: all.count_include_pad,
        // The sum of each plane, then that of the planes.
        divisor_override: all.divisor_override.map(|_| 1),
    };
    let ([kd, kh, kw], [sd, sh, sw], [pd, ph, pw]) = (all.kernel_size, all.stride, all.padding);
    let (plane, depth) = (part([kh, kw], [sh, sw], [ph, pw]), part([kd, 1], [sd, 1], [pd, 0]));
    let pool = |call: &mut Call<'_, '_>, x: &X, options: &AvgPoolOptions<2>| -> Result<X> {
        let var = call.build.var(x)?;
        Ok(X::var(call.build.graph.avg_pool2d(var, options)?, x.dtype))
    };
    let y = in_two_steps(call, &mut |call, x| pool(call, x, &plane), &mut |call, x| pool(call, x, &depth))?;
    match (y, all.divisor_override) {
        (Out::X(y), Some(divisor)) => call.build.with_number(Bin::Div, &y, divisor as f64).map(Out::X),
        (y, _) => Ok(y),
    }
}

fn adaptive(call: &mut Call<'_, '_>, dims: usize, is_max: bool) -> Result<Out> {
    let x = call.x("self")?;
    let mut sizes = call.shape("output_size")?;
    if sizes.len() == 1 {
        sizes = vec![sizes[0]; dims];
    }
    if sizes.len() != dims {
        return Err(Error::shape(format!("output sizes {sizes:?} for {dims} dimensions")));
    }
    let rank = call.build.rank(&x);
    if sizes.iter().all(|&size| size == 1) && rank > dims {
        let all: Vec<usize> = (rank - dims..rank).collect();
        return call.build.fold(if is_max { Fold::Max } else { Fold::Mean }, &x, &all, true).map(Out::X);
    }
    let pool = |call: &mut Call<'_, '_>, x: &X, sizes: [Option<usize>; 2]| -> Result<X> {
        let var = call.build.var(x)?;
        let graph = &mut *call.build.graph;
        let y = if is_max { graph.adaptive_max_pool2d(var, sizes)? } else { graph.adaptive_avg_pool2d(var, sizes)? };
        Ok(X::var(y, x.dtype))
    };
    match sizes[..] {
        [len] => {
            let var = call.build.var(&x)?;
            let graph = &mut *call.build.graph;
            let y = if is_max { graph.adaptive_max_pool1d(var, len)? } else { graph.adaptive_avg_pool1d(var, len)? };
            Ok(Out::X(X::var(y, x.dtype)))
        }
        [h, w] => pool(call, &x, [Some(h), Some(w)]).map(Out::X),
        [d, h, w] => in_two_steps(call, &mut |call, x| pool(call, x, [Some(h), Some(w)]), &mut |call, x| {
            pool(call, x, [Some(d), None])
        }),
        _ => unreachable!("one to three dimensions"),
    }
}
