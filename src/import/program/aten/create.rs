//! Tensors made from nothing but their arguments.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::alias::ViewOp;
use crate::import::program::host::{Host, MAX_ELEMENTS, round};
use crate::import::program::prims::Bin;
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.arange.default" | "aten.arange.start" | "aten.arange.start_step" => arange,
        "aten.linspace.default" => linspace,
        "aten.full.default" => full,
        "aten.zeros.default" => |call| filled(call, 0.0),
        "aten.ones.default" => |call| filled(call, 1.0),
        "aten.new_zeros.default" => |call| filled(call, 0.0),
        "aten.new_ones.default" => |call| filled(call, 1.0),
        "aten.new_full.default" => full,
        "aten.empty.memory_format" | "aten.new_empty.default" | "aten.empty_permuted.default" => empty,
        "aten.full_like.default" => full_like,
        "aten.zeros_like.default" => |call| like(call, 0.0),
        "aten.ones_like.default" => |call| like(call, 1.0),
        "aten.empty_like.default" => |call| like(call, 0.0),
        "aten.scalar_tensor.default" => scalar_tensor,
        "aten.eye.default" | "aten.eye.m" => eye,
        "aten.tril.default" => |call| triangle(call, Bin::Le),
        "aten.triu.default" => |call| triangle(call, Bin::Ge),
        "aten.tril_indices.default" => |call| triangle_places(call, Bin::Le),
        "aten.triu_indices.default" => |call| triangle_places(call, Bin::Ge),
        "aten.meshgrid.default" | "aten.meshgrid.indexing" => meshgrid,
        "aten.one_hot.default" => one_hot,
        _ => return None,
    })
}

fn arange(call: &mut Call<'_, '_>) -> Result<Out> {
    let (start, end, step) = (call.opt_x("start")?, call.x("end")?, call.opt_x("step")?);
    let given = [Some(&end), start.as_ref(), step.as_ref()];
    let is_float = given.iter().flatten().any(|x| x.dtype.is_float());
    let dtype = call.opt_dtype("dtype")?.unwrap_or(if is_float { DType::F32 } else { DType::I64 });
    let (start, end, step) = (call.float_or("start", 0.0)?, call.float("end")?, call.float_or("step", 1.0)?);
    let count = ((end - start) / step).ceil();
    if !count.is_finite() || count < 0.0 || count > MAX_ELEMENTS as f64 {
        return Err(Error::shape(format!("a range from {start} to {end} in steps of {step}")));
    }
    let values = (0..count as usize).map(|i| start + step * i as f64);
    let shape = [count as usize];
    let host = match dtype.is_float() {
        true => Host::floats(&shape, values.map(|x| round(x, dtype)).collect()),
        false => Host::ints(&shape, values.map(|x| x as i64).collect()),
    };
    Ok(Out::X(X::host(host, dtype)))
}

fn linspace(call: &mut Call<'_, '_>) -> Result<Out> {
    let (start, end) = (call.float("start")?, call.float("end")?);
    let steps = usize::try_from(call.int("steps")?).unwrap_or(0);
    super::checked(vec![steps])?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(DType::F32);
    let step = if steps > 1 { (end - start) / (steps as f64 - 1.0) } else { 0.0 };
    // From both ends, as PyTorch does.
    let value = |i: usize| if i < steps / 2 { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 };
    let data = (0..steps).map(|i| round(if steps == 1 { start } else { value(i) }, dtype)).collect();
    Ok(Out::X(X::host(Host::floats(&[steps], data).cast(dtype), dtype)))
}

/// The dtype that is given, or that of `self`, or the default one.
fn dtype_of(call: &mut Call<'_, '_>, default: DType) -> Result<DType> {
    match call.opt_dtype("dtype")? {
        Some(dtype) => Ok(dtype),
        None => Ok(call.opt_x("self")?.map_or(default, |x| x.dtype)),
    }
}

fn filled(call: &mut Call<'_, '_>, value: f64) -> Result<Out> {
    let shape = call.shape("size")?;
    let dtype = dtype_of(call, DType::F32)?;
    call.build.full(&shape, dtype, value).map(Out::X)
}

fn full(call: &mut Call<'_, '_>) -> Result<Out> {
    let shape = call.shape("size")?;
    let value = call.x("fill_value")?;
    let own = if value.dtype.is_float() { DType::F32 } else { value.dtype };
    let dtype = dtype_of(call, own)?;
    call.build.full(&shape, dtype, call_number(&value)?).map(Out::X)
}

fn call_number(x: &X) -> Result<f64> {
    match &x.data {
        crate::import::program::value::Data::Host(host) if host.len() == 1 => Ok(host.at(0)),
        _ => Err(Error::unsupported("a fill value that depends on the input")),
    }
}

/// Memory that the program fills: zeros until then.
fn empty(call: &mut Call<'_, '_>) -> Result<Out> {
    filled(call, 0.0)
}

fn like(call: &mut Call<'_, '_>, value: f64) -> Result<Out> {
    let x = call.x("self")?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(x.dtype);
    let shape = call.build.shape(&x);
    call.build.full(&shape, dtype, value).map(Out::X)
}

fn full_like(call: &mut Call<'_, '_>) -> Result<Out> {
    let value = call.x("fill_value")?;
    like(call, call_number(&value)?)
}

fn scalar_tensor(call: &mut Call<'_, '_>) -> Result<Out> {
    let value = call.x("s")?;
    let dtype = call.opt_dtype("dtype")?.unwrap_or(DType::F32);
    call.build.cast(&value, dtype).map(Out::X)
}

fn eye(call: &mut Call<'_, '_>) -> Result<Out> {
    let n = usize::try_from(call.int("n")?).unwrap_or(0);
    let m = call.opt_int("m")?.map_or(n, |m| usize::try_from(m).unwrap_or(0));
    let dtype = call.opt_dtype("dtype")?.unwrap_or(DType::F32);
    super::checked(vec![n, m])?;
    let data = (0..n * m).map(|i| f64::from(u8::from(i / m == i % m))).collect();
    Ok(Out::X(X::host(Host::floats(&[n, m], data).cast(dtype), dtype)))
}

/// The elements for which `column - row` compares so with `diagonal`, else zeros.
fn triangle(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let x = call.x("self")?;
    let diagonal = call.int_or("diagonal", 0)?;
    let shape = call.build.shape(&x);
    let [.., rows, columns] = shape[..] else {
        return Err(Error::shape(format!("{shape:?} is no matrix")));
    };
    let difference = (0..rows * columns).map(|i| (i % columns) as i64 - (i / columns) as i64).collect();
    let difference = X::host(Host::ints(&[rows, columns], difference), DType::I64);
    let keep = call.build.binary(bin, &difference, &X::int(diagonal))?;
    let zero = call.build.full(&[], x.dtype, 0.0)?;
    call.build.select(&keep, &x, &zero).map(Out::X)
}

/// The rows and the columns of the elements that `tril` or `triu` keeps.
fn triangle_places(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (rows, columns, offset) = (call.int("row")?, call.int("col")?, call.int_or("offset", 0)?);
    let dtype = call.opt_dtype("dtype")?.unwrap_or(DType::I64);
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    if super::checked(vec![size(rows), size(columns)])?.iter().product::<usize>() > MAX_ELEMENTS {
        return Err(Error::unsupported(format!("the places of a triangle of {rows} by {columns}")));
    }
    let keeps = |row: &i64, column: &i64| match bin {
        Bin::Le => column - row <= offset,
        _ => column - row >= offset,
    };
    let all = || (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let kept: Vec<(i64, i64)> = all().filter(|(row, column)| keeps(row, column)).collect();
    let data = kept.iter().map(|place| place.0).chain(kept.iter().map(|place| place.1)).collect();
    Ok(Out::X(X::host(Host::ints(&[2, kept.len()], data).cast(dtype), dtype)))
}

fn meshgrid(call: &mut Call<'_, '_>) -> Result<Out> {
    let xs = call.xs("tensors")?;
    let swap = match call.str_or("indexing", "ij")? {
        "ij" => false,
        "xy" => xs.len() >= 2,
        other => return Err(Error::unsupported(format!("the indexing `{other}`"))),
    };
    let mut order: Vec<usize> = (0..xs.len()).collect();
    if swap {
        order.swap(0, 1);
    }
    let lens: Vec<usize> = xs.iter().map(|x| call.build.shape(x).iter().product()).collect();
    let full: Vec<usize> = order.iter().map(|&i| lens[i]).collect();
    let mut out = Vec::new();
    for (i, x) in xs.iter().enumerate() {
        let mut shape = vec![1; xs.len()];
        shape[order.iter().position(|&own| own == i).expect("a permutation")] = lens[i];
        let x = call.build.reshape(x, &shape)?;
        out.push(call.build.view(&x, &ViewOp::Expand(full.clone()))?);
    }
    Ok(Out::Xs(out))
}

fn one_hot(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    let classes = call.int_or("num_classes", -1)?;
    let Ok(count) = usize::try_from(classes) else {
        return Err(Error::unsupported("a number of classes that depends on the input"));
    };
    // A class that is not there is an error.
    let x = super::gather::within(call, &x, count)?;
    let shape = call.build.shape(&x);
    super::checked([&shape[..], &[count]].concat())?;
    let column = call.build.reshape(&x, &[&shape[..], &[1]].concat())?;
    let classes = X::host(Host::ints(&[count], (0..classes).collect()), DType::I64);
    let equal = call.build.binary(Bin::Eq, &column, &classes)?;
    call.build.cast(&equal, DType::I64).map(Out::X)
}
