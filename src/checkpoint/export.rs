//! Programs of `torch.export` (`.pt2`): the archive's weights and constants as tensors, and the graph's text.
//!
//! Three containers are read, those of torch 2.6 and 2.7 (a flat zip archive), 2.8 (an archive with nested checkpoints)
//! and 2.9 to 2.15 (raw weights). What the graph says is for the `import` room.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::value::{Dict, DictKind, Value};
use super::zip::{self, Archive};
use super::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What a `.pt2` file holds.
pub(crate) struct Exported {
    pub(crate) programs: Vec<ExportedProgram>,
}

/// One program of the file.
pub(crate) struct ExportedProgram {
    pub(crate) name: String,
    /// JSON, in which infinities may be bare words.
    pub(crate) text: Box<[u8]>,
    /// Parameters and buffers by their names in the state dict, in the file's order.
    pub(crate) weights: Tensors,
    /// Tensor constants and buffers that are not in the state dict.
    pub(crate) constants: Tensors,
    /// Constants that are not tensors, by name: what they are.
    pub(crate) objects: HashMap<String, &'static str>,
}

/// Tensors by name, in order.
pub(crate) type Tensors = indexmap::IndexMap<String, StoredTensor>;

/// The largest graph text that is unpacked from a compressed archive.
const MAX_TEXT: usize = 1 << 30;
const OLD: &str = "export it again with torch 2.6 or later";

/// The programs of an archive, or `None` when it is no archive of `torch.export`.
pub(super) fn open(archive: &Archive<'_>) -> Result<Option<Exported>> {
    let format = archive.contents("archive_format", 64)?;
    let programs = match format.as_deref().map(<[u8]>::trim_ascii) {
        Some(b"pt2") => programs(archive)?,
        Some(other) => {
            let other = String::from_utf8_lossy(other).escape_debug().to_string();
            return Err(Error::unsupported(format!("an archive of the format `{other}`; `pt2` is read")));
        }
        None => match archive.contents("serialized_exported_program.json", MAX_TEXT)? {
            Some(text) => vec![flat(archive, text)?],
            None => return Ok(None),
        },
    };
    if archive.is_big_endian()? {
        return Err(Error::unsupported("a `.pt2` file of a big-endian machine"));
    }
    Ok(Some(Exported { programs }))
}

impl Exported {
    /// The state dict: of the one program, or of each by name.
    pub(super) fn root(&self) -> Value {
        let state = |program: &ExportedProgram| {
            let entries = program.weights.iter().map(|(name, t)| (name.as_str().into(), t.clone().into()));
            Value::from(Dict::new(DictKind::OrderedDict, entries))
        };
        match &self.programs[..] {
            [program] => state(program),
            programs => {
                let entries = programs.iter().map(|program| (program.name.as_str().into(), state(program)));
                Value::from(Dict::new(DictKind::Dict, entries))
            }
        }
    }
}

/// The program in the archive of torch 2.6 and 2.7.
fn flat(archive: &Archive<'_>, text: Box<[u8]>) -> Result<ExportedProgram> {
    let version = archive.contents("version", 64)?.unwrap_or_default();
    let version = String::from_utf8_lossy(&version).trim().to_string();
    if !version.is_empty() && version.split('.').next() != Some("8") {
        let version = version.escape_debug().to_string();
        return Err(Error::unsupported(format!("a program of schema version {version}; 8 is read")).help(OLD));
    }
    let mut objects = HashMap::new();
    let weights = nested(archive, "serialized_state_dict.pt", &mut objects)?
        .ok_or_else(|| Error::unsupported("a program without `serialized_state_dict.pt`").help(OLD))?;
    let constants = nested(archive, "serialized_constants.pt", &mut objects)?.unwrap_or_default();
    Ok(ExportedProgram { name: "model".into(), text, weights, constants, objects })
}

/// The programs in the archive of torch 2.8 and later.
fn programs(archive: &Archive<'_>) -> Result<Vec<ExportedProgram>> {
    let names: Vec<&str> = archive
        .names()
        .filter_map(|name| name.strip_prefix("models/")?.strip_suffix(".json"))
        .filter(|name| !name.contains('/'))
        .collect();
    if names.is_empty() {
        return Err(match archive.names().any(|name| name.starts_with("data/aotinductor/")) {
            true => Error::unsupported("an AOTInductor package: code for one kind of processor, without the graph")
                .help("save the exported program with `torch.export.save`"),
            false => Error::invalid("a `.pt2` archive without a program in `models/`"),
        });
    }
    let mut storages = HashMap::new();
    names.into_iter().map(|name| program(archive, name, &mut storages)).collect()
}

fn program(archive: &Archive<'_>, name: &str, storages: &mut Storages) -> Result<ExportedProgram> {
    let text = archive.contents(&format!("models/{name}.json"), MAX_TEXT)?.expect("listed by the caller");
    let mut objects = HashMap::new();
    let mut tensors = |kind: &str| -> Result<Tensors> {
        let place = format!("data/{kind}/");
        let config = format!("{place}{name}_{kind}_config.json");
        if let Some(config_text) = archive.contents(&config, MAX_TEXT)? {
            return payloads(archive, &place, &config_text, storages, &mut objects)
                .map_err(|error| error.context(format_args!("`{config}`")));
        }
        Ok(nested(archive, &format!("{place}{name}.pt"), &mut objects)?.unwrap_or_default())
    };
    let (weights, constants) = (tensors("weights")?, tensors("constants")?);
    Ok(ExportedProgram { name: name.into(), text, weights, constants, objects })
}

/// The tensors of a checkpoint inside the archive.
fn nested(archive: &Archive<'_>, name: &str, objects: &mut HashMap<String, &'static str>) -> Result<Option<Tensors>> {
    let Some(source) = archive.nested(name)? else { return Ok(None) };
    let context = |error: Error| error.context(format_args!("`{name}`"));
    if source.is_empty() {
        return Ok(Some(Tensors::new()));
    }
    let root = zip::open(&source).and_then(zip::Contents::saves).map_err(context)?.swap_remove(0);
    let mut tensors = Tensors::new();
    for (key, value) in root.as_dict().map_err(context)? {
        let key = key.as_str().map_err(context)?.to_string();
        match value {
            Value::Tensor(tensor) => {
                tensors.insert(key, (**tensor).clone());
            }
            _ => {
                objects.insert(key, "a pickled object");
            }
        }
    }
    Ok(Some(tensors))
}

/// Storages by their entry's name: tied tensors share one.
type Storages = HashMap<String, Arc<Storage>>;

/// The tensors that a config file describes: raw storages beside it.
fn payloads(
    archive: &Archive<'_>,
    place: &str,
    text: &[u8],
    storages: &mut Storages,
    objects: &mut HashMap<String, &'static str>,
) -> Result<Tensors> {
    let json: Json = serde_json::from_slice(text).map_err(|error| Error::invalid(format!("not JSON: {error}")))?;
    let config = json["config"].as_object().ok_or_else(|| Error::invalid("`config` is missing"))?;
    let mut tensors = Tensors::with_capacity(config.len());
    for (name, payload) in config {
        let path = payload["path_name"].as_str().ok_or_else(|| missing(name, "path_name"))?;
        let object = match () {
            () if path.starts_with("custom_obj") => Some("a custom object"),
            () if path.starts_with("opaque_obj") => Some("an opaque object"),
            () if payload["use_pickle"] == true => Some("a pickled tensor subclass"),
            () => None,
        };
        match object {
            Some(what) => {
                objects.insert(name.clone(), what);
            }
            None => {
                let entry = format!("{place}{path}");
                let tensor = tensor(archive, name, &entry, &payload["tensor_meta"], storages)?;
                tensors.insert(name.clone(), tensor);
            }
        }
    }
    Ok(tensors)
}

fn missing(name: &str, field: &str) -> Error {
    Error::invalid(format!("`{name}` has no valid `{field}`"))
}

fn tensor(
    archive: &Archive<'_>,
    name: &str,
    entry: &str,
    meta: &Json,
    storages: &mut Storages,
) -> Result<StoredTensor> {
    let size = |json: &Json| json["as_int"].as_u64().and_then(|size| usize::try_from(size).ok());
    let sizes = |field: &str| -> Result<Vec<usize>> {
        let list = meta[field].as_array().ok_or_else(|| missing(name, field))?;
        list.iter().map(|json| size(json).ok_or_else(|| missing(name, field))).collect()
    };
    let dtype = meta["dtype"].as_i64().and_then(dtype).ok_or_else(|| missing(name, "dtype"))?;
    if meta["layout"].as_i64() != Some(STRIDED) {
        return Err(Error::unsupported(format!("`{name}` is sparse or of another layout; strided tensors are read")));
    }
    let storage = match storages.get(entry) {
        Some(storage) => Arc::clone(storage),
        None => {
            let device = &meta["device"];
            let kind = device["type"].as_str().unwrap_or("cpu");
            let location = device["index"].as_i64().map_or_else(|| kind.to_string(), |index| format!("{kind}:{index}"));
            let storage = archive
                .storage(entry, location.into())?
                .ok_or_else(|| Error::invalid(format!("the entry `{entry}` of `{name}` is missing")))?;
            storages.insert(entry.to_string(), Arc::clone(&storage));
            storage
        }
    };
    let (shape, stride) = (sizes("sizes")?, sizes("strides")?);
    if storage.is_empty() && !shape.contains(&0) {
        return Err(Error::invalid(format!("`{name}` has no data: the program was saved with fake tensors"))
            .help("export the model with its real weights"));
    }
    let offset = size(&meta["storage_offset"]).ok_or_else(|| missing(name, "storage_offset"))?;
    StoredTensor::new(storage, dtype, shape, stride, offset)
        .map(|tensor| tensor.with_requires_grad(meta["requires_grad"] == true))
        .map_err(|error| error.context(format_args!("`{name}`")))
}

/// `torch.strided` in the schema of `torch.export`.
const STRIDED: i64 = 7;

/// The dtype of a number in the schema of `torch.export`, which is not the one that TorchScript uses.
pub(crate) fn dtype(code: i64) -> Option<DType> {
    Some(match code {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        9 => DType::Complex32,
        10 => DType::Complex64,
        11 => DType::Complex128,
        12 => DType::Bool,
        13 => DType::BF16,
        28 => DType::U16,
        29 => DType::F8E4M3FN,
        30 => DType::F8E5M2,
        31 => DType::F8E4M3FNUZ,
        32 => DType::F8E5M2FNUZ,
        33 => DType::F8E8M0FNU,
        34 => DType::U32,
        35 => DType::U64,
        _ => return None,
    })
}
