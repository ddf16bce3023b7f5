//! Programs of `torch.export` (`.pt2`) as graphs.
//!
//! A program is read once; for each set of input shapes [`Program::trace`] adds its operations to a [`Graph`]. Both
//! forms are read: as exported (composite and in-place operations, views) and decomposed (core ATen).

mod alias;
mod aten;
mod bounds;
mod build;
mod host;
mod info;
mod json;
mod numbers;
mod prims;
mod schema;
mod symbols;
mod tree;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use self::info::{OpCount, ProgramInfo, TensorInfo};

use self::schema::{Arg, Input, Output, Size};
use crate::checkpoint::StoredTensor;
use crate::checkpoint::export::{Exported, ExportedProgram};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};

/// A program with its tensors.
pub(crate) struct Program {
    exported: Arc<Exported>,
    index: usize,
    schema: schema::Program,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The graph's names of parameters, buffers and constants: theirs in the file, and whether they are constants.
    weights: HashMap<String, (String, bool)>,
}

/// An input or output of a program.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// The caller's name for it, as in the `forward` of the model, or its place in a dict or tuple: `x`, `out`, `0`.
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// The sizes; `None` where the caller chooses.
    pub(crate) shape: Vec<Option<usize>>,
    /// The sizes at export, when the file says all of them.
    pub(crate) exported: Option<Vec<usize>>,
    /// The least and the largest size where the caller chooses one that the file bounds.
    pub(crate) ranges: Vec<Option<(usize, Option<usize>)>>,
    /// The graph's name.
    arg: String,
}

impl Program {
    /// Reads the program called `name`, or the only one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a name that is not there;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with all operations that are not supported.
    pub(crate) fn read(exported: &Arc<Exported>, name: Option<&str>) -> Result<Self> {
        let program = Self::parse(exported, name)?;
        match program.refusal() {
            Some(error) => Err(error),
            None => Ok(program),
        }
    }

    /// Reads a program, also one that cannot run.
    pub(crate) fn parse(exported: &Arc<Exported>, name: Option<&str>) -> Result<Self> {
        let names = || exported.programs.iter().map(|p| format!("`{}`", p.name)).collect::<Vec<_>>().join(", ");
        let index = match (name, exported.programs.len()) {
            (Some(name), _) => exported
                .programs
                .iter()
                .position(|program| program.name == name)
                .ok_or_else(|| Error::not_found(format!("there is no program `{name}`; there are {}", names())))?,
            (None, 1) => 0,
            (None, _) => {
                return Err(Error::not_found(format!("the file has several programs: {}", names()))
                    .help("name the one to run, as `key` of `Model::from_checkpoint` or with `--key`"));
            }
        };
        let schema = schema::Program::read(&exported.programs[index].text)?;
        let (inputs, outputs) = (input_ports(&schema)?, output_ports(&schema)?);
        let weights = schema
            .inputs
            .iter()
            .filter_map(|input| match input {
                Input::Weight { arg, name, is_constant } => Some((arg.clone(), (name.clone(), *is_constant))),
                _ => None,
            })
            .collect();
        Ok(Self { exported: Arc::clone(exported), index, schema, inputs, outputs, weights })
    }

    fn file(&self) -> &ExportedProgram {
        &self.exported.programs[self.index]
    }

    /// The tensors that a caller gives, in order.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The tensors that a caller gets, in order.
    pub(crate) fn output_ports(&self) -> &[Port] {
        &self.outputs
    }

    fn outputs(&self) -> impl Iterator<Item = &Arg> {
        self.schema.outputs.iter().filter_map(|output| match output {
            Output::User(arg, _) if !matches!(arg, Arg::None) => Some(arg),
            _ => None,
        })
    }

    /// The version of PyTorch that wrote it.
    pub(crate) fn torch_version(&self) -> &str {
        &self.schema.torch_version
    }

    /// Whether it is as exported rather than decomposed.
    pub(crate) fn is_training_ir(&self) -> bool {
        self.schema.is_training_ir
    }

    /// The operations with their counts, in alphabetical order, and whether each is supported.
    pub(crate) fn ops(&self) -> Vec<(String, usize, bool)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        visit(&self.schema.graph, &mut |node| *counts.entry(&node.target).or_default() += 1);
        counts.into_iter().map(|(op, count)| (op.to_string(), count, aten::is_supported(op))).collect()
    }

    /// The file's name and tensor of a value of the graph that is one.
    fn weight(&self, arg: &str) -> Result<Option<(&str, &StoredTensor)>> {
        let Some((name, is_constant)) = self.weights.get(arg) else { return Ok(None) };
        let file = self.file();
        let (first, second) = match is_constant {
            true => (&file.constants, &file.weights),
            false => (&file.weights, &file.constants),
        };
        match first.get(name).or_else(|| second.get(name)) {
            Some(tensor) => Ok(Some((name, tensor))),
            None => Err(match file.objects.get(name) {
                Some(what) => Error::unsupported(format!("`{name}` is {what}, which does not run")),
                None => Error::invalid(format!("the file has no tensor `{name}`, which the program reads")),
            }),
        }
    }

    fn arg_name(&self, arg: &str) -> Option<&str> {
        self.weights.get_key_value(arg).map(|(arg, _)| arg.as_str())
    }

    /// Everything that keeps the program from running, in one error.
    fn refusal(&self) -> Option<Error> {
        let mut missing: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        visit(&self.schema.graph, &mut |node| {
            if !aten::is_supported(&node.target) {
                missing.entry(&node.target).or_insert((0, &node.module)).0 += 1;
            }
        });
        if !missing.is_empty() {
            let one = |(op, &(count, module)): (&&str, &(usize, &str))| counted(op, count, module);
            let (count, list) = (missing.len(), missing.iter().map(one).collect::<Vec<_>>().join(", "));
            let plural = if count == 1 { "operation that is" } else { "operations that are" };
            let uses: String = self.refused_uses().iter().map(|text| format!("; {text}")).collect();
            let error = Error::unsupported(format!("the program has {count} {plural} not supported: {list}{uses}"));
            return Some(match self.schema.is_training_ir {
                true => error.help("`exported.run_decompositions()` writes some operations in terms of others"),
                false => error.help("export it without `run_decompositions()`: some operations are known as a whole"),
            });
        }
        let mutation = self.schema.outputs.iter().find_map(|output| match output {
            Output::Mutation { kind, target, .. } if *kind != "input" => Some(format!("changes its {kind} `{target}`")),
            Output::Other(kind) => Some(format!("has an output of the kind `{kind}`")),
            _ => None,
        });
        if let Some(what) = mutation {
            return Some(
                Error::unsupported(format!("the program {what}, which is not supported"))
                    .help("a model that keeps state between runs cannot run; export it in eval mode"),
            );
        }
        self.schema.inputs.iter().find_map(|input| match input {
            Input::Other { name } => Some(Error::unsupported(format!("the program takes {name}, which does not run"))),
            Input::Weight { arg, .. } => self.weight(arg).err(),
            _ => None,
        })
    }

    /// The uses of supported operations that are not supported, each in a line.
    fn refused_uses(&self) -> Vec<String> {
        let mut graph = Graph::new();
        let mut inputs = Vec::new();
        for port in &self.inputs {
            let Some(sizes) = port.exported.clone().and_then(|sizes| aten::checked(sizes).ok()) else { return vec![] };
            if !port.dtype.is_runnable() {
                return vec![];
            }
            inputs.push(graph.input(sizes.into(), port.dtype));
        }
        build::Build::refused_uses(&mut graph, self, &inputs).iter().map(ToString::to_string).collect()
    }

    /// Adds what the program computes to a graph; gives the outputs with their dtypes in the program.
    ///
    /// # Errors
    /// When the inputs do not fit the program, or an operation cannot be done.
    pub(crate) fn trace(&self, graph: &mut Graph, inputs: &[Var]) -> Result<Vec<(Var, DType)>> {
        build::Build::run(graph, self, inputs)
    }
}

/// An operation with how often it is there: `aten.foo.default` (2 times, first in `head`).
fn counted(op: &str, count: usize, module: &str) -> String {
    let times = if count == 1 { "once".into() } else { format!("{count} times") };
    let place = if module.is_empty() { String::new() } else { format!(", first in `{}`", info::printable(module)) };
    format!("`{}` ({times}{place})", info::printable(op))
}

/// Calls `each` with every node, those of inner graphs included, but not the blocks that hold them.
fn visit<'a>(graph: &'a schema::Graph, each: &mut impl FnMut(&'a schema::Node)) {
    for node in &graph.nodes {
        let mut is_block = false;
        for (_, arg) in &node.args {
            if let (Arg::Graph(inner), Some(_)) = (arg, aten::block(&node.target)) {
                is_block = true;
                visit(inner, each);
            }
        }
        if !is_block {
            each(node);
        }
    }
}

fn port(schema: &schema::Program, name: String, arg: &str) -> Result<Port> {
    let meta = schema.graph.tensors.get(arg);
    let meta = meta.ok_or_else(|| Error::invalid(format!("the program says nothing about `{arg}`")))?;
    let dtype = meta.dtype.ok_or_else(|| Error::unsupported(format!("`{arg}` has a dtype that is not known")))?;
    let size = |size: &Size| match size {
        Size::Int(size) => usize::try_from(*size).ok(),
        Size::Expr(..) => None,
    };
    let exported = |size: &Size| match size {
        Size::Int(size) | Size::Expr(_, Some(size)) => usize::try_from(*size).ok(),
        Size::Expr(_, None) => None,
    };
    // The largest number that the file can say is no bound.
    let range = |size: &Size| {
        let &(least, most) = schema.ranges.get(size.symbol()?)?;
        Some((usize::try_from(least).ok()?, usize::try_from(most).ok().filter(|_| most < i64::MAX - 1)))
    };
    let shape = meta.sizes.iter().map(size).collect();
    let (exported, ranges) = (meta.sizes.iter().map(exported).collect(), meta.sizes.iter().map(range).collect());
    Ok(Port { name, dtype, shape, exported, ranges, arg: arg.into() })
}

fn input_ports(schema: &schema::Program) -> Result<Vec<Port>> {
    // The leaves are `0.i...` for positional arguments and `1.name...` for those by keyword.
    let leaves = schema.in_spec.leaves();
    let user: Vec<&Option<String>> = schema
        .inputs
        .iter()
        .filter_map(|input| match input {
            Input::User { arg } => Some(Some(arg)),
            Input::Fixed => Some(None),
            _ => None,
        })
        .map(|arg| arg.unwrap_or(&None))
        .collect();
    let mut ports = Vec::new();
    for (index, arg) in user.iter().enumerate() {
        let Some(arg) = arg else { continue };
        let name = match leaves.get(index).filter(|_| leaves.len() == user.len()) {
            Some(path) => argument_name(schema, path),
            None => arg.clone(),
        };
        if !schema.graph.tensors.contains_key(arg) {
            return Err(Error::unsupported(format!("the input `{name}` is a number, not a tensor"))
                .help("fix it when the model is exported, or make it a tensor"));
        }
        ports.push(port(schema, name, arg)?);
    }
    Ok(ports)
}

/// `x` from `0.0`, `past.0` from `0.1.0`, `mask` from `1.mask`.
fn argument_name(schema: &schema::Program, path: &str) -> String {
    let by_position = path.strip_prefix("0.").and_then(|rest| {
        let (index, rest) = rest.split_once('.').map_or((rest, None), |(index, rest)| (index, Some(rest)));
        let name = schema.arg_names.get(index.parse::<usize>().ok()?)?;
        Some(rest.map_or_else(|| name.clone(), |rest| format!("{name}.{rest}")))
    });
    by_position.unwrap_or_else(|| path.strip_prefix("1.").unwrap_or(path).to_string())
}

fn output_ports(schema: &schema::Program) -> Result<Vec<Port>> {
    let leaves = schema.out_spec.leaves();
    let user: Vec<(&Arg, Option<DType>)> = schema
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::User(arg, scalar) => Some((arg, *scalar)),
            _ => None,
        })
        .collect();
    let mut ports = Vec::new();
    for (index, (arg, scalar)) in user.iter().enumerate() {
        let name = match leaves.get(index).filter(|_| leaves.len() == user.len()) {
            Some(name) if !name.is_empty() => name.clone(),
            _ if user.len() == 1 => "output".into(),
            _ => index.to_string(),
        };
        match arg {
            Arg::Tensor(arg) => ports.push(port(schema, name, arg)?),
            Arg::None => {}
            _ => {
                let dtype = scalar.unwrap_or(DType::F32);
                ports.push(Port {
                    name,
                    dtype,
                    shape: vec![],
                    exported: Some(vec![]),
                    ranges: vec![],
                    arg: String::new(),
                });
            }
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::shape::Shape;

    /// Reads and traces a program; what is wrong with it must be an error.
    fn try_out(exported: &Arc<Exported>) -> Result<()> {
        let program = Program::read(exported, None)?;
        let mut graph = Graph::new();
        let input = |port: &Port| {
            let sizes: Shape = port.shape.iter().map(|size| size.unwrap_or(3)).collect();
            graph.input(sizes, port.dtype)
        };
        let inputs: Vec<Var> = program.inputs().iter().map(input).collect();
        program.trace(&mut graph, &inputs).map(drop)
    }

    /// How many steps of each kernel a program becomes.
    fn kernels(path: &std::path::Path) -> BTreeMap<&'static str, usize> {
        let checkpoint = Checkpoint::open(path).unwrap();
        let program = Program::read(checkpoint.exported().unwrap(), None).unwrap();
        let mut graph = Graph::new();
        let input = |port: &Port| {
            let sizes: Shape = port.shape.iter().map(|size| size.unwrap_or(3)).collect();
            graph.input(sizes, port.dtype)
        };
        let inputs: Vec<Var> = program.inputs().iter().map(input).collect();
        let outputs = program.trace(&mut graph, &inputs).unwrap();
        graph.set_outputs(outputs.into_iter().map(|output| output.0).collect());
        let schedule = crate::graph::lower(&crate::graph::optimize(&graph).unwrap(), false, 4).unwrap();
        let mut counts = BTreeMap::new();
        for step in &schedule.steps {
            *counts.entry(step.kernel.name()).or_default() += 1;
        }
        counts
    }

    /// What is no model: `counter` does not run, the others are collections of single operations, some of which PyTorch
    /// decomposes in a way of its own.
    const OTHER_STEPS: [&str; 8] =
        ["counter", "divisions", "edges", "functions", "indices", "numbers", "scales", "volumes"];

    /// A decomposed program becomes the same steps as the one that was exported; `SCONCE_FORMS` names a folder of more
    /// pairs `NAME.plain.pt2`, `NAME.core.pt2`.
    #[test]
    fn both_forms_become_the_same_steps() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/programs");
        let mut folders = vec![folder.join("hugging-face"), folder];
        folders.extend(std::env::var_os("SCONCE_FORMS").map(Into::into));
        let (mut pairs, mut different) = (0, Vec::new());
        for path in
            folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path())
        {
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some(stem) = name.strip_suffix(".core.pt2").filter(|stem| !OTHER_STEPS.contains(stem)) else {
                continue;
            };
            let other = [".pt2", ".plain.pt2"].map(|end| path.with_file_name(format!("{stem}{end}")));
            let plain = other.iter().find(|path| path.exists()).expect("both forms");
            let (plain, core) = (kernels(plain), kernels(&path));
            pairs += 1;
            if plain != core {
                different.push(format!("{stem}: exported {plain:?}, decomposed {core:?}"));
            }
        }
        assert!(pairs >= 6 && different.is_empty(), "{pairs} pairs; {}", different.join("\n"));
    }

    /// Programs with one number or name changed are refused or traced, and nothing panics.
    #[test]
    fn damaged_programs_are_errors() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/programs");
        let numbers = ["-9223372036854775808", "-1", "0", "1", "2", "5", "70000", "9223372036854775807"];
        let mut refused = 0;
        for name in
            ["residual", "writes.core", "signature", "tied", "dynamic", "resized", "encoder", "recurrent", "masked"]
        {
            let checkpoint = Checkpoint::open(folder.join(format!("{name}.pt2"))).unwrap();
            let exported = checkpoint.exported().unwrap();
            try_out(exported).unwrap();
            let text = &exported.programs[0].text;
            let digits: Vec<usize> = (1..text.len() - 1)
                .filter(|&at| text[at].is_ascii_digit() && matches!(text[at - 1], b' ' | b'[' | b'-'))
                .collect();
            for (i, &at) in digits.iter().enumerate().step_by(1 + digits.len() / 150) {
                let end = at + text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = numbers[i % numbers.len()].as_bytes();
                let program = ExportedProgram {
                    name: name.into(),
                    text: [&text[..at], number, &text[end..]].concat().into(),
                    weights: exported.programs[0].weights.clone(),
                    constants: exported.programs[0].constants.clone(),
                    objects: HashMap::new(),
                };
                refused += usize::from(try_out(&Arc::new(Exported { programs: vec![program] })).is_err());
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
