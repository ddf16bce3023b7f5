//! Printing modules and their arguments as PyTorch does.

use std::fmt::{self, Write as _};

use super::container::ModuleList;
use super::module::{Field, Module};

/// The module as PyTorch's `print` shows it, over several lines when it has modules in it.
pub(super) fn repr(module: &dyn Module) -> String {
    let class = module.class_name();
    let children = module.fields().into_iter().filter_map(|(name, field)| match field {
        Field::Module(child) => Some((name.to_string(), repr(child))),
        _ => None,
    });
    let mut children: Vec<_> = children.collect();
    if module.is::<ModuleList>() {
        children = collapse(&children);
    }
    let extra = module.extra_repr();
    if children.is_empty() && !extra.contains('\n') {
        return format!("{class}({extra})");
    }
    let mut text = format!("{class}(\n");
    for line in extra.lines() {
        let _ = writeln!(text, "  {line}");
    }
    for (name, child) in children {
        let _ = writeln!(text, "  ({name}): {}", child.replace('\n', "\n  "));
    }
    text + ")"
}

/// Joins equal neighbours into one line, `(0-3): 4 x Block(...)`.
fn collapse(children: &[(String, String)]) -> Vec<(String, String)> {
    children
        .chunk_by(|(_, a), (_, b)| a == b)
        .map(|run| match run {
            [one] => one.clone(),
            [(first, child), .., (last, _)] => (format!("{first}-{last}"), format!("{} x {child}", run.len())),
            [] => unreachable!("chunks are not empty"),
        })
        .collect()
}

/// Sizes along `N` dimensions: one number for all of them or one for each, printed as they were given.
///
/// `7`, `[7, 7]` and `(7, 7)` all become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims<const N: usize, T = usize> {
    sizes: [T; N],
    is_single: bool,
}

impl<const N: usize, T: Copy> Dims<N, T> {
    /// The size along each dimension.
    pub fn sizes(&self) -> [T; N] {
        self.sizes
    }
}

impl<const N: usize> From<usize> for Dims<N> {
    fn from(size: usize) -> Self {
        Self { sizes: [size; N], is_single: true }
    }
}

impl<const N: usize> From<[usize; N]> for Dims<N> {
    fn from(sizes: [usize; N]) -> Self {
        Self { sizes, is_single: false }
    }
}

impl From<(usize, usize)> for Dims<2> {
    fn from((height, width): (usize, usize)) -> Self {
        [height, width].into()
    }
}

impl<const N: usize> From<usize> for Dims<N, Option<usize>> {
    fn from(size: usize) -> Self {
        Self { sizes: [Some(size); N], is_single: true }
    }
}

impl<const N: usize> From<[usize; N]> for Dims<N, Option<usize>> {
    fn from(sizes: [usize; N]) -> Self {
        sizes.map(Some).into()
    }
}

impl<const N: usize> From<[Option<usize>; N]> for Dims<N, Option<usize>> {
    fn from(sizes: [Option<usize>; N]) -> Self {
        Self { sizes, is_single: false }
    }
}

impl From<(usize, usize)> for Dims<2, Option<usize>> {
    fn from((height, width): (usize, usize)) -> Self {
        [height, width].into()
    }
}

impl<const N: usize> fmt::Display for Dims<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single { write!(f, "{}", self.sizes[0]) } else { f.write_str(&tuple(&self.sizes)) }
    }
}

impl<const N: usize> fmt::Display for Dims<N, Option<usize>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.sizes.map(|size| size.map_or("None".to_string(), |size| size.to_string()));
        if self.is_single { f.write_str(&sizes[0]) } else { f.write_str(&tuple(&sizes)) }
    }
}

/// `(3, 4)`, and `(3,)` for one number, as Python prints tuples.
pub(crate) fn tuple<T: fmt::Display>(sizes: &[T]) -> String {
    match sizes {
        [one] => format!("({one},)"),
        sizes => format!("({})", sizes.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// `True` or `False`.
pub(crate) fn boolean(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A number as Python prints it: `0.1`, `1.0`, `1e-05`.
pub(crate) fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific.to_lowercase() };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ if value.fract() == 0.0 => format!("{value:.1}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let expected = [
            (1e-5, "1e-05"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1.25e-7, "1.25e-07"),
            (1e16, "1e+16"),
            (123456.0, "123456.0"),
            (0.1 / 17.0, "0.0058823529411764705"),
            (0.0, "0.0"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in expected {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn sizes_print_as_they_were_given() {
        assert_eq!(Dims::<2>::from(3).to_string(), "3");
        assert_eq!(Dims::<2>::from((3, 4)).to_string(), "(3, 4)");
        assert_eq!(Dims::<1>::from([3]).to_string(), "(3,)");
        assert_eq!(Dims::<2, Option<usize>>::from([None, Some(2)]).to_string(), "(None, 2)");
    }
}
