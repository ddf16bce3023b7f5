//! Symbolic sizes: what the inputs' shapes say about them.

use std::collections::HashMap;

use super::Port;
use super::schema::Size;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Checks an input's shape against the program's, and notes what its symbols stand for.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when a size differs, is outside of its range, or contradicts another
/// input's.
pub(super) fn bind(
    symbols: &mut HashMap<String, i64>,
    ranges: &HashMap<String, (i64, i64)>,
    port: &Port,
    sizes: &[Size],
    shape: &Shape,
) -> Result<()> {
    let name = &port.name;
    let shown = || sizes.iter().map(show).collect::<Vec<_>>().join(", ");
    if sizes.len() != shape.len() {
        return Err(Error::shape(format!("input `{name}`: expected [{}], found {shape}", shown())));
    }
    for (dim, (size, &own)) in sizes.iter().zip(shape.iter()).enumerate() {
        let own = own as i64;
        match (size, size.symbol()) {
            (Size::Int(size), _) if *size != own => {
                return Err(Error::shape(format!("input `{name}`: expected [{}], found {shape}", shown())).help(
                    "the file is for this shape only: export the model again with `dynamic_shapes` to run others",
                ));
            }
            (Size::Int(_), _) => {}
            (_, Some(symbol)) => {
                let &mut known = symbols.entry(symbol.into()).or_insert(own);
                if known != own {
                    return Err(Error::shape(format!(
                        "input `{name}`: dimension {dim} is {own}, `{symbol}` is {known} in another place"
                    )));
                }
                let (min, max) = ranges.get(symbol).copied().unwrap_or((0, i64::MAX));
                if !(min..=max).contains(&own) {
                    let max = if max == i64::MAX { String::new() } else { max.to_string() };
                    return Err(Error::shape(format!(
                        "input `{name}`: dimension {dim}, `{symbol}`, is {own}, outside of the program's range {min}..={max}"
                    )));
                }
            }
            // An expression of other sizes.
            (size, None) => {
                if value(symbols, size).is_some_and(|value| value != own) {
                    return Err(Error::shape(format!("input `{name}`: expected [{}], found {shape}", shown())));
                }
            }
        }
    }
    Ok(())
}

/// The value of a size, where it is a number or a sum or product of known symbols.
pub(super) fn value(symbols: &HashMap<String, i64>, size: &Size) -> Option<i64> {
    match size {
        Size::Int(size) => Some(*size),
        Size::Expr(text, _) => {
            let (value, rest) = expression(symbols, text)?;
            rest.trim().is_empty().then_some(value)
        }
    }
}

/// Reads `Mul(Integer(2), Symbol('s0', positive=True))`, sympy's `srepr`, and gives what follows it.
fn expression<'t>(symbols: &HashMap<String, i64>, text: &'t str) -> Option<(i64, &'t str)> {
    let text = text.trim_start();
    let (head, rest) = text.split_once('(')?;
    if head == "Symbol" {
        let (name, rest) = rest.strip_prefix('\'')?.split_once('\'')?;
        return Some((*symbols.get(name)?, rest.split_once(')')?.1));
    }
    if head == "Integer" {
        let (number, rest) = rest.split_once(')')?;
        return Some((number.trim().parse().ok()?, rest));
    }
    let (mut values, mut rest) = (Vec::new(), rest);
    loop {
        let (value, after) = expression(symbols, rest)?;
        values.push(value);
        let after = after.trim_start();
        match after.as_bytes().first()? {
            b',' => rest = &after[1..],
            b')' => {
                rest = &after[1..];
                break;
            }
            _ => return None,
        }
    }
    let value = match (head, &values[..]) {
        ("Add", values) => values.iter().try_fold(0i64, |sum, &x| sum.checked_add(x))?,
        ("Mul", values) => values.iter().try_fold(1i64, |product, &x| product.checked_mul(x))?,
        ("FloorDiv", &[a, b]) if b != 0 => a.div_euclid(b),
        ("Mod" | "PythonMod", &[a, b]) if b != 0 => a.rem_euclid(b),
        ("Max", values) => *values.iter().max()?,
        ("Min", values) => *values.iter().min()?,
        _ => return None,
    };
    Some((value, rest))
}

/// A size for messages: `3`, `s77`, `?`.
pub(super) fn show(size: &Size) -> String {
    match size {
        Size::Int(size) => size.to_string(),
        size => size.symbol().unwrap_or("?").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluates_expressions() {
        let symbols = HashMap::from([("s0".to_string(), 7)]);
        let of = |text: &str| value(&symbols, &Size::Expr(text.into(), None));
        assert_eq!(of("Symbol('s0', positive=True, integer=True)"), Some(7));
        assert_eq!(of("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))"), Some(13));
        assert_eq!(of("FloorDiv(Symbol('s0', integer=True), Integer(2))"), Some(3));
        assert_eq!(of("Symbol('s1', integer=True)"), None);
        assert_eq!(of("Pow(Symbol('s0'), Integer(2))"), None);
        assert_eq!(of("Add(Integer(1)"), None);
    }
}
