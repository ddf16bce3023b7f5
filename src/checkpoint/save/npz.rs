//! Writing `.npz` files: NumPy's `.npy` arrays in a zip archive.

use std::io::{Seek, Write};

use super::pieces::{self, Unpacked};
use super::zip::ZipWriter;
use super::{Progress, check_sizes, refused_tensors};
use crate::checkpoint::StoredTensor;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The dtypes that NumPy has, with its letter and size.
pub(crate) const NUMPY_DTYPES: &[(DType, char, usize)] = &[
    (DType::F64, 'f', 8),
    (DType::F32, 'f', 4),
    (DType::F16, 'f', 2),
    (DType::I64, 'i', 8),
    (DType::I32, 'i', 4),
    (DType::I16, 'i', 2),
    (DType::I8, 'i', 1),
    (DType::U64, 'u', 8),
    (DType::U32, 'u', 4),
    (DType::U16, 'u', 2),
    (DType::U8, 'u', 1),
    (DType::Bool, 'b', 1),
    (DType::Complex64, 'c', 8),
    (DType::Complex128, 'c', 16),
];

/// What a `.npy` file starts with.
pub(crate) const NPY_MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy pads its headers so that the data starts at a multiple of this.
const NPY_ALIGNMENT: usize = 64;
/// NumPy's own limit; it also keeps the header within version 1's 65,535 bytes.
const MAX_RANK: usize = 64;

/// What precedes the data of an array in C order in a `.npy` file (version 1).
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when NumPy has no such dtype, as `bfloat16`, and for
/// more than 64 dimensions.
pub(crate) fn npy_header(dtype: DType, shape: &[usize]) -> Result<Vec<u8>> {
    let (_, kind, size) = NUMPY_DTYPES
        .iter()
        .find(|(known, ..)| *known == dtype)
        .ok_or_else(|| Error::unsupported(format!("NumPy has no {dtype}, so a `.npy` file cannot hold it")))?;
    if shape.len() > MAX_RANK {
        let rank = shape.len();
        return Err(Error::unsupported(format!(
            "NumPy arrays have at most {MAX_RANK} dimensions, the tensor has {rank}"
        )));
    }
    let order = if *size == 1 { '|' } else { '<' };
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if sizes.len() == 1 { "," } else { "" };
    let mut header =
        format!("{{'descr': '{order}{kind}{size}', 'fortran_order': False, 'shape': ({}{comma}), }}", sizes.join(", "));
    let start = NPY_MAGIC.len() + 4;
    let padded = (start + header.len() + 1).next_multiple_of(NPY_ALIGNMENT) - start;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let len = u16::try_from(header.len()).expect("at most 64 dimensions");
    Ok([&NPY_MAGIC[..], &[1, 0], &len.to_le_bytes(), header.as_bytes()].concat())
}

/// Tensors under their names, which are known to fit into an `.npz` file.
pub(super) struct Plan<'v> {
    tensors: Vec<(&'v str, Vec<u8>, &'v StoredTensor)>,
}

impl<'v> Plan<'v> {
    pub(super) fn new(tensors: Vec<(&'v str, &'v StoredTensor)>) -> Result<Self> {
        check_sizes(&tensors)?;
        let mut planned = Vec::with_capacity(tensors.len());
        let (mut refused, mut is_quantized) = (Vec::new(), false);
        for (name, tensor) in tensors {
            match npy_header(tensor.dtype(), tensor.shape()) {
                Ok(header) if tensor.has_data() => planned.push((name, header, tensor)),
                _ => {
                    is_quantized |= tensor.quantizer().is_some();
                    refused.push(format!("`{}` ({})", name.escape_debug(), tensor.describe()));
                }
            }
        }
        let help = match is_quantized {
            true => "NumPy has no quantized arrays, and tensors are not converted from them: leave them out",
            false => "NumPy has no such dtype: convert these first, to float32 say",
        };
        refused_tensors("a NumPy array", &refused, help)?;
        Ok(Self { tensors: planned })
    }

    pub(super) fn write(&self, out: &mut (impl Write + Seek), progress: &mut Progress<'_>) -> Result<()> {
        let bytes = |tensor: &StoredTensor| (tensor.shape().numel() * tensor.dtype().size()) as u64;
        progress.total = self.tensors.iter().map(|(.., tensor)| bytes(tensor)).sum();
        let mut archive = ZipWriter::new(out);
        let mut unpacked = Unpacked::default();
        for (name, header, tensor) in &self.tensors {
            let named = |error: Error| error.context(format_args!("`{}`", name.escape_debug()));
            let size = header.len() as u64 + bytes(tensor);
            let mut write = |take: &mut super::Take<'_>| {
                take(header)?;
                pieces::contiguous(tensor, &mut unpacked, &mut |piece| progress.take(piece, take))
            };
            archive.entry(&format!("{name}.npy"), size, &mut write).map_err(named)?;
        }
        archive.finish()
    }
}
