//! `sconce inspect`: what is in a file.

mod digest;
mod fold;
mod json;
mod print;
mod program;
mod totals;
mod tree;
mod walk;
mod warnings;

use std::collections::HashMap;
use std::path::PathBuf;

use sconce::Checkpoint;
use sconce::checkpoint::{Container, Dict, DictKind, StoredTensor, Value};
use serde_json::{Map, json};

use self::digest::Digests;
use self::totals::Totals;
use self::tree::Tree;
pub(crate) use self::walk::{Content, Item, is_module, is_rich, plain_attributes};
use super::numbers::{self, Statistics};
use super::{Context, Failure, Result, Verdict, text};

/// Tensors whose elements are printed; of more that are named, only the statistics are.
const PRINTED: usize = 4;

/// Prints what a file holds: its values by name, and what its tensors take. Nothing in the file is executed, and no
/// tensor is read unless it is named or digested.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file that PyTorch wrote
    file: PathBuf,

    /// Only these, with their values and statistics: a name as in the tree, with dots from the outside in, or what it
    /// starts with: `fc.weight`, `layer1`, `optimizer.param_groups[0]`
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Print all of the tree, layers that repeat and long lists too
    #[arg(long)]
    all: bool,

    /// Add the SHA-256 of each tensor's elements: contiguous, little-endian
    #[arg(long)]
    digest: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let checkpoint = sconce::load(&args.file)?;
    let content = Content::of(checkpoint.root());
    let chosen = choose(&content, &args.names, &checkpoint)?;
    let digests = match args.digest {
        true => digest::digests(&content, &chosen, &mut context.console.progress())?,
        false => Digests::new(),
    };
    if args.json {
        return write_json(args, context, &checkpoint, &content, &chosen, &digests);
    }
    if !args.names.is_empty() {
        return write_named(context, &content, &chosen, digests);
    }
    let bytes = text::bytes(checkpoint.file_bytes());
    writeln!(context.out, "{}: {}, {bytes}", text::clean(checkpoint.name()), container(&checkpoint))?;
    Tree::new(&content, args.all || args.digest, digests).write(context.out)?;
    writeln!(context.out)?;
    for line in Totals::of(&content).lines() {
        writeln!(context.out, "{line}")?;
    }
    if let Some(metadata) = metadata(&checkpoint) {
        writeln!(context.out, "metadata: {}", text::short(&Value::from(metadata).to_string(), 1000))?;
    }
    program::write(context.out, &checkpoint)?;
    for warning in warnings(&checkpoint, &content) {
        writeln!(context.out, "note: {warning}")?;
    }
    Ok(Verdict::Done)
}

fn warnings(checkpoint: &Checkpoint, content: &Content<'_>) -> Vec<String> {
    let mut warnings = warnings::warnings(content, checkpoint.container());
    match checkpoint.saves().len() - 1 {
        0 => {}
        more => warnings.push(format!(
            "{} saved to the file after this one",
            match more {
                1 => "1 more object was".to_owned(),
                _ => format!("{more} more objects were"),
            }
        )),
    }
    warnings
}

/// What the index of a checkpoint in several files says of it, and the free text of safetensors files.
fn metadata(checkpoint: &Checkpoint) -> Option<Dict> {
    let Value::Dict(dict) = checkpoint.root() else { return None };
    let of_index = (checkpoint.container() == Container::Shards).then_some("metadata");
    let parts =
        of_index.into_iter().chain(["__metadata__"]).filter_map(|key| dict.attributes()?.get(key)?.as_dict().ok());
    let entries: Vec<_> = parts.flat_map(Dict::iter).cloned().collect();
    (!entries.is_empty()).then(|| Dict::new(DictKind::Dict, entries))
}

/// The kind of file, and the versions of torch that write such ones.
fn container(checkpoint: &Checkpoint) -> String {
    match checkpoint.container() {
        Container::Zip => {
            format!("zip archive, as of torch {}", zip_version(checkpoint.name()).unwrap_or("1.6 or later"))
        }
        Container::Legacy => "stream of pickles, as of torch 0.1.10 to 1.5".to_owned(),
        Container::Tar => "tar archive, as of torch 0.1.1 to 0.1.9".to_owned(),
        Container::TorchScript => "TorchScript archive: its weights, its code is not read".to_owned(),
        Container::Pickle => "plain pickle".to_owned(),
        Container::Safetensors => "safetensors".to_owned(),
        Container::ExportedProgram => "program of torch.export".to_owned(),
        Container::Shards => "index of a checkpoint in several files".to_owned(),
        other => other.to_string(),
    }
}

/// What the entries that are there tell of the writer.
fn zip_version(path: &str) -> Option<&'static str> {
    let archive = zip::ZipArchive::new(std::io::BufReader::new(std::fs::File::open(path).ok()?)).ok()?;
    let names: Vec<_> = archive.file_names().filter_map(std::result::Result::ok).collect();
    let has = |name: &str| names.iter().any(|entry| entry.split_once('/').is_some_and(|(_, rest)| rest == name));
    Some(match (has(".format_version"), has("byteorder")) {
        (true, _) => "2.7 or later",
        (false, true) => "2.1 or later",
        (false, false) => "1.6 or later",
    })
}

/// The positions of what has one of the names or is inside it; of everything, when there are no names.
fn choose(content: &Content<'_>, names: &[String], checkpoint: &Checkpoint) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..content.items.len()).collect());
    }
    let inside = |item: &str, name: &str| {
        item.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '(']))
    };
    for name in names {
        if !content.items.iter().any(|item| inside(&item.name, name)) {
            let near = content.items.iter().filter(|item| item.name.contains(name.as_str()) && !name.is_empty());
            let near: Vec<&str> = near.take(8).map(|item| item.name.as_str()).collect();
            let failure = Failure::new(format!("`{}` has no `{}`", checkpoint.name(), text::clean(name)));
            return Err(match near.is_empty() {
                true => failure.help("without NAME all names are printed"),
                false => failure.help(format!("it has {}", text::names(near.into_iter(), 8))),
            });
        }
    }
    let is_chosen = |item: &Item<'_>| names.iter().any(|name| inside(&item.name, name));
    Ok((0..content.items.len()).filter(|&at| is_chosen(&content.items[at])).collect())
}

fn write_named(
    context: &mut Context<'_>,
    content: &Content<'_>,
    chosen: &[usize],
    digests: Digests,
) -> Result<Verdict> {
    let tree = Tree::new(content, true, digests);
    let count = chosen.iter().filter(|&&at| content.items[at].tensor().is_some()).count();
    for &at in chosen {
        let item = &content.items[at];
        // What has parts is printed by them.
        if item.end > at + 1 {
            continue;
        }
        tree.named(context.out, at)?;
        if let Some(tensor) = item.tensor() {
            write_values(context, tensor, count <= PRINTED)?;
        }
    }
    Ok(Verdict::Done)
}

/// The statistics of a tensor, and its elements as PyTorch prints them.
fn write_values(context: &mut Context<'_>, tensor: &StoredTensor, print: bool) -> Result<()> {
    let (out, mut said) = (&mut *context.out, String::new());
    match Statistics::of(tensor) {
        Ok(all) if all.count == 0 => {}
        Ok(all) => {
            if all.finite > 0 {
                let [min, max, mean, std] = [all.min, all.max, all.mean, all.std].map(numbers::short);
                writeln!(out, "    min {min}  max {max}  mean {mean}  std {std}  zeros {}", text::number(all.zeros))?;
            }
            if all.nan + all.infinite > 0 {
                writeln!(out, "    NaN {}  infinite {}", text::number(all.nan), text::number(all.infinite))?;
            }
            if all.count > 1 && !all.histogram.is_empty() {
                let [min, max] = [all.min, all.max].map(numbers::short);
                writeln!(out, "    {min} |{}| {max}", all.bars())?;
            }
        }
        Err(failure) => said = failure.to_string(),
    }
    let printed = if print { print::print(tensor) } else { Ok(String::new()) };
    match &printed {
        Err(failure) if failure.to_string() == said => {}
        Err(failure) => said += &format!("{}{failure}", if said.is_empty() { "" } else { "\n" }),
        Ok(_) => {}
    }
    let printed = printed.unwrap_or_default();
    said.lines().chain(printed.lines()).try_for_each(|line| writeln!(out, "    {line}"))?;
    Ok(())
}

fn write_json(
    args: &Args,
    context: &mut Context<'_>,
    checkpoint: &Checkpoint,
    content: &Content<'_>,
    chosen: &[usize],
    digests: &Digests,
) -> Result<Verdict> {
    let mut statistics = HashMap::new();
    for &at in chosen.iter().filter(|_| !args.names.is_empty()) {
        if let Some(Ok(found)) = content.items[at].tensor().map(Statistics::of) {
            statistics.insert(at, found);
        }
    }
    let mut answer = Map::new();
    answer.insert("file".into(), json!(checkpoint.name()));
    answer.insert("container".into(), json!(checkpoint.container().name()));
    answer.insert("bytes".into(), json!(checkpoint.file_bytes()));
    if let Some(metadata) = metadata(checkpoint) {
        let text = |value: &Value| value.as_str().map_or_else(|_| value.to_string(), str::to_owned);
        let entries = metadata.iter().map(|(key, value)| (text(key), json!(text(value))));
        answer.insert("metadata".into(), entries.collect::<Map<_, _>>().into());
    }
    answer.extend(json::json(content, chosen, digests, &statistics));
    if checkpoint.container() == Container::ExportedProgram {
        answer.insert("programs".into(), program::json(checkpoint)?);
    }
    answer.insert("warnings".into(), json!(warnings(checkpoint, content)));
    super::json::write(context.out, &answer)?;
    Ok(Verdict::Done)
}
