//! Every shader is a program that naga and tint accept, every selection fits its shader and the limits, and every
//! reference case gets the right answer on every adapter.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::winograd::LEAST_PRODUCTS;
use super::{Caps, select_for};
use crate::backend::cases::{self, Case, Data};
use crate::backend::gpu::dispatch::{Binding, Dispatch, Selection};
use crate::backend::gpu::pipeline::Pipelines;
use crate::backend::gpu::tests::on_every_gpu;
use crate::backend::gpu::{Plan, Weights};
use crate::backend::lowered::schedule_of;
use crate::device::gpu::{Gpu, GpuOptions};
use crate::dtype::Precision;
use crate::error::Result;
use crate::graph::step::Kernel;

/// The limits that every device has.
pub(super) const SMALL: Caps = Caps {
    is_software: false,
    max_binding: 128 << 20,
    max_groups: 65535,
    submission_flops: u64::MAX,
    max_buffers: 8,
    enough_groups: 128,
    least_steps: 8,
    least_winograd: usize::MAX,
    half: false,
    matrices: None,
    choice: None,
    emulated: None,
};

/// Adapters of every kind: one with limits that force weights and grids to be cut, one that small layers fill, one that
/// nothing fills, so that every sum is split, such that take Winograd wherever they can, and such of lower precision.
const KINDS: [Caps; 21] = [
    SMALL,
    Caps { is_software: true, ..SMALL },
    Caps { max_binding: 16 << 10, max_groups: 7, ..SMALL },
    Caps { enough_groups: 0, ..SMALL },
    Caps { enough_groups: 1 << 20, least_steps: 1, ..SMALL },
    Caps { least_winograd: 0, ..SMALL },
    Caps { least_winograd: 0, is_software: true, ..SMALL },
    Caps { half: true, enough_groups: 1 << 20, least_steps: 1, ..SMALL },
    Caps { half: true, is_software: true, ..SMALL },
    Caps { matrices: Some(16), ..SMALL },
    Caps { matrices: Some(16), half: true, ..SMALL },
    Caps { matrices: Some(16), enough_groups: 0, ..SMALL },
    Caps { matrices: Some(16), enough_groups: 0, half: true, ..SMALL },
    Caps { matrices: Some(16), enough_groups: 1 << 20, least_steps: 1, ..SMALL },
    Caps { matrices: Some(16), enough_groups: 1 << 20, least_steps: 1, half: true, ..SMALL },
    Caps { matrices: Some(8), ..SMALL },
    Caps { matrices: Some(8), half: true, ..SMALL },
    Caps { matrices: Some(8), enough_groups: 0, ..SMALL },
    Caps { matrices: Some(8), enough_groups: 0, half: true, ..SMALL },
    Caps { matrices: Some(8), enough_groups: 1 << 20, least_steps: 1, ..SMALL },
    Caps { matrices: Some(8), enough_groups: 1 << 20, least_steps: 1, half: true, ..SMALL },
];

pub(super) fn files() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

pub(super) fn validated(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    let info =
        Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// The dispatches of every case for every kind of adapter; a case that a kind refuses is left out.
pub(super) fn dispatches() -> Vec<(String, Dispatch)> {
    let mut all = Vec::new();
    for case in cases::all() {
        let schedule = case.schedule();
        for caps in &KINDS {
            for step in &schedule.steps {
                if let Ok(selection) = select_for(step, &schedule.buffers, caps) {
                    check_packs(&case.name, &selection, caps);
                    check_grids(&case.name, &selection, caps);
                    all.extend(selection.dispatches.into_iter().map(|dispatch| (case.name.clone(), dispatch)));
                }
            }
        }
    }
    all
}

fn check_packs(name: &str, selection: &Selection, caps: &Caps) {
    for pack in &selection.packs {
        let bytes = pack.packed_len() as u64 * 4;
        assert!(bytes <= caps.max_binding, "{name}: {pack:?} takes {bytes} bytes");
        let dims: BTreeSet<usize> = pack.order.iter().copied().collect();
        assert!(dims == (0..pack.shape.len()).collect() && dims.len() == pack.order.len(), "{name}: {pack:?}");
        assert!(pack.channels.end <= pack.shape[pack.channel_dim] && !pack.channels.is_empty(), "{name}: {pack:?}");
    }
}

fn check_grids(name: &str, selection: &Selection, caps: &Caps) {
    for dispatch in &selection.dispatches {
        let fits = dispatch.grid.iter().all(|groups| (1..=caps.max_groups).contains(groups));
        assert!(fits, "{name}: grid {:?}", dispatch.grid);
        assert!(dispatch.bindings.len() <= caps.max_buffers as usize, "{name}: {} bindings", dispatch.bindings.len());
    }
}

#[test]
fn naga_accepts_every_file() {
    let files = files();
    assert!(files.len() >= 15, "{} shaders", files.len());
    for (name, source) in &files {
        let (module, _) = validated(source).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(module.entry_points.len() == 1 && module.entry_points[0].name == "main", "{name}");
    }
    assert!(validated("fn main() -> u32 { return 1.0; }").is_err());
}

/// Common functions are repeated in every file that needs them, word for word.
#[test]
fn common_functions_are_identical() {
    let mut seen: HashMap<String, (String, String)> = HashMap::new();
    let mut shared = HashSet::new();
    for (file, source) in files() {
        for part in source.split("\nfn ").skip(1) {
            let name = part.split('(').next().unwrap().to_owned();
            let body = part.split("\n}\n").next().unwrap().to_owned();
            // These differ with what their file computes.
            let own = [
                "main", "finish", "pixel_at", "tap_at", "larger", "store", "fetch", "fetch_x", "fetch_w", "only_x",
                "only_w",
            ];
            if own.contains(&name.as_str()) {
                continue;
            }
            let (first, text) = seen.entry(name.clone()).or_insert_with(|| (file.clone(), body.clone()));
            assert_eq!(*text, body, "`{name}` in `{first}` and `{file}`");
            if *first != file {
                shared.insert(name);
            }
        }
    }
    assert!(shared.contains("unary") && shared.contains("dot_add") && shared.contains("load_x"), "{shared:?}");
}

/// The shaders that no step of a plan selects: they prepare weights, and measure the device.
const NO_STEP: [&str; 5] = ["pack", "winograd_weight", "peak_read", "peak_flops", "peak_matrix"];

/// Every selection sets overrides that its shader has, all of its parameters, and binds what it declares.
#[test]
fn selections_fit_their_shaders() {
    let mut modules = HashMap::new();
    let mut names = HashSet::new();
    for (name, dispatch) in dispatches() {
        let source = dispatch.shader.source.to_string();
        let (module, info) = modules
            .entry(source.clone())
            .or_insert_with(|| validated(&source).unwrap_or_else(|error| panic!("{name}: {error}\n{source}")));
        names.insert(dispatch.shader.name);
        let constants = dispatch.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let main = Some((naga::ShaderStage::Compute, "main"));
        let (folded, _) = naga::back::pipeline_constants::process_overrides(module, info, main, &constants)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let entry = &folded.entry_points[0];
        let threads: u32 = entry.workgroup_size.iter().product();
        assert!((1..=256).contains(&threads), "{name}: {threads} threads");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(folded.to_ctx()).unwrap();
        let mut workgroup = 0;
        let mut bindings = HashMap::new();
        for (_, variable) in folded.global_variables.iter() {
            match variable.space {
                naga::AddressSpace::WorkGroup => workgroup += layouter[variable.ty].size,
                naga::AddressSpace::Immediate => {
                    let bytes = layouter[variable.ty].size;
                    assert_eq!(dispatch.immediates.len() * 4, bytes as usize, "{name}: {}", dispatch.shader.name);
                    assert!(bytes <= 128, "{name}: {bytes} bytes of parameters");
                }
                naga::AddressSpace::Storage { access } => {
                    let binding = variable.binding.as_ref().expect("storage is bound");
                    bindings.insert(binding.binding as usize, access.contains(naga::StorageAccess::STORE));
                }
                _ => {}
            }
        }
        let room = if dispatch.shader.name == "conv2d_matrix" { 28 << 10 } else { 16 << 10 };
        assert!(workgroup <= room, "{name}: {workgroup} bytes of workgroup memory");
        assert_eq!(bindings.len(), dispatch.bindings.len(), "{name}: {}", dispatch.shader.name);
        for (i, binding) in dispatch.bindings.iter().enumerate() {
            let writes = !matches!(binding, Binding::Read(_) | Binding::Packed(_) | Binding::ReadScratch(_));
            assert_eq!(bindings.get(&i), Some(&writes), "{name}: binding {i} of {}", dispatch.shader.name);
        }
    }
    let all: HashSet<String> = files().into_iter().map(|(name, _)| name).collect();
    let unused: Vec<&String> =
        all.iter().filter(|name| !names.contains(name.as_str()) && !NO_STEP.contains(&name.as_str())).collect();
    assert!(unused.is_empty(), "no case selects {unused:?}");
}

/// Matrices are an extension of wgpu, for Vulkan and Metal.
pub(super) fn has_matrices(source: &str) -> bool {
    source.contains("enable wgpu_cooperative_matrix;")
}

/// tint is the WGSL compiler of Chrome, and stricter than naga in places.
#[test]
#[allow(clippy::print_stderr)]
fn tint_accepts_every_program() {
    let tint = |source: &str, constants: &[(&str, f64)]| {
        let path = std::env::temp_dir().join(format!("sconce-{}.wgsl", std::process::id()));
        std::fs::write(&path, source).unwrap();
        let overrides: Vec<String> = constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = std::process::Command::new("tint");
        command.arg("--format").arg("wgsl");
        if !overrides.is_empty() {
            command.arg("--overrides").arg(overrides.join(","));
        }
        command.arg(&path).output()
    };
    if tint("", &[]).is_err() {
        eprintln!("skipped: tint is not installed");
        return;
    }
    let accepts = |source: &str, constants: &[(&str, f64)]| {
        let output = tint(source, constants).unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    };
    assert!(accepts("fn main() -> u32 { return 1.0; }", &[]).is_err());
    for (name, source) in files().into_iter().filter(|(_, source)| !has_matrices(source)) {
        accepts(&source, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut seen = HashSet::new();
    for (name, dispatch) in dispatches().into_iter().filter(|(_, dispatch)| !has_matrices(&dispatch.shader.source)) {
        if seen.insert((dispatch.shader.source.to_string(), format!("{:?}", dispatch.constants))) {
            let source = &dispatch.shader.source;
            accepts(source, &dispatch.constants).unwrap_or_else(|error| panic!("{name}: {error}\n{source}"));
        }
    }
}

fn answer(gpu: &Arc<Gpu>, case: &Case, precision: Precision) -> Result<(), String> {
    let run = || -> Result<_> {
        let mut plan = Plan::new(&case.schedule(), &mut Weights::untested(gpu, precision))?;
        plan.run(&case.tensors())
    };
    match run() {
        Ok(outputs) => case.check(&outputs[0]),
        Err(error) => Err(format!("{}: {error}", case.name)),
    }
}

/// Runs the cases on every adapter, with other capabilities than it has where `change` makes some.
fn run_all(change: impl Fn(&mut Caps), take: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = cases::all().into_iter().filter(take).collect();
    run_cases(change, &cases, Precision::Exact);
}

pub(super) fn run_cases(change: impl Fn(&mut Caps), cases: &[Case], precision: Precision) {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let mut caps = Caps::new(gpu);
        change(&mut caps);
        Pipelines::of(gpu).caps.set(caps).expect("nothing was selected before");
        let wrong: Vec<String> = cases.iter().filter_map(|case| answer(gpu, case, precision).err()).collect();
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    });
}

#[test]
fn every_case_is_right() {
    run_all(|_| {}, |_| true);
}

/// The cases take every tile of `conv2d`, with and without split sums, by single elements and by quads.
#[test]
fn every_tile_has_a_case() {
    let mut seen = BTreeSet::new();
    for (_, dispatch) in dispatches().iter().filter(|(_, dispatch)| dispatch.shader.name == "conv2d") {
        let number = |name: &str| dispatch.constants.iter().find(|(n, _)| *n == name).expect("it is set").1 as u32;
        seen.insert((number("TM"), number("TN"), number("SPLIT"), number("WIDE")));
    }
    let tiles = [(128, 128), (64, 64), (64, 32), (32, 64), (32, 32)];
    for (tile, wide) in tiles.iter().flat_map(|tile| [(tile, 0), (tile, 1)]) {
        assert!(seen.contains(&(tile.0, tile.1, 0, wide)), "{tile:?} {wide}: {seen:?}");
    }
    assert!(seen.contains(&(32, 32, 1, 0)) && seen.contains(&(32, 32, 1, 1)), "{seen:?}");
}

/// The cases take every variant of the shader for matrix units, so that each is validated and translated: both sizes of
/// matrices, both tiles, with and without split sums, by single elements and by quads, in f32 and in f16.
#[test]
fn every_variant_of_matrices_has_a_case() {
    let mut seen = BTreeSet::new();
    for (_, dispatch) in dispatches().iter().filter(|(_, dispatch)| dispatch.shader.name == "conv2d_matrix") {
        let number = |name: &str| dispatch.constants.iter().find(|(n, _)| *n == name).expect("it is set").1 as u32;
        let half = dispatch.shader.source.contains("alias S = f16;");
        seen.insert((number("SIDE"), number("COLUMNS"), number("SPLIT"), number("WIDE"), half));
    }
    // Only the small tile is too little for a GPU, so that sums are split.
    for (side, (columns, split), wide) in [8, 16].into_iter().flat_map(|side| {
        [(4, 0), (2, 0), (2, 1)].into_iter().flat_map(move |tile| [0, 1].map(|wide| (side, tile, wide)))
    }) {
        let has = |half: bool| seen.contains(&(side, columns, split, wide, half));
        assert!(has(false) && has(true), "{side} {columns} {split} {wide}: {seen:?}");
    }
}

/// The kernels for GPUs give the right answers on software adapters too, with the largest tiles and with the smallest
/// ones and split sums.
#[test]
fn gpu_kernels_are_right() {
    let matters = |case: &Case| matches!(case.kernel, Kernel::Conv2d(_) | Kernel::Linear(_) | Kernel::Matmul(_));
    for (enough_groups, least_steps) in [(128, 8), (0, 1), (1 << 20, 1)] {
        let change = |caps: &mut Caps| *caps = Caps { is_software: false, enough_groups, least_steps, ..*caps };
        run_all(change, matters);
    }
}

/// Winograd, wherever it can be taken, on the kernels for GPUs and on those for software.
#[test]
fn winograd_is_right() {
    let squares = |case: &Case| matches!(&case.kernel, Kernel::Conv2d(conv) if conv.kernel == [3, 3]);
    let is_winograd = |(_, dispatch): &&(String, Dispatch)| dispatch.shader.name == "winograd_output";
    let taken: HashSet<String> = dispatches().iter().filter(is_winograd).map(|(name, _)| name.clone()).collect();
    assert!(taken.len() >= 20, "{taken:?}");
    for is_software in [false, true] {
        run_all(|caps| *caps = Caps { is_software, least_winograd: 0, ..*caps }, squares);
    }
}

/// Winograd's sums of many channels stay far below an error of 2e-5 of the largest output.
#[test]
fn winograd_is_exact_enough() {
    let deep = [64, 256, 512, 1024].map(|c_in| cases::square_conv2d(c_in, 12, [9, 10]));
    on_every_gpu(GpuOptions::default(), |gpu| {
        Pipelines::of(gpu).caps.set(Caps { least_winograd: 0, ..Caps::new(gpu) }).expect("nothing was selected before");
        for case in &deep {
            let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
            assert_eq!(plan.dispatches(), 3, "{}", case.name);
            let got = plan.run(&case.tensors()).unwrap()[0].to_f32().unwrap();
            let want = case.expected();
            let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            let error =
                got.iter().zip(&want).fold(0.0f64, |most, (got, want)| most.max((f64::from(*got) - want).abs()));
            assert!(error < 5e-6 * largest, "{}: {error} of {largest}", case.name);
        }
    });
}

/// Pixels and weights that are not finite make of the pixels that they reach what the definition makes of them, and leave
/// the others alone.
#[test]
fn winograd_of_what_is_not_finite_is_right() {
    let make = |name: &str, change: &dyn Fn(&mut [f32], &mut [f32])| {
        let mut case = cases::square_conv2d(16, 12, [9, 10]);
        let [x, weight] = &mut case.inputs[..] else { unreachable!("no bias") };
        let (Data::F32(x), Data::F32(weight)) = (&mut x.data, &mut weight.data) else { unreachable!("floats") };
        change(x, weight);
        case.name = name.into();
        case
    };
    let at = |row: usize, column: usize| (row * 10 + column) * 16 + 5;
    let cases = [
        make("an infinity", &|x, _| x[at(4, 5)] = f32::INFINITY),
        make("infinities of both signs", &|x, _| {
            (x[at(0, 0)], x[at(3, 3)], x[at(4, 5) + 1]) = (f32::NEG_INFINITY, f32::INFINITY, f32::NEG_INFINITY);
        }),
        make("NaN", &|x, _| x[at(8, 9)] = f32::NAN),
        make("infinities everywhere", &|x, _| x.fill(f32::INFINITY)),
        make("weights of zero", &|x, weight| {
            x[at(4, 4)] = f32::INFINITY;
            weight.iter_mut().step_by(2).for_each(|weight| *weight = 0.0);
        }),
        make("an infinite weight", &|_, weight| weight[(3 * 16 + 5) * 9 + 4] = f32::INFINITY),
    ];
    let finite = |case: &Case| case.expected().iter().filter(|y| y.is_finite()).count();
    assert!((1..9 * 10 * 12).contains(&finite(&cases[0])) && finite(&cases[3]) == 0);
    for is_software in [false, true] {
        let caps = Caps { is_software, least_winograd: 0, ..SMALL };
        let schedule = cases[0].schedule();
        assert_eq!(select_for(&schedule.steps[0], &schedule.buffers, &caps).unwrap().dispatches.len(), 3);
        run_cases(|caps| *caps = Caps { is_software, least_winograd: 0, ..*caps }, &cases, Precision::Exact);
    }
}

/// What a run takes on GPUs, where Winograd adds dispatches: `docs/performance.md` tells these numbers.
#[test]
fn dispatches_on_gpus_are_known() {
    let caps = Caps { least_winograd: LEAST_PRODUCTS, ..SMALL };
    let counts = [("resnet50", 224), ("vit_b_16", 224), ("mlp", 784)].map(|(name, size)| {
        let schedule = schedule_of(name, size);
        let select = |step| select_for(step, &schedule.buffers, &caps).unwrap().dispatches.len();
        schedule.steps.iter().map(select).sum::<usize>()
    });
    assert_eq!(counts, [57, 91, 3]);
}

/// Workgroups that share a sum meet in another order at every run, and the answer is the same to the last bit, but for those
/// of NaN: also where sums are zeros or infinities, with any number of parts, and where channels are cut.
#[test]
fn split_sums_are_the_same_every_time() {
    // With the parts that the sums are split into.
    let shapes = [
        (4, 5, [3, 3], 3),
        (8, 33, [9, 8], 5),
        (12, 70, [7, 7], 7),
        (32, 7, [5, 6], 9),
        (64, 40, [9, 10], 12),
        (28, 150, [4, 4], 16),
    ];
    for (submission_flops, most) in [(u64::MAX, 1), (1, 2)] {
        let caps = Caps { enough_groups: 1 << 20, least_steps: 1, submission_flops, ..SMALL };
        let cases = shapes.map(|(c_in, c_out, size, parts)| {
            let mut case = cases::square_conv2d(c_in, c_out, size);
            let Data::F32(x) = &mut case.inputs[0].data else { unreachable!("floats") };
            // The outputs of the first row are zeros but for the last pixels.
            x[..2 * size[1] * c_in].fill(0.0);
            x[2 * size[1] * c_in - 1] = f32::NAN;
            x[2 * size[1] * c_in + 1] = f32::INFINITY;
            let schedule = case.schedule();
            let dispatches = select_for(&schedule.steps[0], &schedule.buffers, &caps).unwrap().dispatches;
            assert_eq!(dispatches.len(), if c_out > 128 { most } else { 1 }, "{}", case.name);
            assert!(dispatches.iter().all(|dispatch| dispatch.grid[2] == parts), "{}", case.name);
            case
        });
        same_every_time(caps, &cases, Precision::Exact, 20);
    }
}

/// Runs each case so often with these capabilities.
pub(super) fn same_every_time(caps: Caps, cases: &[Case], precision: Precision, runs: usize) {
    on_every_gpu(GpuOptions::default(), |gpu| {
        Pipelines::of(gpu).caps.set(caps).expect("nothing was selected before");
        for case in cases {
            let mut plan = Plan::new(&case.schedule(), &mut Weights::untested(gpu, precision)).unwrap();
            let mut first: Option<Vec<u32>> = None;
            for run in 0..runs {
                let output = plan.run(&case.tensors()).unwrap().remove(0);
                case.check(&output).unwrap_or_else(|error| panic!("run {run}: {error}"));
                let bits = |y: f32| if y.is_nan() { u32::MAX } else { y.to_bits() };
                let bits: Vec<u32> = output.to_f32().unwrap().into_iter().map(bits).collect();
                assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{}: run {run} differs", case.name);
            }
        }
    });
}

/// Channels that are no multiple of 4 are read four at a time: what lies in the next pixel is none of theirs.
#[test]
fn neighbours_of_the_last_channel_do_not_count() {
    let cases: Vec<Case> = (1..8)
        .map(|c_in| {
            let mut case = cases::square_conv2d(c_in, 9, [4, 7]);
            let Data::F32(x) = &mut case.inputs[0].data else { unreachable!("floats") };
            x[13 * c_in..14 * c_in].fill(f32::INFINITY);
            case.name = format!("an infinite pixel of {c_in} channels");
            case
        })
        .collect();
    for caps in [SMALL, Caps { is_software: true, ..SMALL }, Caps { enough_groups: 1 << 20, least_steps: 1, ..SMALL }] {
        run_cases(|own| *own = Caps { max_binding: own.max_binding, ..caps }, &cases, Precision::Exact);
    }
}

/// Products of drawn shapes. `SCONCE_DRAWS` asks for more of them, and for others.
pub(super) fn drawn() -> Vec<Case> {
    match std::env::var("SCONCE_DRAWS") {
        Ok(count) => cases::drawn(&format!("{:?}", std::time::SystemTime::now()), count.parse().expect("a number")),
        Err(_) => cases::drawn("drawn", 40),
    }
}

/// On the kernels for software and on those for GPUs: with split sums, with Winograd, with weights and grids that are cut.
#[test]
fn drawn_products_are_right() {
    let all = drawn();
    for caps in [
        Caps { is_software: true, ..SMALL },
        Caps { enough_groups: 0, ..SMALL },
        Caps { enough_groups: 1 << 20, least_steps: 1, ..SMALL },
        Caps { least_winograd: 0, ..SMALL },
        Caps { max_groups: 64, submission_flops: 1, ..SMALL },
    ] {
        run_cases(|own| *own = Caps { max_binding: own.max_binding, ..caps }, &all, Precision::Exact);
    }
}

/// What a software adapter would answer wrongly is refused there, and what is long is done by many threads.
#[test]
fn long_loops_are_right_or_refused() {
    let all = cases::long();
    run_cases(|_| {}, &all, Precision::Exact);
    let mut long = all.into_iter().find(|case| matches!(case.kernel, Kernel::Attention(_))).expect("attention");
    let Kernel::Attention(step) = &mut long.kernel else { unreachable!("just found") };
    step.kv_len *= 2;
    let schedule = long.schedule();
    let select = |is_software| select_for(&schedule.steps[0], &schedule.buffers, &Caps { is_software, ..SMALL });
    assert!(select(false).is_ok());
    let error = select(true).unwrap_err().to_string();
    assert!(error.contains("rounds of a loop"), "{error}");
}
