//! Writing safetensors files.

use std::io::Write;

use super::file::put;
use super::pieces::{self, Unpacked};
use super::{Progress, check_sizes, named_tensors, refused_tensors};
use crate::checkpoint::StoredTensor;
use crate::checkpoint::safetensors::{DTYPES, F4, MAX_HEADER, METADATA};
use crate::checkpoint::value::Value;
use crate::error::{Error, Result};

/// The header and the order of the data of a file that is about to be written.
pub(super) struct Plan<'v> {
    header: Vec<u8>,
    tensors: Vec<(&'v str, &'v StoredTensor)>,
    total: u64,
}

/// The header is padded to a multiple of this, so that the data is aligned.
const ALIGNMENT: usize = 8;

impl<'v> Plan<'v> {
    /// Checks that everything can be written.
    pub(super) fn new(value: &'v Value) -> Result<Self> {
        let tensors = named_tensors(value, "a safetensors file")?;
        check(&tensors)?;
        check_sizes(&tensors)?;
        let bytes = |tensor: &StoredTensor| (tensor.shape().numel() * tensor.dtype().size()) as u64;
        // The largest elements first, so that all are aligned; otherwise in order.
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(tensors[at].1.dtype().size()));
        let mut offsets = vec![(0, 0); tensors.len()];
        let mut total = 0u64;
        for &at in &order {
            let end = total.checked_add(bytes(tensors[at].1));
            let end = end.ok_or_else(|| Error::unsupported("the tensors take more bytes than a file can have"))?;
            offsets[at] = (total, end);
            total = end;
        }
        let mut header = format!("{{{}:{}", json(METADATA), metadata(value));
        for ((name, tensor), (start, end)) in tensors.iter().zip(&offsets) {
            let (dtype, shape) = dtype_and_shape(tensor).expect("checked");
            let shape = serde_json::to_string(&shape).expect("numbers");
            header += &format!(
                ",{}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}",
                json(name)
            );
        }
        header.push('}');
        let mut header = header.into_bytes();
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        if header.len() as u64 > MAX_HEADER {
            return Err(Error::unsupported(format!("a safetensors header of more than {MAX_HEADER} bytes")));
        }
        Ok(Self { header, tensors: order.into_iter().map(|at| tensors[at]).collect(), total })
    }

    pub(super) fn write(&self, out: &mut impl Write, progress: &mut Progress<'_>) -> Result<()> {
        progress.total = self.total;
        put(out, &(self.header.len() as u64).to_le_bytes())?;
        put(out, &self.header)?;
        let mut unpacked = Unpacked::default();
        for (name, tensor) in &self.tensors {
            pieces::contiguous(tensor, &mut unpacked, &mut |piece| progress.take(piece, &mut |bytes| put(out, bytes)))
                .map_err(|error| error.context(format_args!("`{}`", name.escape_debug())))?;
        }
        Ok(())
    }
}

fn check(tensors: &[(&str, &StoredTensor)]) -> Result<()> {
    if tensors.iter().any(|(name, _)| *name == METADATA) {
        return Err(Error::unsupported(format!("no tensor can be called `{METADATA}` in a safetensors file")));
    }
    let refused = tensors.iter().filter(|(_, tensor)| dtype_and_shape(tensor).is_none());
    let refused: Vec<String> =
        refused.map(|(name, tensor)| format!("`{}` ({})", name.escape_debug(), tensor.describe())).collect();
    refused_tensors("a safetensors file", &refused, "it has no such dtypes or layouts; a `.pt` file holds them all")
}

/// A tensor's dtype and shape in the format's terms, if it has them.
fn dtype_and_shape(tensor: &StoredTensor) -> Option<(&'static str, Vec<usize>)> {
    let (dtype, _) = DTYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype() && tensor.has_data())?;
    let mut shape = tensor.shape().to_vec();
    if *dtype == F4 {
        let last = shape.last_mut()?;
        *last = last.checked_mul(2)?;
    }
    Some((dtype, shape))
}

/// The free text that the dict was read with, and that it is PyTorch's, without which some readers refuse a file.
fn metadata(value: &Value) -> String {
    let mut entries = Vec::new();
    if let Value::Dict(dict) = value
        && let Some(Value::Dict(metadata)) = dict.attributes().and_then(|attributes| attributes.get(METADATA))
    {
        let texts = metadata.iter().filter_map(|(key, value)| Some((key.as_str().ok()?, value.as_str().ok()?)));
        entries.extend(texts);
    }
    if entries.iter().all(|(key, _)| *key != "format") {
        entries.push(("format", "pt"));
    }
    let entries: Vec<String> = entries.into_iter().map(|(key, text)| format!("{}:{}", json(key), json(text))).collect();
    format!("{{{}}}", entries.join(","))
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
