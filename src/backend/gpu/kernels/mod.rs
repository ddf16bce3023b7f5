//! Selectors: which shaders, tiles and grids a step takes, one file per family of operations.
//!
//! The shaders are in `shaders/`. Their numbers vary by `override`s, which [`Dispatch::constants`] sets, and their
//! element types by `alias` lines, which [`Call::alias`] rewrites.

mod attention;
mod conv2d;
mod cut;
#[cfg(test)]
mod cut_tests;
mod depthwise;
mod embedding;
mod linear;
mod matmul;
mod matrix;
mod pad;
mod pointwise;
mod pool;
#[cfg(test)]
mod precision_tests;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod translation_tests;
mod unary;
pub(super) mod winograd;

#[cfg(test)]
pub(super) use matrix::emulation::MATRICES;
pub(super) use matrix::with_matrices;

use std::borrow::Cow;
use std::ops::Range;

use self::cut::ranges;
use super::dispatch::{Binding, Dispatch, Pack, Selection, Shader};
use super::pipeline::Pipelines;
use super::tune::Choice;
use crate::device::DeviceKind;
use crate::device::gpu::Gpu;
use crate::dtype::Precision;
use crate::error::{Error, Result};
use crate::graph::op::{Fused, Residual};
use crate::graph::step::{Arg, Buffer, Kernel, Memory, Step};

/// What a selection depends on besides its step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Whether the adapter runs shaders on the CPU.
    pub(super) is_software: bool,
    /// The bytes that a binding may have.
    pub(super) max_binding: u64,
    /// The workgroups that a grid may have along a dimension.
    pub(super) max_groups: u32,
    /// The operations of one submission: a product of more is cut.
    pub(super) submission_flops: u64,
    /// The storage buffers that a shader may have.
    pub(super) max_buffers: u32,
    /// With fewer workgroups of 256 threads than this a GPU is not full: as many as it may have units, each of which needs
    /// that many threads to hide its latencies.
    pub(super) enough_groups: usize,
    /// A sum is not split into parts of fewer steps of a tile than this.
    pub(super) least_steps: usize,
    /// A convolution of fewer multiplications gains nothing from Winograd: it costs two more dispatches.
    pub(super) least_winograd: usize,
    /// Whether buffers hold f16 where a tensor has floats.
    pub(super) half: bool,
    /// The side of the matrices that the adapter's matrix units take, when they are to be used.
    pub(super) matrices: Option<u32>,
    /// How the product is to be computed, when that was found out by timing.
    pub(super) choice: Option<Choice>,
    /// The plain loops that stand for matrices.
    #[cfg(test)]
    pub(super) emulated: Option<&'static str>,
}

impl Caps {
    /// Those of a device; a test may have given it others before.
    fn of(gpu: &Gpu) -> Self {
        *Pipelines::of(gpu).caps.get_or_init(|| Self::new(gpu))
    }

    pub(super) fn new(gpu: &Gpu) -> Self {
        let limits = gpu.limits();
        Self {
            is_software: gpu.info().kind == DeviceKind::Software,
            max_binding: limits.max_storage_buffer_binding_size,
            max_groups: limits.max_compute_workgroups_per_dimension,
            submission_flops: gpu.submission_flops(),
            max_buffers: limits.max_storage_buffers_per_shader_stage,
            enough_groups: if gpu.info().kind == DeviceKind::Integrated { 32 } else { 128 },
            least_steps: 8,
            least_winograd: winograd::LEAST_PRODUCTS,
            half: false,
            matrices: None,
            choice: None,
            #[cfg(test)]
            emulated: None,
        }
    }

    /// Those of a model of this precision.
    fn with(self, precision: Precision, gpu: &Gpu) -> Self {
        let trusted = || gpu.matrices().filter(|_| !Pipelines::of(gpu).distrusts_matrices());
        let matrices = self.matrices.or_else(trusted);
        match precision {
            Precision::Exact => self,
            Precision::Fast => Self { matrices, ..self },
            Precision::Half => Self { matrices, half: true, ..self },
        }
    }
}

/// The dispatches of a step, and the weights that they want packed.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when no kernel can run the step on this device.
pub(super) fn select(step: &Step, buffers: &[Buffer], gpu: &Gpu, precision: Precision) -> Result<Selection> {
    let choice = Pipelines::of(gpu).choices(gpu).get(&step.kernel, precision);
    select_for(step, buffers, &Caps { choice, ..Caps::of(gpu).with(precision, gpu) })
}

/// The ways to compute a product that may be the fastest; none where there is only one.
pub(super) fn candidates(step: &Step, buffers: &[Buffer], gpu: &Gpu, precision: Precision) -> Vec<Choice> {
    conv2d::candidates(&Context { step, buffers, caps: &Caps::of(gpu).with(precision, gpu) })
}

fn select_for(step: &Step, buffers: &[Buffer], caps: &Caps) -> Result<Selection> {
    let cx = Context { step, buffers, caps };
    let selection = select_kernel(&cx)?;
    let rounds = rounds(&step.kernel, &selection);
    if caps.is_software && rounds > MOST_ROUNDS {
        return Err(Error::unsupported(format!(
            "{rounds} rounds of a loop, and a software adapter may end after {MOST_ROUNDS}"
        ))
        .help(ON_CPU));
    }
    // A shader that was not told so would take two numbers for one.
    let is_float = |binding: &Binding| match binding {
        Binding::Read(id) | Binding::Write(id) => !buffers[id.0].is_int,
        _ => false,
    };
    let knows =
        |dispatch: &Dispatch| dispatch.shader.source.contains("enable f16;") || !dispatch.bindings.iter().any(is_float);
    if caps.half && !selection.dispatches.iter().all(knows) {
        return Err(Error::unsupported(format!("{} in f16", step.kernel.name())).help("compute in f32"));
    }
    Ok(selection)
}

/// What to do about a layer that a GPU does not take.
const ON_CPU: &str = "such a model runs on the CPU: `--device cpu`";

/// llvmpipe ends all loops of a shader after so many rounds, without a word.
const MOST_ROUNDS: usize = 65_535;

/// More than the rounds in which a thread stores what it computed.
const STORES: usize = 160;

/// At least the rounds that a thread's loops take, where they depend on sizes. A loop inside another costs two more each
/// time: its last look at its condition, and the round of the outer one.
fn rounds(kernel: &Kernel, selection: &Selection) -> usize {
    let is_reduction = selection.dispatches.iter().any(|dispatch| dispatch.shader.name == "reduce");
    let nested = |[height, width]: [usize; 2], inner: usize| height * (width * inner + 2) + STORES;
    match kernel {
        // A workgroup has 256 threads, and looks at an element three times at most.
        &Kernel::Reduce { len, .. } | &Kernel::Softmax { len, .. } | &Kernel::LayerNorm { len, .. } => {
            len.div_ceil(256) * 3
        }
        Kernel::Conv2d(conv) => nested(conv.kernel, (conv.c_in / conv.groups).div_ceil(4) + 2),
        Kernel::Linear(linear) if linear.rows <= linear::VEC_ROWS => linear.k.div_ceil(4 * 32) + STORES,
        Kernel::Linear(linear) => linear.k.div_ceil(4) + STORES,
        Kernel::Matmul(matmul) => matmul.k.div_ceil(16),
        Kernel::Pool2d(pool) if !is_reduction => nested(pool.kernel, 1),
        Kernel::AdaptivePool2d(pool) if !is_reduction => {
            let side = |d: usize| pool.input[d].div_ceil(pool.output[d].max(1)) + 1;
            nested([side(0), side(1)], 1)
        }
        // The scores of 64 keys, their softmax, and the sum over their values.
        Kernel::Attention(attention) => attention.kv_len.div_ceil(64) * (attention.head_dim.div_ceil(4) + 125),
        _ => 0,
    }
}

fn select_kernel(cx: &Context<'_>) -> Result<Selection> {
    match &cx.step.kernel {
        Kernel::Conv2d(conv) => conv2d::select(cx, conv),
        Kernel::Linear(linear) => linear::select(cx, linear),
        Kernel::Matmul(matmul) => matmul::select(cx, matmul),
        Kernel::Pointwise(pointwise) => pointwise::select(cx, pointwise),
        Kernel::Pool2d(pool) => pool::select(cx, pool),
        Kernel::AdaptivePool2d(pool) => pool::select_adaptive(cx, pool),
        &Kernel::Reduce { kind, outer, len, inner } => rows::reduce(cx, kind, [outer, len, inner]),
        &Kernel::Softmax { outer, len, inner, log } => rows::softmax(cx, log, [outer, len, inner]),
        &Kernel::Cumsum { outer, len, inner } => rows::cumsum(cx, [outer, len, inner]),
        &Kernel::LayerNorm { rows, len, eps, affine } => rows::layer_norm(cx, [rows, len], eps, affine),
        Kernel::Attention(attention) => attention::select(cx, attention),
        &Kernel::Embedding { outer, count, rows, dim } => embedding::select(cx, outer, count, rows, dim),
        Kernel::Pad { shape, pads, mode } => pad::select(cx, shape, pads, *mode),
    }
}

/// A step and where it is to run.
#[derive(Clone, Copy)]
struct Context<'a> {
    step: &'a Step,
    buffers: &'a [Buffer],
    caps: &'a Caps,
}

impl Context<'_> {
    fn input(&self, i: usize) -> Arg {
        self.step.inputs[i]
    }

    fn output(&self) -> Arg {
        self.step.output
    }

    fn is_int(&self, arg: Arg) -> bool {
        self.buffers[arg.buffer.0].is_int
    }

    /// The workgroups of so many threads that fill the device.
    fn enough_groups(&self, threads: usize) -> usize {
        self.caps.enough_groups * 256 / threads
    }

    /// Whether a buffer fits into one binding.
    fn fits(&self, arg: Arg) -> bool {
        self.buffers[arg.buffer.0].len as u64 * 4 <= self.caps.max_binding
    }

    /// Threads in a grid that is folded into two dimensions when one is too short: the threads of a row, the grid.
    fn fold(&self, threads: usize, per_group: usize) -> Result<(usize, [u32; 3])> {
        let (row, grid) = self.fold_groups(threads.div_ceil(per_group))?;
        Ok((row * per_group, grid))
    }

    /// The same for workgroups: the workgroups of a row, the grid.
    fn fold_groups(&self, groups: usize) -> Result<(usize, [u32; 3])> {
        let most = self.caps.max_groups as usize;
        let rows = groups.div_ceil(most).max(1);
        let row = groups.div_ceil(rows);
        if rows > most {
            let text = format!("{groups} workgroups, the device has at most {most} along each of two dimensions");
            return Err(Error::unsupported(text).help(ON_CPU));
        }
        Ok((row, [word(row)?, word(rows)?, 1]))
    }

    /// What a weight's rows need: the weight as it is when the shader can read it so, else packs of as many rows as fit
    /// into a binding. Gives the rows and the binding of each part; packs are added to `packs`.
    fn weight_parts(&self, rows: &WeightRows<'_>, packs: &mut Vec<Pack>) -> Result<Vec<(Range<usize>, Binding)>> {
        let weight = self.input(1);
        let as_is = rows.as_is && (self.caps.half || !rows.half);
        if as_is && rows.scale.is_none() && self.fits(weight) {
            return Ok(vec![(0..rows.shape[0], Binding::Read(weight.buffer))]);
        }
        if matches!(self.buffers[weight.buffer.0].memory, Memory::Arena { .. }) || weight.offset != 0 {
            return Err(Error::unsupported("a weight that is computed from the inputs").help(ON_CPU));
        }
        let bytes = (rows.unit * rows.row_len * 4) as u64;
        let most = (self.caps.max_binding / bytes.max(1)) as usize;
        if most == 0 {
            let text = format!(
                "{} rows of a weight that belong together take {bytes} bytes, the device binds at most {}",
                rows.unit, self.caps.max_binding
            );
            return Err(Error::unsupported(text).help(ON_CPU));
        }
        Ok(ranges(rows.shape[0] / rows.unit, most)
            .map(|units| {
                let channels = units.start * rows.unit..units.end * rows.unit;
                packs.push(Pack {
                    weight: weight.buffer,
                    scale: rows.scale.map(|scale| scale.buffer),
                    shape: rows.shape.to_vec(),
                    channel_dim: 0,
                    channels: channels.clone(),
                    order: rows.order.to_vec(),
                    multiple: 4,
                    winograd: false,
                    half: self.caps.half || rows.half,
                });
                (channels, Binding::Packed(packs.len() - 1))
            })
            .collect())
    }
}

/// A weight that kernels read by output channel.
struct WeightRows<'a> {
    shape: &'a [usize],
    /// The packed order of the dimensions; the first stays.
    order: &'a [usize],
    /// The elements of a packed row.
    row_len: usize,
    scale: Option<Arg>,
    /// Whether the file's order is the packed one.
    as_is: bool,
    /// The rows that no cut may part.
    unit: usize,
    /// Whether the kernel takes them as f16 in any case.
    half: bool,
}

/// One dispatch in the making.
struct Call {
    shader: Shader,
    constants: Vec<(&'static str, f64)>,
    immediates: Vec<u32>,
    bindings: Vec<Binding>,
}

impl Call {
    fn new(name: &'static str, source: &'static str) -> Self {
        let shader = Shader { name, source: Cow::Borrowed(source) };
        Self { shader, constants: Vec::new(), immediates: Vec::new(), bindings: Vec::new() }
    }

    /// Gives the alias `name` of the shader another type.
    fn alias(mut self, name: &str, ty: &str) -> Self {
        let start = format!("alias {name} = ");
        let at = self.shader.source.find(&start).expect("the shader has the alias") + start.len();
        let end = at + self.shader.source[at..].find(';').expect("an alias ends");
        if &self.shader.source[at..end] != ty {
            self.shader.source.to_mut().replace_range(at..end, ty);
        }
        self
    }

    /// Gives the alias `name` the type `ty` of f16 where buffers hold that.
    fn half(self, cx: &Context<'_>, name: &str, ty: &str) -> Self {
        if cx.caps.half { self.with_f16().alias(name, ty) } else { self }
    }

    /// Lets the shader use f16.
    fn with_f16(mut self) -> Self {
        self.shader.source.to_mut().insert_str(0, "enable f16;\n");
        self
    }

    /// Gives the alias `E`, what buffers hold, as many lanes.
    fn lanes(self, cx: &Context<'_>, lanes: usize) -> Self {
        let (single, half) = if lanes == 4 { ("vec4<f32>", "vec4<f16>") } else { ("f32", "f16") };
        self.alias("T", single).alias("E", single).half(cx, "E", half)
    }

    /// Gives the alias `Bits`, the bits of `T`, as many lanes.
    fn bits(self, lanes: usize) -> Self {
        self.alias("Bits", if lanes == 4 { "vec4<u32>" } else { "u32" })
    }

    /// Sets an `override`.
    fn set(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// The words of the shader's parameters.
    fn params(mut self, words: &[usize]) -> Result<Self> {
        for &value in words {
            self.immediates.push(word(value)?);
        }
        Ok(self)
    }

    fn read(mut self, arg: Arg) -> Self {
        self.bindings.push(Binding::Read(arg.buffer));
        self
    }

    fn bind(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }

    fn write(mut self, arg: Arg) -> Self {
        self.bindings.push(Binding::Write(arg.buffer));
        self
    }

    fn dispatch(self, grid: [u32; 3]) -> Dispatch {
        Dispatch {
            shader: self.shader,
            constants: self.constants,
            immediates: self.immediates,
            bindings: self.bindings,
            grid,
        }
    }
}

/// What a fused layer adds: its bias and residual.
struct Extras {
    fused: Fused,
    bias: Option<Arg>,
    residual: Option<Arg>,
}

impl Extras {
    fn new(cx: &Context<'_>, fused: Fused) -> Self {
        let input = |i: Option<usize>| i.map(|i| cx.input(i));
        Self { fused, bias: input(fused.bias_index()), residual: input(fused.residual_index()) }
    }

    fn bias_at(&self) -> usize {
        self.bias.map_or(0, |bias| bias.offset)
    }

    fn residual_at(&self) -> usize {
        self.residual.map_or(0, |residual| residual.offset)
    }

    /// What the shader's epilogue does, as its last parameters.
    fn append(&self, mut call: Call) -> Call {
        let (kind, a, b) = self.fused.activation.map_or((0, 0.0, 0.0), unary::code);
        let order = match self.fused.residual {
            Residual::None => 0,
            Residual::BeforeActivation => 1,
            Residual::AfterActivation => 2,
        };
        call.immediates.extend([kind, a.to_bits(), b.to_bits(), u32::from(self.bias.is_some()), order]);
        call
    }

    /// Binds the bias and the residual; what is missing has the binding of something that is there and that the shader
    /// does not look at.
    fn bind(&self, call: Call, spare: Binding) -> Call {
        call.bind(self.bias.map_or(spare, |bias| Binding::Read(bias.buffer)))
            .bind(self.residual.map_or(spare, |residual| Binding::Read(residual.buffer)))
    }
}

/// The selection of one dispatch, or of none when nothing is to be computed.
fn one(count: usize, make: impl FnOnce() -> Result<Dispatch>) -> Result<Selection> {
    let dispatches = if count == 0 { Vec::new() } else { vec![make()?] };
    Ok(Selection { dispatches, ..Selection::default() })
}

/// Replaces the line of a shader that ends with `mark`.
fn replace_line(source: &mut String, mark: &str, text: &str) {
    let at = source.find(mark).expect("the shader has the mark");
    let start = source[..at].rfind('\n').map_or(0, |line| line + 1);
    let end = at + source[at..].find('\n').expect("the line ends") + 1;
    source.replace_range(start..end, text);
}

/// Whether all numbers are multiples of 4, so that elements can be read four at a time.
fn quads(numbers: &[usize]) -> bool {
    numbers.iter().all(|n| n % 4 == 0)
}

/// The threads of a workgroup that reduces a row of `len`.
fn row_threads(len: usize) -> u32 {
    if len > 512 { 256 } else { 64 }
}

fn word(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| too_large(value))
}

fn too_large(value: usize) -> Error {
    Error::unsupported(format!("a size or a place of {value} elements, a GPU counts to {}", u32::MAX)).help(ON_CPU)
}
