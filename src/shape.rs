//! Shapes: the sizes of a tensor's dimensions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::error::{Error, Result};

/// The sizes of a tensor's dimensions, outermost first. A scalar has none. It reads as a slice of `usize`.
///
/// ```
/// let shape = sconce::Shape::from([2, 3, 4]);
/// assert_eq!(shape.numel(), 24);
/// assert_eq!(shape.to_string(), "[2, 3, 4]");
/// assert_eq!(shape[1], 3);
/// ```
#[derive(Clone)]
pub struct Shape(Sizes);

/// Few tensors have more than four dimensions; up to that many take no memory of their own, since a file may hold a
/// hundred thousand.
#[derive(Clone)]
enum Sizes {
    Few(u8, [usize; FEW]),
    Many(Box<[usize]>),
}

const FEW: usize = 4;

impl Shape {
    /// The number of elements: the product of the sizes, 1 for a scalar. Saturates instead of overflowing.
    pub fn numel(&self) -> usize {
        if self.contains(&0) {
            return 0;
        }
        self.iter().fold(1, |product, &size| product.saturating_mul(size))
    }

    /// The strides, in elements, of contiguous (row-major) data of this shape.
    pub fn contiguous_strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.len()];
        for dim in (1..self.len()).rev() {
            strides[dim - 1] = strides[dim].saturating_mul(self[dim].max(1));
        }
        strides
    }

    /// The index of dimension `dim`, which counts from the end when it is negative, as in PyTorch.
    pub fn dim(&self, dim: isize) -> Result<usize> {
        let rank = self.len();
        let index = if dim < 0 { dim + rank as isize } else { dim };
        if index < 0 || index as usize >= rank {
            return Err(Error::shape(format!("dimension {dim} is out of range for shape {self}")));
        }
        Ok(index as usize)
    }

    /// The shape of a pointwise operation on shapes `a` and `b`, by
    /// [PyTorch's broadcasting rule](https://docs.pytorch.org/docs/stable/notes/broadcasting.html).
    pub fn broadcast(a: &Shape, b: &Shape) -> Result<Shape> {
        let rank = a.len().max(b.len());
        let size = |shape: &Shape, dim: usize| (dim + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
        (0..rank)
            .map(|dim| match (size(a, dim), size(b, dim)) {
                (x, y) if x == y => Ok(x),
                (1, y) => Ok(y),
                (x, 1) => Ok(x),
                _ => Err(Error::shape(format!("shapes {a} and {b} do not broadcast"))),
            })
            .collect()
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        match &self.0 {
            Sizes::Few(len, sizes) => &sizes[..usize::from(*len)],
            Sizes::Many(sizes) => sizes,
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self(Sizes::Few(0, [0; FEW]))
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        match sizes.len() {
            0..=FEW => sizes.as_slice().into(),
            _ => Self(Sizes::Many(sizes.into())),
        }
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        sizes.iter().copied().collect()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        sizes.into_iter().collect()
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        let mut sizes = sizes.into_iter();
        let mut few = [0; FEW];
        for len in 0..FEW {
            match sizes.next() {
                Some(size) => few[len] = size,
                None => return Self(Sizes::Few(len as u8, few)),
            }
        }
        match sizes.next() {
            None => Self(Sizes::Few(FEW as u8, few)),
            Some(size) => Self(Sizes::Many(few.into_iter().chain([size]).chain(sizes).collect())),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_as_pytorch_does() {
        let broadcast = |a: &[usize], b: &[usize]| Shape::broadcast(&a.into(), &b.into());
        assert_eq!(*broadcast(&[2, 1, 4], &[3, 1]).unwrap(), [2, 3, 4]);
        assert_eq!(*broadcast(&[], &[3]).unwrap(), [3]);
        assert_eq!(*broadcast(&[1], &[0]).unwrap(), [0]);
        assert!(broadcast(&[2], &[3]).is_err());
    }

    #[test]
    fn any_number_of_dimensions_is_kept() {
        for len in 0..8 {
            let sizes: Vec<usize> = (1..=len).collect();
            let shape = Shape::from(sizes.clone());
            assert_eq!(*shape, *sizes);
            assert_eq!(shape, sizes.iter().copied().collect());
            assert_eq!(shape.to_string(), format!("{sizes:?}"));
        }
        assert_ne!(Shape::from([1, 2]), Shape::from([1, 2, 0]));
    }

    #[test]
    fn negative_dims_count_from_the_end() {
        let shape = Shape::from([5, 6]);
        assert_eq!(shape.dim(-1).unwrap(), 1);
        assert_eq!(shape.dim(0).unwrap(), 0);
        assert!(shape.dim(2).is_err() && shape.dim(-3).is_err());
    }
}
