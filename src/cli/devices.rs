//! `sconce devices`: what models can run on.

use std::io;

use sconce::{Device, DeviceInfo, DeviceKind};
use serde_json::{Value, json};

use super::{Context, Result, Verdict};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let devices = Device::list();
    if args.json {
        let devices: Vec<Value> = devices.iter().map(to_json).collect();
        let text = serde_json::to_string_pretty(&json!({ "devices": devices })).map_err(io::Error::from)?;
        writeln!(context.out, "{text}")?;
        return Ok(Verdict::Done);
    }
    let width = devices.iter().map(|device| id(device).chars().count()).max().unwrap_or_default();
    for device in &devices {
        writeln!(context.out, "{:width$}  {}", id(device), describe(device))?;
    }
    if devices.iter().all(|device| matches!(device.kind, DeviceKind::Cpu | DeviceKind::Software)) {
        context.console.say("there is no GPU that sconce can use");
    }
    Ok(Verdict::Done)
}

/// What `--device` takes; a dash for an adapter without a number, which is taken by its name.
fn id(device: &DeviceInfo) -> &str {
    if device.id == device.name { "-" } else { &device.id }
}

fn describe(device: &DeviceInfo) -> String {
    let mut text = format!("{} ({}", device.name, device.backend);
    if device.kind != DeviceKind::Cpu {
        text += &format!(", {}", device.kind);
    }
    if !device.driver.is_empty() {
        text += &format!(", {}", device.driver);
    }
    text += ")";
    if let Some(reason) = &device.unsupported {
        text += &format!(": cannot be used: {reason}");
    } else if device.kind == DeviceKind::Software && device.id == device.name {
        text += ": taken only when it is named";
    }
    text
}

/// The keys are an interface: they stay.
fn to_json(device: &DeviceInfo) -> Value {
    json!({
        "id": device.id,
        "name": device.name,
        "kind": device.kind.name(),
        "backend": device.backend,
        "driver": device.driver,
        "limits": device.limits.map(|limits| json!({
            "buffer_bytes": limits.buffer_bytes,
            "binding_bytes": limits.binding_bytes,
            "workgroup_bytes": limits.workgroup_bytes,
            "workgroup_threads": limits.workgroup_threads,
            "f16": limits.f16,
            "timestamps": limits.timestamps,
        })),
        "unsupported": device.unsupported,
    })
}
