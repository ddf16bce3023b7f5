//! What a device cannot run is refused with the layer's name and the limit, before weights are brought there.

use std::cell::Cell;

use crate::backend::gpu::{Plan, Weights};
use crate::checkpoint::StoredTensor;
use crate::device::gpu::GpuOptions;
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::graph::step::Schedule;
use crate::graph::{ConvOptions, ConvTransposeOptions, Graph, Var, lower, optimize};

use super::on_every_gpu;

fn parameter(graph: &mut Graph, name: &str, shape: &[usize]) -> Var {
    let bytes = vec![0; shape.iter().product::<usize>() * 4];
    graph.parameter(name, &StoredTensor::from_bytes(DType::F32, shape, bytes).unwrap()).unwrap()
}

/// A linear layer, whose weight is uploaded, and what `then` makes of its 64 features.
fn after_a_layer(rows: usize, then: impl Fn(&mut Graph, Var) -> Var) -> Schedule {
    let mut graph = Graph::new();
    let x = graph.input([rows, 64].into(), DType::F32);
    let weight = parameter(&mut graph, "first.weight", &[64, 64]);
    let x = graph.linear(x, weight, None).unwrap();
    let y = then(&mut graph, x);
    graph.set_outputs(vec![y]);
    lower(&optimize(&graph).unwrap(), true, 4).unwrap()
}

/// What is too large in which layer, and what the error says about it.
fn refused() -> Vec<(&'static str, Schedule, &'static str)> {
    let wide = |graph: &mut Graph, x: Var| {
        let weight = parameter(graph, "wide.weight", &[2048, 64]);
        graph.linear(x, weight, None).unwrap()
    };
    let long = |graph: &mut Graph, x: Var| {
        let weight = parameter(graph, "long.weight", &[64, 32, 10, 10]);
        let x = graph.reshape(x, &[1, 64, 10, 10]).unwrap();
        graph.conv2d(x, weight, None, &ConvOptions { groups: 2, ..ConvOptions::default() }).unwrap()
    };
    let turned = |graph: &mut Graph, x: Var| {
        let weight = parameter(graph, "turned.weight", &[64, 70, 4, 4]);
        let x = graph.reshape(x, &[1, 64, 3, 1]).unwrap();
        graph.conv_transpose2d(x, weight, None, &ConvTransposeOptions::default()).unwrap()
    };
    let added = |graph: &mut Graph, x: Var| {
        let table = parameter(graph, "table", &[2000, 64]);
        let row = graph.mean(table, &[0], false).unwrap();
        graph.add(x, row).unwrap()
    };
    vec![
        ("mean` of `table", after_a_layer(3, added), "`table` takes 512000 bytes"),
        ("wide", after_a_layer(300, wide), "an activation takes 2457600 bytes"),
        ("long", after_a_layer(100, long), "rows of a weight that belong together take 409600 bytes"),
        ("index_select` of `turned.weight", after_a_layer(3, turned), "a computed table of 286720 bytes"),
    ]
}

#[test]
fn what_is_too_large_is_refused_by_name_before_the_upload() {
    for (layer, schedule, text) in refused() {
        on_every_gpu(GpuOptions { binding_bytes: Some(256 << 10), ..GpuOptions::default() }, |gpu| {
            let before = gpu.account().counts();
            let error = Plan::new(&schedule, &mut Weights::new(gpu)).err().unwrap_or_else(|| panic!("{layer} fits"));
            let message = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{message}");
            let parts = [&format!("layer `{layer}`: "), text, "binds at most 262144", "`--device cpu`"];
            assert!(parts.iter().all(|part| message.contains(*part)), "{layer}: {message}");
            let after = gpu.account().counts();
            // The arenas, and the status words of steps that may fail.
            let own = schedule.arenas.len() as u64 + 1;
            assert!(after.buffers - before.buffers <= own, "{layer}: more than {own} buffers");
            assert_eq!((after.submits, after.pipelines), (before.submits, before.pipelines), "{layer}");
            assert_eq!(gpu.account().memory().total(), 0, "{layer}");
        });
    }
}

/// What is computed from weights alone is cut as a run is.
#[test]
fn a_prologue_of_much_work_is_cut() {
    let schedule = after_a_layer(3, |graph, x| {
        let table = parameter(graph, "table", &[200, 64]);
        let row = graph.mean(table, &[0], false).unwrap();
        let row = graph.softmax(row, 0).unwrap();
        graph.add(x, row).unwrap()
    });
    assert!(schedule.prologue.len() >= 2, "{:?}", schedule.prologue);
    let submits = |submission_flops| {
        let submits = Cell::new(0);
        on_every_gpu(GpuOptions { submission_flops, ..GpuOptions::default() }, |gpu| {
            Plan::new(&schedule, &mut Weights::new(gpu)).unwrap();
            submits.set(submits.get() + gpu.account().counts().submits);
        });
        submits.get()
    };
    let (whole, cut) = (submits(None), submits(Some(1)));
    assert!(whole == 0 || cut > whole, "{cut} submissions, {whole} where it is whole");
}
