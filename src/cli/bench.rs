//! `sconce bench`: how long opening, compiling and running take.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sconce::{DType, ErrorKind, Peak, Precision, Shape, Tensor, TensorInfo, Upload};
use serde_json::{Value, json};

use super::statistics::Statistics;
use super::{Context, Failure, Result, Verdict, compare, memory, model, parse_positive, parse_precision, profile};

/// Without `--runs` a model runs at least this often and at least this long.
const LEAST_RUNS: usize = 10;
/// How often a file is opened, the median of which counts.
const OPENS: usize = 9;
/// The most runs of a profile.
const PROFILED_RUNS: usize = 200;
const LEAST_TIME: Duration = Duration::from_secs(3);

/// `--device` may name several with commas between them. Each file, device and batch is measured in a process of its
/// own, so that its peak memory is its own.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The files that PyTorch wrote
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The architecture that a state dict's weights belong to, as `resnet50` or `mlp`; of several files, with commas
    /// between them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    arch: Vec<String>,

    #[command(flatten)]
    model: model::Args,

    /// The sizes of the batch, with commas between them
    #[arg(long, value_name = "N,...", default_value = "1", value_delimiter = ',', value_parser = parse_positive)]
    batch: Vec<usize>,

    /// How exactly to compute on GPUs: f32, fast (products of f16 on matrix units, summed in f32), f16; with commas
    /// between them. For fast and f16 the largest difference from f32 is told
    #[arg(long, value_name = "DTYPE,...", default_value = "f32", value_delimiter = ',', value_parser = parse_precision)]
    dtype: Vec<Precision>,

    /// How often to run [default: at least 10 times and for at least 3 seconds]
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    runs: Option<usize>,

    /// The shape of the input without the batch, as `3,224,224` [default: the architecture's own]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = parse_positive)]
    input_shape: Option<Vec<usize>>,

    /// An input of the model, a `.npy` file; given twice, the first two inputs [default: numbers made up, integers 0 and 1]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input_shape", "batch"])]
    input: Vec<PathBuf>,

    /// Say where the time goes: every step with its time, its operations and bytes a second, and what the machine
    /// reaches at most
    #[arg(long)]
    profile: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Measure for another `bench`: a precision that the device lacks is a result, not an error
    #[arg(long, hide = true)]
    part: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let devices: Vec<&str> = context.global.device.split(',').map(str::trim).collect();
    let (files, archs) = (args.files.len(), args.arch.len());
    if archs > 1 && archs != files {
        let plural = if files == 1 { "" } else { "s" };
        return Err(Failure::new(format!("there are {archs} architectures for {files} file{plural}"))
            .help("name one for all of the files, or one for each"));
    }
    let mut cases = Vec::new();
    for (index, path) in args.files.iter().enumerate() {
        let arch = args.arch.get(index.min(archs.saturating_sub(1))).map(String::as_str);
        let source = model::Source { path, arch, args: &args.model };
        for &device in &devices {
            for &precision in &args.dtype {
                cases.extend(args.batch.iter().map(|&batch| Case { source, device, batch, precision }));
            }
        }
    }
    let mut results = Vec::new();
    for case in &cases {
        results.push(if cases.len() == 1 { case.measure(args, context)? } else { case.spawn(args, context)? });
    }
    let (left_out, results): (Vec<Value>, Vec<Value>) =
        results.into_iter().partition(|result| !args.part && result.get("left_out").is_some());
    let reason = |result: &Value| result["left_out"].as_str().unwrap_or_default().to_owned();
    if let (true, Some(first)) = (results.is_empty(), left_out.first()) {
        return Err(Failure::new(reason(first)));
    }
    // Each once, not for every file and batch.
    let left_out: BTreeSet<String> = left_out.iter().map(reason).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&json!({ "results": results })).map_err(io::Error::from)?;
        writeln!(context.out, "{text}")?;
    } else {
        write_table(context.out, &results)?;
        for result in results.iter().filter(|result| result.get("profile").is_some()) {
            profile::write(context.out, result)?;
        }
    }
    for reason in &left_out {
        match args.json {
            true => context.console.say(format_args!("left out: {reason}")),
            false => writeln!(context.out, "left out: {reason}")?,
        }
    }
    Ok(Verdict::Done)
}

/// One line of the result.
struct Case<'a> {
    source: model::Source<'a>,
    device: &'a str,
    batch: usize,
    precision: Precision,
}

impl Case<'_> {
    /// Measures in this process.
    fn measure(&self, args: &Args, context: &Context<'_>) -> Result<Value> {
        let device = context.open_device(self.device)?;
        let (opened, first) = timed(|| self.source.open())?;
        // The first time may wait for the disk.
        let mut opens = vec![first];
        while opens.len() < OPENS {
            opens.push(timed(|| self.source.open())?.1);
        }
        opens.sort_by(f64::total_cmp);
        let open_ms = opens[OPENS / 2];
        let inputs = self.inputs(args, &opened)?;
        let kinds: Vec<_> = inputs.iter().map(|input| (input.shape().clone(), input.dtype())).collect();
        let ((model, plan), compile_ms) = timed(|| {
            let model = self.source.build(&opened, &device)?.with_precision(self.precision);
            let plan = model.compile(&kinds);
            Ok((model, plan))
        })?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) if args.part && self.precision != Precision::Exact && error.kind() == ErrorKind::Unsupported => {
                // The second line is help.
                return Ok(json!({ "left_out": error.to_string().lines().next() }));
            }
            Err(error) => return Err(error.into()),
        };
        if context.console.is_verbose() {
            context.console.say(super::plan_line(plan));
            context.console.say(super::kernels_line(&model.kernels(&kinds)?, self.precision));
        }
        let inputs = &inputs[..];
        let (_, first_run_ms) = timed(|| Ok(model.run(inputs)?))?;

        let mut progress = context.console.progress();
        let mut times = Vec::new();
        let start = Instant::now();
        loop {
            let finished = match args.runs {
                Some(runs) => times.len() >= runs,
                None => times.len() >= LEAST_RUNS && start.elapsed() >= LEAST_TIME,
            };
            if finished {
                break;
            }
            let (_, ms) = timed(|| Ok(model.run(inputs)?))?;
            times.push(ms);
            progress.show(format_args!("{} batch {}: run {}, {ms:.2} ms", self.model_name(), self.batch, times.len()));
        }
        let runs = times.len().min(PROFILED_RUNS);
        let forward = Statistics::new(times).expect("at least one run");
        let mut result = json!({
            "model": self.model_name(),
            "device": device.info().to_string(),
            "dtype": match self.precision {
                Precision::Exact => "float32",
                Precision::Fast => "fast",
                Precision::Half => "float16",
            },
            "batch": inputs.first().and_then(|input| input.shape().first()).unwrap_or(&self.batch),
            "open_ms": round(open_ms),
            "compile_ms": round(compile_ms),
            "first_run_ms": round(first_run_ms),
            "forward_ms": {
                "median": round(forward.median),
                "mean": round(forward.mean),
                "p50": round(forward.p50),
                "p90": round(forward.p90),
                "p99": round(forward.p99),
                "min": round(forward.min),
            },
            "peak_memory_bytes": memory::peak(),
            "program_memory_bytes": memory::program(),
            "packed_bytes": plan.weight_bytes,
            "arena_bytes": plan.arena_bytes,
        });
        if let (true, Some(peak), Some(program)) = (context.console.is_verbose(), memory::peak(), memory::program()) {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            context.console.say(format_args!(
                "memory: {:.1} MB at most, {:.1} MB of them the program itself and its libraries",
                mb(peak),
                mb(program)
            ));
        }
        if args.profile {
            let peak = Peak::measure(&device)?;
            if !peak.is_steady {
                context
                    .console
                    .say("warning: other programs use the cores: the peaks may be too low, the times too long");
            }
            result["profile"] = match model.profile(inputs, runs) {
                Ok(steps) => profile::to_json(&peak, &steps),
                // A GPU without timestamps: the other figures stand.
                Err(error) if error.kind() == ErrorKind::Unsupported => json!({ "unsupported": error.to_string() }),
                Err(error) => return Err(error.into()),
            };
        }
        if self.precision != Precision::Exact {
            result["kernels"] = model.kernels(&kinds)?.into_iter().collect();
            let exact = self.source.build(&opened, &device)?.run(inputs)?;
            result["error"] = error(&model.run(inputs)?, &exact)?;
        }
        if let Some(upload) = plan.upload {
            drop(model);
            result["cold_first_ms"] = round(compile_ms + first_run_ms).into();
            self.measure_again(&mut result, &opened, &device, &kinds, inputs, upload)?;
        }
        Ok(result)
    }

    /// On a GPU: what the first inference takes when the pipelines are there, and how fast the weights get there.
    fn measure_again(
        &self,
        result: &mut Value,
        opened: &model::Opened,
        device: &sconce::Device,
        kinds: &[(Shape, DType)],
        inputs: &[Tensor],
        cold: Upload,
    ) -> Result<()> {
        let ((plan, model), ms) = timed(|| {
            let model = self.source.build(opened, device)?.with_precision(self.precision);
            let plan = model.compile(kinds)?;
            model.run(inputs)?;
            Ok((plan, model))
        })?;
        drop(model);
        result["warm_first_ms"] = round(ms).into();
        if let (Some(warm), Some(rates)) = (plan.upload, device.copy_rates(cold.bytes)?) {
            let gbs = |upload: Upload| round(upload.bytes as f64 / upload.ms / 1e6);
            result["upload"] = json!({
                "bytes": cold.bytes,
                "cold_gbs": gbs(cold),
                "gbs": gbs(warm),
                "fresh_copy_gbs": round(rates.fresh / 1e9),
                "warm_copy_gbs": round(rates.warm / 1e9),
            });
        }
        Ok(())
    }

    /// Measures in a new process.
    fn spawn(&self, args: &Args, context: &Context<'_>) -> Result<Value> {
        let fail = |error: io::Error| Failure::new(format!("a process for `{}`: {error}", self.source.path.display()));
        let mut command = std::process::Command::new(std::env::current_exe().map_err(fail)?);
        command.args(["bench", "--json", "--part", "--device", self.device]);
        if args.input.is_empty() {
            command.args(["--batch", &self.batch.to_string()]);
        }
        let options = [
            ("--arch", self.source.arch.map(String::from)),
            ("--key", args.model.key.clone()),
            ("--strip-prefix", args.model.strip_prefix.clone()),
            ("--dtype", Some(self.precision.to_string())),
            ("--runs", args.runs.map(|runs| runs.to_string())),
            ("--input-shape", args.input_shape.as_deref().map(join)),
            ("--threads", context.global.threads.map(|threads| threads.to_string())),
        ];
        for input in &args.input {
            command.arg("--input").arg(input);
        }
        if args.model.eval {
            command.arg("--eval");
        }
        for (option, value) in options {
            if let Some(value) = value {
                command.arg(format!("{option}={value}"));
            }
        }
        if args.profile {
            command.arg("--profile");
        }
        if context.global.quiet {
            command.arg("--quiet");
        }
        if context.global.verbose {
            command.arg("--verbose");
        }
        command.arg("--").arg(self.source.path);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(fail)?;
        if output.status.code() == Some(2) {
            return Err(Failure::Said);
        }
        let result = serde_json::from_slice::<Value>(&output.stdout).ok().map(|mut value| value["results"][0].take());
        result.filter(Value::is_object).ok_or_else(|| {
            Failure::new(format!(
                "the process that measured `{}` ended with {}",
                self.source.path.display(),
                output.status
            ))
        })
    }

    fn inputs(&self, args: &Args, opened: &model::Opened) -> Result<Vec<Tensor>> {
        if !args.input.is_empty() {
            return Ok(args.input.iter().map(Tensor::read_npy).collect::<sconce::Result<_>>()?);
        }
        let shape = match &args.input_shape {
            Some(shape) => shape.clone(),
            None => match self.source.program_inputs(opened)? {
                Some(inputs) => return self.program_inputs(&inputs),
                None => self.source.input_shape(opened)?.to_vec(),
            },
        };
        Ok(vec![made_up(std::iter::once(self.batch).chain(shape).collect(), DType::F32)?])
    }

    /// The inputs of a program, as large as at its export. A free first size is the batch; where none is free, a batch of
    /// 1 leaves the sizes as they are.
    fn program_inputs(&self, inputs: &[TensorInfo]) -> Result<Vec<Tensor>> {
        let is_free = inputs.iter().any(|input| input.shape.first() == Some(&None));
        let make = |input: &TensorInfo| {
            let mut shape = input.exported.clone().ok_or_else(|| {
                Failure::new(format!("`{}` does not say the shape of its input `{}`", self.model_name(), input.name))
                    .help("give the inputs with `--input`")
            })?;
            if let (Some(first), Some(size)) = (shape.first_mut(), input.shape.first())
                && (size.is_none() || !is_free && self.batch != 1)
            {
                *first = self.batch;
            }
            made_up(shape, input.dtype)
        };
        inputs.iter().map(make).collect()
    }

    fn model_name(&self) -> String {
        self.source.path.file_name().unwrap_or(self.source.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The largest difference between the outputs of two precisions, and as a part of the largest exact output.
fn error(outputs: &[Tensor], exact: &[Tensor]) -> Result<Value> {
    let (mut difference, mut largest) = (0.0f64, 0.0f64);
    for (output, exact) in outputs.iter().zip(exact) {
        for (x, exact) in output.to_f32()?.into_iter().zip(exact.to_f32()?) {
            let (x, exact) = (f64::from(x), f64::from(exact));
            // A NaN that the exact output has too is no error.
            if !(x.is_nan() && exact.is_nan()) {
                difference = difference.max(compare::difference(x, exact));
            }
            largest = largest.max(exact.abs());
        }
    }
    let part = if difference == 0.0 { 0.0 } else { difference / largest };
    Ok(json!({ "largest": difference.min(f64::MAX), "of_largest_output": part.min(f64::MAX) }))
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64() * 1e3))
}

/// To the nanosecond.
fn round(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e6
}

fn join(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A tensor to run with: numbers from -1 to 1, or 0 and 1, which most tables have a row for.
fn made_up(shape: Vec<usize>, dtype: DType) -> Result<Tensor> {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let Some(count) = count.filter(|&count| count <= 1 << 30) else {
        return Err(Failure::new(format!("an input of shape {shape:?} is too large to time")));
    };
    Ok(match dtype {
        DType::Bool => Tensor::from_bytes(dtype, shape, &(0..count).map(|i| (i % 2) as u8).collect::<Vec<_>>())?,
        dtype if dtype.is_float() => Tensor::new(shape, noise(count))?,
        dtype => Tensor::new(shape, (0..count).map(|i| (i % 2) as i64).collect::<Vec<_>>())?.to(dtype)?,
    })
}

/// Numbers from -1 to 1, the same every time. Zeros would be kinder to some processors than real data.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

fn write_table(out: &mut dyn Write, results: &[Value]) -> Result<()> {
    let header =
        ["model", "device", "batch", "open", "compile", "first", "median", "mean", "p90", "p99", "min", "peak"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for result in results {
        let ms = |value: &Value| value.as_f64().map_or("-".to_owned(), show_ms);
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        let forward = &result["forward_ms"];
        let mut row = vec![text("model"), text("device"), result["batch"].to_string()];
        row.extend(["open_ms", "compile_ms", "first_run_ms"].map(|key| ms(&result[key])));
        row.extend(["median", "mean", "p90", "p99", "min"].map(|key| ms(&forward[key])));
        row.push(result["peak_memory_bytes"].as_f64().map_or("-".to_owned(), |bytes| format!("{:.0} MB", bytes / 1e6)));
        rows.push(row);
    }
    if results.iter().any(|result| result.get("error").is_some()) {
        rows[0].extend(["dtype", "error"].map(String::from));
        for (row, result) in rows[1..].iter_mut().zip(results) {
            let error =
                result["error"]["of_largest_output"].as_f64().map_or("-".to_owned(), |part| format!("{part:.1e}"));
            row.extend([result["dtype"].as_str().unwrap_or_default().to_owned(), error]);
        }
    }
    write_columns(out, &rows, 2)?;
    writeln!(out, "times in ms; `median` to `min` are of the forward pass, with its input written and output read")?;
    results.iter().filter(|result| result.get("upload").is_some()).try_for_each(|result| write_start(out, result))
}

/// How a model starts on a GPU.
fn write_start(out: &mut dyn Write, result: &Value) -> Result<()> {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let upload = &result["upload"];
    writeln!(
        out,
        "{} on {}, batch {}: first inference {} ms, {} ms with its pipelines there",
        result["model"].as_str().unwrap_or_default(),
        result["device"].as_str().unwrap_or_default(),
        result["batch"],
        show_ms(number(&result["cold_first_ms"])),
        show_ms(number(&result["warm_first_ms"])),
    )?;
    Ok(writeln!(
        out,
        "  upload of {:.1} MB at {:.2} GB/s, {:.2} while pipelines are compiled; plain copies on the device {:.2} GB/s into new \
         buffers, {:.2} into used ones",
        number(&upload["bytes"]) / 1e6,
        number(&upload["gbs"]),
        number(&upload["cold_gbs"]),
        number(&upload["fresh_copy_gbs"]),
        number(&upload["warm_copy_gbs"]),
    )?)
}

/// Writes rows of as many cells each so that columns line up: names, the first `left` of them, to the left, numbers to
/// the right.
pub(crate) fn write_columns(out: &mut dyn Write, rows: &[Vec<String>], left: usize) -> Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            match column < left {
                true => write!(out, "{gap}{cell:<width$}")?,
                false => write!(out, "{gap}{cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Three significant digits or more.
fn show_ms(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.3}"),
        ..100.0 => format!("{ms:.2}"),
        _ => format!("{ms:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_spread() {
        let numbers = noise(10_000);
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!(numbers.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(numbers.iter().any(|&x| x < -0.9) && numbers.iter().any(|&x| x > 0.9));
    }

    #[test]
    fn table_lines_up() {
        let result = json!({"model": "a.pt", "device": "cpu", "batch": 8, "open_ms": 0.5, "compile_ms": 10.0,
            "first_run_ms": 200.0, "forward_ms": {"median": 1.0, "mean": 1.0, "p90": 1.0, "p99": 1.0, "min": 1.0},
            "peak_memory_bytes": 5_000_000});
        let mut out = Vec::new();
        write_table(&mut out, &[result]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len(), "{text}");
        assert!(lines[1].contains("0.500") && lines[1].contains("200.0") && lines[1].ends_with("5 MB"), "{text}");
    }
}
