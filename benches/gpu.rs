//! What a GPU does with the largest kernel and with uploads: products of growing size against the peak, and the rate at
//! which weights arrive beside plain copies.
//!
//! `cargo bench --bench gpu`, `-- --json` for one line of JSON; `SCONCE_ADAPTER` chooses the adapter. As a test everything
//! is small and runs once.
#![allow(clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;
mod timing;

use std::sync::Arc;

use common::made_input;
use sconce::checkpoint::{Storage, StoredTensor};
use sconce::{DType, Device, ErrorKind, Graph, Model, Peak, Precision, Result, Var};
use timing::is_measured;

fn main() -> Result<()> {
    let json = std::env::args().any(|arg| arg == "--json");
    let device = match Device::open("gpu") {
        Ok(device) => device,
        Err(error) if std::env::var("SCONCE_REQUIRE_GPU").is_ok_and(|value| value == "1") => return Err(error),
        Err(_) => {
            println!("skipped: there is no GPU");
            return Ok(());
        }
    };
    let peak = Peak::measure(&device)?;
    if !json {
        println!("{device}: {:.1} GFLOP/s, {:.1} GB/s at most", peak.flops / 1e9, peak.bytes / 1e9);
        if let Some(flops) = peak.matrix_flops {
            println!("  on matrix units {:.1} GFLOP/s", flops / 1e9);
        }
    }
    let mut gemm = Vec::new();
    for precision in [Precision::Exact, Precision::Fast, Precision::Half] {
        for size in if is_measured() { &[256, 512, 1024, 2048, 4096, 8192][..] } else { &[64, 256][..] } {
            // On a slow device the next size would take minutes.
            if 2.0 * f64::from(*size).powi(3) > peak.flops * 4.0 {
                break;
            }
            match product(&device, precision, *size as usize, &peak, json) {
                Err(error) if error.kind() == ErrorKind::Unsupported && precision != Precision::Exact => {
                    if !json {
                        println!("  no products in {precision}: {error}");
                    }
                    break;
                }
                row => gemm.push(row?),
            }
        }
    }
    let mut uploads = Vec::new();
    for what in ["f32", "f16", "f32 transposed"] {
        uploads.push(upload(&device, what, if is_measured() { 256 << 20 } else { 1 << 20 }, json)?);
    }
    if json {
        println!(
            r#"{{"peak_gflops": {:.3}, "peak_matrix_gflops": {}, "peak_gbs": {:.3}, "gemm": [{}], "upload": [{}]}}"#,
            peak.flops / 1e9,
            peak.matrix_flops.map_or("null".into(), |flops| format!("{:.3}", flops / 1e9)),
            peak.bytes / 1e9,
            gemm.join(", "),
            uploads.join(", ")
        );
    }
    Ok(())
}

/// A linear layer of `size` rows, features in and features out, timed by the device's own clock.
fn product(device: &Device, precision: Precision, size: usize, peak: &Peak, json: bool) -> Result<String> {
    let weight = stored(vec![0x3du8; size * size * 4], DType::F32, [size, size], [size, 1])?;
    let model = Model::from_fn(device, move |g: &mut Graph, x: &[Var]| {
        let weight = g.parameter("weight", &weight)?;
        Ok(vec![g.linear(x[0], weight, None)?])
    })
    .with_precision(precision);
    let x = made_input([size, size], 1.0);
    model.run(std::slice::from_ref(&x))?;
    let steps = model.profile(&[x], if is_measured() { 10 } else { 1 })?;
    let step = steps.iter().max_by_key(|step| step.flops).expect("a step");
    let gflops = step.flops as f64 / step.min_ms / 1e6;
    let shaders = step.dispatches.iter().map(|(shader, _)| shader.as_str()).collect::<Vec<_>>().join(" + ");
    let on_matrix_units = shaders.starts_with("conv2d_matrix");
    let part = gflops * 1e11 / peak.matrix_flops.filter(|_| on_matrix_units).unwrap_or(peak.flops);
    if !json {
        println!(
            "  product of {size:5} in {precision}: {:9.4} ms {gflops:10.1} GFLOP/s {part:5.1} % ({shaders})",
            step.min_ms
        );
    }
    let ms = step.min_ms;
    Ok(format!(
        r#"{{"m": {size}, "k": {size}, "n": {size}, "precision": "{precision}", "ms": {ms:.6}, "gflops": {gflops:.3}, "percent_of_peak": {part:.1}, "shaders": "{shaders}"}}"#
    ))
}

/// The weight of a linear layer on its way to the device: as the file has it, as halves, or with its columns as rows.
fn upload(device: &Device, what: &str, bytes: usize, json: bool) -> Result<String> {
    let dtype = if what == "f16" { DType::F16 } else { DType::F32 };
    let columns = 1024;
    let rows = bytes / columns / dtype.size();
    let transposed = what.ends_with("transposed");
    let strides = if transposed { [1, rows] } else { [columns, 1] };
    let weight = stored(vec![1u8; bytes], dtype, [rows, columns], strides)?;
    let x = made_input([1, columns], 1.0);
    let mut best = f64::MAX;
    for _ in 0..if is_measured() { 3 } else { 1 } {
        let weight = weight.clone();
        let model = Model::from_fn(device, move |g: &mut Graph, x: &[Var]| {
            let weight = g.parameter("weight", &weight)?;
            Ok(vec![g.linear(x[0], weight, None)?])
        });
        let plan = model.compile(&[(x.shape().clone(), x.dtype())])?;
        let upload = plan.upload.expect("a GPU");
        assert_eq!(upload.bytes, bytes as u64);
        best = best.min(upload.ms);
    }
    let gbs = bytes as f64 / best / 1e6;
    // What arrives are `f32`s.
    let rates = device.copy_rates((rows * columns * 4) as u64)?.expect("a GPU");
    let (fresh, warm) = (rates.fresh / 1e9, rates.warm / 1e9);
    if !json {
        println!(
            "  upload of {:4} MB, {what:14}: {gbs:6.2} GB/s; plain copies {fresh:.2}, {warm:.2}",
            bytes / 1_000_000
        );
    }
    Ok(format!(
        r#"{{"what": "{what}", "bytes": {bytes}, "gbs": {gbs:.4}, "fresh_gbs": {fresh:.4}, "warm_gbs": {warm:.4}}}"#
    ))
}

fn stored(bytes: Vec<u8>, dtype: DType, shape: [usize; 2], stride: [usize; 2]) -> Result<StoredTensor> {
    let storage: Arc<Storage> = Storage::owned(bytes, "cpu");
    StoredTensor::new(storage, dtype, shape, stride.to_vec(), 0)
}
