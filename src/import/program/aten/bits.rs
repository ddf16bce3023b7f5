//! Bits of integers. A device computes integers up to 2^24 exactly (2^11 in `f16`), as that many bits and a sign.

use super::{Call, Function, Out};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::import::program::host::Host;
use crate::import::program::prims::Bin;
use crate::import::program::value::{Data, X};

/// The bits that are exact on a device.
fn exact_bits(call: &Call<'_, '_>) -> u32 {
    call.build.exact().log2() as u32
}

pub(super) fn find(target: &str) -> Option<Function> {
    let (name, _) = target.strip_prefix("aten.")?.rsplit_once('.')?;
    Some(match name {
        "bitwise_and" | "__and__" => |call| bitwise(call, Bin::And),
        "bitwise_or" | "__or__" => |call| bitwise(call, Bin::Or),
        "bitwise_xor" | "__xor__" => |call| bitwise(call, Bin::Xor),
        "bitwise_not" => not,
        "bitwise_left_shift" | "__lshift__" => |call| shift(call, true),
        "bitwise_right_shift" | "__rshift__" => |call| shift(call, false),
        _ => return None,
    })
}

fn bitwise(call: &mut Call<'_, '_>, bin: Bin) -> Result<Out> {
    let (a, b) = (call.x("self")?, call.x("other")?);
    let dtype = call.build.result_type(&[&a, &b]);
    match dtype {
        DType::Bool => return call.build.binary(bin, &a, &b).map(Out::X),
        dtype if dtype.is_float() => return Err(Error::shape("bits of floats")),
        _ => {}
    }
    if let (Data::Host(x), Data::Host(y)) = (&a.data, &b.data) {
        let shape = crate::shape::Shape::broadcast(&x.shape[..].into(), &y.shape[..].into())?;
        let (x, y) = (x.expand(&shape), y.expand(&shape));
        let pairs = x.as_ints()?.iter().zip(y.as_ints()?);
        let data = pairs.map(|(x, y)| match bin {
            Bin::And => x & y,
            Bin::Or => x | y,
            _ => x ^ y,
        });
        return Ok(Out::X(X::host(Host::ints(&shape, data.collect()).cast(dtype), dtype)));
    }
    // The sign, then one bit after the other.
    let count = exact_bits(call);
    let mut low = [as_floats(&a), as_floats(&b)];
    let build = &mut *call.build;
    let mut signs = Vec::new();
    for x in &mut low {
        let negative = build.with_number(Bin::Lt, x, 0.0)?;
        let shift = build.with_number(Bin::Mul, &as_floats(&negative), f64::from(1 << count))?;
        *x = build.binary(Bin::Add, x, &shift)?;
        signs.push(negative);
    }
    let sign = build.binary(bin, &signs[0], &signs[1])?;
    let mut sum = build.with_number(Bin::Mul, &as_floats(&sign), -f64::from(1 << count))?;
    for bit in (0..count).rev() {
        let weight = f64::from(1 << bit);
        let mut bits = Vec::new();
        for x in &mut low {
            let is_set = build.with_number(Bin::Ge, x, weight)?;
            let part = build.with_number(Bin::Mul, &as_floats(&is_set), weight)?;
            *x = build.binary(Bin::Sub, x, &part)?;
            bits.push(is_set);
        }
        let is_set = build.binary(bin, &bits[0], &bits[1])?;
        let part = build.with_number(Bin::Mul, &as_floats(&is_set), weight)?;
        sum = build.binary(Bin::Add, &sum, &part)?;
    }
    Ok(Out::X(X { dtype, is_number: false, ..sum }))
}

/// The value as a float of the same number: a device has no other.
fn as_floats(x: &X) -> X {
    match &x.data {
        Data::Host(host) => X::host(host.cast(DType::F32), DType::F32),
        Data::Var(_) => X { dtype: DType::F32, is_number: false, ..x.clone() },
    }
}

fn not(call: &mut Call<'_, '_>) -> Result<Out> {
    let x = call.x("self")?;
    match x.dtype {
        DType::Bool => call.build.with_number(Bin::Eq, &x, 0.0).map(Out::X),
        dtype if dtype.is_float() => Err(Error::shape("bits of floats")),
        DType::U8 => call.build.binary(Bin::Sub, &X::int(255), &x).map(Out::X),
        _ => call.build.binary(Bin::Sub, &X::int(-1), &x).map(Out::X),
    }
}

/// By a number of bits that is known, or looked up in a table of factors.
fn shift(call: &mut Call<'_, '_>, left: bool) -> Result<Out> {
    let (x, by) = (call.x("self")?, call.x("other")?);
    let dtype = call.build.result_type(&[&x, &by]);
    if dtype.is_float() || dtype == DType::Bool {
        return Err(Error::unsupported(format!("a shift of {dtype}")));
    }
    let (bin, count) = (if left { Bin::Mul } else { Bin::FloorDivide }, exact_bits(call));
    let Some(bits) = call.build.known(&by)? else {
        let table = X::host(Host::ints(&[count as usize], (0..count).map(|bits| 1 << bits).collect()), by.dtype);
        let shape = call.build.shape(&by);
        let places = call.build.reshape(&by, &[shape.iter().product()])?;
        let factors = call.build.index_select(&table, 0, &places)?;
        let factors = call.build.reshape(&factors, &shape)?;
        let y = call.build.binary(bin, &x, &factors)?;
        return Ok(Out::X(X { dtype, ..y }));
    };
    let bits = bits.as_ints()?;
    if bits.iter().any(|bits| !(0..i64::from(count)).contains(bits)) {
        return Err(Error::unsupported(format!("a shift by other than 0 to {} bits", count - 1)));
    }
    let factors = bits.iter().map(|&bits| 1i64 << bits).collect();
    let factors = X::host(Host::ints(&call.build.shape(&by), factors), by.dtype);
    let factors = X { is_number: by.is_number, ..factors };
    let y = call.build.binary(bin, &x, &factors)?;
    Ok(Out::X(X { dtype, ..y }))
}
