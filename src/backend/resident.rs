//! Tensors that stay in the memory of a device between models.

use std::fmt;
#[cfg(feature = "gpu")]
use std::sync::Arc;

#[cfg(feature = "gpu")]
use super::{gpu, ports};
#[cfg(feature = "gpu")]
use crate::device::memory::Buffer;
use crate::device::{Device, Kind};
use crate::dtype::DType;
use crate::error::Result;
#[cfg(feature = "gpu")]
use crate::graph::step::{BufferId, Port};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A tensor in the memory of a device: what a model gives another one on the same device without a way over the host.
/// See [`Model::run_on_device`](crate::Model::run_on_device). Cloning it is cheap.
///
/// ```
/// use sconce::{Device, DeviceTensor, Tensor};
/// let x = DeviceTensor::new(&Tensor::new([2], [1f32, 2.])?, &Device::cpu())?;
/// assert_eq!(x.to_tensor()?.as_slice::<f32>()?, [1., 2.]);
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone)]
pub struct DeviceTensor {
    device: Device,
    pub(crate) data: Data,
}

/// What a tensor on a device is underneath.
#[derive(Clone)]
pub(crate) enum Data {
    Cpu(Tensor),
    #[cfg(feature = "gpu")]
    Gpu(Resident),
}

/// A tensor on a GPU: contiguous `f32`, `f16` if so, or `i32` for a dtype of integers.
#[cfg(feature = "gpu")]
#[derive(Clone)]
pub(crate) struct Resident {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) buffer: Arc<Buffer>,
    /// Whether the elements are f16, as those of a model that computes so.
    pub(crate) half: bool,
}

impl DeviceTensor {
    /// Copies a tensor to a device.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that does not run,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when an integer does not fit into the 32 bits of a GPU's,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails or has too little memory.
    pub fn new(tensor: &Tensor, device: &Device) -> Result<Self> {
        let data = match device.kind() {
            Kind::Cpu(_) => Data::Cpu(tensor.clone()),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => {
                let dtype = if tensor.dtype().is_float() { DType::F32 } else { DType::I64 };
                let port = Port { buffer: BufferId(0), shape: tensor.shape().clone(), dtype };
                let buffer = gpu::to_device(gpu, &ports::input_words(&port, tensor)?)?;
                Data::Gpu(Resident { dtype, shape: port.shape, buffer, half: false })
            }
        };
        Ok(Self::of(device, data))
    }

    pub(crate) fn of(device: &Device, data: Data) -> Self {
        Self { device: device.clone(), data }
    }

    /// Waits until the tensor is computed, and copies it to the host: floats as `float32`, integers as `int64`.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match (&self.data, self.device.kind()) {
            (Data::Cpu(tensor), _) => Ok(tensor.clone()),
            #[cfg(feature = "gpu")]
            (Data::Gpu(resident), Kind::Gpu(gpu)) => {
                let port = Port { buffer: BufferId(0), shape: resident.shape.clone(), dtype: resident.dtype };
                ports::output_tensor(&port, &gpu::to_host(gpu, resident)?)
            }
            #[cfg(feature = "gpu")]
            (Data::Gpu(_), Kind::Cpu(_)) => unreachable!("it was made on a GPU"),
        }
    }

    /// The device that has it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::Cpu(tensor) => tensor.dtype(),
            #[cfg(feature = "gpu")]
            Data::Gpu(resident) => resident.dtype,
        }
    }

    /// The sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        match &self.data {
            Data::Cpu(tensor) => tensor.shape(),
            #[cfg(feature = "gpu")]
            Data::Gpu(resident) => &resident.shape,
        }
    }
}

impl fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceTensor({} {} on {})", self.dtype(), self.shape(), self.device)
    }
}
