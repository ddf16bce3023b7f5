//! Ports: what the caller gives and gets, as the words that plans compute with.

#[cfg(feature = "gpu")]
use std::borrow::Cow;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::step::Port;
use crate::tensor::Tensor;
#[cfg(feature = "gpu")]
use crate::tensor::bytes_to_f32;

/// Checks that these inputs fit these ports.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the number of inputs, a shape or a dtype does not fit.
pub(crate) fn check_inputs<'a>(ports: impl ExactSizeIterator<Item = &'a Port>, inputs: &[Tensor]) -> Result<()> {
    if ports.len() != inputs.len() {
        return Err(Error::shape(format!("the model has {} inputs, {} were given", ports.len(), inputs.len())));
    }
    for (i, (port, input)) in ports.zip(inputs).enumerate() {
        if port.shape != *input.shape() {
            return Err(Error::shape(format!("input {i}: the plan is for {}, not for {}", port.shape, input.shape())));
        }
        if !port.dtype.is_float() && input.dtype().is_float() {
            return Err(Error::shape(format!("input {i}: expected {}, found {}", port.dtype, input.dtype()))
                .help("integers are not made from floats silently: convert the tensor"));
        }
    }
    Ok(())
}

/// An input as the words of its port: `f32`, or `i32` with the range checked.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when an integer does not fit into 32 bits;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that does not run.
#[cfg(feature = "gpu")]
pub(crate) fn input_words<'a>(port: &Port, input: &'a Tensor) -> Result<Cow<'a, [u8]>> {
    if port.dtype.is_float() {
        return Ok(match input.dtype() {
            DType::F32 => Cow::Borrowed(input.bytes()),
            dtype => Cow::Owned(bytemuck::cast_slice(&bytes_to_f32(dtype, input.bytes())?).to_vec()),
        });
    }
    if input.dtype() == DType::I32 {
        return Ok(Cow::Borrowed(input.bytes()));
    }
    let mut words = Vec::with_capacity(input.shape().numel() * 4);
    for (i, x) in input.to_i64()?.into_iter().enumerate() {
        let word = i32::try_from(x)
            .map_err(|_| Error::shape(format!("element {i} is {x}: integers are computed in 32 bits")))?;
        words.extend_from_slice(&word.to_le_bytes());
    }
    Ok(Cow::Owned(words))
}

/// The tensor of an output port from its words.
pub(crate) fn output_tensor(port: &Port, words: &[u8]) -> Result<Tensor> {
    let ints = || words.chunks_exact(4).map(|x| i32::from_le_bytes(x.try_into().expect("4 bytes")));
    let floats = || words.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().expect("4 bytes")));
    let shape = port.shape.clone();
    match port.dtype {
        DType::F32 | DType::I32 => Tensor::from_bytes(port.dtype, shape, words),
        DType::F64 => Tensor::new(shape, floats().map(f64::from).collect::<Vec<_>>()),
        DType::F16 => Tensor::new(shape, floats().map(half::f16::from_f32).collect::<Vec<_>>()),
        DType::BF16 => Tensor::new(shape, floats().map(half::bf16::from_f32).collect::<Vec<_>>()),
        DType::I64 => Tensor::new(shape, ints().map(i64::from).collect::<Vec<_>>()),
        other => Err(Error::unsupported(format!("an output cannot be {other}"))),
    }
}

/// `f32` words as `f16`.
#[cfg(feature = "gpu")]
pub(crate) fn to_half(words: &[u8]) -> Vec<u8> {
    let float = |x: &[u8]| f32::from_le_bytes(x.try_into().expect("4 bytes"));
    words.chunks_exact(4).flat_map(|x| half::f16::from_f32(float(x)).to_le_bytes()).collect()
}

/// `f16` as `f32` words.
#[cfg(feature = "gpu")]
pub(crate) fn from_half(halves: &[u8]) -> Vec<u8> {
    let half = |x: &[u8]| half::f16::from_le_bytes(x.try_into().expect("2 bytes"));
    halves.chunks_exact(2).flat_map(|x| half(x).to_f32().to_le_bytes()).collect()
}

/// The error for an index that names no row.
#[cfg(feature = "gpu")]
pub(crate) fn index_out_of_range(step: &str, position: usize, rows: usize) -> Error {
    Error::shape(format!("{step}: the index at position {position} is out of range, expected 0..{rows}"))
}
