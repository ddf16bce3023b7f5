//! Weights, read from wherever they are and packed into the panels that the kernels read.

use std::borrow::Cow;
use std::ops::Range;

use memmap2::MmapMut;

use super::gemm::PanelShape;
use super::shared::Shared;
use crate::checkpoint::StoredTensor;
use crate::device::pool::Pool;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::bytes_to_f32;

/// Zeros at a page's start, in huge pages where the system has them.
pub(crate) struct Floats {
    map: Option<MmapMut>,
    len: usize,
}

impl Floats {
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let failed = |e| Error::device(format!("no memory for {} bytes of weights: {e}", len.saturating_mul(4)));
        if len == 0 {
            return Ok(Self { map: None, len });
        }
        let map = MmapMut::map_anon(len.saturating_mul(4)).map_err(failed)?;
        #[cfg(target_os = "linux")]
        if len >= 1 << 19 {
            // It only makes things faster: a kernel without huge pages may refuse.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { map: Some(map), len })
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        self.map.as_ref().map_or(&[], |map| &bytemuck::cast_slice(map)[..self.len])
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.map.as_mut().map_or(&mut [], |map| &mut bytemuck::cast_slice_mut(map)[..self.len])
    }
}

impl std::fmt::Debug for Floats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Floats({})", self.len)
    }
}

/// Where a weight comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WeightSource<'a> {
    /// A tensor of a file, of any runnable dtype and stride.
    Stored(&'a StoredTensor),
    /// The result of a step.
    Computed(&'a [f32]),
}

/// The elements of a tensor that is stored as the kernels read it.
pub(crate) fn stored_floats(tensor: &StoredTensor) -> Option<&[f32]> {
    let plain = tensor.dtype() == DType::F32 && tensor.is_contiguous() && tensor.bits() == (false, false);
    if !plain || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(&tensor.storage().bytes().ok()?[tensor.span()]).ok()
}

/// The rows of a weight: one output's numbers each.
pub(crate) struct WeightRows<'a> {
    bytes: Cow<'a, [u8]>,
    dtype: DType,
    len: usize,
}

impl<'a> WeightRows<'a> {
    /// `rows` rows of `len` elements.
    pub(crate) fn new(source: WeightSource<'a>, rows: usize, len: usize) -> Result<Self> {
        let (bytes, dtype) = match source {
            WeightSource::Stored(tensor) => (tensor.contiguous_bytes()?, tensor.dtype()),
            WeightSource::Computed(slice) => (Cow::Borrowed(bytemuck::cast_slice(slice)), DType::F32),
        };
        if !dtype.is_runnable() {
            return Err(Error::unsupported(format!("{dtype} tensors do not run")));
        }
        if rows * len * dtype.size() != bytes.len() {
            return Err(Error::shape(format!(
                "a weight of {rows} rows of {len} has {} elements",
                bytes.len() / dtype.size()
            )));
        }
        Ok(Self { bytes, dtype, len })
    }

    /// Some rows; borrowed when they are stored as they are used.
    pub(crate) fn get(&self, rows: Range<usize>) -> Cow<'_, [f32]> {
        let size = self.len * self.dtype.size();
        let bytes = &self.bytes[rows.start * size..rows.end * size];
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(floats) = bytemuck::try_cast_slice(bytes)
        {
            return Cow::Borrowed(floats);
        }
        Cow::Owned(bytes_to_f32(self.dtype, bytes).expect("the dtype was checked"))
    }
}

/// Packs the weights `[groups * n, channels, taps]` into the panels of each group, `[taps][channels][columns]`.
pub(crate) fn pack_panels(
    rows: &WeightRows<'_>,
    groups: usize,
    shape: PanelShape,
    taps: usize,
    scale: Option<&[f32]>,
    pool: &Pool,
) -> Result<Floats> {
    let mut packed = Floats::zeros(groups * shape.len())?;
    let target = Shared::new(packed.as_mut_slice());
    let count = shape.count();
    pool.run(groups * count, |task| {
        let (group, panel) = (task / count, task % count);
        let width = shape.width(panel);
        let at = group * shape.len() + shape.start(panel);
        // SAFETY: every task has a panel of its own.
        let target = unsafe { target.slice(at..at + shape.k * width) };
        let first = group * shape.n + panel * shape.columns;
        let valid = shape.valid(panel);
        let scale = scale.map(|scale| &scale[first..first + valid]);
        pack_panel(target, width, &rows.get(first..first + valid), shape.k, taps, scale);
    });
    Ok(packed)
}

/// Packs rows of `channels * taps` numbers into one panel. Eight rows and sixteen numbers at a time, so that rows which
/// lie a multiple of a page apart do not push each other out of the cache.
fn pack_panel(target: &mut [f32], width: usize, rows: &[f32], k: usize, taps: usize, scale: Option<&[f32]>) {
    let valid = rows.len() / k.max(1);
    let channels = k / taps.max(1);
    for from in (0..k).step_by(16) {
        let to = (from + 16).min(k);
        for first in (0..valid).step_by(8) {
            let lanes = (valid - first).min(8);
            let mut scales = [1.0; 8];
            if let Some(scale) = scale {
                scales[..lanes].copy_from_slice(&scale[first..first + lanes]);
            }
            let (mut channel, mut tap) = (from / taps, from % taps);
            for at in from..to {
                let target = &mut target[(tap * channels + channel) * width + first..][..lanes];
                for (lane, target) in target.iter_mut().enumerate() {
                    *target = rows[(first + lane) * k + at] * scales[lane];
                }
                tap += 1;
                if tap == taps {
                    (channel, tap) = (channel + 1, 0);
                }
            }
        }
    }
}

/// Packs the weights `[channels, group, taps]` of a convolution with as many outputs as inputs as `[taps][group][stride]`.
pub(crate) fn pack_depthwise(
    rows: &WeightRows<'_>,
    channels: usize,
    [group, taps]: [usize; 2],
    stride: usize,
    scale: Option<&[f32]>,
) -> Result<Floats> {
    let mut packed = Floats::zeros(taps * group * stride)?;
    let target = packed.as_mut_slice();
    for (channel, row) in rows.get(0..channels).chunks_exact((group * taps).max(1)).enumerate() {
        let scale = scale.map_or(1.0, |scale| scale[channel]);
        for (at, x) in row.iter().enumerate() {
            target[(at % taps * group + at / taps) * stride + channel] = x * scale;
        }
    }
    Ok(packed)
}
