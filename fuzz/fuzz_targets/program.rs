//! The graph of a `.pt2` file, the description of its weights and that of its constants, with zero bytes between them:
//! read, and traced for inputs of the exported sizes.
#![no_main]

mod stored;

use sconce::{Checkpoint, Device, Model, ProgramInfo, Shape};

/// The bytes of each weight and each constant.
const ZEROS: [u8; 1 << 14] = [0; 1 << 14];
const PAYLOADS: usize = 32;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut texts = input.splitn(3, |&byte| byte == 0);
    let mut next = || texts.next().unwrap_or(b"{\"config\": {}}");
    let mut entries = vec![
        ("a/archive_format".to_string(), &b"pt2"[..]),
        ("a/models/model.json".to_string(), next()),
        ("a/data/weights/model_weights_config.json".to_string(), next()),
        ("a/data/constants/model_constants_config.json".to_string(), next()),
    ];
    for i in 0..PAYLOADS {
        entries.push((format!("a/data/weights/weight_{i}"), &ZEROS));
        entries.push((format!("a/data/constants/tensor_{i}"), &ZEROS));
    }
    let entries: Vec<_> = entries.iter().map(|(name, data)| (name.as_str(), *data)).collect();
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", stored::archive(&entries)) else { return };
    for program in ProgramInfo::of(&checkpoint).unwrap_or_default() {
        let _ = program.to_string();
        let inputs = program.inputs.iter().map(|input| Some((Shape::from(input.exported.clone()?), input.dtype)));
        let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else { continue };
        let model = Model::from_checkpoint(&checkpoint, Some(&program.name), &Device::cpu());
        let _ = model.and_then(|model| model.cost(&inputs));
    }
});
