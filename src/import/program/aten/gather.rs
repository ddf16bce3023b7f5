//! Elements by index: selection, rolling, flipping, resizing.

use super::{Call, Function, Out, wrap_dim};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::alias::ViewOp;
use crate::import::program::host::{Host, split};
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.index.Tensor" | "aten._unsafe_index.Tensor" => index,
        "aten.index_select.default" => index_select,
        "aten.gather.default" => gather,
        "aten.take.default" => take,
        "aten.take_along_dim.default" => take_along_dim,
        "aten.roll.default" => roll,
        "aten.flip.default" => flip_dims,
        "aten.fliplr.default" => |call| flip_one(call, 1),
        "aten.flipud.default" => |call| flip_one(call, 0),
        "aten.rot90.default" => rot90,
        "aten.repeat_interleave.self_int" => repeat_interleave,
        "aten.upsample_nearest1d.vec" | "aten.upsample_nearest1d.default" => |call| resize(call, 1, Kind::Nearest),
        "aten.upsample_nearest2d.vec" | "aten.upsample_nearest2d.default" => |call| resize(call, 2, Kind::Nearest),
        "aten.upsample_nearest3d.vec" | "aten.upsample_nearest3d.default" => |call| resize(call, 3, Kind::Nearest),
        "aten._upsample_nearest_exact1d.vec" | "aten._upsample_nearest_exact1d.default" => {
            |call| resize(call, 1, Kind::NearestExact)
        }
        "aten._upsample_nearest_exact3d.vec" | "aten._upsample_nearest_exact3d.default" => {
            |call| resize(call, 3, Kind::NearestExact)
        }
        "aten._upsample_nearest_exact2d.vec" | "aten._upsample_nearest_exact2d.default" => {
            |call| resize(call, 2, Kind::NearestExact)
        }
        "aten.upsample_linear1d.vec" | "aten.upsample_linear1d.default" => |call| resize(call, 1, Kind::Linear),
        "aten.upsample_bilinear2d.vec" | "aten.upsample_bilinear2d.default" => |call| resize(call, 2, Kind::Linear),
        "aten.upsample_trilinear3d.vec" | "aten.upsample_trilinear3d.default" => |call| resize(call, 3, Kind::Linear),
        "aten.upsample_bicubic2d.vec" | "aten.upsample_bicubic2d.default" => |call| resize(call, 2, Kind::Cubic),
        _ => return None,
    })
}

/// The places that indices along some dimensions name, in those dimensions merged into one.
pub(super) struct Places {
    pub(super) place: X,
    /// The shape of the indices, broadcast.
    pub(super) shape: Vec<usize>,
    /// The size of the merged dimension.
    pub(super) count: usize,
    /// Where the indices' dimensions come in the result.
    pub(super) at: usize,
    pub(super) neighbours: bool,
}

impl Places {
    pub(super) fn read(call: &mut Call<'_, '_>, shape: &[usize], given: &[X], dims: &[usize]) -> Result<Self> {
        let Some(&first) = dims.first().filter(|_| dims.last().is_some_and(|&last| last < shape.len())) else {
            return Err(Error::shape(format!("{} indices for {shape:?}", dims.len())));
        };
        // Indexed dimensions come together: in place when they are neighbours, else in front.
        let neighbours = dims.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let mut place: Option<X> = None;
        for (index, &d) in given.iter().zip(dims) {
            let mut index = from_front(call, index, shape[d])?;
            if dims.len() > 1 {
                // A place that is not there would be one of another row.
                index = within(call, &index, shape[d])?;
            }
            place = Some(match place {
                None => index,
                Some(place) => {
                    let place = call.build.with_number(Bin::Mul, &place, shape[d] as f64)?;
                    call.build.binary(Bin::Add, &place, &index)?
                }
            });
        }
        let place = place.expect("there is an index");
        let count = dims.iter().map(|&d| shape[d]).product();
        if !place.is_host() {
            countable(call, count)?;
        }
        let at = if neighbours { first } else { 0 };
        Ok(Self { shape: call.build.shape(&place), place, count, at, neighbours })
    }
}

/// Indices along some dimensions: neighbours become one dimension, whose places are looked up.
fn index(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let indices = call.opt_xs("indices")?;
    let shape = call.build.shape(&x);
    let indices = without_masks(call, &shape, indices)?;
    let dims: Vec<usize> = (0..indices.len()).filter(|&d| indices[d].is_some()).collect();
    let given: Vec<X> = indices.into_iter().flatten().collect();
    let Places { place, shape: out, count, at, .. } = Places::read(call, &shape, &given, &dims)?;
    let mut order: Vec<usize> = (0..shape.len()).filter(|d| !dims.contains(d)).collect();
    order.splice(at..at, dims.iter().copied());
    let moved = call.build.view(&x, &ViewOp::Permute(order.clone()))?;
    let sizes: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let flat = [&sizes[..at], &[count], &sizes[at + dims.len()..]].concat();
    let moved = call.build.reshape(&moved, &flat)?;
    let places = call.build.reshape(&place, &[out.iter().product()])?;
    let y = call.build.index_select(&moved, at, &places)?;
    let full = [&flat[..at], &out, &flat[at + 1..]].concat();
    call.build.reshape(&y, &full).map(Out::X)
}

/// An index with negative places counted from the end. One that depends on the input and is out of range stays so: that
/// is an error of the run, where it is looked up.
pub(super) fn from_front(call: &mut Call<'_, '_>, index: &X, size: usize) -> Result<X> {
    let Some(host) = call.build.known(index)? else {
        countable(call, size)?;
        // As floats: no sum of the two is larger than one of them.
        let float = |x: X| X { dtype: DType::F32, is_number: false, ..x };
        let (dtype, index) = (index.dtype, float(index.clone()));
        let negative = call.build.with_number(Bin::Lt, &index, 0.0)?;
        let size = call.build.with_number(Bin::Mul, &float(negative), size as f64)?;
        let place = call.build.binary(Bin::Add, &index, &size)?;
        return Ok(X { dtype, ..place });
    };
    let wrap = |&i: &i64| if i < 0 { i + size as i64 } else { i };
    let places = host.as_ints()?.iter().map(wrap).collect();
    within(call, &X::host(Host::ints(&host.shape, places), DType::I64), size)
}

/// An error when places among so many cannot be computed exactly.
fn countable(call: &Call<'_, '_>, size: usize) -> Result<()> {
    match size as f64 <= call.build.exact() {
        true => Ok(()),
        false => {
            let most = call.build.exact_shown();
            Err(Error::unsupported(format!("indices from the input among {size} places: at most {most}")))
        }
    }
}

/// Places of so many; those that depend on the input go through a table, so that one that is not there is an error.
pub(super) fn within(call: &mut Call<'_, '_>, places: &X, size: usize) -> Result<X> {
    if let Some(host) = call.build.known(places)? {
        return match host.as_ints()?.iter().find(|place| !(0..size as i64).contains(place)) {
            Some(bad) => Err(Error::shape(format!("index {bad} is out of range, expected 0..{size}"))),
            None => Ok(X::host((*host).clone(), DType::I64)),
        };
    }
    countable(call, size)?;
    let shape = call.build.shape(places);
    let flat = call.build.reshape(places, &[shape.iter().product()])?;
    let table = X::host(Host::floats(&[size], (0..size).map(|i| i as f64).collect()), DType::F32);
    let found = call.build.index_select(&table, 0, &flat)?;
    let found = call.build.reshape(&found, &shape)?;
    Ok(X { dtype: DType::I64, ..found })
}

/// Indices along the dimensions of `shape`, a mask among them as the places where it is true; it must be known.
pub(super) fn without_masks(
    call: &mut Call<'_, '_>,
    shape: &[usize],
    indices: Vec<Option<X>>,
) -> Result<Vec<Option<X>>> {
    let mut all: Vec<Option<X>> = Vec::new();
    for index in indices {
        let Some(mask) = index.as_ref().filter(|x| x.dtype == DType::Bool) else {
            all.push(index);
            continue;
        };
        let Some(host) = call.build.known(mask)? else {
            return Err(Error::unsupported("a mask that depends on the input, so that the result's shape does"));
        };
        let rank = host.shape.len();
        if rank == 0 || shape.get(all.len()..all.len() + rank) != Some(&host.shape[..]) {
            return Err(Error::shape(format!("a mask of {:?} from dimension {} of {shape:?}", host.shape, all.len())));
        }
        let places: Vec<usize> = (0..host.len()).filter(|&i| host.at(i) != 0.0).collect();
        let strides = crate::shape::Shape::from(&host.shape[..]).contiguous_strides();
        for (stride, size) in strides.iter().zip(&host.shape) {
            let along = places.iter().map(|place| (place / stride % size) as i64).collect();
            all.push(Some(X::host(Host::ints(&[places.len()], along), DType::I64)));
        }
    }
    Ok(all)
}

fn index_select(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, indices) = (call.x("self")?, call.x("index")?);
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, 0)?;
    let count = call.build.shape(&indices).iter().product();
    let indices = call.build.reshape(&indices, &[count])?;
    call.build.index_select(&x, dim, &indices).map(Out::X)
}

fn gather(call: &mut Call<'_, '_>) -> Result<Out> {
    let (mut x, mut index) = (call.x("self")?, call.x("index")?);
    let out = call.build.shape(&index);
    for x in [&mut x, &mut index] {
        if call.build.rank(x) == 0 {
            *x = call.build.reshape(x, &[1])?;
        }
    }
    let rank = call.build.rank(&x);
    let dim = call.dim_of("dim", rank, 0)?;
    let y = gathered(call, &x, &index, dim)?;
    call.build.reshape(&y, &out).map(Out::X)
}

/// `y[i][j] = x[index[i][j]][j]`: one look-up among all elements.
fn gathered(call: &mut Call<'_, '_>, x: &X, index: &X, dim: usize) -> Result<X> {
    let (shape, out) = (call.build.shape(x), call.build.shape(index));
    if shape.len() != out.len() || (0..out.len()).any(|d| d != dim && out[d] > shape[d]) {
        return Err(Error::shape(format!("an index of {out:?} for {shape:?}")));
    }
    if shape.iter().product::<usize>() as f64 > call.build.exact() && call.build.known(index)?.is_none() {
        return gathered_in_parts(call, x, index, dim);
    }
    // The places of the elements as if the index were 0.
    let strides = crate::shape::Shape::from(&shape[..]).contiguous_strides();
    let mut base = Host::ints(&vec![1; out.len()], vec![0]);
    for d in (0..out.len()).filter(|&d| d != dim) {
        let mut each = vec![1; out.len()];
        each[d] = out[d];
        let steps = Host::ints(&each, (0..out[d]).map(|i| (i * strides[d]) as i64).collect());
        let (a, b) = (X::host(base, DType::I64), X::host(steps, DType::I64));
        let sum = call.build.binary(Bin::Add, &a, &b)?;
        base = (*call.build.known(&sum)?.expect("numbers")).clone();
    }
    let index = within(call, index, shape[dim])?;
    let step = call.build.with_number(Bin::Mul, &index, strides[dim] as f64)?;
    let places = call.build.binary(Bin::Add, &step, &X::host(base, DType::I64))?;
    let numel: usize = shape.iter().product();
    let flat = call.build.reshape(x, &[numel])?;
    let places = call.build.reshape(&places, &[out.iter().product()])?;
    let y = call.build.index_select(&flat, 0, &places)?;
    call.build.reshape(&y, &out)
}

/// Of a tensor with so many elements that their places are not exact: halves, until they are.
fn gathered_in_parts(call: &mut Call<'_, '_>, x: &X, index: &X, dim: usize) -> Result<X> {
    let (shape, out) = (call.build.shape(x), call.build.shape(index));
    let part = |dim: usize, start: usize, len: usize| ViewOp::Slice { dim, start, step: 1, len };
    if let Some(d) = (0..out.len()).find(|&d| d != dim && out[d] < shape[d]) {
        let seen = call.build.view(x, &part(d, 0, out[d]))?;
        return gathered(call, &seen, index, dim);
    }
    let widest = (0..out.len()).filter(|&d| d != dim && out[d] > 1).max_by_key(|&d| out[d]);
    let Some(d) = widest else {
        return Err(countable(call, shape[dim]).expect_err("one line is as long as all of it"));
    };
    let half = out[d] / 2;
    let mut parts = Vec::new();
    for (start, len) in [(0, half), (half, out[d] - half)] {
        let x = call.build.view(x, &part(d, start, len))?;
        let index = call.build.view(index, &part(d, start, len))?;
        parts.push(gathered(call, &x, &index, dim)?);
    }
    call.build.cat(&parts, d)
}

/// Elements by their places in row-major order.
fn take(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, index) = (call.x("self")?, call.x("index")?);
    let (numel, out) = (call.build.shape(&x).iter().product(), call.build.shape(&index));
    let flat = call.build.reshape(&x, &[numel])?;
    let places = from_front(call, &index, numel)?;
    let places = call.build.reshape(&places, &[out.iter().product()])?;
    let y = call.build.index_select(&flat, 0, &places)?;
    call.build.reshape(&y, &out).map(Out::X)
}

/// `gather` with the other dimensions broadcast, or of all elements in a row.
fn take_along_dim(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, index) = (call.x("self")?, call.x("indices")?);
    let (mut shape, mut places) = (call.build.shape(&x), call.build.shape(&index));
    let dim = call.opt_int("dim")?;
    let Some(dim) = dim else {
        let x = call.build.reshape(&x, &[shape.iter().product()])?;
        let index = call.build.reshape(&index, &[places.iter().product()])?;
        return gathered(call, &x, &index, 0).map(Out::X);
    };
    let dim = wrap_dim(dim, shape.len())?;
    if places.len() != shape.len() {
        return Err(Error::shape(format!("an index of {places:?} for {shape:?}")));
    }
    for d in (0..shape.len()).filter(|&d| d != dim) {
        let size = if shape[d] == 1 { places[d] } else { shape[d] };
        (shape[d], places[d]) = (size, size);
    }
    let (x, index) = (call.build.expand(&x, &shape)?, call.build.expand(&index, &places)?);
    gathered(call, &x, &index, dim).map(Out::X)
}

fn roll(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let shape = call.build.shape(&x);
    let shifts = call.ints("shifts")?;
    let dims = call.opt_ints("dims")?.unwrap_or_default();
    if dims.len() != shifts.len() {
        if !dims.is_empty() || shifts.len() != 1 {
            return Err(Error::shape(format!("shifts {shifts:?} along {dims:?}")));
        }
        let flat = call.build.reshape(&x, &[shape.iter().product()])?;
        let y = rolled(call, &flat, 0, shifts[0])?;
        return call.build.reshape(&y, &shape).map(Out::X);
    }
    for (shift, dim) in shifts.into_iter().zip(dims) {
        let dim = wrap_dim(dim, shape.len())?;
        x = rolled(call, &x, dim, shift)?;
    }
    Ok(Out::X(x))
}

fn rolled(call: &mut Call<'_, '_>, x: &X, dim: usize, shift: i64) -> Result<X> {
    let size = call.build.shape(x)[dim];
    let shift = shift.rem_euclid(size.max(1) as i64) as usize;
    if shift == 0 {
        return Ok(x.clone());
    }
    let part = |start: usize, len: usize| ViewOp::Slice { dim, start, step: 1, len };
    let last = call.build.view(x, &part(size - shift, shift))?;
    let first = call.build.view(x, &part(0, size - shift))?;
    call.build.cat(&[last, first], dim)
}

pub(super) fn flip(call: &mut Call<'_, '_>, x: &X, dim: usize) -> Result<X> {
    let size = call.build.shape(x)[dim];
    if size <= 1 {
        return Ok(x.clone());
    }
    let indices = X::host(Host::ints(&[size], (0..size as i64).rev().collect()), DType::I64);
    call.build.index_select(x, dim, &indices)
}

fn flip_dims(call: &mut Call<'_, '_>) -> Result<Out> {
    let mut x = call.x("self")?;
    let rank = call.build.rank(&x);
    for dim in call.ints("dims")? {
        x = flip(call, &x, wrap_dim(dim, rank)?)?;
    }
    Ok(Out::X(x))
}

fn flip_one(call: &mut Call<'_, '_>, dim: usize) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    flip(call, &x, wrap_dim(dim as i64, rank)?).map(Out::X)
}

/// Quarter turns in the plane of two dimensions.
fn rot90(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let rank = call.build.rank(&x);
    let [a, b] = call.opt_ints("dims")?.unwrap_or(vec![0, 1])[..] else {
        return Err(Error::shape("a turn is in a plane of two dimensions"));
    };
    let (a, b) = (wrap_dim(a, rank)?, wrap_dim(b, rank)?);
    let turns = call.int_or("k", 1)?.rem_euclid(4);
    let mut y = x;
    for dim in [vec![], vec![b], vec![a, b], vec![a]][turns as usize].clone() {
        y = flip(call, &y, dim)?;
    }
    if turns % 2 == 1 {
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(a, b);
        y = call.build.view(&y, &ViewOp::Permute(order))?;
    }
    Ok(Out::X(y))
}

fn repeat_interleave(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let repeats = usize::try_from(call.int("repeats")?).unwrap_or(0);
    let shape = call.build.shape(&x);
    let (x, shape, dim) = match call.opt_int("dim")? {
        Some(dim) => (x, shape.clone(), wrap_dim(dim, shape.len())?),
        None => {
            let flat = vec![shape.iter().product()];
            (call.build.reshape(&x, &flat)?, flat, 0)
        }
    };
    let [outer, len, inner] = split(&shape, dim);
    let mut out = shape;
    out[dim] = out[dim].saturating_mul(repeats);
    let out = super::checked(out)?;
    let x = call.build.reshape(&x, &[outer, len, 1, inner])?;
    let x = call.build.expand(&x, &[outer, len, repeats, inner])?;
    call.build.reshape(&x, &out).map(Out::X)
}

/// How an image is resized.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nearest,
    NearestExact,
    Linear,
    Cubic,
}

fn resize(call: &mut Call<'_, '_>, dims: usize, kind: Kind) -> Result<Out> {
    let mut x = match call.opt_x("input")? {
        Some(x) => x,
        None => call.x("self")?,
    };
    let shape = call.build.shape(&x);
    if shape.len() != dims + 2 {
        return Err(Error::shape(format!("{shape:?} does not have {dims} dimensions to resize")));
    }
    let align = call.bool_or("align_corners", false)?;
    let factors = factors(call, dims)?;
    let sizes = match call.opt_ints("output_size")? {
        Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(),
        None => match &factors[..] {
            [] => return Err(Error::invalid("neither a size nor a scale")),
            factors => (0..dims).map(|d| (shape[2 + d] as f64 * factors[d]).floor() as usize).collect::<Vec<_>>(),
        },
    };
    if sizes.len() != dims || sizes.iter().any(|&size| size == 0 || size > 1 << 24) {
        return Err(Error::shape(format!("the size {sizes:?}")));
    }
    for (d, &size) in sizes.iter().enumerate() {
        let input = shape[2 + d];
        // PyTorch computes with `f32` here.
        let step = match factors.get(d) {
            _ if align && size > 1 => (input as f32 - 1.0) / (size as f32 - 1.0),
            _ if align => 0.0,
            Some(&factor) if factor > 0.0 => (1.0 / factor) as f32,
            _ => input as f32 / size as f32,
        };
        x = resize_dim(call, &x, 2 + d, size, step, align, kind)?;
    }
    Ok(Out::X(x))
}

/// The scales that are given, one for each dimension, or none.
fn factors(call: &mut Call<'_, '_>, dims: usize) -> Result<Vec<f64>> {
    if let Some(super::Arg::Floats(factors)) = call.arg("scale_factors") {
        return Ok(factors.clone());
    }
    let names: &[&str] = if dims == 1 { &["scales"] } else { &["scales_d", "scales_h", "scales_w"][3 - dims..] };
    let all = names.iter().map(|name| call.opt_float(name)).collect::<Result<Option<Vec<_>>>>()?;
    Ok(all.unwrap_or_default())
}

/// One dimension: each result is a sum of a few neighbours, whose places and weights are known.
fn resize_dim(
    call: &mut Call<'_, '_>,
    x: &X,
    dim: usize,
    size: usize,
    step: f32,
    align: bool,
    kind: Kind,
) -> Result<X> {
    let input = call.build.shape(x)[dim];
    if size == input && step == 1.0 {
        return Ok(x.clone());
    }
    let last = input as i64 - 1;
    let taps = match kind {
        Kind::Nearest | Kind::NearestExact => 1,
        Kind::Linear => 2,
        Kind::Cubic => 4,
    };
    let (mut places, mut weights) = (vec![vec![]; taps], vec![vec![]; taps]);
    for i in 0..size {
        let (first, weight) = neighbours(i, step, align, kind);
        for (tap, weight) in weight.into_iter().enumerate() {
            places[tap].push((first + tap as i64).clamp(0, last));
            weights[tap].push(weight);
        }
    }
    let mut each = vec![1; call.build.rank(x)];
    each[dim] = size;
    let mut sum: Option<X> = None;
    for (places, weights) in places.into_iter().zip(weights) {
        if weights.iter().all(|&weight| weight == 0.0) {
            continue;
        }
        let places = X::host(Host::ints(&[size], places), DType::I64);
        let mut part = call.build.index_select(x, dim, &places)?;
        if weights.iter().any(|&weight| weight != 1.0) {
            let weights = X::host(Host::floats(&each, weights), DType::F32);
            part = call.build.binary(Bin::Mul, &part, &weights)?;
        }
        sum = Some(match sum {
            None => part,
            Some(sum) => call.build.binary(Bin::Add, &sum, &part)?,
        });
    }
    let sum = sum.expect("weights add up to 1");
    Ok(X { dtype: x.dtype, ..sum })
}

/// The first place that result `i` is made from, and the weights of that and those after it.
fn neighbours(i: usize, step: f32, align: bool, kind: Kind) -> (i64, Vec<f64>) {
    let centre = if align { step * i as f32 } else { step * (i as f32 + 0.5) - 0.5 };
    match kind {
        Kind::Nearest => ((i as f32 * step).floor() as i64, vec![1.0]),
        Kind::NearestExact => (((i as f32 + 0.5) * step).floor() as i64, vec![1.0]),
        Kind::Linear => {
            let centre = centre.max(0.0);
            let part = f64::from(centre - centre.floor());
            (centre.floor() as i64, vec![1.0 - part, part])
        }
        Kind::Cubic => {
            let t = f64::from(centre - centre.floor());
            const A: f64 = -0.75;
            let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
            let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
            (centre.floor() as i64 - 1, vec![far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)])
        }
    }
}
