//! `sconce devices`: what models can run on.

use std::io::{self, Write};

use sconce::{Device, DeviceInfo, DeviceKind};
use serde_json::{Value, json};

use super::{Context, Result, Verdict};

/// The first column is what `--device` takes. A software adapter has no number: it is taken only when it is named, or
/// when the environment variable SCONCE_ADAPTER holds a part of its name.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let devices = Device::list();
    if args.json {
        let list: Vec<Value> = devices.iter().map(to_json).collect();
        let text = serde_json::to_string_pretty(&json!({ "devices": list })).map_err(io::Error::from)?;
        writeln!(context.out, "{text}")?;
    } else {
        write_table(context.out, &devices)?;
    }
    Ok(Verdict::Done)
}

fn to_json(info: &DeviceInfo) -> Value {
    json!({
        "id": info.id,
        "name": info.name,
        "kind": info.kind.name(),
        "backend": info.backend,
        "driver": info.driver,
        "unsupported": info.unsupported,
        "limits": info.limits.map(|limits| json!({
            "buffer_bytes": limits.buffer_bytes,
            "binding_bytes": limits.binding_bytes,
            "workgroup_bytes": limits.workgroup_bytes,
            "workgroup_threads": limits.workgroup_threads,
            "f16": limits.f16,
            "timestamps": limits.timestamps,
        })),
    })
}

fn write_table(out: &mut dyn Write, devices: &[DeviceInfo]) -> io::Result<()> {
    let rows: Vec<[&str; 5]> = devices.iter().map(row).collect();
    let header = ["DEVICE", "KIND", "BACKEND", "NAME", "DRIVER"];
    let mut widths = header.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    for info in devices {
        if let Some(why) = &info.unsupported {
            writeln!(out, "models cannot run on {}: {why}", info.name)?;
        }
    }
    Ok(())
}

fn row(info: &DeviceInfo) -> [&str; 5] {
    // A device without a number is opened by its name, which stands in the row already.
    let id = if info.id == info.name { "-" } else { &info.id };
    let driver = if info.kind == DeviceKind::Cpu { "" } else { info.driver.as_str() };
    [id, info.kind.name(), info.backend, &info.name, driver]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_listed_both_ways() {
        let devices = Device::list();
        let mut text = Vec::new();
        write_table(&mut text, &devices).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().split_whitespace().next(), Some("DEVICE"));
        assert!(lines.next().unwrap().starts_with("cpu"), "{text}");
        assert_eq!(to_json(&devices[0])["kind"], "cpu");
        assert_eq!(to_json(&devices[0])["limits"], Value::Null);
    }
}
