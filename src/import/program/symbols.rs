//! Symbolic sizes: what the inputs' shapes say about them.

use std::collections::HashMap;

use super::Port;
use super::schema::Size;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// The deepest expression that is read.
const MAX_DEPTH: usize = 64;

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
                if let Some(expected) = value(symbols, size).filter(|&value| value != own) {
                    return Err(Error::shape(format!(
                        "input `{name}`: dimension {dim} is {own}, expected {}, which is {expected} here",
                        show(size)
                    )));
                }
            }
        }
    }
    Ok(())
}

/// An expression of sizes.
enum Tree<'t> {
    Integer(i64),
    Symbol(&'t str),
    Call(&'t str, Vec<Tree<'t>>),
}

impl<'t> Tree<'t> {
    /// Reads `Mul(Integer(2), Symbol('s0', positive=True))`, sympy's `srepr`.
    fn of(text: &'t str) -> Option<Self> {
        let (tree, rest) = Self::read(text, 0)?;
        rest.trim().is_empty().then_some(tree)
    }

    /// Reads one that is so deep in another, and gives what follows it.
    fn read(text: &'t str, depth: usize) -> Option<(Self, &'t str)> {
        let (head, mut rest) = text.trim_start().split_once('(').filter(|_| depth < MAX_DEPTH)?;
        if !head.chars().all(|c| c.is_ascii_alphanumeric()) {
            return None;
        }
        if head == "Symbol" {
            let (name, rest) = rest.strip_prefix('\'')?.split_once('\'')?;
            return Some((Self::Symbol(name), rest.split_once(')')?.1));
        }
        if head == "Integer" {
            let (number, rest) = rest.split_once(')')?;
            return Some((Self::Integer(number.trim().parse().ok()?), rest));
        }
        let mut parts = Vec::new();
        loop {
            let (part, after) = Self::read(rest, depth + 1)?;
            parts.push(part);
            let after = after.trim_start();
            rest = after.get(1..)?;
            match after.as_bytes()[0] {
                b',' => {}
                b')' => return Some((Self::Call(head, parts), rest)),
                _ => return None,
            }
        }
    }

    fn value(&self, symbols: &HashMap<String, i64>) -> Option<i64> {
        let (head, parts) = match self {
            Self::Integer(value) => return Some(*value),
            Self::Symbol(name) => return symbols.get(*name).copied(),
            Self::Call(head, parts) => (*head, parts),
        };
        let values = parts.iter().map(|part| part.value(symbols)).collect::<Option<Vec<_>>>()?;
        match (head, &values[..]) {
            ("Add", values) => values.iter().try_fold(0i64, |sum, &x| sum.checked_add(x)),
            ("Mul", values) => values.iter().try_fold(1i64, |product, &x| product.checked_mul(x)),
            ("FloorDiv", &[a, b]) if b > 0 => Some(a.div_euclid(b)),
            ("Mod" | "PythonMod", &[a, b]) if b > 0 => Some(a.rem_euclid(b)),
            ("Max", values) => values.iter().max().copied(),
            ("Min", values) => values.iter().min().copied(),
            _ => None,
        }
    }

    /// As one writes it: `2*s0 + 1`.
    fn show(&self, in_product: bool) -> String {
        let join = |parts: &[Self], sign: &str, in_product: bool| {
            parts.iter().map(|part| part.show(in_product)).collect::<Vec<_>>().join(sign)
        };
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Symbol(name) => super::info::printable(name),
            Self::Call("Add", parts) if in_product => format!("({})", join(parts, " + ", false)),
            Self::Call("Add", parts) => join(parts, " + ", false),
            Self::Call("Mul", parts) => join(parts, "*", true),
            Self::Call(head, parts) => format!("{head}({})", join(parts, ", ", false)),
        }
    }
}

/// The value of a size, where it is a number or a sum or product of known symbols.
pub(super) fn value(symbols: &HashMap<String, i64>, size: &Size) -> Option<i64> {
    match size {
        Size::Int(size) => Some(*size),
        Size::Expr(text, _) => Tree::of(text)?.value(symbols),
    }
}

/// A size for messages: `3`, `s77`, `2*s77`, `?`.
pub(super) fn show(size: &Size) -> String {
    match size {
        Size::Int(size) => size.to_string(),
        Size::Expr(text, _) => Tree::of(text).map_or("?".into(), |tree| tree.show(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_expressions() {
        let of = |text: &str| show(&Size::Expr(text.into(), None));
        assert_eq!(of("Symbol('s0', positive=True, integer=True)"), "s0");
        assert_eq!(of("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))"), "2*s0 + -1");
        assert_eq!(of("Mul(Integer(2), Add(Symbol('s0'), Integer(1)))"), "2*(s0 + 1)");
        assert_eq!(of("FloorDiv(Symbol('s0', integer=True), Integer(2))"), "FloorDiv(s0, 2)");
        assert_eq!((of("Add(Integer(1)"), of(&"Add(".repeat(100_000))), ("?".into(), "?".into()));
    }

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
        assert_eq!(of("FloorDiv(Integer(-9223372036854775808), Integer(-1))"), None);
    }
}
