//! Pointwise programs and copies: blocks of elements go through the program one instruction at a time, in buffers that
//! stay in the first cache.

use std::mem::MaybeUninit;

use super::Engine;
use super::copy::{self, Place};
use super::program::{Compiled, Operand, Values};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::graph::step::PointwiseStep;

/// The elements of a block of a program, unless it needs so many buffers that they do not fit.
const BLOCK: usize = 1024;
/// The elements of all buffers of a task.
const SCRATCH: usize = 16 * BLOCK;
/// The elements of a block of a copy.
const COPY_BLOCK: usize = 16 * BLOCK;
/// The elements that are worth a task of their own.
const TASK: usize = 8 * BLOCK;
/// The most inputs that a program may have.
const MAX_INPUTS: usize = 8;

/// A pointwise step, ready to run.
#[derive(Debug)]
pub(crate) struct Pointwise {
    /// Outermost first; the last two are rows and columns.
    dims: Vec<Dim>,
    /// The largest block: so many rows and columns.
    block: [usize; 2],
    program: Compiled,
    inputs: usize,
}

/// One dimension.
#[derive(Clone, Debug)]
struct Dim {
    size: usize,
    /// The strides of the inputs, then that of the output.
    strides: Vec<usize>,
}

/// Where a block lies and how large it is.
struct Block {
    inputs: [Place; MAX_INPUTS],
    out: Place,
    size: [usize; 2],
}

impl Pointwise {
    /// # Errors
    /// When the program has more inputs than the graph's passes ever give it.
    pub(crate) fn new(step: &PointwiseStep) -> Result<Self> {
        let inputs = step.strides.len();
        if inputs > MAX_INPUTS {
            return Err(Error::unsupported(format!(
                "a pointwise program has {inputs} inputs, at most {MAX_INPUTS} run"
            )));
        }
        let mut dims: Vec<Dim> = (0..step.shape.len())
            .map(|d| Dim {
                size: step.shape[d],
                strides: step.strides.iter().chain([&step.out_strides]).map(|strides| strides[d]).collect(),
            })
            .filter(|dim| dim.size != 1)
            .collect();
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.strides[inputs]));
        merge(&mut dims);
        let program = Compiled::new(&step.program);
        let copies = matches!(program.result, Operand::Input(_));
        if copies {
            // Transpositions: the dimension along which the input is contiguous gives the rows.
            let last = dims.len().saturating_sub(1);
            if let Some(d) = dims[..last].iter().position(|dim| dim.strides[0] == 1)
                && dims[last].strides[0] > 1
            {
                let dim = dims.remove(d);
                dims.insert(last - 1, dim);
            }
        }
        while dims.len() < 2 {
            dims.insert(0, Dim { size: 1, strides: vec![0; inputs + 1] });
        }
        let columns = dims[dims.len() - 1].size;
        let most = match copies {
            true => COPY_BLOCK,
            false => (SCRATCH / (program.buffers + inputs + 2)).clamp(1, BLOCK),
        };
        let columns = columns.clamp(1, most);
        let rows = (most / columns).clamp(1, dims[dims.len() - 2].size.max(1));
        Ok(Self { dims, block: [rows, columns], program, inputs })
    }

    pub(crate) fn run(&self, engine: &Engine, inputs: &[&[f32]], out: &mut [f32]) {
        debug_assert_eq!(inputs.len(), self.inputs);
        let elements: usize = self.dims.iter().map(|dim| dim.size).product();
        if elements == 0 {
            return;
        }
        let out = Shared::new(bytemuck::cast_slice_mut::<f32, u32>(out));
        let blocks = self.blocks();
        let tasks = (elements / TASK).clamp(1, engine.pool.threads() * 4).min(blocks);
        engine.pool.run(tasks, |task| {
            let mut scratch = [MaybeUninit::<f32>::uninit(); SCRATCH];
            let scratch = zeroed(&mut scratch[..self.scratch()]);
            for index in task * blocks / tasks..(task + 1) * blocks / tasks {
                // SAFETY: the blocks are disjoint, since no two elements of the output share a place.
                unsafe { self.run_block(engine, inputs, out, &self.block_at(index), scratch) };
            }
        });
    }

    /// The elements of scratch memory that a task takes: the program's buffers and one for each input.
    fn scratch(&self) -> usize {
        match self.program.operations.is_empty() {
            true => 0,
            false => (self.program.buffers + self.inputs) * self.block[0] * self.block[1],
        }
    }

    /// The dimensions but the last two.
    fn outer(&self) -> &[Dim] {
        &self.dims[..self.dims.len() - 2]
    }

    /// The last two dimensions.
    fn inner(&self) -> [&Dim; 2] {
        let count = self.dims.len();
        [&self.dims[count - 2], &self.dims[count - 1]]
    }

    /// The number of blocks.
    fn blocks(&self) -> usize {
        let inner: usize =
            self.inner().into_iter().zip(self.block).map(|(dim, block)| dim.size.div_ceil(block)).product();
        self.outer().iter().map(|dim| dim.size).product::<usize>() * inner
    }

    fn block_at(&self, mut index: usize) -> Block {
        let [rows, columns] = self.inner();
        let place = |x: usize| Place { start: 0, row: rows.strides[x], column: columns.strides[x] };
        let mut block = Block { inputs: [Place::default(); MAX_INPUTS], out: place(self.inputs), size: [0; 2] };
        for x in 0..self.inputs {
            block.inputs[x] = place(x);
        }
        let mut advance = |dim: &Dim, by: usize| {
            for x in 0..self.inputs {
                block.inputs[x].start += by * dim.strides[x];
            }
            block.out.start += by * dim.strides[self.inputs];
        };
        for (dim, d) in [(columns, 1), (rows, 0)] {
            let count = dim.size.div_ceil(self.block[d]);
            let from = index % count * self.block[d];
            index /= count;
            advance(dim, from);
            block.size[d] = self.block[d].min(dim.size - from);
        }
        for dim in self.outer().iter().rev() {
            advance(dim, index % dim.size);
            index /= dim.size;
        }
        block
    }

    /// # Safety
    /// Nobody else touches the block's elements of the output.
    unsafe fn run_block(
        &self,
        engine: &Engine,
        inputs: &[&[f32]],
        out: Shared<'_, u32>,
        block: &Block,
        scratch: &mut [f32],
    ) {
        let [rows, columns] = block.size;
        let len = rows * columns;
        let write = |x: &[f32], from: Place| {
            // SAFETY: as the caller promises.
            unsafe { copy::copy(bytemuck::cast_slice(x), from, out, block.out, block.size) }
        };
        match self.program.result {
            Operand::Input(x) => return write(inputs[x], block.inputs[x]),
            Operand::Number(number) => return write(&[number], Place::default()),
            Operand::Buffer(_) => {}
        }
        let step = self.block[0] * self.block[1];
        let (buffers, gathered) = scratch.split_at_mut(self.program.buffers * step);
        let mut values = [Values::Number(0.0); MAX_INPUTS];
        for ((x, gathered), values) in gathered.chunks_exact_mut(step).enumerate().zip(&mut values) {
            *values = gather(inputs[x], block.inputs[x], block.size, &mut gathered[..len]);
        }
        let buffers = Shared::new(buffers);
        let value = |operand| match operand {
            Operand::Input(x) => values[x],
            Operand::Number(number) => Values::Number(number),
            // SAFETY: an operation never writes a buffer that it reads.
            Operand::Buffer(b) => Values::Slice(unsafe { buffers.slice(b * step..b * step + len) }),
        };
        let direct = is_dense(block.out, block.size);
        let last = self.program.operations.len() - 1;
        for (i, operation) in self.program.operations.iter().enumerate() {
            if i == last && direct {
                // SAFETY: a dense block is one range, which is the caller's.
                let out = unsafe { out.slice(block.out.start..block.out.start + len) };
                return operation.function.compute(engine.isa, value, bytemuck::cast_slice_mut(out));
            }
            let target = operation.target * step;
            // SAFETY: as for the operands.
            operation.function.compute(engine.isa, value, unsafe { buffers.slice(target..target + len) });
        }
        if let Values::Slice(result) = value(self.program.result) {
            write(result, Place { start: 0, row: columns, column: 1 });
        }
    }
}

/// Merges neighbours that all operands walk through like one dimension.
fn merge(dims: &mut Vec<Dim>) {
    let mut d = 1;
    while d < dims.len() {
        let (outer, inner) = (&dims[d - 1], &dims[d]);
        if outer.strides.iter().zip(&inner.strides).all(|(outer, own)| *outer == own * inner.size) {
            let size = outer.size * inner.size;
            dims[d].size = size;
            dims.remove(d - 1);
        } else {
            d += 1;
        }
    }
}

/// Whether a block is one range of memory, row after row.
fn is_dense(place: Place, [rows, columns]: [usize; 2]) -> bool {
    (place.column == 1 || columns == 1) && (rows == 1 || place.row == columns)
}

/// An input's elements in a block: where they lie when that is one range, else copied to `gathered`.
fn gather<'a>(x: &'a [f32], place: Place, size: [usize; 2], gathered: &'a mut [f32]) -> Values<'a> {
    if (place.column == 0 || size[1] == 1) && (place.row == 0 || size[0] == 1) {
        return Values::Number(x[place.start]);
    }
    if is_dense(place, size) {
        return Values::Slice(&x[place.start..place.start + gathered.len()]);
    }
    let to = Place { start: 0, row: size[1], column: 1 };
    // SAFETY: the buffer is borrowed for this alone.
    unsafe { copy::copy(bytemuck::cast_slice(x), place, Shared::new(bytemuck::cast_slice_mut(gathered)), to, size) };
    Values::Slice(gathered)
}

fn zeroed(scratch: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    for x in scratch.iter_mut() {
        x.write(0.0);
    }
    let (start, len) = (scratch.as_mut_ptr().cast::<f32>(), scratch.len());
    // SAFETY: every element was written.
    unsafe { std::slice::from_raw_parts_mut(start, len) }
}
