//! Reference cases: kernels with odd shapes and random data, which every backend must answer like [`naive`](super::naive).

use std::sync::Arc;

use super::naive;
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::graph::op::{Parameter, Program};
use crate::graph::step::{Arg, Buffer, BufferId, Kernel, Memory, PointwiseStep, Port, Schedule, Step};
use crate::shape::Shape;
use crate::tensor::Tensor;

mod image;
mod matrix;
mod point;
mod rows;

#[cfg(feature = "gpu")]
pub(super) use matrix::{drawn, large, square_conv2d};
pub(super) use point::every_unary;
#[cfg(feature = "gpu")]
pub(super) use rows::{attention_step, long, many_heads};

/// One kernel, its arguments, and how exact its answer must be.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Value>,
    /// The elements of the output buffer, and where the argument starts in it.
    pub(crate) output: usize,
    pub(crate) output_offset: usize,
    /// The allowed error, times `max(1, |expected|)`.
    pub(crate) tolerance: f64,
}

/// An argument's buffer.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) data: Data,
    /// Where the argument starts in the buffer.
    pub(crate) offset: usize,
    /// How the file stores it when it is a parameter; an input of the plan when `None`.
    pub(crate) stored: Option<Stored>,
}

/// A buffer's elements.
#[derive(Clone)]
pub(crate) enum Data {
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// A parameter's shape and its storage in the file.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    /// Whether its dimensions lie in memory in reverse, after three other elements.
    pub(crate) strided: bool,
}

/// The cases of every kernel.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = matrix::cases();
    cases.extend(image::cases());
    cases.extend(point::cases());
    cases.extend(rows::cases());
    cases
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::F32(x) => x.len(),
            Data::I32(x) => x.len(),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Data::I32(_))
    }

    fn to_f64(&self) -> Vec<f64> {
        match self {
            Data::F32(x) => x.iter().map(|&x| x.into()).collect(),
            Data::I32(x) => x.iter().map(|&x| x.into()).collect(),
        }
    }

    /// Integers are `int64` in PyTorch's programs.
    fn tensor(&self) -> Tensor {
        match self {
            Data::F32(x) => Tensor::new([x.len()], x),
            Data::I32(x) => Tensor::new([x.len()], x.iter().map(|&x| i64::from(x)).collect::<Vec<_>>()),
        }
        .expect("one dimension fits")
    }
}

impl From<Vec<f32>> for Value {
    /// An input of the plan.
    fn from(data: Vec<f32>) -> Self {
        Self { data: Data::F32(data), offset: 0, stored: None }
    }
}

impl Value {
    /// A contiguous `f32` parameter of the file.
    fn parameter(shape: &[usize], data: Vec<f32>) -> Self {
        let stored = Stored { shape: shape.to_vec(), dtype: DType::F32, strided: false };
        Self { data: Data::F32(data), offset: 0, stored: Some(stored) }
    }

    /// The same parameter, stored otherwise.
    fn stored_as(mut self, dtype: DType, strided: bool) -> Self {
        let stored = self.stored.as_mut().expect("a parameter");
        (stored.dtype, stored.strided) = (dtype, strided);
        self
    }
}

impl Stored {
    fn tensor(&self, data: &Data) -> StoredTensor {
        let Data::F32(data) = data else { panic!("parameters are floats") };
        let shape = Shape::from(self.shape.clone());
        let (mut stride, mut elements, mut offset) = (shape.contiguous_strides(), data.clone(), 0);
        if self.strided {
            let rank = shape.len();
            let reversed: Shape = self.shape.iter().rev().copied().collect();
            stride = reversed.contiguous_strides().into_iter().rev().collect();
            offset = 3;
            elements = vec![f32::NAN; offset + data.len()];
            for (i, &x) in data.iter().enumerate() {
                let mut rest = i;
                let mut at = offset;
                for dim in (0..rank).rev() {
                    at += rest % shape[dim] * stride[dim];
                    rest /= shape[dim];
                }
                elements[at] = x;
            }
        }
        let bytes: Vec<u8> = match self.dtype {
            DType::F32 => elements.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::F64 => elements.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
            DType::F16 => elements.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            DType::BF16 => elements.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            other => panic!("{other} parameters have no case"),
        };
        StoredTensor::new(Storage::owned(bytes, "cpu"), self.dtype, shape, stride, offset).expect("it fits")
    }
}

impl Case {
    fn new(name: impl Into<String>, kernel: Kernel, inputs: Vec<Value>, output: usize, tolerance: f64) -> Self {
        Self { name: name.into(), kernel, inputs, output, output_offset: 0, tolerance }
    }

    fn is_int(&self) -> bool {
        matches!(&self.kernel, Kernel::Pointwise(step) if step.is_int)
    }

    /// What the output buffer holds before, where the kernel does not write all of it.
    fn initial(&self) -> Option<Data> {
        let Kernel::Pointwise(step) = &self.kernel else { return None };
        (step.shape.iter().product::<usize>() != self.output).then(|| match step.is_int {
            true => Data::I32((0..self.output).map(|i| -(i as i32)).collect()),
            false => Data::F32((0..self.output).map(|i| -(i as f32)).collect()),
        })
    }

    /// What the output buffer must hold.
    pub(crate) fn expected(&self) -> Vec<f64> {
        let inputs: Vec<Vec<f64>> = self.inputs.iter().map(|v| v.data.to_f64()[v.offset..].to_vec()).collect();
        let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        let mut out = self.initial().map_or_else(|| vec![0.0; self.output], |initial| initial.to_f64());
        naive::run(&self.kernel, &inputs, &mut out[self.output_offset..]);
        out
    }

    /// The inputs of [`schedule`](Self::schedule)'s plan, in order.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let inputs = self.inputs.iter().filter(|v| v.stored.is_none()).map(|v| v.data.tensor());
        inputs.chain(self.initial().map(|data| data.tensor())).collect()
    }

    /// A schedule that runs the kernel and gives its output buffer: inputs in arena 0, the output in arena 1, and a
    /// copy of the initial contents first where the kernel leaves gaps.
    pub(crate) fn schedule(&self) -> Schedule {
        let mut schedule = Schedule {
            buffers: Vec::new(),
            prologue: Vec::new(),
            steps: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            arenas: vec![0, 0],
        };
        let arena = |schedule: &mut Schedule, arena: usize, len: usize, is_int: bool| {
            let offset = schedule.arenas[arena];
            schedule.arenas[arena] += (len * 4).next_multiple_of(256);
            schedule.buffers.push(Buffer { len, is_int, memory: Memory::Arena { arena, offset } });
            BufferId(schedule.buffers.len() - 1)
        };
        let port = |buffer: BufferId, len: usize, is_int: bool| Port {
            buffer,
            shape: [len].into(),
            dtype: if is_int { DType::I64 } else { DType::F32 },
        };
        let mut args = Vec::new();
        for (i, value) in self.inputs.iter().enumerate() {
            let (len, is_int) = (value.data.len(), value.data.is_int());
            let buffer = match &value.stored {
                None => {
                    let buffer = arena(&mut schedule, 0, len, is_int);
                    schedule.inputs.push(port(buffer, len, is_int));
                    buffer
                }
                Some(stored) => {
                    let parameter =
                        Parameter { name: Arc::from(format!("parameter.{i}")), tensor: stored.tensor(&value.data) };
                    schedule.buffers.push(Buffer { len, is_int, memory: Memory::Parameter(parameter) });
                    BufferId(schedule.buffers.len() - 1)
                }
            };
            args.push(Arg { buffer, offset: value.offset });
        }
        let output = arena(&mut schedule, 1, self.output, self.is_int());
        if let Some(initial) = self.initial() {
            let buffer = arena(&mut schedule, 0, initial.len(), initial.is_int());
            schedule.inputs.push(port(buffer, initial.len(), initial.is_int()));
            let copy = PointwiseStep {
                shape: vec![initial.len()],
                strides: vec![vec![1]],
                out_strides: vec![1],
                program: Program::copy(),
                is_int: initial.is_int(),
            };
            schedule.steps.push(Step {
                name: "initial".into(),
                kernel: Kernel::Pointwise(copy),
                inputs: vec![Arg { buffer, offset: 0 }],
                output: Arg { buffer: output, offset: 0 },
            });
        }
        schedule.steps.push(Step {
            name: self.name.clone(),
            kernel: self.kernel.clone(),
            inputs: args,
            output: Arg { buffer: output, offset: self.output_offset },
        });
        schedule.outputs.push(port(output, self.output, self.is_int()));
        schedule
    }

    /// Compares an answer with [`expected`](Self::expected); says where they differ first.
    pub(crate) fn check(&self, got: &Tensor) -> Result<(), String> {
        let want = self.expected();
        let got: Vec<f64> = match got.dtype() {
            DType::I64 => got.to_i64().map(|x| x.into_iter().map(|x| x as f64).collect()),
            _ => got.to_f32().map(|x| x.into_iter().map(f64::from).collect()),
        }
        .map_err(|error| format!("{}: {error}", self.name))?;
        if got.len() != want.len() {
            return Err(format!("{}: {} elements, expected {}", self.name, got.len(), want.len()));
        }
        let wrong = |(got, want): (f64, f64)| {
            let close = want.is_finite() && (got - want).abs() <= self.tolerance * want.abs().max(1.0);
            !(close || got == want || (got.is_nan() && want.is_nan()))
        };
        match (0..want.len()).find(|&i| wrong((got[i], want[i]))) {
            None => Ok(()),
            Some(i) => {
                let count = (0..want.len()).filter(|&i| wrong((got[i], want[i]))).count();
                Err(format!(
                    "{}: element {i} is {}, expected {} ({count} of {} are wrong)",
                    self.name,
                    got[i],
                    want[i],
                    want.len()
                ))
            }
        }
    }
}

/// Seeded random numbers (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Other numbers for other names.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in `-scale .. scale`.
    pub(crate) fn floats(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale).collect()
    }

    /// Multiples of 1/128 in `-1 ..= 1`: exact in every float dtype.
    pub(crate) fn exact(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.below(257) as f32 - 128.0) / 128.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names tell cases apart in a failure, and a wrong answer fails.
    #[test]
    fn cases_are_sound() {
        let cases = all();
        let mut names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names.windows(2).find(|pair| pair[0] == pair[1]), None);
        for case in &cases {
            let mut answer = case.expected();
            let tensor = |x: &[f64]| match case.is_int() {
                true => Tensor::new([x.len()], x.iter().map(|&x| x as i64).collect::<Vec<_>>()),
                false => Tensor::new([x.len()], x.iter().map(|&x| x as f32).collect::<Vec<_>>()),
            };
            let tensor = |x: &[f64]| tensor(x).unwrap();
            case.check(&tensor(&answer)).unwrap();
            if let Some(last) = answer.last_mut().filter(|x| x.is_finite()) {
                *last += last.abs() + 1.0;
                assert!(case.check(&tensor(&answer)).is_err(), "{}", case.name);
            }
        }
    }
}
