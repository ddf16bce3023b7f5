//! Tuning: the products of a plan, timed on the device itself with every tile and split that may suit them. What was
//! fastest is kept on disk, beside the compiled pipelines, and taken by every later plan.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::cache;
use super::kernels;
use super::pipeline::Pipelines;
use super::{Plan, Weights};
use crate::device::gpu::Gpu;
use crate::dtype::Precision;
use crate::error::{Error, Result};
use crate::graph::step::{Arg, Buffer, BufferId, Kernel, Memory, Schedule, Step};

/// Each candidate is run so often, after one run that is not counted; the fastest counts.
const RUNS: usize = 5;

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// In tiles of pixels and channels, with the sum in so many parts.
    Cut {
        tile: [usize; 2],
        parts: usize,
    },
    Winograd,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Cut { tile: [pixels, channels], parts } => write!(f, "{pixels}x{channels}/{parts}"),
            Choice::Winograd => f.write_str("winograd"),
        }
    }
}

impl FromStr for Choice {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "winograd" {
            return Ok(Choice::Winograd);
        }
        let (tile, parts) = text.split_once('/').ok_or(())?;
        let (pixels, channels) = tile.split_once('x').ok_or(())?;
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0).ok_or(());
        Ok(Choice::Cut { tile: [number(pixels)?, number(channels)?], parts: number(parts)? })
    }
}

/// What was chosen for a device so far, by [`key`].
#[derive(Debug, Default)]
pub(super) struct Choices {
    table: Mutex<BTreeMap<String, Choice>>,
    path: Option<PathBuf>,
}

/// What a choice is for: the shapes, what is fused, and the precision.
fn key(kernel: &Kernel, precision: Precision) -> String {
    format!("{precision} {kernel:?}")
}

impl Choices {
    /// Those of earlier processes, unless the device is told to keep nothing on disk.
    pub(super) fn open(gpu: &Gpu) -> Self {
        match cache::folder().filter(|_| gpu.options().disk_cache) {
            Some(folder) => Self::open_in(gpu, &folder),
            None => Self::default(),
        }
    }

    /// Those in a folder. What cannot be read is as if it were not there.
    pub(super) fn open_in(gpu: &Gpu, folder: &Path) -> Self {
        let path = folder.join(cache::file_name(gpu, "choices"));
        let stored: Option<BTreeMap<String, String>> =
            cache::read(&path).and_then(|data| serde_json::from_slice(&data).ok());
        let parsed = stored.into_iter().flatten().filter_map(|(key, text)| Some((key, text.parse().ok()?)));
        Self { table: Mutex::new(parsed.collect()), path: Some(path) }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Choice>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was chosen for a kernel.
    pub(super) fn get(&self, kernel: &Kernel, precision: Precision) -> Option<Choice> {
        let table = self.table();
        // Most devices were never tuned, and then there is no key to be made.
        if table.is_empty() { None } else { table.get(&key(kernel, precision)).copied() }
    }

    /// Writes them to disk. A file that cannot be written is done without.
    fn save(&self) {
        let texts: BTreeMap<String, String> =
            self.table().iter().map(|(key, choice)| (key.clone(), choice.to_string())).collect();
        if let (Some(path), Ok(data)) = (&self.path, serde_json::to_vec(&texts)) {
            cache::write(path, &data).ok();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table().len()
    }
}

/// Times the products of a schedule that nothing was chosen for yet, and chooses.
///
/// # Errors
/// Those of a device that fails. A candidate that the device cannot run is left out.
pub(super) fn tune(schedule: &Schedule, gpu: &Arc<Gpu>, precision: Precision) -> Result<()> {
    let pipelines = Pipelines::of(gpu);
    let choices = pipelines.choices(gpu);
    for (at, step) in schedule.steps.iter().enumerate() {
        gpu.tell_tuning(at, schedule.steps.len());
        let key = key(&step.kernel, precision);
        if choices.table().contains_key(&key) {
            continue;
        }
        let alone = alone(step, &schedule.buffers)?;
        let mut best: Option<(f64, Choice)> = None;
        let mut weights = Weights::untested(gpu, precision);
        for buffer in &alone.buffers {
            if let Memory::Derived(_) = buffer.memory {
                // Zeros take as long as other numbers.
                weights.derive(buffer)?;
            }
        }
        weights.settle(false);
        for candidate in kernels::candidates(&alone.steps[0], &alone.buffers, gpu, precision) {
            choices.table().insert(key.clone(), candidate);
            match time(&alone, &mut weights) {
                Ok(ms) if best.is_none_or(|(least, _)| ms < least) => best = Some((ms, candidate)),
                Ok(_) => {}
                Err(error) if gpu.is_lost() => {
                    choices.table().remove(&key);
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        match best {
            Some((_, choice)) => {
                choices.table().insert(key, choice);
                // At once: tuning a model takes minutes, and who stops it keeps what was found.
                choices.save();
            }
            None => {
                choices.table().remove(&key);
            }
        }
    }
    gpu.tell_tuning(schedule.steps.len(), schedule.steps.len());
    Ok(())
}

/// A schedule of this step alone, whose operands are zeros.
fn alone(step: &Step, buffers: &[Buffer]) -> Result<Schedule> {
    let mut ids: Vec<BufferId> = step.inputs.iter().chain([&step.output]).map(|arg| arg.buffer).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut arenas = Vec::new();
    let alone = ids.iter().zip(0..).map(|(id, number)| {
        let buffer = &buffers[id.0];
        let memory = match buffer.memory {
            Memory::Arena { .. } => {
                arenas.push((buffer.len * 4).next_multiple_of(256));
                Memory::Arena { arena: arenas.len() - 1, offset: 0 }
            }
            _ => Memory::Derived(number),
        };
        Buffer { memory, ..buffer.clone() }
    });
    let buffers = alone.collect();
    let place = |arg: &Arg| -> Result<Arg> {
        let at = ids.binary_search(&arg.buffer).map_err(|_| Error::device("a step's operand is missing"))?;
        Ok(Arg { buffer: BufferId(at), offset: arg.offset })
    };
    let step = Step {
        name: step.name.clone(),
        kernel: step.kernel.clone(),
        inputs: step.inputs.iter().map(place).collect::<Result<_>>()?,
        output: place(&step.output)?,
    };
    Ok(Schedule { buffers, prologue: Vec::new(), steps: vec![step], inputs: Vec::new(), outputs: Vec::new(), arenas })
}

/// The milliseconds of a run of a schedule: by the device's clock where it has one.
fn time(schedule: &Schedule, weights: &mut Weights) -> Result<f64> {
    let mut plan = Plan::untuned(schedule, weights)?;
    plan.start(&[])?.wait()?;
    if weights.gpu().device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        return Ok(plan.profile(&[], RUNS)?.iter().map(|step| step.min_ms).sum());
    }
    let mut least = f64::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        plan.start(&[])?.wait()?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Device;
    use crate::backend::cases::{self, Case};
    use crate::backend::gpu::kernels::Caps;
    use crate::backend::gpu::tests::on_every_gpu;
    use crate::device::gpu::GpuOptions;

    #[test]
    fn choices_are_text() {
        for (choice, text) in [
            (Choice::Cut { tile: [64, 32], parts: 1 }, "64x32/1"),
            (Choice::Cut { tile: [128, 128], parts: 8 }, "128x128/8"),
            (Choice::Winograd, "winograd"),
        ] {
            assert_eq!(choice.to_string(), text);
            assert_eq!(text.parse(), Ok(choice));
        }
        for wrong in ["", "64", "64x32", "64x/2", "0x32/1", "64x32/0", "64x32/1/2"] {
            assert_eq!(wrong.parse::<Choice>(), Err(()), "{wrong}");
        }
    }

    /// Some convolutions and linear layers of every kind, whose weights are parameters.
    fn products() -> Vec<Case> {
        let is_product = |case: &Case| match &case.kernel {
            Kernel::Conv2d(conv) => conv.groups == 1 && conv.batch * conv.output[0] * conv.output[1] > 8,
            Kernel::Linear(linear) => linear.rows > 8,
            _ => false,
        };
        let is_alone = |case: &Case| {
            let schedule = case.schedule();
            let weight = schedule.steps[0].inputs.get(1);
            let memory = weight.map(|weight| &schedule.buffers[weight.buffer.0].memory);
            schedule.steps.len() == 1 && matches!(memory, Some(Memory::Parameter(_)))
        };
        cases::all().into_iter().filter(|case| is_product(case) && is_alone(case)).step_by(17).collect()
    }

    /// What is chosen is written, read again by another connection, taken from there, and the answers stay right.
    #[test]
    fn choices_are_kept_and_taken() {
        let folder = std::env::temp_dir().join(format!("sconce-choices-{}", std::process::id()));
        let products = products();
        assert!(products.len() >= 5, "{} products", products.len());
        let prepare = |gpu: &Arc<Gpu>| {
            let pipelines = Pipelines::of(gpu);
            pipelines.caps.set(Caps { is_software: false, ..Caps::new(gpu) }).expect("nothing was selected before");
            assert!(pipelines.choices.set(Choices::open_in(gpu, &folder)).is_ok(), "nothing was chosen before");
            pipelines
        };
        let run = |gpu: &Arc<Gpu>, case: &Case| {
            let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
            case.check(&plan.run(&case.tensors()).unwrap()[0]).unwrap_or_else(|wrong| panic!("{wrong}"));
            plan.kernels().join(" ")
        };
        on_every_gpu(GpuOptions { tune: true, ..GpuOptions::default() }, |gpu| {
            let pipelines = prepare(gpu);
            products.iter().for_each(|case| drop(run(gpu, case)));
            let choices = pipelines.choices(gpu);
            assert_eq!(
                choices.len(),
                products.iter().map(|case| key(&case.kernel, Precision::Exact)).collect::<HashSet<_>>().len()
            );
            // Who asks is told of every step, and of the end.
            let told: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
            let teller = Arc::clone(&told);
            Device::from_gpu(Arc::clone(gpu)).on_tuning(move |done, all| teller.lock().unwrap().push((done, all)));
            tune(&products[0].schedule(), gpu, Precision::Exact).unwrap();
            assert_eq!(*told.lock().unwrap(), [(0, 1), (1, 1)]);
            // Nothing is timed twice.
            let before = gpu.account().counts().submits;
            tune(&products[0].schedule(), gpu, Precision::Exact).unwrap();
            assert_eq!(gpu.account().counts().submits, before);
        });
        on_every_gpu(GpuOptions::default(), |gpu| {
            let pipelines = prepare(gpu);
            let choices = pipelines.choices(gpu);
            assert!(choices.len() >= 5);
            let mut table = choices.table();
            let chosen = table.clone();
            drop(table.split_off(""));
            drop(table);
            for case in &products {
                let key = key(&case.kernel, Precision::Exact);
                assert!(chosen.contains_key(&key), "{key}");
                // One that no table would take shows that the table is what counts.
                choices.table().insert(key, Choice::Cut { tile: [64, 16], parts: 1 });
                assert_eq!(run(gpu, case), "conv2d_direct", "{}", case.name);
            }
        });
        std::fs::remove_dir_all(folder).ok();
    }

    /// Every candidate gives the right answer.
    #[test]
    fn every_candidate_is_right() {
        let products = products();
        on_every_gpu(GpuOptions::default(), |gpu| {
            let pipelines = Pipelines::of(gpu);
            pipelines.caps.set(Caps { is_software: false, ..Caps::new(gpu) }).expect("nothing was selected before");
            let choices = pipelines.choices(gpu);
            let mut seen = HashSet::new();
            for case in &products {
                let schedule = case.schedule();
                let step = &schedule.steps[0];
                for candidate in kernels::candidates(step, &schedule.buffers, gpu, Precision::Exact) {
                    choices.table().insert(key(&case.kernel, Precision::Exact), candidate);
                    let mut plan = Plan::new(&schedule, &mut Weights::new(gpu)).unwrap();
                    let outputs = plan.run(&case.tensors()).unwrap();
                    case.check(&outputs[0]).unwrap_or_else(|wrong| panic!("{candidate}: {wrong}"));
                    seen.insert(candidate.to_string());
                }
            }
            for wanted in ["32x32/1", "32x32/2", "64x16/1", "winograd"] {
                assert!(seen.contains(wanted), "{seen:?}");
            }
        });
    }
}
