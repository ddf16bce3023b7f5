//! A tensor in another dtype.

use std::sync::Arc;

use super::{Quantizer, StoredTensor, check_expanded};
use crate::checkpoint::Storage;
use crate::dtype::{DType, convert};
use crate::error::{Error, Result};
use crate::shape::Shape;

impl StoredTensor {
    /// A contiguous copy in another dtype, by PyTorch's rules: floats are rounded to nearest, integers wrap, floats lose
    /// their fraction on the way to integers, and what is out of an integer's range is as on x86-64. A quantized tensor
    /// is dequantized. Its own dtype gives the tensor itself, no copy.
    ///
    /// `float4_e2m1fn_x2` has two numbers in an element: its last dimension becomes twice as long.
    ///
    /// Reference: <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html>.
    ///
    /// ```
    /// use sconce::{DType, checkpoint::StoredTensor};
    /// let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    /// let half = StoredTensor::from_bytes(DType::F32, [2], bytes)?.to(DType::F16)?;
    /// assert_eq!(*half.contiguous_bytes()?, [0x00, 0x3e, 0x00, 0xc0]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when there is no such conversion (from complex to real
    /// numbers, or of untyped bits), and those of [`contiguous_bytes`](Self::contiguous_bytes).
    pub fn to(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        self.converted(dtype, Storage::owned(self.converted_bytes(dtype)?, self.location()))
    }

    /// The same as [`to`](Self::to), converted when the bytes are first asked for. Saving it converts it, writes it and
    /// lets it go: so a file of any size is converted in the memory of its largest tensor.
    ///
    /// # Errors
    /// As [`to`](Self::to). What is wrong with the bytes themselves is said when they are asked for.
    pub fn to_deferred(&self, dtype: DType) -> Result<Self> {
        // The scales of quantized tensors have to fit them.
        if dtype == self.dtype || self.quantizer().is_some() {
            return self.to(dtype);
        }
        if !self.has_data() {
            return Err(self.no_data());
        }
        convert(self.dtype, dtype, &[])?;
        check_expanded([self], "a converted copy")?;
        let len = unpacked(self.dtype, self.shape()).numel().saturating_mul(dtype.size());
        let source = self.clone();
        let make = move || {
            let bytes = source.converted_bytes(dtype)?;
            source.storage.release_pages(source.span());
            Ok(bytes.into())
        };
        self.converted(dtype, Storage::deferred(len, self.location(), make))
    }

    fn converted(&self, dtype: DType, storage: Arc<Storage>) -> Result<Self> {
        let shape = unpacked(self.dtype, self.shape());
        let stride = shape.contiguous_strides();
        let converted = Self::new(storage, dtype, shape, stride, 0)?;
        Ok(converted.with_requires_grad(self.requires_grad).with_parameter(self.is_parameter))
    }

    fn converted_bytes(&self, dtype: DType) -> Result<Vec<u8>> {
        let bytes = self.contiguous_bytes()?;
        match self.quantizer() {
            Some(quantizer) => {
                let floats = quantizer.dequantize(self.dtype, self.shape(), &bytes)?;
                convert(DType::F32, dtype, bytemuck::cast_slice(&floats))
            }
            None => convert(self.dtype, dtype, &bytes),
        }
    }
}

/// The shape that a tensor has when it is converted to another dtype.
pub(crate) fn unpacked(dtype: DType, shape: &Shape) -> Shape {
    let mut sizes = shape.to_vec();
    match sizes.last_mut() {
        Some(last) if dtype == DType::F4E2M1FNX2 => *last *= 2,
        _ => {}
    }
    sizes.into()
}

impl Quantizer {
    /// The numbers that integers stand for.
    fn dequantize(&self, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Vec<f32>> {
        let integers = integers(dtype, shape, bytes)?;
        let (scales, zero_points, axis) = match self {
            Quantizer::PerTensor { scale, zero_point } => {
                return Ok(integers.iter().map(|&q| q.wrapping_sub(*zero_point) as f32 * *scale as f32).collect());
            }
            Quantizer::PerChannel { scales, zero_points, axis, .. } => (scales, zero_points, *axis),
        };
        let channels = *shape.get(axis).ok_or_else(|| {
            Error::invalid(format!("a tensor of shape {shape:?} is quantized along dimension {axis}"))
        })?;
        for parameters in [scales, zero_points] {
            if parameters.shape()[..] != [channels] {
                return Err(Error::invalid(format!(
                    "a tensor of {channels} channels has {} scales and {} zero points",
                    scales.shape().numel(),
                    zero_points.shape().numel()
                )));
            }
        }
        let inner: usize = shape[axis + 1..].iter().product();
        let scales = floats(scales)?;
        let channel = |i: usize| i / inner.max(1) % channels;
        let numbered = integers.iter().enumerate();
        if zero_points.dtype().is_float() {
            let zero_points = floats(zero_points)?;
            return Ok(numbered.map(|(i, &q)| (q as f32 - zero_points[channel(i)]) * scales[channel(i)]).collect());
        }
        let zero_points = zero_points.to(DType::I64)?;
        let zero_points: Vec<i64> = bytemuck::pod_collect_to_vec(&zero_points.contiguous_bytes()?);
        Ok(numbered.map(|(i, &q)| q.wrapping_sub(zero_points[channel(i)]) as f32 * scales[channel(i)]).collect())
    }
}

fn floats(tensor: &StoredTensor) -> Result<Vec<f32>> {
    Ok(bytemuck::pod_collect_to_vec(&tensor.to(DType::F32)?.contiguous_bytes()?))
}

/// The integers of a quantized dtype.
fn integers(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Vec<i64>> {
    Ok(match dtype {
        DType::QI8 => bytes.iter().map(|&x| i64::from(x as i8)).collect(),
        DType::QU8 => bytes.iter().map(|&x| i64::from(x)).collect(),
        DType::QI32 => bytes.as_chunks::<4>().0.iter().map(|&x| i64::from(i32::from_le_bytes(x))).collect(),
        DType::QU4X2 | DType::QU2X4 => {
            let per_byte = dtype.per_byte();
            let bits = 8 / per_byte;
            let element = |i: usize| i64::from(bytes[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1));
            // There are bytes enough for rows that start at a byte; the elements follow each other all the same.
            (0..shape.iter().product()).map(element).collect()
        }
        other => return Err(Error::invalid(format!("a {other} tensor is quantized"))),
    })
}
