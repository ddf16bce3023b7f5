//! Weights reach the device as the kernels want them, whatever the file holds.

use std::sync::{Arc, Mutex};

use super::{on_every_gpu, read_words};
use crate::backend::cases::Random;
use crate::backend::gpu::dispatch::Pack;
use crate::backend::gpu::upload::{CHUNKS, Uploader};
use crate::backend::gpu::weights::Weights;
use crate::checkpoint::{Storage, StoredTensor};
use crate::device::gpu::{Gpu, GpuOptions};
use crate::dtype::{DType, Precision};
use crate::graph::op::Parameter;
use crate::graph::step::{Buffer, BufferId, Memory};
use crate::shape::Shape;
use crate::tensor::bytes_to_f32;

const DTYPES: [DType; 10] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U8,
    DType::Bool,
];

/// Random bits of a dtype: all kinds of numbers, also subnormal ones, infinities and NaN.
fn random_bytes(dtype: DType, count: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..count * dtype.size()).map(|_| random.next() as u8).collect();
    match dtype {
        DType::Bool => bytes.iter_mut().for_each(|byte| *byte &= 1),
        // Exponents near those of f32, so that rounding, overflow and underflow all happen.
        DType::F64 => {
            for (i, x) in bytes.chunks_exact_mut(8).enumerate() {
                let exponent = 1023 - 160 + random.below(320) as u64;
                let bits = u64::from_le_bytes(x.try_into().unwrap()) & 0x800f_ffff_ffff_ffff | exponent << 52;
                // Every third is halfway between two floats.
                let bits = if i % 3 == 0 { bits & !0x1fff_ffff | 0x1000_0000 } else { bits };
                x.copy_from_slice(&bits.to_le_bytes());
            }
        }
        DType::I64 => {
            for x in bytes.chunks_exact_mut(8) {
                let value = i64::from_le_bytes(x.try_into().unwrap()) >> random.below(63);
                x.copy_from_slice(&value.to_le_bytes());
            }
        }
        _ => {}
    }
    bytes
}

pub(super) fn parameter(tensor: StoredTensor, is_int: bool) -> Buffer {
    let len = tensor.shape().numel();
    Buffer { len, is_int, memory: Memory::Parameter(Parameter { name: Arc::from("weight"), tensor }) }
}

/// A tensor whose dimension `i` has the `order[i]`-th largest stride, `gap` elements after each innermost row.
fn strided(dtype: DType, shape: &[usize], order: &[usize], gap: usize, random: &mut Random) -> StoredTensor {
    let mut stride = vec![0; shape.len()];
    let (mut step, offset) = (1, 5);
    for place in (0..shape.len()).rev() {
        let dim = order.iter().position(|&o| o == place).unwrap();
        stride[dim] = step;
        step = step * shape[dim] + if place == shape.len() - 1 { gap } else { 0 };
    }
    let bytes = random_bytes(dtype, step + offset, random);
    StoredTensor::new(Storage::owned(bytes, "cpu"), dtype, shape, stride, offset).unwrap()
}

fn expected(tensor: &StoredTensor, is_int: bool) -> Vec<u32> {
    let bytes = tensor.contiguous_bytes().unwrap();
    if is_int {
        let tensor = crate::Tensor::from_stored(tensor).unwrap();
        let clamp = |x: i64| x.clamp(i32::MIN.into(), i32::MAX.into()) as i32 as u32;
        return tensor.to_i64().unwrap().into_iter().map(clamp).collect();
    }
    bytes_to_f32(tensor.dtype(), &bytes).unwrap().into_iter().map(f32::to_bits).collect()
}

/// The packed elements, by the words of [`Pack`]'s documentation.
fn expected_pack(words: &[u32], scale: Option<&[f32]>, pack: &Pack) -> Vec<u32> {
    let packed = pack.packed_shape();
    let strides = Shape::from(pack.shape.clone()).contiguous_strides();
    let mut out = vec![0; packed.iter().product()];
    for (i, out) in out.iter_mut().enumerate() {
        let mut rest = i;
        let (mut at, mut inside, mut channel) = (0, true, 0);
        for (place, &dim) in pack.order.iter().enumerate().rev() {
            let mut index = rest % packed[place];
            rest /= packed[place];
            if dim == pack.channel_dim {
                inside &= index < pack.channels.len();
                index += pack.channels.start;
                channel = index;
            }
            inside &= index < pack.shape[dim];
            at += index * strides[dim];
        }
        if inside {
            *out = words[at];
            if let Some(scale) = scale {
                *out = (f32::from_bits(*out) * scale[channel]).to_bits();
            }
        }
    }
    out
}

fn same(got: &[u32], want: &[u32], is_int: bool, what: &str) {
    let equal =
        |got: u32, want: u32| got == want || (!is_int && f32::from_bits(got).is_nan() && f32::from_bits(want).is_nan());
    let wrong = got.iter().zip(want).position(|(&got, &want)| !equal(got, want));
    if let Some(i) = wrong {
        panic!("{what}: element {i} is {:#x}, expected {:#x}", got[i], want[i]);
    }
    assert!(got.len() >= want.len(), "{what}");
}

/// Runs a test on every adapter, with weights packed by the host, by shaders that read the host's chunks, and by shaders
/// that read copies of these, as on cards with memory of their own.
fn on_every_path(options: GpuOptions, test: impl Fn(&Arc<Gpu>)) {
    for (host_packing, host_memory) in [(true, true), (false, true), (false, false)] {
        on_every_gpu(GpuOptions { host_packing: Some(host_packing), host_memory, ..options }, |gpu| {
            assert!(host_memory || !gpu.has_host_memory());
            test(gpu);
        });
    }
}

fn plain(gpu: &Arc<Gpu>, buffer: &Buffer) -> Vec<u32> {
    let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
    let made = weights.plain(&mut up, buffer).unwrap();
    up.finish().unwrap();
    read_words(gpu, &made)
}

#[test]
fn every_dtype_becomes_words() {
    // Chunks are smaller than the tensors.
    let options = GpuOptions { staging_bytes: Some(4096), ..GpuOptions::default() };
    on_every_path(options, |gpu| {
        let mut random = Random::new("every dtype");
        for dtype in DTYPES {
            for is_int in [false, true] {
                if is_int && dtype.is_float() {
                    continue;
                }
                for tensor in [
                    strided(dtype, &[1297], &[0], 0, &mut random),
                    strided(dtype, &[3, 1031], &[0, 1], 0, &mut random),
                    strided(dtype, &[37, 53], &[1, 0], 0, &mut random),
                    strided(dtype, &[5, 11, 3, 7], &[0, 3, 1, 2], 2, &mut random),
                    strided(dtype, &[], &[], 0, &mut random),
                    strided(dtype, &[2, 3, 2, 3, 2, 3, 2], &[6, 1, 4, 3, 2, 5, 0], 0, &mut random),
                ] {
                    let what = format!("{tensor:?} int {is_int}");
                    let want = expected(&tensor, is_int);
                    same(&plain(gpu, &parameter(tensor, is_int)), &want, is_int, &what);
                }
            }
        }
    });
}

#[test]
fn views_that_repeat_or_lie_apart() {
    on_every_path(GpuOptions { staging_bytes: Some(4096), ..GpuOptions::default() }, |gpu| {
        let mut random = Random::new("views");
        let storage = Storage::owned(random_bytes(DType::F32, 70_000, &mut random), "cpu");
        let view = |shape: &[usize], stride: &[usize], offset| {
            StoredTensor::new(Arc::clone(&storage), DType::F32, shape, stride.to_vec(), offset).unwrap()
        };
        for tensor in [
            view(&[7, 300], &[0, 1], 3),
            view(&[300, 7], &[1, 0], 3),
            view(&[40, 40], &[1, 1], 0),
            view(&[69], &[1000], 1),
            view(&[3000], &[20], 9),
            view(&[0, 4], &[4, 1], 70_000),
            view(&[5], &[1], 0).with_bits(false, true),
        ] {
            let (what, want) = (format!("{tensor:?}"), expected(&tensor, false));
            same(&plain(gpu, &parameter(tensor, false)), &want, false, &what);
        }
    });
}

#[test]
fn packs_cut_order_scale_and_pad() {
    let options = GpuOptions { staging_bytes: Some(4096), binding_bytes: Some(64 << 10), ..GpuOptions::default() };
    on_every_path(options, |gpu| {
        let mut random = Random::new("packs");
        let pack = |scale: bool, shape: &[usize], channel_dim, channels, order: &[usize], multiple| Pack {
            weight: BufferId(0),
            scale: scale.then_some(BufferId(1)),
            shape: shape.to_vec(),
            channel_dim,
            channels,
            order: order.to_vec(),
            multiple,
            winograd: false,
            half: false,
        };
        for (tensor, pack) in [
            // conv2d: [c_out, c_in, kh, kw] to [kh, kw, c_in, c_out], padded.
            (strided(DType::F32, &[18, 7, 3, 3], &[0, 1, 2, 3], 0, &mut random), {
                pack(true, &[18, 7, 3, 3], 0, 0..18, &[2, 3, 1, 0], 8)
            }),
            (strided(DType::F16, &[18, 7, 3, 3], &[0, 1, 2, 3], 0, &mut random), {
                pack(true, &[2, 9, 7, 3, 3], 1, 4..9, &[0, 3, 4, 2, 1], 4)
            }),
            (strided(DType::F16, &[18, 7, 3, 3], &[0, 3, 1, 2], 0, &mut random), {
                pack(false, &[18, 7, 9], 0, 3..17, &[0, 2, 1], 4)
            }),
            // linear: a part of the rows of a weight that is larger than a binding.
            (strided(DType::F32, &[300, 130], &[0, 1], 0, &mut random), {
                pack(false, &[300, 130], 0, 200..300, &[0, 1], 1)
            }),
            (strided(DType::BF16, &[300, 130], &[1, 0], 0, &mut random), {
                pack(true, &[300, 130], 0, 64..128, &[1, 0], 64)
            }),
            (strided(DType::F64, &[33], &[0], 0, &mut random), pack(true, &[33], 0, 1..33, &[0], 16)),
        ] {
            let what = format!("{tensor:?} {pack:?}");
            let words = expected(&tensor, false);
            let scale = StoredTensor::from_bytes(DType::F16, [400], {
                random.exact(400).iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>()
            });
            let scale = scale.unwrap();
            let scales = bytes_to_f32(DType::F16, &scale.contiguous_bytes().unwrap()).unwrap();
            let want = expected_pack(&words, pack.scale.is_some().then_some(scales.as_slice()), &pack);
            let buffers = [parameter(tensor, false), parameter(scale, false)];
            let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
            let made = weights.packed(&mut up, &buffers, &pack).unwrap();
            let again = weights.packed(&mut up, &buffers, &pack).unwrap();
            assert!(Arc::ptr_eq(&made, &again), "a weight is uploaded once");
            up.finish().unwrap();
            same(&read_words(gpu, &made), &want, false, &what);
        }
    });
}

/// Numbers that are uploaded for a shader which packs a weight are there before it runs.
#[test]
fn scales_that_shaders_read_come_first() {
    on_every_path(GpuOptions { staging_bytes: Some(4096), ..GpuOptions::default() }, |gpu| {
        let mut random = Random::new("scales");
        let tensor = strided(DType::F32, &[8, 6], &[0, 1], 0, &mut random);
        let scales = random.exact(8);
        let words = expected(&tensor, false);
        let constant = Memory::Constant(crate::Tensor::new([8], scales.clone()).unwrap());
        let scale = Buffer { memory: constant, len: 8, ..parameter(tensor.clone(), false) };
        let pack = Pack {
            weight: BufferId(0),
            scale: Some(BufferId(1)),
            shape: vec![8, 6],
            channel_dim: 0,
            channels: 0..8,
            order: vec![0, 1],
            multiple: 4,
            winograd: false,
            half: false,
        };
        let want = expected_pack(&words, Some(&scales), &pack);
        let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
        let made = weights.packed(&mut up, &[parameter(tensor, false), scale], &pack).unwrap();
        up.finish().unwrap();
        same(&read_words(gpu, &made), &want, false, "a constant scale");
    });
}

/// The host makes the points of Winograd's weights as shaders do, to the bit, and both put the taps behind them.
#[test]
fn winograd_weights_have_points_and_taps() {
    let options = GpuOptions { staging_bytes: Some(64 << 10), ..GpuOptions::default() };
    let (channels, inputs) = (36, 20);
    let made: Mutex<Vec<Vec<u32>>> = Mutex::default();
    on_every_path(options, |gpu| {
        let mut random = Random::new("points");
        let pack = |scale: Option<BufferId>| Pack {
            weight: BufferId(0),
            scale,
            shape: vec![channels, inputs, 3, 3],
            channel_dim: 0,
            channels: 0..channels,
            order: vec![0, 2, 3, 1],
            multiple: 4,
            winograd: true,
            half: false,
        };
        let floats = |shape: &[usize], random: &mut Random| {
            let bytes = random.exact(shape.iter().product()).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            parameter(StoredTensor::from_bytes(DType::F32, shape.to_vec(), bytes).unwrap(), false)
        };
        let buffers = [floats(&[channels, inputs, 3, 3], &mut random), floats(&[channels], &mut random)];
        let numbers = |i: usize| match &buffers[i].memory {
            Memory::Parameter(parameter) => {
                bytes_to_f32(DType::F32, &parameter.tensor.contiguous_bytes().unwrap()).unwrap()
            }
            _ => unreachable!("made above"),
        };
        let (weights, scales) = (numbers(0), numbers(1));
        for scale in [None, Some(BufferId(1))] {
            let (mut held, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
            let buffer = held.packed(&mut up, &buffers, &pack(scale)).unwrap();
            up.finish().unwrap();
            let words = read_words(gpu, &buffer);
            assert_eq!(words.len(), 25 * channels * inputs);
            let half = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0f64]];
            for at in 0..channels * inputs {
                let (channel, input) = (at / inputs, at % inputs);
                let factor = scale.map_or(1.0, |_| scales[channel]);
                let tap = |t: usize| weights[(channel * inputs + input) * 9 + t] * factor;
                let got = |row: usize| f32::from_bits(words[row * channels * inputs + at]);
                for t in 0..9 {
                    assert_eq!(got(16 + t), tap(t), "tap {t} of {channel}, {input}");
                }
                for point in 0..16 {
                    let (g, h) = (half[point / 4], half[point % 4]);
                    let want: f64 = (0..9).map(|t| g[t / 3] * h[t % 3] * f64::from(tap(t))).sum();
                    let size: f64 = (0..9).map(|t| f64::from(tap(t)).abs()).sum();
                    assert!((f64::from(got(point)) - want).abs() <= 1e-6 * size, "point {point} of {channel}, {input}");
                }
            }
            made.lock().unwrap().push(words);
        }
    });
    let made = made.into_inner().unwrap();
    for (i, words) in made.iter().enumerate() {
        assert!(*words == made[i % 2], "made {i}: the host and the shaders differ");
    }
}

/// Halves are rounded by the host as by shaders.
#[test]
fn halves_are_the_same_by_both() {
    let made: Mutex<Vec<Vec<u32>>> = Mutex::default();
    on_every_path(GpuOptions { staging_bytes: Some(4096), ..GpuOptions::default() }, |gpu| {
        if !gpu.has_f16() {
            return;
        }
        let mut random = Random::new("halves");
        let mut all = Vec::new();
        for (dtype, shape, order) in [
            (DType::F32, [37, 53, 3], [0, 1, 2]),
            (DType::F32, [37, 53, 3], [2, 1, 0]),
            (DType::F16, [40, 21, 2], [0, 1, 2]),
            (DType::BF16, [16, 16, 5], [1, 2, 0]),
        ] {
            let floats: Vec<f32> =
                random.floats(shape.iter().product(), 1e-4).into_iter().map(|x| x * x * x * 1e17).collect();
            let bytes = match dtype {
                DType::F32 => floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
                DType::F16 => floats.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
                _ => floats.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            };
            let tensor = StoredTensor::from_bytes(dtype, shape, bytes).unwrap();
            let pack = Pack {
                weight: BufferId(0),
                scale: None,
                shape: shape.to_vec(),
                channel_dim: 0,
                channels: 0..shape[0],
                order: order.to_vec(),
                multiple: 4,
                winograd: false,
                half: true,
            };
            let (mut held, mut up) = (Weights::untested(gpu, Precision::Half), Uploader::new(gpu, 1 << 20));
            let buffers = [parameter(tensor, false)];
            let packed = held.packed(&mut up, &buffers, &pack).unwrap();
            let plain = held.contiguous(&mut up, &buffers[0], true).unwrap();
            up.finish().unwrap();
            all.extend(read_words(gpu, &packed));
            let plain = read_words(gpu, &plain);
            let word = |at: usize| half::f16::from_bits((plain[at / 2] >> (at % 2 * 16)) as u16).to_f32();
            assert!(
                (0..floats.len())
                    .all(|at| dtype == DType::BF16 || word(at) == half::f16::from_f32(floats[at]).to_f32())
            );
            all.extend(plain);
        }
        made.lock().unwrap().push(all);
    });
    let made = made.into_inner().unwrap();
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "the host and the shaders differ");
}

#[test]
fn memory_is_accounted_and_given_back() {
    on_every_path(GpuOptions { staging_bytes: Some(64 << 10), ..GpuOptions::default() }, |gpu| {
        let mut random = Random::new("memory");
        let held = gpu.account().memory().total();
        let tensor = strided(DType::F16, &[1000, 500], &[0, 1], 0, &mut random);
        let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
        weights.plain(&mut up, &parameter(tensor, false)).unwrap();
        up.finish().unwrap();
        let memory = gpu.account().memory();
        assert_eq!(memory.weights, 2_000_000);
        assert!(memory.staging <= (2 * CHUNKS * gpu.staging_bytes()) as u64, "{memory:?}");
        drop((weights, up));
        assert_eq!(gpu.account().memory().total(), held);
    });
}

#[test]
fn what_does_not_run_is_named() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let (mut weights, mut up) = (Weights::new(gpu), Uploader::new(gpu, 1 << 20));
        let complex = StoredTensor::from_bytes(DType::Complex64, [2], vec![0; 16]).unwrap();
        let error = weights.plain(&mut up, &parameter(complex, false)).unwrap_err();
        assert_eq!(error.to_string(), "`weight` is complex64, which does not run");
    });
}
