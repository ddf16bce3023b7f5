//! What a run leaves alone: the memory of the process, and other models on the same threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sconce::checkpoint::StoredTensor;
use sconce::{DType, Device, Graph, Model, Tensor, Var};

/// Counts the bytes that are asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: what one asks for would be counted for another.
static ONE: Mutex<()> = Mutex::new(());

fn floats(shape: &[usize], seed: usize) -> StoredTensor {
    let count: usize = shape.iter().product();
    let floats: Vec<f32> = (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect();
    StoredTensor::from_bytes(DType::F32, shape, floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
        .unwrap()
}

/// The bytes that the third run of a model asks for beside its output.
fn asked(model: &Model, input: &Tensor) -> usize {
    let inputs = std::slice::from_ref(input);
    model.run(inputs).unwrap();
    model.run(inputs).unwrap();
    let before = ASKED.load(Ordering::Relaxed);
    let outputs = model.run(inputs).unwrap();
    let asked = ASKED.load(Ordering::Relaxed) - before;
    asked - outputs.iter().map(|output| output.bytes().len()).sum::<usize>()
}

#[test]
fn a_run_allocates_its_output_alone() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = Device::cpu_with_threads(2);
    let (table, weight) = (floats(&[100, 64], 1), floats(&[8, 64], 2));
    let embed = Model::from_fn(&device, move |g: &mut Graph, x: &[Var]| {
        let table = g.parameter("table", &table)?;
        let weight = g.parameter("weight", &weight)?;
        let y = g.embedding(x[0], table)?;
        Ok(vec![g.linear(y, weight, None)?])
    });
    let tokens: Vec<i64> = (0..4096).map(|i| i % 100).collect();
    let weight = floats(&[16, 64], 3);
    let linear = Model::from_fn(&device, move |g: &mut Graph, x: &[Var]| {
        let weight = g.parameter("weight", &weight)?;
        Ok(vec![g.linear(x[0], weight, None)?])
    });
    let numbers: Vec<f32> = (0..512 * 64).map(|i| (i % 37) as f32).collect();
    let bytes = |x: Vec<u8>, dtype| Tensor::from_bytes(dtype, [512, 64], &x).unwrap();
    let halves = bytes(numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(), DType::F16);
    let singles = bytes(numbers.iter().flat_map(|x| x.to_le_bytes()).collect(), DType::F32);
    for (name, model, input) in [
        ("int64", &embed, Tensor::new([4, 1024], tokens).unwrap()),
        ("float32", &linear, singles),
        ("float16", &linear, halves),
    ] {
        // Lists of inputs and outputs, their shapes.
        let asked = asked(model, &input);
        assert!(asked < 2048, "{name}: {asked} bytes");
    }
}

/// Two models on the threads of one device, each run by a thread of its own.
#[test]
fn two_models_share_the_threads() {
    const RUNS: usize = 240;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = Device::cpu_with_threads(2);
    let models = [64, 96].map(|size| {
        let (first, second) = (floats(&[4 * size, size], 4), floats(&[size, 4 * size], 5));
        Model::from_fn(&device, move |g: &mut Graph, x: &[Var]| {
            let first = g.parameter("first", &first)?;
            let second = g.parameter("second", &second)?;
            let y = g.linear(x[0], first, None)?;
            let y = g.relu(y)?;
            Ok(vec![g.linear(y, second, None)?])
        })
    });
    let inputs = [64, 96].map(|size| {
        let numbers: Vec<f32> = (0..400 * size).map(|i| (i % 41) as f32 / 20.0 - 1.0).collect();
        Tensor::new([400, size], numbers).unwrap()
    });
    let alone = [0, 1].map(|i| models[i].run(&inputs[i..=i]).unwrap());
    // Both run until there were so many runs in all.
    let (total, counts) = (AtomicUsize::new(0), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    std::thread::scope(|scope| {
        for i in 0..2 {
            let (model, input, alone) = (&models[i], &inputs[i..=i], &alone[i]);
            let (total, count) = (&total, &counts[i]);
            scope.spawn(move || {
                while total.load(Ordering::Relaxed) < RUNS {
                    let found = model.run(input).unwrap();
                    assert_eq!(found[0].bytes(), alone[0].bytes(), "model {i}");
                    count.fetch_add(1, Ordering::Relaxed);
                    total.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let counts = counts.map(AtomicUsize::into_inner);
    assert!(counts.iter().all(|&count| count >= RUNS / 12), "{counts:?} runs");
}
