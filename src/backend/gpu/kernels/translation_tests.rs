//! Every program becomes MSL, HLSL and SPIR-V, as wgpu makes it for Metal, DX12 and Vulkan: what only a Mac or a
//! Windows machine would refuse is seen here.

use std::collections::{BTreeMap, HashSet};

use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::ModuleInfo;
use naga::{Module, ShaderStage};

use super::tests::{dispatches, files, has_matrices, validated};
use crate::backend::gpu::peak::matrix_dispatch;

/// Metal on macOS 11 and iOS 14, the oldest that wgpu runs on with what the shaders need.
const MSL: (u8, u8) = (2, 3);
/// A Metal stage has 31 buffers; wgpu takes one for the sizes of runtime arrays.
const MSL_BUFFERS: u8 = 30;

fn to_msl(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let mut resources = msl::EntryPointResources::default();
    let mut next = 0;
    let mut slot = || {
        next += 1;
        next - 1
    };
    for (_, variable) in module.global_variables.iter() {
        match (&variable.binding, variable.space) {
            (Some(binding), naga::AddressSpace::Storage { access }) => {
                let target = msl::BindTarget {
                    buffer: Some(slot()),
                    mutable: access.contains(naga::StorageAccess::STORE),
                    ..Default::default()
                };
                resources.resources.insert(*binding, target);
            }
            (_, naga::AddressSpace::Immediate) => resources.immediates_buffer = Some(slot()),
            _ => {}
        }
    }
    resources.sizes_buffer = Some(slot());
    if next > MSL_BUFFERS {
        return Err(format!("{next} buffers"));
    }
    let options = msl::Options {
        lang_version: MSL,
        per_entry_point_map: BTreeMap::from([("main".to_owned(), resources)]),
        fake_missing_bindings: false,
        ..Default::default()
    };
    let pipeline =
        msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())), ..Default::default() };
    let (text, made) = msl::write_string(module, info, &options, &pipeline).map_err(|e| e.to_string())?;
    made.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text)
}

fn to_hlsl(module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let mut options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        fake_missing_bindings: false,
        immediates_target: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
        ..Default::default()
    };
    for (_, variable) in module.global_variables.iter() {
        if let Some(binding) = variable.binding {
            options.binding_map.insert(binding, hlsl::BindTarget { register: binding.binding, ..Default::default() });
        }
    }
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())) };
    let mut text = String::new();
    let made =
        hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    made.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text)
}

fn to_spirv(module: &Module, info: &ModuleInfo) -> Result<Vec<u32>, String> {
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(module, info, &spv::Options::default(), Some(&pipeline)).map_err(|e| e.to_string())
}

#[test]
fn every_program_translates() {
    let whole = files().into_iter().map(|(name, source)| (name, source, Vec::new()));
    let peaks = [8, 16].map(matrix_dispatch).map(|dispatch| (String::new(), dispatch));
    let selected = dispatches().into_iter().chain(peaks).map(|(name, dispatch)| {
        let constants = dispatch.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        (name, dispatch.shader.source.to_string(), constants)
    });
    let mut seen = HashSet::new();
    for (name, source, constants) in whole.chain(selected) {
        if !seen.insert((source.clone(), format!("{constants:?}"))) {
            continue;
        }
        let (module, info) = validated(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
        let constants = constants.into_iter().collect();
        let main = Some((ShaderStage::Compute, "main"));
        let (module, info) = pipeline_constants::process_overrides(&module, &info, main, &constants)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        // Metal has matrices of 8 rows, DX12 none that wgpu knows.
        if !source.contains("coop_mat16x16") {
            let msl = to_msl(&module, &info).unwrap_or_else(|error| panic!("{name}: MSL: {error}\n{source}"));
            assert!(msl.contains("kernel void main_("), "{name}: {msl}");
            assert_eq!(msl.contains("simdgroup_half8x8"), has_matrices(&source), "{name}: {msl}");
        }
        if !has_matrices(&source) {
            let hlsl = to_hlsl(&module, &info).unwrap_or_else(|error| panic!("{name}: HLSL: {error}\n{source}"));
            assert!(hlsl.contains("[numthreads("), "{name}: {hlsl}");
        }
        let spirv = to_spirv(&module, &info).unwrap_or_else(|error| panic!("{name}: SPIR-V: {error}\n{source}"));
        assert_eq!(spirv[0], 0x0723_0203, "{name}");
    }
    assert!(seen.len() > 50, "{} programs", seen.len());
}

/// A program that Metal has no room for is refused.
#[test]
fn too_many_buffers_are_seen() {
    use std::fmt::Write as _;
    let mut source = String::new();
    for i in 0..32 {
        writeln!(source, "@group(0) @binding({i}) var<storage, read_write> b{i}: array<u32>;").unwrap();
    }
    let sum: Vec<String> = (0..32).map(|i| format!("b{i}[0]")).collect();
    write!(source, "@compute @workgroup_size(1) fn main() {{ b0[1] = {}; }}", sum.join(" + ")).unwrap();
    let (module, info) = validated(&source).unwrap();
    assert_eq!(to_msl(&module, &info).unwrap_err(), "33 buffers");
    assert!(to_hlsl(&module, &info).is_ok());
}
