//! Tensors as arrays of the crate `ndarray`.

use ::ndarray::{ArrayRef, ArrayViewD, Dimension};

use super::{Element, Tensor};
use crate::error::Result;

impl Tensor {
    /// The elements as an array of the crate `ndarray`, which this build's feature `ndarray` turns on. Copies nothing.
    ///
    /// ```
    /// let x = sconce::Tensor::new([2, 3], [1f32, 2., 3., 4., 5., 6.])?;
    /// assert_eq!(x.as_ndarray::<f32>()?[[1, 0]], 4.0);
    /// assert_eq!(sconce::Tensor::from_ndarray(&x.as_ndarray::<f32>()?.t())?.shape().to_string(), "[3, 2]");
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the tensor's dtype is not `T`'s.
    pub fn as_ndarray<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let elements = self.as_slice::<T>()?;
        Ok(ArrayViewD::from_shape(&self.shape[..], elements).expect("as many elements as the shape has"))
    }

    /// A tensor with the elements of an array in row-major order.
    ///
    /// # Errors
    /// None for an array of a dtype's type; it is there for sizes that overflow.
    pub fn from_ndarray<T: Element, D: Dimension>(array: &ArrayRef<T, D>) -> Result<Self> {
        let elements: Vec<T> = array.iter().copied().collect();
        Self::new(array.shape().to_vec(), elements)
    }
}
