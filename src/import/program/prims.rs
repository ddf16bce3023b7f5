//! What the operations of ATen are made of. Each is done on the host where all of its operands are known, else in the
//! graph: booleans are 0 and 1 there, and integers are floats unless they are only moved.

use super::alias::ViewOp;
use super::build::{Build, expand_to};
use super::host::{Host, MAX_ELEMENTS, Numbers, round};
use super::numbers::{fold_line, host_binary, on_host};
use super::value::{Data, X, promote, result_type};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::op::{Binary, Op, Unary};
use crate::graph::{Graph, Var};
use crate::shape::Shape;

/// A function of two numbers, by PyTorch's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bin {
    Add,
    Sub,
    Mul,
    /// True division.
    Div,
    FloorDivide,
    TruncDivide,
    /// The sign of the divisor.
    Remainder,
    /// The sign of the dividend.
    Fmod,
    Pow,
    Maximum,
    Minimum,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Xor,
}

impl Bin {
    fn gives_bool(self) -> bool {
        use Bin::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | And | Or | Xor)
    }
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    Any,
    All,
}

impl Build<'_> {
    pub(super) fn rank(&self, x: &X) -> usize {
        self.shape(x).len()
    }

    /// The dtype of a function of these.
    pub(super) fn result_type(&self, operands: &[&X]) -> DType {
        let of = |x: &&X| (x.dtype, self.rank(x), x.is_number);
        result_type(&operands.iter().map(of).collect::<Vec<_>>())
    }

    /// The value as `dtype`.
    pub(super) fn cast(&mut self, x: &X, dtype: DType) -> Result<X> {
        if x.dtype == dtype {
            return Ok(X { is_number: false, ..x.clone() });
        }
        if let Data::Host(host) = &x.data {
            return Ok(X::host(host.cast(dtype), dtype));
        }
        let var = self.var(x)?;
        let (from_float, to_float) = (x.dtype.is_float(), dtype.is_float());
        let var = match () {
            () if dtype == DType::Bool => {
                let zero = self.graph.scalar(0.0);
                self.graph.binary(Binary::Ne, var, zero)?
            }
            () if from_float && !to_float => {
                let mut whole = self.graph.unary(Unary::Trunc, var)?;
                if self.reach(&X::var(whole, DType::F32)) > self.exact() {
                    whole = self.guarded(whole, whole)?;
                }
                wrapped(self.graph, whole, dtype)?
            }
            () if !to_float => wrapped(self.graph, var, dtype)?,
            () => var,
        };
        Ok(X::var(var, dtype))
    }

    pub(super) fn unary(&mut self, unary: Unary, x: &X) -> Result<X> {
        let dtype = if x.dtype.is_float() { x.dtype } else { DType::F32 };
        if let (Data::Host(host), Some(function)) = (&x.data, on_host(unary)) {
            let data = host.to_floats().into_iter().map(|x| round(function(x), dtype)).collect();
            return Ok(X::host(Host::floats(&host.shape, data), dtype));
        }
        let var = self.var(x)?;
        Ok(X::var(self.graph.unary(unary, var)?, dtype))
    }

    /// A function of integers that gives integers, or of floats that gives floats.
    pub(super) fn unary_same(&mut self, unary: Unary, x: &X) -> Result<X> {
        if x.dtype.is_float() {
            return self.unary(unary, x);
        }
        let y = self.unary(unary, x)?;
        match (&y.data, x.dtype) {
            (Data::Host(_), dtype) => self.cast(&y, dtype),
            (_, dtype) => Ok(X { dtype, ..y }),
        }
    }

    pub(super) fn binary(&mut self, bin: Bin, a: &X, b: &X) -> Result<X> {
        let common = self.result_type(&[a, b]);
        let dtype = match bin {
            bin if bin.gives_bool() => DType::Bool,
            Bin::Div if !common.is_float() => DType::F32,
            _ => common,
        };
        let is_number = a.is_number && b.is_number;
        let mut y = match (&a.data, &b.data) {
            (Data::Host(x), Data::Host(y)) => {
                let shape = Shape::broadcast(&x.shape[..].into(), &y.shape[..].into())?;
                if shape.numel() > MAX_ELEMENTS {
                    return Err(Error::unsupported(format!("a constant of the shape {shape}")));
                }
                let (x, y) = (x.expand(&shape), y.expand(&shape));
                X::host(host_binary(bin, &x, &y, if bin == Bin::Div { dtype } else { common }, dtype)?, dtype)
            }
            _ => self.device_binary(bin, a, b, common, dtype)?,
        };
        y.is_number = is_number;
        Ok(y)
    }

    fn device_binary(&mut self, bin: Bin, a: &X, b: &X, common: DType, dtype: DType) -> Result<X> {
        let (a, b) = match bin {
            Bin::And | Bin::Or | Bin::Xor => (self.cast(a, DType::Bool)?, self.cast(b, DType::Bool)?),
            _ => (a.clone(), b.clone()),
        };
        let (most, exact) = (self.result_reach(bin, &a, &b, dtype), self.exact());
        let (a, b) = (self.var(&a)?, self.var(&b)?);
        let is_bool = common == DType::Bool;
        let simple = match bin {
            Bin::Add if is_bool => Some(Binary::Maximum),
            Bin::Add => Some(Binary::Add),
            Bin::Sub => Some(Binary::Sub),
            Bin::Mul | Bin::And => Some(Binary::Mul),
            Bin::Div => Some(Binary::Div),
            Bin::Pow => Some(Binary::Pow),
            Bin::Maximum | Bin::Or => Some(Binary::Maximum),
            Bin::Minimum => Some(Binary::Minimum),
            Bin::Eq => Some(Binary::Eq),
            Bin::Ne | Bin::Xor => Some(Binary::Ne),
            Bin::Lt => Some(Binary::Lt),
            Bin::Le => Some(Binary::Le),
            Bin::Gt => Some(Binary::Gt),
            Bin::Ge => Some(Binary::Ge),
            Bin::FloorDivide | Bin::TruncDivide | Bin::Remainder | Bin::Fmod => None,
        };
        let graph = &mut *self.graph;
        // `x * sigmoid(x)`, as it is decomposed.
        let gate = |x: Var| matches!(graph.node(x).op, Op::Unary(Unary::Sigmoid)).then(|| graph.node(x).inputs[0]);
        let is_silu = bin == Bin::Mul && gate(b) == Some(a);
        let mut var = match simple {
            Some(_) if is_silu => graph.unary(Unary::Silu, a)?,
            Some(binary) => graph.binary(binary, a, b)?,
            None => divided(graph, bin, a, b, common.is_float())?,
        };
        if most > exact {
            // A power may be beyond all floats.
            let limit = graph.scalar(2.0 * exact as f32);
            let sizes = if bin == Bin::Pow { graph.binary(Binary::Minimum, var, limit)? } else { var };
            var = self.guarded(var, sizes)?;
        }
        let wraps = matches!(bin, Bin::Add | Bin::Sub | Bin::Mul | Bin::Pow);
        let var = if wraps { wrapped(self.graph, var, dtype)? } else { var };
        Ok(X::var(var, dtype))
    }

    /// How large integers can become by a function that makes them larger; 0 for others.
    fn result_reach(&mut self, bin: Bin, a: &X, b: &X, dtype: DType) -> f64 {
        if dtype.is_float() || dtype == DType::Bool {
            return 0.0;
        }
        match bin {
            Bin::Add | Bin::Sub => self.reach(a) + self.reach(b),
            Bin::Mul => self.reach(a) * self.reach(b),
            Bin::Pow => self.reach(a).max(1.0).powf(self.reach(b)),
            _ => 0.0,
        }
    }

    /// `x op number`.
    pub(super) fn with_number(&mut self, bin: Bin, x: &X, number: f64) -> Result<X> {
        let whole = number.fract() == 0.0 && number.abs() < 9e15 && !x.dtype.is_float();
        let number = if whole { X::int(number as i64) } else { X::number(number, DType::F32) };
        self.binary(bin, x, &number)
    }

    /// `a` where `condition` holds, else `b`.
    pub(super) fn select(&mut self, condition: &X, a: &X, b: &X) -> Result<X> {
        let dtype = self.result_type(&[a, b]);
        if let (Data::Host(c), Data::Host(x), Data::Host(y)) = (&condition.data, &a.data, &b.data) {
            let shape = Shape::broadcast(&x.shape[..].into(), &y.shape[..].into())?;
            let shape = Shape::broadcast(&shape, &c.shape[..].into())?;
            let (c, x, y) = (c.expand(&shape), x.cast(dtype).expand(&shape), y.cast(dtype).expand(&shape));
            let keep = |i: usize| c.at(i) != 0.0;
            let data = match (&x.data, &y.data) {
                (Numbers::Float(x), Numbers::Float(y)) => {
                    Numbers::Float((0..x.len()).map(|i| if keep(i) { x[i] } else { y[i] }).collect())
                }
                _ => {
                    let (x, y) = (x.as_ints()?, y.as_ints()?);
                    Numbers::Int((0..x.len()).map(|i| if keep(i) { x[i] } else { y[i] }).collect())
                }
            };
            return Ok(X::host(Host { shape: shape.to_vec(), data }, dtype));
        }
        let is = |x: &X, number: f64| matches!(&x.data, Data::Host(x) if x.shape.is_empty() && x.at(0) == number);
        if is(a, 0.0) && is(b, f64::NEG_INFINITY) && condition.dtype == DType::Bool {
            // A mask to add to scores.
            let open = self.cast(condition, DType::F32)?;
            return Ok(X { dtype, ..self.unary(Unary::Log, &open)? });
        }
        let (c, a, b) = (self.var(condition)?, self.var(a)?, self.var(b)?);
        let graph = &mut *self.graph;
        let zero = graph.scalar(0.0);
        let other = graph.binary(Binary::Eq, c, zero)?;
        let (a, b) = (graph.binary(Binary::Keep, c, a)?, graph.binary(Binary::Keep, other, b)?);
        Ok(X::var(graph.add(a, b)?, dtype))
    }

    pub(super) fn cat(&mut self, xs: &[X], dim: usize) -> Result<X> {
        let Some(dtype) = xs.iter().map(|x| x.dtype).reduce(promote) else {
            return Err(Error::shape("cat: at least one tensor is needed"));
        };
        // An old rule: an empty vector goes with any shape.
        let xs: Vec<&X> = xs.iter().filter(|x| self.shape(x) != [0]).collect();
        if xs.is_empty() {
            return self.full(&[0], dtype, 0.0);
        }
        let known: Option<Vec<Host>> = xs
            .iter()
            .map(|x| match &x.data {
                Data::Host(host) => Some(host.cast(dtype)),
                Data::Var(_) => None,
            })
            .collect();
        if let Some(parts) = known {
            let parts: Vec<&Host> = parts.iter().collect();
            return Ok(X::host(Host::cat(&parts, dim), dtype));
        }
        let moved = xs.iter().all(|x| match &x.data {
            Data::Host(host) => host.as_ints().is_ok() && x.dtype != DType::Bool,
            &Data::Var(var) => self.graph.node(var).is_int,
        });
        let vars = xs.iter().map(|x| if moved { self.int_var(x) } else { self.var(x) }).collect::<Result<Vec<_>>>()?;
        Ok(X::var(self.graph.cat(&vars, dim as isize)?, dtype))
    }

    /// Reduces these dimensions.
    pub(super) fn fold(&mut self, fold: Fold, x: &X, dims: &[usize], keepdim: bool) -> Result<X> {
        let dtype = match fold {
            Fold::Any | Fold::All => DType::Bool,
            Fold::Sum | Fold::Prod if !x.dtype.is_float() => DType::I64,
            _ => x.dtype,
        };
        let x = match fold {
            Fold::Any | Fold::All => self.cast(x, DType::Bool)?,
            _ => x.clone(),
        };
        if let Data::Host(host) = &x.data {
            let mut y = (**host).clone();
            for &dim in dims {
                let is_float = matches!(y.data, Numbers::Float(_));
                y = y.lines(dim, |line| vec![fold_line(fold, line)], is_float);
            }
            let y = X::host(y.cast(dtype), dtype);
            let kept = kept(&self.shape(&x), dims, keepdim);
            return self.view(&y, &ViewOp::Reshape(kept));
        }
        let var = self.var(&x)?;
        if dims.is_empty() {
            return Ok(X::var(var, dtype));
        }
        if let (true, Fold::Any | Fold::All) = (dims.iter().any(|&dim| self.shape(&x)[dim] == 0), fold) {
            return self.full(&kept(&self.shape(&x), dims, keepdim), dtype, f64::from(u8::from(fold == Fold::All)));
        }
        let count: usize = dims.iter().map(|&dim| self.shape(&x)[dim]).product();
        let is_long = fold == Fold::Sum && !dtype.is_float() && self.reach(&x) * count as f64 > self.exact();
        let signed: Vec<isize> = dims.iter().map(|&dim| dim as isize).collect();
        let graph = &mut *self.graph;
        let var = match fold {
            Fold::Sum if is_long => {
                let (sum, size) = (graph.sum(var, &signed, keepdim)?, graph.abs(var)?);
                let sizes = graph.sum(size, &signed, keepdim)?;
                self.guarded(sum, sizes)?
            }
            Fold::Sum => graph.sum(var, &signed, keepdim)?,
            Fold::Mean => graph.mean(var, &signed, keepdim)?,
            Fold::Max | Fold::Any => graph.amax(var, &signed, keepdim)?,
            Fold::Min | Fold::All => {
                let negative = graph.neg(var)?;
                let max = graph.amax(negative, &signed, keepdim)?;
                graph.neg(max)?
            }
            Fold::Prod => return self.product(X::var(var, dtype), dims, keepdim),
        };
        Ok(X::var(var, dtype))
    }

    /// The product along these dimensions: halves by halves.
    fn product(&mut self, mut x: X, dims: &[usize], keepdim: bool) -> Result<X> {
        let shape = self.shape(&x);
        for &dim in dims {
            let mut len = shape[dim];
            if len == 0 {
                let mut one = self.shape(&x);
                one[dim] = 1;
                x = self.full(&one, x.dtype, 1.0)?;
                len = 1;
            }
            while len > 1 {
                let part = |start: usize, len: usize| ViewOp::Slice { dim, start, step: 1, len };
                let (a, b) = (self.view(&x, &part(0, len / 2))?, self.view(&x, &part(len / 2, len / 2))?);
                let y = self.binary(Bin::Mul, &a, &b)?;
                x = match len % 2 {
                    0 => y,
                    _ => {
                        let last = self.view(&x, &part(len - 1, 1))?;
                        self.cat(&[y, last], dim)?
                    }
                };
                len = self.shape(&x)[dim];
            }
        }
        self.reshape(&x, &kept(&shape, dims, keepdim))
    }

    /// `x` at `indices [n]` along `dim`.
    pub(super) fn index_select(&mut self, x: &X, dim: usize, indices: &X) -> Result<X> {
        let shape = self.shape(x);
        let known = self.known_indices(indices, shape[dim])?;
        if let (Some(indices), Data::Host(host)) = (&known, &x.data) {
            let parts: Vec<Host> = indices
                .iter()
                .map(|&i| host.gather(&crate::graph::view::View::contiguous(&shape).slice(dim, i, 1, 1)))
                .collect();
            let mut empty = shape.clone();
            empty[dim] = 0;
            let empty = X::host(Host::full(&empty, x.dtype, 0.0), x.dtype);
            return match parts.is_empty() {
                true => Ok(empty),
                false => Ok(X::host(Host::cat(&parts.iter().collect::<Vec<_>>(), dim), x.dtype)),
            };
        }
        if let Some(views) = known.as_deref().and_then(|indices| runs_of(indices, dim)) {
            let parts = views.iter().map(|view| self.view(x, view)).collect::<Result<Vec<_>>>()?;
            return if let [part] = &parts[..] { Ok(part.clone()) } else { self.cat(&parts, dim) };
        }
        let var = self.var(x)?;
        let indices = match known {
            Some(indices) => {
                let indices = indices.into_iter().map(|i| i as i64).collect::<Vec<_>>();
                X::host(Host::ints(&[indices.len()], indices), DType::I64)
            }
            None => indices.clone(),
        };
        let indices = self.int_var(&indices)?;
        Ok(X::var(self.graph.index_select(var, dim as isize, indices)?, x.dtype))
    }

    /// Indices that are known now, with negative ones counted from the end.
    fn known_indices(&self, indices: &X, size: usize) -> Result<Option<Vec<usize>>> {
        let Data::Host(host) = &indices.data else { return Ok(None) };
        let wrap = |&i: &i64| {
            let index = if i < 0 { i + size as i64 } else { i };
            usize::try_from(index)
                .ok()
                .filter(|&index| index < size)
                .ok_or_else(|| Error::shape(format!("index {i} is out of range, expected 0..{size}")))
        };
        host.as_ints()?.iter().map(wrap).collect::<Result<Vec<_>>>().map(Some)
    }

    /// The value with more leading dimensions, or larger ones.
    pub(super) fn expand(&mut self, x: &X, shape: &[usize]) -> Result<X> {
        self.view(x, &expand_to(shape))
    }

    pub(super) fn reshape(&mut self, x: &X, shape: &[usize]) -> Result<X> {
        self.view(x, &ViewOp::Reshape(shape.to_vec()))
    }

    /// A constant, if it is not too large.
    pub(super) fn full(&self, shape: &[usize], dtype: DType, value: f64) -> Result<X> {
        if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Error::unsupported(format!("a constant of the shape {shape:?}")));
        }
        Ok(X::host(Host::full(shape, dtype, value), dtype))
    }
}

/// The whole quotient or the rest of a division, by what C's `fmod` gives. A device's division may be off by a little,
/// which the rest shows.
fn divided(graph: &mut Graph, bin: Bin, a: Var, b: Var, is_float: bool) -> Result<Var> {
    let (zero, quotient) = (graph.scalar(0.0), graph.div(a, b)?);
    if bin == Bin::TruncDivide && is_float {
        // PyTorch rounds the quotient before it is cut off.
        let rest = rest(graph, a, quotient, b, is_float)?;
        let (size, part) = (graph.abs(rest)?, graph.div(rest, b)?);
        let largest = graph.scalar(f32::MAX);
        let finite = graph.binary(Binary::Le, size, largest)?;
        let part = graph.binary(Binary::Keep, finite, part)?;
        let quotient = graph.add(quotient, part)?;
        return graph.unary(Unary::Trunc, quotient);
    }
    let whole = graph.unary(Unary::Trunc, quotient)?;
    let first = rest(graph, a, whole, b, is_float)?;
    // The rest has the sign of `a` and is smaller than `b`.
    let sign = |graph: &mut Graph, x: Var| -> Result<Var> {
        let (up, down) = (graph.binary(Binary::Gt, x, zero)?, graph.binary(Binary::Lt, x, zero)?);
        graph.sub(up, down)
    };
    let (sign_a, sign_b, sign_rest) = (sign(graph, a)?, sign(graph, b)?, sign(graph, first)?);
    let (size, divisor) = (graph.abs(first)?, graph.abs(b)?);
    let signs = graph.mul(sign_rest, sign_a)?;
    let too_far = graph.binary(Binary::Lt, signs, zero)?;
    let too_short = graph.binary(Binary::Ge, size, divisor)?;
    // Where the divisor is 0 there is nothing to mend.
    let divides = graph.binary(Binary::Ne, b, zero)?;
    let too_short = graph.mul(too_short, divides)?;
    let steps = graph.sub(too_short, too_far)?;
    let steps = graph.mul(steps, sign_a)?;
    let change = graph.mul(steps, divisor)?;
    let change = graph.binary(Binary::Keep, steps, change)?;
    let mut rest = graph.sub(first, change)?;
    let turn = graph.mul(steps, sign_b)?;
    let mut whole = graph.add(whole, turn)?;
    if matches!(bin, Bin::FloorDivide | Bin::Remainder) {
        let sign_rest = sign(graph, rest)?;
        let signs = graph.mul(sign_rest, sign_b)?;
        let below = graph.binary(Binary::Lt, signs, zero)?;
        whole = graph.sub(whole, below)?;
        let more = graph.binary(Binary::Keep, below, b)?;
        rest = graph.add(rest, more)?;
    }
    Ok(if matches!(bin, Bin::FloorDivide | Bin::TruncDivide) { whole } else { rest })
}

/// `a - quotient * b` without the rounding of the product, unless the numbers are whole, whose product is exact.
fn rest(graph: &mut Graph, a: Var, quotient: Var, b: Var, is_float: bool) -> Result<Var> {
    let parts = |graph: &mut Graph, x: Var| -> Result<[Var; 2]> {
        // Half of the digits, and the others; a number so large that this overflows stays whole.
        let (limit, size) = (graph.scalar(1e30), graph.abs(x)?);
        let is_small = graph.binary(Binary::Lt, size, limit)?;
        let wide = graph.mul_scalar(x, 4097.0)?;
        let low = graph.sub(wide, x)?;
        let high = graph.sub(wide, low)?;
        let low = graph.sub(x, high)?;
        let low = graph.binary(Binary::Keep, is_small, low)?;
        Ok([graph.sub(x, low)?, low])
    };
    if !is_float {
        let product = graph.mul(quotient, b)?;
        return graph.sub(a, product);
    }
    let ([q1, q2], [b1, b2]) = (parts(graph, quotient)?, parts(graph, b)?);
    let (zero, mut rest) = (graph.scalar(0.0), a);
    for (q, b) in [(q1, b1), (q1, b2), (q2, b1), (q2, b2)] {
        let product = graph.mul(q, b)?;
        // Nothing of an infinity is nothing.
        let is_some = graph.binary(Binary::Ne, q, zero)?;
        let product = graph.binary(Binary::Keep, is_some, product)?;
        rest = graph.sub(rest, product)?;
    }
    Ok(rest)
}

/// Whole numbers as a dtype of 8 or 16 bits holds them.
fn wrapped(graph: &mut Graph, x: Var, dtype: DType) -> Result<Var> {
    let (count, least) = match dtype {
        DType::U8 => (256.0, 0.0),
        DType::I8 => (256.0, -128.0),
        DType::I16 => (65536.0, -32768.0),
        _ => return Ok(x),
    };
    let shifted = graph.add_scalar(x, -least)?;
    let turns = graph.mul_scalar(shifted, 1.0 / count)?;
    let turns = graph.unary(Unary::Floor, turns)?;
    let turns = graph.mul_scalar(turns, count)?;
    graph.sub(x, turns)
}

/// The shape after a reduction.
pub(super) fn kept(shape: &[usize], dims: &[usize], keepdim: bool) -> Vec<usize> {
    let one = |(d, &size): (usize, &usize)| if dims.contains(&d) { keepdim.then_some(1) } else { Some(size) };
    shape.iter().enumerate().filter_map(one).collect()
}

/// The slice that rising indices with equal steps are, or the two that a roll is.
fn runs_of(indices: &[usize], dim: usize) -> Option<Vec<ViewOp>> {
    let (mut views, mut rest) = (Vec::new(), indices);
    while let Some(&start) = rest.first() {
        let step = rest.get(1).and_then(|next| next.checked_sub(start)).filter(|&step| step > 0).unwrap_or(1);
        let len = 1 + (1..rest.len()).take_while(|&i| rest[i] == start + i * step).count();
        views.push(ViewOp::Slice { dim, start, step, len });
        rest = &rest[len..];
        // Looking a few places up is one step, two copies are two.
        if !rest.is_empty() && (views.len() == 2 || indices.len() < 4) {
            return None;
        }
    }
    (!views.is_empty()).then_some(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_indices_are_slices() {
        let slice = |start, step, len| ViewOp::Slice { dim: 1, start, step, len };
        assert_eq!(runs_of(&[3, 5, 7], 1), Some(vec![slice(3, 2, 3)]));
        assert_eq!(runs_of(&[4], 1), Some(vec![slice(4, 1, 1)]));
        assert_eq!(runs_of(&[3, 4, 0, 1, 2], 1), Some(vec![slice(3, 1, 2), slice(0, 1, 3)]));
        assert_eq!(runs_of(&[4, 0, 1, 2], 1), Some(vec![slice(4, 1, 1), slice(0, 1, 3)]));
        for none in [&[2, 1][..], &[0, 1, 3], &[1, 1], &[3, 2, 1, 0], &[]] {
            assert_eq!(runs_of(none, 1), None);
        }
    }
}
