//! Products with matrices, and look-ups in tables.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::op::Op;
use crate::graph::{Graph, Var};
use crate::import::program::alias::ViewOp;
use crate::import::program::host::Host;
use crate::import::program::prims::{Bin, Fold};
use crate::import::program::value::{X, promote};
use crate::shape::Shape;

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.linear.default" => linear,
        "aten.addmm.default" => addmm,
        "aten.mm.default" | "aten.bmm.default" => |call| product(call, "self", "mat2"),
        "aten.matmul.default" => |call| product(call, "self", "other"),
        "aten.mv.default" => |call| product(call, "self", "vec"),
        "aten.dot.default" => |call| product(call, "self", "tensor"),
        "aten.baddbmm.default" => baddbmm,
        "aten.addbmm.default" => addbmm,
        "aten.inner.default" => inner,
        "aten.cross.default" | "aten.linalg_cross.default" => cross,
        "aten.outer.default" | "aten.ger.default" => outer,
        "aten.einsum.default" => einsum,
        "aten.embedding.default" => embedding,
        _ => return None,
    })
}

fn linear(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, weight, bias) = (call.x("input")?, call.x("weight")?, call.opt_x("bias")?);
    let dtype = promote(x.dtype, weight.dtype);
    if !dtype.is_float() {
        let columns = call.build.view(&weight, &ViewOp::Permute(vec![1, 0]))?;
        let y = matmul(call, &x, &columns)?;
        return match bias {
            Some(bias) => call.build.binary(Bin::Add, &y, &bias).map(Out::X),
            None => Ok(Out::X(y)),
        };
    }
    let build = &mut *call.build;
    let (x, weight) = (build.var(&x)?, build.var(&weight)?);
    let bias = bias.map(|bias| build.var(&bias)).transpose()?;
    Ok(Out::X(X::var(build.graph.linear(x, weight, bias)?, dtype)))
}

pub(super) fn matmul(call: &mut Call<'_, '_>, a: &X, b: &X) -> Result<X> {
    let dtype = promote(a.dtype, b.dtype);
    let build = &mut *call.build;
    let len = build.shape(a).last().copied().unwrap_or(1);
    if !dtype.is_float() && build.reach(a) * build.reach(b) * len as f64 > build.exact() {
        let (a, b) = (build.var(a)?, build.var(b)?);
        let y = build.graph.matmul(a, b)?;
        let (a, b) = (build.graph.abs(a)?, build.graph.abs(b)?);
        let sizes = build.graph.matmul(a, b)?;
        return Ok(X::var(build.guarded(y, sizes)?, dtype));
    }
    let (a, b) = (build.var(a)?, build.var(b)?);
    let graph = &mut *build.graph;
    let (left, right) = match (graph.shape(a).len(), graph.shape(b).len()) {
        (2, 2) => (split(graph, a, 1), Some(b)),
        (3, 3) => match same_matrix(graph, b)? {
            Some(matrix) => (split(graph, a, 2).or(Some(a)), Some(matrix)),
            None => (split(graph, a, 2), split(graph, b, 2)),
        },
        _ => (None, None),
    };
    let pair = left.zip(right).filter(|&(left, right)| {
        let lead = |x: Var| &graph.shape(x)[..graph.shape(x).len() - 2];
        lead(right).is_empty() || lead(left) == lead(right)
    });
    let Some((left, right)) = pair else { return Ok(X::var(graph.matmul(a, b)?, dtype)) };
    let y = graph.matmul(left, right)?;
    let (a, b) = (graph.shape(a), graph.shape(b));
    let shape: Vec<isize> = [&a[..a.len() - 1], &b[b.len() - 1..]].concat().iter().map(|&size| size as isize).collect();
    Ok(X::var(graph.reshape(y, &shape)?, dtype))
}

/// The matrix that every one in a batch of matrices is.
fn same_matrix(graph: &mut Graph, x: Var) -> Result<Option<Var>> {
    let Op::Parameter(parameter) = &graph.node(x).op else { return Ok(None) };
    if parameter.tensor.stride().first() != Some(&0) || graph.shape(x)[0] == 0 {
        return Ok(None);
    }
    let (rows, columns) = (graph.shape(x)[1] as isize, graph.shape(x)[2] as isize);
    let first = graph.slice(x, 0, 0, 1, 1)?;
    graph.reshape(first, &[rows, columns]).map(Some)
}

/// What `x` was before its dimensions but the last `kept` were merged into one. A decomposed program merges them before
/// a product and splits them after it: the product of what was merged is the one that the program had before.
fn split(graph: &Graph, x: Var, kept: usize) -> Option<Var> {
    let Op::Reshape = graph.node(x).op else { return None };
    let inner = graph.node(x).inputs[0];
    let (shape, own) = (graph.shape(inner), graph.shape(x));
    (shape.len() > own.len() && shape.ends_with(&own[own.len() - kept..])).then_some(inner)
}

fn product(call: &mut Call<'_, '_>, a: &str, b: &str) -> Result<Out> {
    let (a, b) = (call.x(a)?, call.x(b)?);
    matmul(call, &a, &b).map(Out::X)
}

/// `beta * self + alpha * mat1 mat2`, a linear layer where it is one.
fn addmm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (bias, a, b) = (call.x("self")?, call.x("mat1")?, call.x("mat2")?);
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    let is_plain = alpha == 1.0 && beta == 1.0 && a.dtype.is_float();
    let is_layer = is_plain && call.build.rank(&b) == 2 && call.build.shape(&bias) == call.build.shape(&b)[1..];
    if is_layer {
        let dtype = promote(a.dtype, b.dtype);
        let transposed = call.build.view(&b, &ViewOp::Permute(vec![1, 0]))?;
        let build = &mut *call.build;
        let (x, weight, bias) = (build.var(&a)?, build.var(&transposed)?, build.var(&bias)?);
        let rows = split(build.graph, x, 1).unwrap_or(x);
        let y = build.graph.linear(rows, weight, Some(bias))?;
        let shape = [build.graph.shape(x)[0] as isize, build.graph.shape(y)[build.graph.shape(y).len() - 1] as isize];
        return Ok(Out::X(X::var(build.graph.reshape(y, &shape)?, dtype)));
    }
    let y = matmul(call, &a, &b)?;
    scaled_sum(call, &bias, beta, &y, alpha).map(Out::X)
}

fn baddbmm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, a, b) = (call.x("self")?, call.x("batch1")?, call.x("batch2")?);
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    let y = matmul(call, &a, &b)?;
    scaled_sum(call, &x, beta, &y, alpha).map(Out::X)
}

fn addbmm(call: &mut Call<'_, '_>) -> Result<Out> {
    let (x, a, b) = (call.x("self")?, call.x("batch1")?, call.x("batch2")?);
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    let y = matmul(call, &a, &b)?;
    let y = call.build.fold(Fold::Sum, &y, &[0], false)?;
    scaled_sum(call, &x, beta, &y, alpha).map(Out::X)
}

/// The products of the last dimensions.
fn inner(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let rank = call.build.rank(&b);
    if rank > 2 {
        return Err(Error::unsupported(format!("an inner product with a tensor of {rank} dimensions")));
    }
    if call.build.rank(&a) == 0 || rank == 0 {
        return call.build.binary(Bin::Mul, &a, &b).map(Out::X);
    }
    let b = call.build.view(&b, &ViewOp::Permute((0..rank).rev().collect()))?;
    matmul(call, &a, &b).map(Out::X)
}

/// Of vectors of three along `dim`, which is the first such dimension where it is not given.
fn cross(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let shape = Shape::broadcast(&call.build.shape(&a)[..].into(), &call.build.shape(&b)[..].into())?;
    let dim = match (call.opt_int("dim")?, &call.node.target[..]) {
        (Some(dim), _) => super::wrap_dim(dim, shape.len())?,
        (None, "aten.cross.default") => shape.iter().position(|&size| size == 3).unwrap_or(0),
        (None, _) => super::wrap_dim(-1, shape.len())?,
    };
    let (a, b) = (call.build.expand(&a, &shape)?, call.build.expand(&b, &shape)?);
    if shape[dim] != 3 {
        return Err(Error::shape(format!("vectors of {} along dimension {dim}, expected 3", shape[dim])));
    }
    let turned = |call: &mut Call<'_, '_>, x: &X, first: i64| -> Result<X> {
        let places = (0..3).map(|i| (i + first) % 3).collect();
        call.build.index_select(x, dim, &X::host(Host::ints(&[3], places), DType::I64))
    };
    let (a1, a2) = (turned(call, &a, 1)?, turned(call, &a, 2)?);
    let (b1, b2) = (turned(call, &b, 1)?, turned(call, &b, 2)?);
    let (left, right) = (call.build.binary(Bin::Mul, &a1, &b2)?, call.build.binary(Bin::Mul, &a2, &b1)?);
    call.build.binary(Bin::Sub, &left, &right).map(Out::X)
}

/// `beta * x + alpha * y`; with a `beta` of 0, `x` does not count, NaN or not.
fn scaled_sum(call: &mut Call<'_, '_>, x: &X, beta: f64, y: &X, alpha: f64) -> Result<X> {
    let build = &mut *call.build;
    let y = if alpha == 1.0 { y.clone() } else { build.with_number(Bin::Mul, y, alpha)? };
    if beta == 0.0 {
        return Ok(y);
    }
    let x = if beta == 1.0 { x.clone() } else { build.with_number(Bin::Mul, x, beta)? };
    build.binary(Bin::Add, &x, &y)
}

fn outer(call: &mut Call<'_, '_>) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("vec2")?);
    let len = call.build.shape(&a).iter().product();
    let column = call.build.reshape(&a, &[len, 1])?;
    call.build.binary(Bin::Mul, &column, &b).map(Out::X)
}

/// Rows of a table. PyTorch takes indices from 0 only.
fn embedding(call: &mut Call<'_, '_>) -> Result<Out> {
    let (table, indices) = (call.x("weight")?, call.x("indices")?);
    let build = &mut *call.build;
    let (dtype, table, indices) = (table.dtype, build.var(&table)?, build.int_var(&indices)?);
    Ok(Out::X(X::var(build.graph.embedding(indices, table)?, dtype)))
}

/// Sums of products over named dimensions; of two tensors a product of matrices.
fn einsum(call: &mut Call<'_, '_>) -> Result<Out> {
    let equation: String = call.str_or("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let tensors = call.xs("tensors")?;
    // Without a result, what is named once is in it, in alphabetical order.
    let once = || {
        let mut names: Vec<char> = equation.chars().filter(char::is_ascii_alphabetic).collect();
        names.sort_unstable();
        names.chunk_by(|a, b| a == b).filter(|same| same.len() == 1).map(|same| same[0]).collect::<String>()
    };
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, right.to_string()),
        None => (&equation[..], once()),
    };
    let names: Vec<Vec<char>> = left.split(',').map(|part| part.chars().collect()).collect();
    let out: Vec<char> = right.chars().collect();
    let fits = names.len() == tensors.len()
        && names.iter().zip(&tensors).all(|(names, x)| {
            let repeats = (1..names.len()).any(|i| names[..i].contains(&names[i]));
            names.iter().all(char::is_ascii_alphabetic) && names.len() == call.build.rank(x) && !repeats
        });
    if !fits || !out.iter().all(|c| names.iter().any(|names| names.contains(c))) {
        return Err(unsupported(&equation));
    }
    let mut operands = names.into_iter().zip(tensors);
    let (mut names, mut x) = operands.next().ok_or_else(|| unsupported(&equation))?;
    let rest: Vec<(Vec<char>, X)> = operands.collect();
    for (i, (other_names, other)) in rest.iter().enumerate() {
        let later = |c: &char| out.contains(c) || rest[i + 1..].iter().any(|(names, _)| names.contains(c));
        (names, x) = contract(call, (&names, &x), (other_names, other), &later)?;
    }
    let gone: Vec<usize> = (0..names.len()).filter(|&d| !out.contains(&names[d])).collect();
    if !gone.is_empty() {
        x = call.build.fold(Fold::Sum, &x, &gone, false)?;
        names.retain(|c| out.contains(c));
    }
    let order = out.iter().map(|c| names.iter().position(|own| own == c).expect("checked")).collect();
    call.build.view(&x, &ViewOp::Permute(order)).map(Out::X)
}

fn unsupported(equation: &str) -> Error {
    Error::unsupported(format!("the equation `{equation}`"))
}

/// The product of two tensors with named dimensions, summed over those that only they have.
fn contract(
    call: &mut Call<'_, '_>,
    (a_names, a): (&[char], &X),
    (b_names, b): (&[char], &X),
    later: &dyn Fn(&char) -> bool,
) -> Result<(Vec<char>, X)> {
    let shared: Vec<char> = a_names.iter().copied().filter(|c| b_names.contains(c)).collect();
    let (batch, summed): (Vec<char>, Vec<char>) = shared.iter().partition(|c| later(c));
    let own = |names: &[char]| names.iter().copied().filter(|c| !shared.contains(c)).collect::<Vec<_>>();
    let (a_own, b_own) = (own(a_names), own(b_names));
    let size = |call: &Call<'_, '_>, c: char| {
        let (names, x) = if a_names.contains(&c) { (a_names, a) } else { (b_names, b) };
        call.build.shape(x)[names.iter().position(|own| *own == c).expect("one of them has it")]
    };
    let mut arrange = |names: &[char], x: &X, order: [&[char]; 3]| -> Result<X> {
        let position = |c: &char| names.iter().position(|own| own == c).expect("its own name");
        let dims = order.iter().flat_map(|group| group.iter().map(position)).collect();
        let x = call.build.view(x, &ViewOp::Permute(dims))?;
        let batch = order[0].iter().map(|&c| size(call, c));
        let merged = order[1..].iter().map(|group| group.iter().map(|&c| size(call, c)).product());
        let shape: Vec<usize> = batch.chain(merged).collect();
        call.build.reshape(&x, &shape)
    };
    let left = arrange(a_names, a, [&batch, &a_own, &summed])?;
    let right = arrange(b_names, b, [&batch, &summed, &b_own])?;
    let y = matmul(call, &left, &right)?;
    let names: Vec<char> = batch.into_iter().chain(a_own).chain(b_own).collect();
    let shape: Vec<usize> = names.iter().map(|&c| size(call, c)).collect();
    Ok((names, call.build.reshape(&y, &shape)?))
}
