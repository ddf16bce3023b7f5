//! Tensors in host memory: what a program makes of its constants is computed here once, when the graph is built.
//! Indices, masks and tables of positions come out of it, of which a device sees the result only.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::view::View;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A row-major tensor of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Host {
    pub(super) shape: Vec<usize>,
    pub(super) data: Numbers,
}

/// Floats of any width as `f64`, rounded to their dtype; integers and booleans (0 and 1) as `i64`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

/// The largest tensor that is computed on the host: larger ones are no tables of indices.
pub(super) const MAX_ELEMENTS: usize = 1 << 26;

impl Host {
    /// A tensor that is `value` everywhere.
    pub(super) fn full(shape: &[usize], dtype: DType, value: f64) -> Self {
        let len = shape.iter().product();
        let data = match dtype.is_float() {
            true => Numbers::Float(vec![round(value, dtype); len]),
            false => Numbers::Int(vec![float_to_int(value, dtype); len]),
        };
        Self { shape: shape.to_vec(), data }
    }

    pub(super) fn ints(shape: &[usize], data: Vec<i64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: Numbers::Int(data) }
    }

    pub(super) fn floats(shape: &[usize], data: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: Numbers::Float(data) }
    }

    /// # Errors
    /// For a dtype that does not run.
    pub(super) fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let shape = tensor.shape().to_vec();
        Ok(match tensor.dtype() {
            DType::F64 => Self::floats(&shape, tensor.as_slice::<f64>()?.to_vec()),
            dtype if dtype.is_float() => Self::floats(&shape, tensor.to_f32()?.into_iter().map(f64::from).collect()),
            _ => Self::ints(&shape, tensor.to_i64()?),
        })
    }

    /// The tensor as a graph takes it: `float32` or `int64`.
    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        let shape = Shape::from(&self.shape[..]);
        match &self.data {
            Numbers::Float(data) => Tensor::new(shape, data.iter().map(|&x| x as f32).collect::<Vec<f32>>()),
            Numbers::Int(data) => Tensor::new(shape, data),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Numbers::Float(data) => data.len(),
            Numbers::Int(data) => data.len(),
        }
    }

    /// An element as a float.
    pub(super) fn at(&self, index: usize) -> f64 {
        match &self.data {
            Numbers::Float(data) => data[index],
            Numbers::Int(data) => data[index] as f64,
        }
    }

    pub(super) fn to_floats(&self) -> Vec<f64> {
        (0..self.len()).map(|index| self.at(index)).collect()
    }

    /// The integers.
    ///
    /// # Errors
    /// When it holds floats.
    pub(super) fn as_ints(&self) -> Result<&[i64]> {
        match &self.data {
            Numbers::Int(data) => Ok(data),
            Numbers::Float(_) => Err(Error::invalid("floats where integers are expected")),
        }
    }

    /// The elements that `view` of this tensor has.
    pub(super) fn gather(&self, view: &View) -> Self {
        fn pick<T: Copy>(data: &[T], places: &[usize]) -> Vec<T> {
            places.iter().map(|&place| data[place]).collect()
        }
        let places = places(view);
        let data = match &self.data {
            Numbers::Float(data) => Numbers::Float(pick(data, &places)),
            Numbers::Int(data) => Numbers::Int(pick(data, &places)),
        };
        Self { shape: view.shape.clone(), data }
    }

    /// This tensor with the elements of `view` replaced by those of `new`.
    pub(super) fn scatter(&self, view: &View, new: &Self) -> Result<Self> {
        fn put<T: Copy>(data: &[T], places: &[usize], new: &[T]) -> Vec<T> {
            let mut data = data.to_vec();
            places.iter().zip(new).for_each(|(&place, &x)| data[place] = x);
            data
        }
        let places = places(view);
        let data = match (&self.data, &new.data) {
            (Numbers::Float(data), Numbers::Float(new)) => Numbers::Float(put(data, &places, new)),
            (Numbers::Int(data), Numbers::Int(new)) => Numbers::Int(put(data, &places, new)),
            _ => return Err(Error::invalid("a write of floats into integers, or of integers into floats")),
        };
        Ok(Self { shape: self.shape.clone(), data })
    }

    pub(super) fn expand(&self, shape: &[usize]) -> Self {
        match self.shape == shape {
            true => self.clone(),
            false => self.gather(&View::contiguous(&self.shape).expand(shape)),
        }
    }

    /// The elements as `to`.
    pub(super) fn cast(&self, to: DType) -> Self {
        let data = match (&self.data, to.is_float()) {
            (Numbers::Float(data), true) => Numbers::Float(data.iter().map(|&x| round(x, to)).collect()),
            (Numbers::Float(data), false) => Numbers::Int(data.iter().map(|&x| float_to_int(x, to)).collect()),
            (Numbers::Int(data), true) => Numbers::Float(data.iter().map(|&x| round(x as f64, to)).collect()),
            (Numbers::Int(data), false) => Numbers::Int(data.iter().map(|&x| wrap(x, to)).collect()),
        };
        Self { shape: self.shape.clone(), data }
    }

    /// Tensors one after the other along `dim`.
    pub(super) fn cat(parts: &[&Self], dim: usize) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[dim] = parts.iter().map(|part| part.shape[dim]).sum();
        let mut out = match &parts[0].data {
            Numbers::Float(_) => Self::floats(&shape, vec![0.0; shape.iter().product()]),
            Numbers::Int(_) => Self::ints(&shape, vec![0; shape.iter().product()]),
        };
        let mut start = 0;
        for part in parts {
            let view = View::contiguous(&shape).slice(dim, start, 1, part.shape[dim]);
            out = out.scatter(&view, part).expect("parts of one kind");
            start += part.shape[dim];
        }
        out
    }

    /// Folds the lines along `dim` into one element each, or into running results.
    pub(super) fn lines(&self, dim: usize, mut each: impl FnMut(&[f64]) -> Vec<f64>, is_float: bool) -> Self {
        let [outer, len, inner] = split(&self.shape, dim);
        let mut out: Vec<f64> = Vec::new();
        let mut out_len = 0;
        for o in 0..outer {
            let results: Vec<Vec<f64>> = (0..inner)
                .map(|i| each(&(0..len).map(|l| self.at((o * len + l) * inner + i)).collect::<Vec<_>>()))
                .collect();
            out_len = results.first().map_or(0, Vec::len);
            for l in 0..out_len {
                out.extend(results.iter().map(|line| line[l]));
            }
        }
        let mut shape = self.shape.clone();
        shape[dim] = out_len;
        match is_float {
            true => Self::floats(&shape, out),
            false => Self::ints(&shape, out.into_iter().map(|x| x as i64).collect()),
        }
    }
}

/// The sizes before, along and after a dimension.
pub(super) fn split(shape: &[usize], dim: usize) -> [usize; 3] {
    [shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product()]
}

/// The places of a view's elements, in row-major order.
fn places(view: &View) -> Vec<usize> {
    let mut places = vec![view.offset];
    for (&size, &stride) in view.shape.iter().zip(&view.strides) {
        places = places.iter().flat_map(|place| (0..size).map(move |i| place + i * stride)).collect();
    }
    places
}

/// A number as a float dtype holds it.
pub(super) fn round(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F64 => value,
        DType::F16 => half::f16::from_f64(value).into(),
        DType::BF16 => half::bf16::from_f64(value).into(),
        _ => f64::from(value as f32),
    }
}

fn float_to_int(value: f64, dtype: DType) -> i64 {
    match dtype {
        DType::Bool => i64::from(value != 0.0),
        _ => wrap(value as i64, dtype),
    }
}

/// An integer as an integer dtype holds it.
pub(super) fn wrap(value: i64, dtype: DType) -> i64 {
    match dtype {
        DType::Bool => i64::from(value != 0),
        DType::I32 => i64::from(value as i32),
        DType::I16 => i64::from(value as i16),
        DType::I8 => i64::from(value as i8),
        DType::U8 => i64::from(value as u8),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_gather_and_scatter() {
        let x = Host::ints(&[2, 3], (0..6).collect());
        let column = View::contiguous(&[2, 3]).slice(1, 1, 1, 1);
        assert_eq!(x.gather(&column), Host::ints(&[2, 1], vec![1, 4]));
        let changed = x.scatter(&column, &Host::ints(&[2, 1], vec![7, 8])).unwrap();
        assert_eq!(changed, Host::ints(&[2, 3], vec![0, 7, 2, 3, 8, 5]));
        assert_eq!(Host::cat(&[&x, &x], 1).as_ints().unwrap()[..7], [0, 1, 2, 0, 1, 2, 3]);
        let sums = x.lines(0, |line| vec![line.iter().sum()], false);
        assert_eq!(sums, Host::ints(&[1, 3], vec![3, 5, 7]));
    }

    #[test]
    fn casts_as_pytorch_does() {
        let x = Host::floats(&[3], vec![-1.7, 0.0, 300.5]);
        assert_eq!(x.cast(DType::I64).as_ints().unwrap(), [-1, 0, 300]);
        assert_eq!(x.cast(DType::Bool).as_ints().unwrap(), [1, 0, 1]);
        assert_eq!(Host::ints(&[1], vec![300]).cast(DType::U8).as_ints().unwrap(), [44]);
        assert_eq!(Host::full(&[1], DType::F16, 0.1).at(0), f64::from(half::f16::from_f64(0.1)));
    }
}
