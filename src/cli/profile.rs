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
            "dispatches": step.dispatches.iter().map(|(shader, ms)| json!({ "shader": shader, "ms": ms })).collect::<Vec<_>>(),
        })
    };
    json!({
        "instruction_set": peak.instruction_set,
        "peak_gflops": peak.flops / 1e9,
        "peak_matrix_gflops": peak.matrix_flops.map(|flops| flops / 1e9),
        "peak_gbs": peak.bytes / 1e9,
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// What the device does at most: the operations on `f32`s, those on matrix units, the bytes.
struct Peaks {
    gflops: f64,
    matrix_gflops: Option<f64>,
    gbs: f64,
}

/// Some steps, summed up.
#[derive(Default)]
struct Sum {
    steps: usize,
    ms: f64,
    flops: f64,
    bytes: f64,
    /// The milliseconds that the operations take at the peak, and the bytes.
    least_ms: [f64; 2],
}

impl Sum {
    fn add(&mut self, step: &Value, peaks: &Peaks) {
        let number = |key: &str| step[key].as_f64().unwrap_or_default();
        self.steps += 1;
        self.ms += number("ms");
        self.flops += number("flops");
        self.bytes += number("bytes");
        let on_matrix_units = shaders(step).iter().any(|(shader, _)| shader.starts_with("conv2d_matrix"));
        let gflops = peaks.matrix_gflops.filter(|_| on_matrix_units).unwrap_or(peaks.gflops);
        self.least_ms[0] += number("flops") / gflops / 1e6;
        self.least_ms[1] += number("bytes") / peaks.gbs / 1e6;
    }

    /// Milliseconds, the share of `total` of them, and the rates with their shares of the peaks.
    fn cells(&self, total: f64) -> [String; 6] {
        let each_ms = |amount: f64| if self.ms > 0.0 { amount / self.ms } else { 0.0 };
        let rate = |amount: f64| format!("{:.1}", each_ms(amount) / 1e6);
        let percent = |least_ms: f64| format!("{:.0} %", each_ms(least_ms) * 100.0);
        [
            format!("{:.3}", self.ms),
            format!("{:.1} %", if total > 0.0 { self.ms / total * 100.0 } else { 0.0 }),
            rate(self.flops),
            percent(self.least_ms[0]),
            rate(self.bytes),
            percent(self.least_ms[1]),
        ]
    }
}

/// The shaders of a step on a GPU, each with its milliseconds; none on the CPU.
fn shaders(step: &Value) -> Vec<(String, f64)> {
    let pair = |dispatch: &Value| Some((dispatch["shader"].as_str()?.to_owned(), dispatch["ms"].as_f64()?));
    step["dispatches"].as_array().map_or(Vec::new(), |all| all.iter().filter_map(pair).collect())
}

/// What a step is summed up under: its shaders where it has some, else its kernel.
fn kind(step: &Value) -> String {
    match shaders(step).into_iter().map(|(shader, _)| shader).collect::<Vec<_>>().join(" + ") {
        none if none.is_empty() => step["kernel"].as_str().unwrap_or_default().to_owned(),
        shaders => shaders,
    }
}

/// A table of the steps and one of the kernels.
pub(crate) fn write(out: &mut dyn Write, result: &Value) -> Result<()> {
    let profile = &result["profile"];
    if let Some(why) = profile["unsupported"].as_str() {
        return Ok(writeln!(out, "\nthere is no profile: {why}")?);
    }
    let peak = |key: &str| profile[key].as_f64();
    let peaks = Peaks {
        gflops: peak("peak_gflops").unwrap_or(f64::NAN),
        matrix_gflops: peak("peak_matrix_gflops"),
        gbs: peak("peak_gbs").unwrap_or(f64::NAN),
    };
    let matrix = peaks.matrix_gflops.map_or(String::new(), |gflops| format!(", {gflops:.0} on matrix units"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = profile["steps"].as_array().map_or(&[][..], Vec::as_slice);
    writeln!(
        out,
        "\n{} on {} ({}), batch {}: the peak is {:.0} GFLOP/s{matrix} and {:.1} GB/s read from memory",
        text(&result["model"]),
        text(&result["device"]),
        text(&profile["instruction_set"]),
        result["batch"],
        peaks.gflops,
        peaks.gbs
    )?;
    let mut all = Sum::default();
    steps.iter().for_each(|step| all.add(step, &peaks));
    let header = ["ms", "share", "GFLOP/s", "of peak", "GB/s", "of peak"].map(String::from);
    let mut rows = vec![[&["kernel", "shape", "layer"].map(String::from)[..], &header].concat()];
    let mut kernels: Vec<(String, Sum)> = Vec::new();
    for step in steps {
        let mut sum = Sum::default();
        sum.add(step, &peaks);
        let names = ["kernel", "shape", "layer"].map(|key| text(&step[key]));
        let kind = kind(step);
        let kernel = match kernels.iter().position(|(kernel, _)| *kernel == kind) {
            Some(index) => index,
            None => {
                kernels.push((kind, Sum::default()));
                kernels.len() - 1
            }
        };
        kernels[kernel].1.add(step, &peaks);
        rows.push([&names[..], &sum.cells(all.ms)].concat());
        let shaders = shaders(step);
        match &shaders[..] {
            [(only, _)] if *only != names[0] => rows.last_mut().expect("just pushed")[1] += &format!(" {only}"),
            [] | [_] => {}
            several => rows.extend(several.iter().map(|(shader, ms)| dispatch_row(shader, *ms, all.ms))),
        }
    }
    write_columns(out, &rows, 3)?;
    kernels.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    let mut rows = vec![[&["kernel", "steps"].map(String::from)[..], &header].concat()];
    for (name, sum) in kernels.iter().map(|(name, sum)| (name.as_str(), sum)).chain([("all", &all)]) {
        rows.push([&[name.to_owned(), sum.steps.to_string()][..], &sum.cells(all.ms)].concat());
    }
    writeln!(out)?;
    write_columns(out, &rows, 1)?;
    Ok(writeln!(
        out,
        "medians; operations as the layer is defined, each byte of the arguments and the result counted once"
    )?)
}

/// One of several dispatches of the step above it.
fn dispatch_row(shader: &str, ms: f64, total: f64) -> Vec<String> {
    let share = if total > 0.0 { ms / total * 100.0 } else { 0.0 };
    let times = [format!("{ms:.3}"), format!("{share:.1} %")];
    let names = [String::new(), format!("  {shader}"), String::new()];
    names.into_iter().chain(times).chain(std::iter::repeat_n(String::new(), 4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dispatches_of_a_step_are_shown() {
        let step = |layer: &str, dispatches: Value| {
            json!({"kernel": "conv2d", "layer": layer, "shape": "3x3", "flops": 4e6, "bytes": 2e6, "ms": 2.0, "min_ms": 1.0,
                "dispatches": dispatches})
        };
        let two = json!([{"shader": "winograd_input", "ms": 1.5}, {"shader": "conv2d 32x32", "ms": 0.5}]);
        let steps = json!([
            step("a", two),
            step("b", json!([{"shader": "conv2d 64x64", "ms": 2.0}])),
            step("c", json!([])),
            step("d", json!([{"shader": "conv2d_matrix 64x64", "ms": 2.0}]))
        ]);
        let profile = json!({"instruction_set": "Vulkan", "peak_gflops": 4.0, "peak_matrix_gflops": 20.0, "peak_gbs": 2.0,
            "steps": steps});
        let mut out = Vec::new();
        write(&mut out, &json!({"model": "m", "device": "d", "batch": 1, "profile": profile})).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = |start: &str| {
            text.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"))
        };
        assert!(line("winograd_input ").contains("1.500") && line("conv2d 32x32 ").contains("6.2 %"), "{text}");
        assert!(text.contains("3x3 conv2d 64x64") && line("winograd_input + conv2d 32x32").contains("2.000"), "{text}");
        assert!(line("all").contains("8.000"), "{text}");
        // Of the peak of the matrix units.
        assert!(line("conv2d_matrix ").contains(" 10 %"), "{text}");
        let mut out = Vec::new();
        write(&mut out, &json!({"profile": {"unsupported": "no clock"}})).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\nthere is no profile: no clock\n");
    }
}
