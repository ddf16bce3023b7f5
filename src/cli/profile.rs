//! What `bench --profile` prints: where the time of a forward pass goes.

use std::io::Write;

use sconce::{Peak, StepProfile};
use serde_json::{Value, json};

use super::Result;
use super::bench::write_columns;

/// The profile as it is in the JSON output.
pub(crate) fn to_json(peak: &Peak, steps: &[StepProfile]) -> Value {
    let step = |step: &StepProfile| {
        json!({
            "kernel": step.kernel,
            "layer": step.layer,
            "shape": step.shape,
            "flops": step.flops,
            "bytes": step.bytes,
            "ms": step.ms,
            "min_ms": step.min_ms,
        })
    };
    json!({
        "instruction_set": peak.instruction_set,
        "peak_gflops": peak.flops / 1e9,
        "peak_gbs": peak.bytes / 1e9,
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// Some steps, summed up.
#[derive(Default)]
struct Sum {
    steps: usize,
    ms: f64,
    flops: f64,
    bytes: f64,
}

impl Sum {
    fn add(&mut self, step: &Value) {
        let number = |key: &str| step[key].as_f64().unwrap_or_default();
        self.steps += 1;
        self.ms += number("ms");
        self.flops += number("flops");
        self.bytes += number("bytes");
    }

    /// Milliseconds, the share of `total` of them, and the rates with their shares of the peaks.
    fn cells(&self, total: f64, [peak_gflops, peak_gbs]: [f64; 2]) -> [String; 6] {
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        let rate = |amount: f64| if self.ms > 0.0 { amount / self.ms / 1e6 } else { 0.0 };
        let (gflops, gbs) = (rate(self.flops), rate(self.bytes));
        [
            format!("{:.3}", self.ms),
            format!("{:.1} %", if total > 0.0 { self.ms / total * 100.0 } else { 0.0 }),
            format!("{gflops:.1}"),
            percent(gflops / peak_gflops),
            format!("{gbs:.1}"),
            percent(gbs / peak_gbs),
        ]
    }
}

/// A table of the steps and one of the kernels.
pub(crate) fn write(out: &mut dyn Write, result: &Value) -> Result<()> {
    let profile = &result["profile"];
    let peaks = ["peak_gflops", "peak_gbs"].map(|key| profile[key].as_f64().unwrap_or(f64::NAN));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = profile["steps"].as_array().map_or(&[][..], Vec::as_slice);
    writeln!(
        out,
        "\n{} on {} ({}), batch {}: the peak is {:.0} GFLOP/s and {:.1} GB/s read from memory",
        text(&result["model"]),
        text(&result["device"]),
        text(&profile["instruction_set"]),
        result["batch"],
        peaks[0],
        peaks[1]
    )?;
    let mut all = Sum::default();
    steps.iter().for_each(|step| all.add(step));
    let header = ["ms", "share", "GFLOP/s", "of peak", "GB/s", "of peak"].map(String::from);
    let mut rows = vec![[&["kernel", "shape", "layer"].map(String::from)[..], &header].concat()];
    let mut kernels: Vec<(String, Sum)> = Vec::new();
    for step in steps {
        let mut sum = Sum::default();
        sum.add(step);
        let names = ["kernel", "shape", "layer"].map(|key| text(&step[key]));
        let kernel = match kernels.iter().position(|(kernel, _)| *kernel == names[0]) {
            Some(index) => index,
            None => {
                kernels.push((names[0].clone(), Sum::default()));
                kernels.len() - 1
            }
        };
        kernels[kernel].1.add(step);
        rows.push([&names[..], &sum.cells(all.ms, peaks)].concat());
    }
    write_columns(out, &rows, 3)?;
    kernels.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    let mut rows = vec![[&["kernel", "steps"].map(String::from)[..], &header].concat()];
    for (name, sum) in kernels.iter().map(|(name, sum)| (name.as_str(), sum)).chain([("all", &all)]) {
        rows.push([&[name.to_owned(), sum.steps.to_string()][..], &sum.cells(all.ms, peaks)].concat());
    }
    writeln!(out)?;
    write_columns(out, &rows, 1)?;
    Ok(writeln!(
        out,
        "medians; operations as the layer is defined, each byte of the arguments and the result counted once"
    )?)
}
