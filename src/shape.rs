//! Shapes: the sizes of a tensor's dimensions.

use std::fmt;
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The number of elements: the product of the sizes, 1 for a scalar. Saturates instead of overflowing.
    pub fn numel(&self) -> usize {
        if self.0.contains(&0) {
            return 0;
        }
        self.0.iter().fold(1, |product, &size| product.saturating_mul(size))
    }

    /// The strides, in elements, of contiguous (row-major) data of this shape.
    pub fn contiguous_strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.0.len()];
        for dim in (1..self.0.len()).rev() {
            strides[dim - 1] = strides[dim].saturating_mul(self.0[dim].max(1));
        }
        strides
    }

    /// The index of dimension `dim`, which counts from the end when it is negative, as in PyTorch.
    pub fn dim(&self, dim: isize) -> Result<usize> {
        let rank = self.0.len();
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
            .collect::<Result<Vec<_>>>()
            .map(Shape)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        Self(sizes)
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        Self(sizes.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        Self(sizes.to_vec())
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        Self(sizes.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
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
    fn negative_dims_count_from_the_end() {
        let shape = Shape::from([5, 6]);
        assert_eq!(shape.dim(-1).unwrap(), 1);
        assert_eq!(shape.dim(0).unwrap(), 0);
        assert!(shape.dim(2).is_err() && shape.dim(-3).is_err());
    }
}
