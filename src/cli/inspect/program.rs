//! The programs of a `.pt2` file: what they take, give, contain and cost.

use std::io::Write;

use sconce::{Checkpoint, Cost, DType, Device, Model, ProgramInfo, Shape, TensorInfo};
use serde_json::{Value as Json, json};

use super::super::{Result, text};

/// The programs in words.
pub(super) fn write(out: &mut dyn Write, checkpoint: &Checkpoint) -> Result<()> {
    for program in ProgramInfo::of(checkpoint)? {
        writeln!(out, "{}", program.to_string().lines().map(text::clean).collect::<Vec<_>>().join("\n"))?;
        match cost(checkpoint, &program) {
            Some(Ok((cost, shapes))) => {
                let (flops, bytes) = (flops(cost.flops), text::bytes(cost.bytes));
                let steps = text::count(cost.steps, "step");
                writeln!(out, "  a run at {shapes}: {flops}, {bytes} read and written, {steps}")?;
            }
            Some(Err(error)) => {
                let error = error.to_string();
                writeln!(
                    out,
                    "  it does not run: {}",
                    error.lines().map(text::clean).collect::<Vec<_>>().join("\n  ")
                )?;
            }
            None => {}
        }
    }
    Ok(())
}

/// The programs as the value of `programs`.
pub(super) fn json(checkpoint: &Checkpoint) -> Result<Json> {
    let row = |program: ProgramInfo| {
        let ops = program.ops.iter();
        let ops: Vec<_> =
            ops.map(|op| json!({"name": op.name, "count": op.count, "supported": op.is_supported})).collect();
        let (cost, error) = match cost(checkpoint, &program) {
            Some(Ok((cost, _))) => (json!({"flops": cost.flops, "bytes": cost.bytes, "steps": cost.steps}), Json::Null),
            Some(Err(error)) => (Json::Null, json!(error.to_string())),
            None => (Json::Null, Json::Null),
        };
        json!({
            "name": program.name,
            "torch": program.torch_version,
            "form": if program.is_training_ir { "exported" } else { "decomposed" },
            "inputs": program.inputs.iter().map(tensor).collect::<Vec<_>>(),
            "outputs": program.outputs.iter().map(tensor).collect::<Vec<_>>(),
            "ops": ops,
            "cost": cost,
            "error": error,
        })
    };
    Ok(ProgramInfo::of(checkpoint)?.into_iter().map(row).collect())
}

fn tensor(info: &TensorInfo) -> Json {
    let TensorInfo { name, shape, exported, ranges, .. } = info;
    json!({"name": name, "dtype": info.dtype.name(), "shape": shape, "exported": exported, "ranges": ranges})
}

/// What a run at the sizes of the export takes, and those sizes; nothing when the file does not say them.
fn cost(checkpoint: &Checkpoint, program: &ProgramInfo) -> Option<sconce::Result<(Cost, String)>> {
    let input = |info: &TensorInfo| Some((Shape::from(info.exported.clone()?), info.dtype));
    let inputs: Vec<(Shape, DType)> = program.inputs.iter().map(input).collect::<Option<_>>()?;
    let shapes = inputs.iter().map(|(shape, _)| shape.to_string()).collect::<Vec<_>>().join(", ");
    let model = Model::from_checkpoint(checkpoint, Some(&program.name), &Device::cpu());
    Some(model.and_then(|model| model.cost(&inputs)).map(|cost| (cost, shapes)))
}

/// `3.64 GFLOP`.
fn flops(flops: u64) -> String {
    let flops = flops as f64;
    match flops {
        0.0..1e6 => format!("{:.1} kFLOP", flops / 1e3),
        1e6..1e9 => format!("{:.2} MFLOP", flops / 1e6),
        _ => format!("{:.2} GFLOP", flops / 1e9),
    }
}
