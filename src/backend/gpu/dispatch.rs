//! Dispatches: what a step becomes on a GPU. The selectors in `kernels/` make them; `plan.rs` records them.

use std::borrow::Cow;
use std::ops::Range;

use crate::graph::step::BufferId;

/// What a selector answers for one step: the weights that it wants packed, and the dispatches of a run.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) packs: Vec<Pack>,
    pub(crate) dispatches: Vec<Dispatch>,
    /// The elements that the dispatches pass to each other through `Binding::WriteScratch`, by its number.
    pub(crate) scratch: [usize; 2],
    /// The slots of `Binding::Slots` that the dispatches need.
    pub(crate) slots: usize,
}

/// One dispatch: a pipeline (shader, constants), its bind group and its grid.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) shader: Shader,
    /// The values of the shader's `override`s. Pipelines are shared by equal shaders and constants.
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// The words of the shader's `var<immediate>`: at most 32, all of them set.
    pub(crate) immediates: Vec<u32>,
    /// `@group(0) @binding(i)`, in order.
    pub(crate) bindings: Vec<Binding>,
    /// Workgroups, each at most 65,535.
    pub(crate) grid: [u32; 3],
}

/// A shader: a file of `shaders/`, or a pointwise program written into `pointwise.wgsl`.
#[derive(Clone, Debug)]
pub(crate) struct Shader {
    /// The file's name without `.wgsl`.
    pub(crate) name: &'static str,
    /// The complete WGSL program. Its entry point is `main`.
    pub(crate) source: Cow<'static, str>,
}

/// What a binding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A buffer of the schedule from its first element on, `var<storage, read>`; parameters as contiguous f32 or i32.
    /// An argument's own offset goes to the shader in the immediates.
    Read(BufferId),
    /// The same, `var<storage, read_write>`: the step's output.
    Write(BufferId),
    /// The weight that `Selection::packs` has at this index, `var<storage, read>`.
    Packed(usize),
    /// What dispatches of one step pass to each other, `var<storage, read_write>` of f32: shared by all steps.
    WriteScratch(usize),
    /// The same, `var<storage, read>`.
    ReadScratch(usize),
    /// Where the workgroups that share a sum meet, `var<storage, read_write> array<atomic<u32>>`: zeros, which a dispatch
    /// leaves as zeros, so that all steps share them.
    Slots,
    /// The plan's status word, `var<storage, read_write> array<atomic<u32>>`: zeroed before every run and read back
    /// with the outputs. A kernel that meets an index out of range stores the index's position plus 1.
    Status,
}

/// A weight put into the order that its kernel reads, once, when it is loaded, with dtype, strides and scale resolved.
///
/// The weight, taken as contiguous, is seen as `shape`; dimension `channel_dim` is cut down to `channels` and, when
/// there is a `scale [shape[channel_dim]]`, multiplied by it. The packed buffer holds the dimensions in `order`
/// (outermost first), contiguous, with the innermost padded by zeros to a multiple of `multiple`. For Winograd, the
/// nine taps of `[channels][3][3][inputs]` then become 16 points and 9 taps, `[25][channels][inputs]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pack {
    pub(crate) weight: BufferId,
    pub(crate) scale: Option<BufferId>,
    /// At most five dimensions.
    pub(crate) shape: Vec<usize>,
    pub(crate) channel_dim: usize,
    pub(crate) channels: Range<usize>,
    pub(crate) order: Vec<usize>,
    pub(crate) multiple: usize,
    pub(crate) winograd: bool,
    /// Whether the elements are f16 and not f32.
    pub(crate) half: bool,
}

impl Pack {
    /// The elements of the packed buffer.
    pub(crate) fn packed_len(&self) -> usize {
        let packed: usize = self.packed_shape().iter().product();
        if self.winograd { packed / 9 * 25 } else { packed }
    }

    /// The sizes of the packed dimensions, outermost first, padding included.
    pub(crate) fn packed_shape(&self) -> Vec<usize> {
        let mut shape: Vec<usize> = self
            .order
            .iter()
            .map(|&d| if d == self.channel_dim { self.channels.len() } else { self.shape[d] })
            .collect();
        if let Some(last) = shape.last_mut() {
            *last = last.next_multiple_of(self.multiple.max(1));
        }
        shape
    }
}
