//! `sconce convert`: a file as another one.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use sconce::checkpoint::{Storage, StoredTensor, Value, save_with_progress};
use sconce::{Checkpoint, DType, StateDict};

use super::inspect::{Content, is_module};
use super::{Context, Failure, Result, Verdict, text};

/// Writes a file anew, in the format of OUT's ending: .pt, .pth, .bin, .ckpt, .pkl and .tar are PyTorch's,
/// .safetensors and .npz are those. Without options a file of PyTorch keeps all that it holds; with --key, --strip-prefix,
/// --rename, --rename-regex or --dtype, and in the other formats, the state dict in it is written.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file to read
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// The file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Where the state dict is in the file, as `model_state_dict` or `ema.state`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Take this off the names, as the `module.` that DataParallel puts before them
    #[arg(long, value_name = "PREFIX")]
    strip_prefix: Option<String>,

    /// Rename a tensor, or all tensors of a module
    #[arg(long, value_name = "FROM=TO", value_parser = parse_rename)]
    rename: Vec<(String, String)>,

    /// Replace what a regular expression matches in the names; `$1` is what its first group matched
    #[arg(long, value_name = "PATTERN=TO", value_parser = parse_rename)]
    rename_regex: Vec<(String, String)>,

    /// Convert floats to this: f32, f16, bf16, f64
    #[arg(long, value_name = "DTYPE", value_parser = parse_dtype)]
    dtype: Option<DType>,

    /// Overwrite OUT
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let checkpoint = sconce::load(&args.input)?;
    if args.output.exists() && !args.force {
        let path = args.output.display();
        return Err(Failure::new(format!("`{path}` is there already")).help("`--force` overwrites it"));
    }
    let mut said: Vec<String> = later(&checkpoint).into_iter().collect();
    let value = match args.wants_state_dict() {
        false => checkpoint.root().clone(),
        true => {
            let mut state = args.find(&checkpoint)?;
            said.extend(dropped(&checkpoint, &state));
            if let Some(dtype) = args.dtype {
                state = convert(&state, dtype, &mut said)?;
            }
            Value::from(&state)
        }
    };
    let progress = context.console.bar("writing");
    let tensors = text::count(Content::of(&value).tensors().count(), "tensor");
    save_with_progress(value, &args.output, &mut |done, total| {
        progress.set_length(total);
        progress.set_position(done);
    })?;
    progress.finish_and_clear();
    let bytes = std::fs::metadata(&args.output).map_or(0, |file| file.len());
    let path = args.output.display().to_string();
    writeln!(context.out, "{}: {tensors}, {}", text::clean(&path), text::bytes(bytes))?;
    said.into_iter().try_for_each(|line| writeln!(context.out, "  {line}"))?;
    Ok(Verdict::Done)
}

impl Args {
    fn wants_state_dict(&self) -> bool {
        let ending = self.output.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let renames = !self.rename.is_empty() || !self.rename_regex.is_empty();
        let named = ["safetensors", "npz"].iter().any(|known| ending.eq_ignore_ascii_case(known));
        named || renames || self.key.is_some() || self.strip_prefix.is_some() || self.dtype.is_some()
    }

    /// The state dict with its new names.
    fn find(&self, checkpoint: &Checkpoint) -> Result<StateDict> {
        let mut state = match &self.key {
            Some(key) => checkpoint.state_dict_at(key)?,
            None => checkpoint.state_dict()?,
        };
        let about = |error| Failure::about(format!("`{}`", self.input.display()), error);
        if let Some(prefix) = &self.strip_prefix {
            if !state.names().any(|name| name.starts_with(prefix.as_str())) {
                let first = text::clean(state.names().next().unwrap_or_default()).into_owned();
                let path = self.input.display();
                return Err(Failure::new(format!("`{path}`: no name starts with `{prefix}`, the first is `{first}`")));
            }
            state = state.strip_prefix(prefix);
        }
        for (from, to) in &self.rename {
            state = state.rename(from, to).map_err(about)?;
        }
        for (pattern, to) in &self.rename_regex {
            state = state.rename_regex(pattern, to).map_err(about)?;
        }
        Ok(state)
    }
}

/// What of the file is not in the state dict.
fn dropped(checkpoint: &Checkpoint, state: &StateDict) -> Vec<String> {
    let content = Content::of(checkpoint.root());
    // A tensor that the file has under several names, and the state dict under fewer, is left out under the others: as a
    // rule those outside the state dict.
    let mut kept: HashMap<*const StoredTensor, usize> = HashMap::new();
    for (_, tensor) in state.iter() {
        *kept.entry(std::ptr::from_ref(tensor)).or_default() += 1;
    }
    let dotted = |name: &str| name.replace('[', ".").replace(']', "").trim_start_matches('.').to_owned();
    let key = dotted(state.key());
    let is_inside = |name: &str| dotted(name).strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'));
    let mut is_kept = vec![false; content.items.len()];
    for inside in [true, false] {
        for (item, is_kept) in content.items.iter().zip(&mut is_kept).filter(|(_, is_kept)| !**is_kept) {
            if let Some(tensor) = item.tensor()
                && (key.is_empty() || inside == is_inside(&item.name))
                && let Some(count) = kept.get_mut(&std::ptr::from_ref(tensor)).filter(|count| **count > 0)
            {
                (*count, *is_kept) = (*count - 1, true);
            }
        }
    }
    let mut names: Vec<&str> = Vec::new();
    let (mut tensors, mut values) = (0usize, 0usize);
    for (at, (item, is_kept)) in content.items.iter().zip(is_kept).enumerate().skip(1) {
        // The items of a list of numbers have no names of their own.
        let is_one = item.end == at + 1;
        let is_dropped = match item.value {
            Value::Tensor(_) => !is_kept,
            Value::Object(object) => object.is_array() || is_one && !is_module(object),
            Value::Dict(dict) => is_one && !dict.is_empty(),
            Value::List(items) => is_one && !items.is_empty(),
            Value::Tuple(items) => is_one && !items.is_empty(),
            _ => true,
        };
        if is_dropped {
            (tensors, values) =
                (tensors + usize::from(item.tensor().is_some()), values + usize::from(item.tensor().is_none()));
            let top = top(&item.name);
            if names.last().is_none_or(|last| *last != top) {
                names.push(top);
            }
        }
    }
    let mut lines = Vec::new();
    if tensors + values > 0 {
        let shown = text::names(names.into_iter(), 8);
        let (tensors, values) = (text::count(tensors, "tensor"), text::count(values, "other value"));
        lines.push(format!("left out: {tensors} and {values}, in {shown}"));
    }
    lines
}

/// The first key of a name, or the position: `model` of `model.fc.weight`, `[0]` of `[0].fc.weight`.
fn top(name: &str) -> &str {
    let end = name.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[' | '(')).map(|(at, _)| at);
    &name[..end.unwrap_or(name.len())]
}

/// The objects of the file after the one that is written.
fn later(checkpoint: &Checkpoint) -> Option<String> {
    let count = checkpoint.saves().len() - 1;
    let (objects, were) = (text::count(count, "more object"), if count == 1 { "was" } else { "were" });
    (count > 0).then(|| {
        format!("left out: {objects} that {were} saved after the first: `sconce::load(path)?.saves()` has them")
    })
}

/// Refuses to convert tensors that say far more than is stored of them: those of `expand`.
fn check_sizes<'t>(tensors: impl Iterator<Item = &'t StoredTensor>, dtype: DType) -> Result<()> {
    const ALWAYS: u64 = 1 << 30;
    const TIMES: u64 = 64;
    let (mut stored, mut written, mut seen) = (0u64, 0u64, HashSet::new());
    for tensor in tensors {
        written = written.saturating_add((tensor.shape().numel() as u64).saturating_mul(dtype.size() as u64));
        if seen.insert(Arc::as_ptr(tensor.storage())) {
            stored = stored.saturating_add(tensor.storage().len() as u64);
        }
    }
    if written <= ALWAYS || written / TIMES <= stored {
        return Ok(());
    }
    let (written, stored) = (text::bytes(written), text::bytes(stored));
    let message =
        format!("converted to {dtype}, the tensors would take {written} for {stored} of the file: they are expanded");
    Err(Failure::new(message).help("without `--dtype` a `.pt` file keeps them as they are"))
}

/// The floats of a state dict in another dtype. Tensors that are the same stay the same.
fn convert(state: &StateDict, dtype: DType, said: &mut Vec<String>) -> Result<StateDict> {
    let changes = |tensor: &StoredTensor| is_float(tensor.dtype()) && tensor.dtype() != dtype;
    check_sizes(state.iter().map(|(_, tensor)| tensor).filter(|tensor| changes(tensor)), dtype)?;
    let mut done: HashMap<*const Storage, Vec<(StoredTensor, StoredTensor)>> = HashMap::new();
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut converted = state.clone();
    for (name, tensor) in state.iter().filter(|(_, tensor)| changes(tensor)) {
        let known = done.entry(Arc::as_ptr(tensor.storage())).or_default();
        let new = match known.iter().find(|(old, _)| old.is_same_view(tensor)) {
            Some((_, new)) => new.clone().with_requires_grad(tensor.requires_grad()),
            // Converted while it is written.
            None => {
                tensor.to_deferred(dtype).map_err(|error| Failure::about(format!("`{}`", text::clean(name)), error))?
            }
        };
        known.push((tensor.clone(), new.clone()));
        converted.insert(name, new);
        match counts.iter_mut().find(|(known, _)| *known == tensor.dtype().name()) {
            Some((_, count)) => *count += 1,
            None => counts.push((tensor.dtype().name(), 1)),
        }
    }
    said.extend(counts.into_iter().map(|(from, count)| format!("{from} -> {dtype}: {}", text::count(count, "tensor"))));
    Ok(converted)
}

fn is_float(dtype: DType) -> bool {
    dtype.is_float() || dtype.name().starts_with("float8")
}

fn parse_dtype(text: &str) -> Result<DType, String> {
    match text.parse::<DType>() {
        Ok(dtype) if dtype.is_float() => Ok(dtype),
        Ok(dtype) => Err(format!("{dtype} is not one of f32, f16, bf16, f64")),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn parse_rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => Err("`FROM=TO` is expected".to_owned()),
    }
}
