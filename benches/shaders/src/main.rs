//! What a Vulkan driver's compiler makes of a shader: registers, spills, threads at once, instructions.
//!
//! `cargo run --release -- ../../shaders/conv2d.wgsl TM=64 TN=64`: the shader, and the values of its overrides. With
//! `--text` what the driver shows of its work follows, down to the machine's instructions. Mesa's driver for AMD needs no
//! card: `RADV_FORCE_FAMILY=navi21 VK_DRIVER_FILES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json`.

use std::error::Error;
use std::ffi::CStr;

use ash::{khr, vk};
use naga::back::spv::{self, ZeroInitializeWorkgroupMemoryMode};
use naga::back::{PipelineConstants, pipeline_constants};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let wants_text = args.iter().any(|arg| arg == "--text");
    args.retain(|arg| arg != "--text");
    let [path, values @ ..] = &args[..] else {
        return Err("usage: shader-statistics [--text] FILE.wgsl NAME=VALUE...".into());
    };
    let mut constants = PipelineConstants::default();
    for value in values {
        let (name, value) = value.split_once('=').ok_or_else(|| format!("`{value}` is not NAME=VALUE"))?;
        constants.insert(name.to_owned(), value.parse()?);
    }
    let source = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let (code, bindings) = to_spirv(&source, &constants)?;
    // SAFETY: the calls are those of the Vulkan specification for one compute pipeline that never runs; what they make
    // lives until the process ends.
    unsafe { compile(&code, bindings, wants_text) }
}

/// The shader as wgpu gives it to a driver when checks are off, and how many buffers it has.
fn to_spirv(source: &str, constants: &PipelineConstants) -> Result<(Vec<u32>, u32)> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
    let main = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = pipeline_constants::process_overrides(&module, &info, main, constants)?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    let code = spv::write_vec(&module, &info, &options, Some(&pipeline))?;
    let bindings = module.global_variables.iter().filter(|(_, variable)| variable.binding.is_some()).count();
    Ok((code, bindings as u32))
}

unsafe fn compile(code: &[u32], bindings: u32, wants_text: bool) -> Result<()> {
    unsafe {
        let entry = ash::Entry::load()?;
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance = entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)?;
        let adapter = *instance.enumerate_physical_devices()?.first().ok_or("there is no Vulkan device")?;
        let properties = instance.get_physical_device_properties(adapter);
        println!("{}", properties.device_name_as_c_str()?.to_string_lossy());

        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let mut half_buffers = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
        let mut half = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true).vulkan_memory_model(true);
        let mut statistics =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let extensions = [khr::pipeline_executable_properties::NAME.as_ptr()];
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .push_next(&mut half_buffers)
            .push_next(&mut half)
            .push_next(&mut statistics);
        let device = instance.create_device(adapter, &info, None)?;

        let stage = vk::ShaderStageFlags::COMPUTE;
        let entries: Vec<_> = (0..bindings)
            .map(|binding| {
                let entry = vk::DescriptorSetLayoutBinding::default().binding(binding).descriptor_count(1);
                entry.descriptor_type(vk::DescriptorType::STORAGE_BUFFER).stage_flags(stage)
            })
            .collect();
        let sets = [device
            .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&entries), None)?];
        let immediates = [vk::PushConstantRange::default().stage_flags(stage).size(128)];
        let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&immediates);
        let layout = device.create_pipeline_layout(&layout, None)?;
        let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(code), None)?;
        let main = vk::PipelineShaderStageCreateInfo::default().stage(stage).module(module).name(c"main");
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let info = [vk::ComputePipelineCreateInfo::default().flags(flags).stage(main).layout(layout)];
        let pipeline =
            device.create_compute_pipelines(vk::PipelineCache::null(), &info, None).map_err(|(_, error)| error)?[0];

        let extension = khr::pipeline_executable_properties::Device::new(&instance, &device);
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        for statistic in extension.get_pipeline_executable_statistics(&executable)? {
            let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy();
            match statistic.format {
                vk::PipelineExecutableStatisticFormatKHR::BOOL32 => println!("  {name}: {}", statistic.value.b32),
                vk::PipelineExecutableStatisticFormatKHR::INT64 => println!("  {name}: {}", statistic.value.i64),
                vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => println!("  {name}: {}", statistic.value.f64),
                _ => println!("  {name}: {}", statistic.value.u64),
            }
        }
        if wants_text {
            let get = extension.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            get(device.handle(), &executable, &mut count, std::ptr::null_mut()).result()?;
            let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(device.handle(), &executable, &mut count, texts.as_mut_ptr()).result()?;
            let mut room: Vec<Vec<u8>> = texts.iter().map(|text| vec![0; text.data_size]).collect();
            for (text, room) in texts.iter_mut().zip(&mut room) {
                text.p_data = room.as_mut_ptr().cast();
            }
            get(device.handle(), &executable, &mut count, texts.as_mut_ptr()).result()?;
            for (text, room) in texts.iter().zip(&room) {
                let room = String::from_utf8_lossy(room);
                println!("\n{}\n{}", CStr::from_ptr(text.name.as_ptr()).to_string_lossy(), room.trim_end_matches('\0'));
            }
        }
    }
    Ok(())
}
