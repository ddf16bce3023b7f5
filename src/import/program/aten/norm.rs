//! Normalisations.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::X;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.batch_norm.default" => |call| batch_norm(call, "training"),
        "aten._native_batch_norm_legit.default" | "aten.native_batch_norm.default" => {
            |call| batch_norm(call, "training")
        }
        "aten._native_batch_norm_legit_no_training.default" => |call| batch_norm(call, ""),
        "aten._native_batch_norm_legit.no_stats" => no_stats,
        "aten.layer_norm.default" | "aten.native_layer_norm.default" => layer_norm,
        "aten.group_norm.default" => |call| group_norm(call, "num_groups"),
        "aten.native_group_norm.default" => |call| group_norm(call, "group"),
        "aten.instance_norm.default" => instance_norm,
        "aten.rms_norm.default" => rms_norm,
        "aten._fused_rms_norm.default" => rms_norm,
        "aten._weight_norm.default" | "aten._weight_norm_interface.default" => weight_norm,
        _ => return None,
    })
}

fn batch_norm(call: &mut Call<'_, '_>, training: &str) -> Result<Out> {
    let x = call.x("input")?;
    let (weight, bias) = (call.opt_x("weight")?, call.opt_x("bias")?);
    let (mean, var) = (call.opt_x("running_mean")?, call.opt_x("running_var")?);
    if !training.is_empty() && call.bool_or(training, false)? && mean.is_some() {
        return Err(
            Error::unsupported("a BatchNorm in training mode").help("call `model.eval()` before the model is exported")
        );
    }
    let eps = call.float_or("eps", 1e-5)? as f32;
    let dtype = x.dtype;
    let build = &mut *call.build;
    let x = build.var(&x)?;
    let mut pair = |a: Option<X>, b: Option<X>, what: &str| match (a, b) {
        (Some(a), Some(b)) => Ok(Some((build.var(&a)?, build.var(&b)?))),
        (None, None) => Ok(None),
        _ => Err(Error::unsupported(format!("a BatchNorm with a part of {what}"))),
    };
    let running = pair(mean, var, "the running statistics")?;
    let affine = pair(weight, bias, "weight and bias")?;
    Ok(Out::X(X::var(build.graph.batch_norm(x, running, affine, eps)?, dtype)))
}

/// With the statistics of the batch: what InstanceNorm becomes.
fn no_stats(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("input")?;
    let shape = call.build.shape(&x);
    let (weight, bias) = (call.opt_x("weight")?, call.opt_x("bias")?);
    let eps = call.float_or("eps", 1e-5)?;
    if let [1, channels, ..] = shape[..] {
        return groups(call, &x, channels, weight, bias, eps).map(Out::X);
    }
    batch_norm(call, "")
}

fn layer_norm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, normalized) = (call.x("input")?, call.shape("normalized_shape")?);
    let (weight, bias) = (call.opt_x("weight")?, call.opt_x("bias")?);
    let eps = call.float_or("eps", 1e-5)? as f32;
    let dtype = x.dtype;
    let build = &mut *call.build;
    let x = build.var(&x)?;
    let weight = weight.map(|weight| build.var(&weight)).transpose()?;
    let bias = bias.map(|bias| build.var(&bias)).transpose()?;
    Ok(Out::X(X::var(build.graph.layer_norm(x, &normalized, weight, bias, eps)?, dtype)))
}

fn group_norm(call: &mut Call<'_, '_>, groups_name: &str) -> Result<Out> {
    let x = call.x("input")?;
    let (weight, bias) = (call.opt_x("weight")?, call.opt_x("bias")?);
    let count = usize::try_from(call.int(groups_name)?).unwrap_or(0);
    let eps = call.float_or("eps", 1e-5)?;
    groups(call, &x, count, weight, bias, eps).map(Out::X)
}

fn instance_norm(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("input")?;
    if !call.bool_or("use_input_stats", true)? {
        return batch_norm(call, "");
    }
    let channels = call.build.shape(&x).get(1).copied().unwrap_or(0);
    let (weight, bias) = (call.opt_x("weight")?, call.opt_x("bias")?);
    let eps = call.float_or("eps", 1e-5)?;
    groups(call, &x, channels, weight, bias, eps).map(Out::X)
}

/// Normalises each of `count` groups of channels, then scales and shifts each channel.
fn groups(call: &mut Call<'_, '_>, x: &X, count: usize, weight: Option<X>, bias: Option<X>, eps: f64) -> Result<X> {
    let shape = call.build.shape(x);
    if shape.len() < 2 || count == 0 || !shape[1].is_multiple_of(count) {
        return Err(Error::shape(format!("{count} groups do not divide the channels of {shape:?}")));
    }
    let channels = shape[1];
    let len = shape[1..].iter().product::<usize>() / count;
    let lines = call.build.reshape(x, &[shape[0], count, len])?;
    let dtype = x.dtype;
    let build = &mut *call.build;
    let var = build.var(&lines)?;
    let y = X::var(build.graph.layer_norm(var, &[len], None, None, eps as f32)?, dtype);
    let mut y = build.reshape(&y, &shape)?;
    let mut each = vec![1; shape.len() - 1];
    each[0] = channels;
    for (bin, parameter) in [(Bin::Mul, weight), (Bin::Add, bias)] {
        if let Some(parameter) = parameter {
            let parameter = build.reshape(&parameter, &each)?;
            y = build.binary(bin, &y, &parameter)?;
        }
    }
    Ok(X { dtype, ..y })
}

fn rms_norm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, normalized) = (call.x("input")?, call.shape("normalized_shape")?);
    let weight = call.opt_x("weight")?;
    let epsilon = match x.dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => f64::from(half::f16::EPSILON),
        DType::BF16 => f64::from(half::bf16::EPSILON),
        _ => f64::from(f32::EPSILON),
    };
    let eps = call.opt_float("eps")?.unwrap_or(epsilon);
    let rank = call.build.rank(&x);
    let dims: Vec<usize> = (rank - normalized.len().min(rank)..rank).collect();
    let build = &mut *call.build;
    let square = build.binary(Bin::Mul, &x, &x)?;
    let mean = build.fold(Fold::Mean, &square, &dims, true)?;
    let mean = build.with_number(Bin::Add, &mean, eps)?;
    let scale = build.unary(crate::graph::op::Unary::Rsqrt, &mean)?;
    let y = build.binary(Bin::Mul, &x, &scale)?;
    let y = match weight {
        Some(weight) => build.binary(Bin::Mul, &y, &weight)?,
        None => y,
    };
    Ok(Out::X(y))
}

/// `v * g / |v|`, with a norm for each place along `dim`.
fn weight_norm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (v, g) = (call.x("v")?, call.x("g")?);
    let rank = call.build.rank(&v);
    let dim = call.dim_of("dim", rank, 0)?;
    let others: Vec<usize> = (0..rank).filter(|&d| d != dim).collect();
    let build = &mut *call.build;
    let square = build.binary(Bin::Mul, &v, &v)?;
    let sum = build.fold(Fold::Sum, &square, &others, true)?;
    let norm = build.unary(crate::graph::op::Unary::Sqrt, &sum)?;
    let scale = build.binary(Bin::Div, &g, &norm)?;
    let y = build.binary(Bin::Mul, &v, &scale)?;
    Ok(match call.node.target.ends_with("_interface.default") {
        true => Out::Xs(vec![y, norm]),
        false => Out::X(y),
    })
}
