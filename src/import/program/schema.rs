//! The program of `torch.export` as the file says it: `torch/_export/serde/schema.py`, major version 8. Unknown fields
//! are ignored, since minor versions add some; an unknown kind of argument is kept by its name.

use std::collections::HashMap;

use super::json::Json;
use super::tree::Tree;
use crate::checkpoint::export::dtype;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// A program: its graph, and what the graph's inputs and outputs are.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) graph: Graph,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
    /// The smallest and largest value of each size that the caller may choose.
    pub(super) ranges: HashMap<String, (i64, i64)>,
    /// Whether it is as exported, with composite and in-place operations, rather than decomposed.
    pub(super) is_training_ir: bool,
    pub(super) torch_version: String,
    pub(super) in_spec: Tree,
    pub(super) out_spec: Tree,
    pub(super) arg_names: Vec<String>,
}

/// Nodes in the order of execution.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Arg>,
    pub(super) outputs: Vec<Arg>,
    pub(super) nodes: Vec<Node>,
    pub(super) tensors: HashMap<String, Meta>,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Node {
    /// As `aten.conv2d.default`: without `torch.ops.`.
    pub(super) target: String,
    pub(super) args: Vec<(String, Arg)>,
    pub(super) outputs: Vec<Arg>,
    /// The module that it belongs to, as `layer1.0.conv1`.
    pub(super) module: String,
}

/// What the file says about a tensor.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) dtype: Option<DType>,
    pub(super) sizes: Vec<Size>,
    pub(super) strides: Vec<Size>,
}

/// A size: a number, or an expression of symbols with the value that it had at export.
#[derive(Clone, Debug)]
pub(super) enum Size {
    Int(i64),
    Expr(String, Option<i64>),
}

impl Size {
    /// The symbol, if the size is one by itself: `s77` of `Symbol('s77', positive=True, integer=True)`.
    pub(super) fn symbol(&self) -> Option<&str> {
        let Size::Expr(text, _) = self else { return None };
        let (name, rest) = text.strip_prefix("Symbol('")?.split_once('\'')?;
        (rest.ends_with(')') && !rest[..rest.len() - 1].contains(['(', ')'])).then_some(name)
    }
}

/// An argument.
#[derive(Debug)]
pub(super) enum Arg {
    None,
    Tensor(String),
    Tensors(Vec<Option<String>>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    /// Integers, some by name.
    Ints(Vec<Sym>),
    Floats(Vec<f64>),
    /// A symbolic integer, float or boolean.
    Sym(String),
    DType(DType),
    /// A device, a layout or a memory format, which say nothing here.
    Ignored,
    Graph(Box<Graph>),
    /// A kind that is not known, by its name in the file.
    Other(String),
}

/// An integer of a list.
#[derive(Clone, Debug)]
pub(super) enum Sym {
    Int(i64),
    Name(String),
}

/// What an input of the graph is.
#[derive(Debug)]
pub(super) enum Input {
    User {
        arg: Option<String>,
    },
    /// A parameter, buffer or constant, by its name in the file's tensors.
    Weight {
        arg: String,
        name: String,
        is_constant: bool,
    },
    /// A value that was fixed at export.
    Fixed,
    /// A custom object or a token.
    Other {
        name: String,
    },
}

/// What an output of the graph is.
#[derive(Debug)]
pub(super) enum Output {
    /// A tensor, or a Python number with its dtype.
    User(Arg, Option<DType>),
    /// The new value of a buffer, parameter or input.
    Mutation {
        kind: &'static str,
        target: String,
    },
    Other(String),
}

fn invalid(what: &str) -> Error {
    Error::invalid(format!("the program has no valid `{what}`"))
}

fn list<'j, 't>(json: &'j Json<'t>, field: &str) -> Result<&'j [Json<'t>]> {
    json[field].as_list().ok_or_else(|| invalid(field))
}

fn text(json: &Json<'_>, field: &str) -> Result<String> {
    json[field].as_str().map(Into::into).ok_or_else(|| invalid(field))
}

impl Program {
    pub(super) fn read(text: &[u8]) -> Result<Self> {
        let json = Json::parse(text)?;
        let version = &json["schema_version"];
        if version["major"].as_i64() != Some(8) {
            let number = |field: &str| version[field].as_i64().map_or("?".into(), |n| n.to_string());
            let is_newer = version["major"].as_i64().is_some_and(|major| major > 8);
            return Err(Error::unsupported(format!(
                "a program of schema version {}.{}; version 8 is read",
                number("major"),
                number("minor")
            ))
            .help(match is_newer {
                true => "it is newer than this version of sconce: export it with torch 2.15",
                false => "export it again with torch 2.6 or later",
            }));
        }
        let module = &json["graph_module"];
        let graph = Graph::read(&module["graph"])?;
        let signature = &module["signature"];
        let inputs = list(signature, "input_specs")?.iter().map(Input::read).collect::<Result<_>>()?;
        let outputs = list(signature, "output_specs")?.iter().map(Output::read).collect::<Result<_>>()?;
        let call = module["module_call_graph"]
            .as_list()
            .and_then(|calls| calls.iter().find(|call| call["fqn"].as_str() == Some("")));
        let call = call.map_or(&Json::Null, |call| &call["signature"]);
        let names = call["forward_arg_names"].as_list().unwrap_or_default();
        Ok(Self {
            graph,
            inputs,
            outputs,
            ranges: ranges(&json["range_constraints"]),
            is_training_ir: json["verifiers"]
                .as_list()
                .is_some_and(|v| v.iter().any(|v| v.as_str() == Some("TRAINING"))),
            torch_version: json["torch_version"].as_str().unwrap_or_default().into(),
            in_spec: Tree::read(call["in_spec"].as_str().unwrap_or_default())?,
            out_spec: Tree::read(call["out_spec"].as_str().unwrap_or_default())?,
            arg_names: names.iter().filter_map(|name| name.as_str().map(Into::into)).collect(),
        })
    }
}

fn ranges(json: &Json<'_>) -> HashMap<String, (i64, i64)> {
    let entries = json.as_object().unwrap_or_default();
    let bound = |json: &Json<'_>, default: i64| json.as_i64().unwrap_or(default);
    entries
        .iter()
        .map(|(name, range)| {
            (name.to_string(), (bound(&range["min_val"], i64::MIN), bound(&range["max_val"], i64::MAX)))
        })
        .collect()
}

impl Graph {
    fn read(json: &Json<'_>) -> Result<Self> {
        let args = |field: &str| list(json, field)?.iter().map(Arg::read).collect::<Result<Vec<_>>>();
        let tensors = json["tensor_values"].as_object().ok_or_else(|| invalid("tensor_values"))?;
        Ok(Self {
            inputs: args("inputs")?,
            outputs: args("outputs")?,
            nodes: list(json, "nodes")?.iter().map(Node::read).collect::<Result<_>>()?,
            tensors: tensors
                .iter()
                .map(|(name, json)| Ok((name.to_string(), Meta::read(json)?)))
                .collect::<Result<_>>()?,
        })
    }
}

impl Node {
    fn read(json: &Json<'_>) -> Result<Self> {
        let target = json["target"].as_str().ok_or_else(|| invalid("target"))?;
        let arg = |json: &Json<'_>| Ok((json["name"].as_str().unwrap_or_default().into(), Arg::read(&json["arg"])?));
        Ok(Self {
            target: target.strip_prefix("torch.ops.").unwrap_or(target).into(),
            args: list(json, "inputs")?.iter().map(arg).collect::<Result<_>>()?,
            outputs: list(json, "outputs")?.iter().map(Arg::read).collect::<Result<_>>()?,
            module: module_path(json["metadata"]["nn_module_stack"].as_str().unwrap_or_default()).into(),
        })
    }
}

/// The innermost module's path of `key,path,class;key,path,class`.
fn module_path(stack: &str) -> &str {
    let last = stack.rsplit(';').next().unwrap_or_default();
    last.split(',').nth(1).unwrap_or_default()
}

impl Meta {
    fn read(json: &Json<'_>) -> Result<Self> {
        let sizes = |field: &str| list(json, field)?.iter().map(size).collect::<Result<Vec<_>>>();
        Ok(Self {
            dtype: json["dtype"].as_i64().and_then(dtype),
            sizes: sizes("sizes")?,
            strides: sizes("strides").unwrap_or_default(),
        })
    }
}

fn size(json: &Json<'_>) -> Result<Size> {
    if let Some(size) = json["as_int"].as_i64() {
        return Ok(Size::Int(size));
    }
    let expr = json.get("as_expr").ok_or_else(|| invalid("size"))?;
    Ok(Size::Expr(text(expr, "expr_str")?, expr["hint"]["as_int"].as_i64()))
}

/// The name of a tensor: in `{"name": ..}`.
fn name(json: &Json<'_>) -> Result<String> {
    text(json, "name")
}

impl Arg {
    fn read(json: &Json<'_>) -> Result<Self> {
        let Some((kind, value)) = json.entry() else {
            return Err(Error::invalid("an argument of the program has no kind"));
        };
        let items = || value.as_list().ok_or_else(|| invalid(kind));
        let number = |json: &Json<'_>| json.as_i64().ok_or_else(|| invalid(kind));
        let float = |json: &Json<'_>| json.as_f64().ok_or_else(|| invalid(kind));
        Ok(match kind {
            "as_none" => Arg::None,
            "as_tensor" => Arg::Tensor(name(value)?),
            "as_optional_tensor" => optional(value)?.map_or(Arg::None, Arg::Tensor),
            "as_tensors" => Arg::Tensors(items()?.iter().map(|json| name(json).map(Some)).collect::<Result<_>>()?),
            "as_optional_tensors" => Arg::Tensors(items()?.iter().map(optional).collect::<Result<_>>()?),
            "as_int" => Arg::Int(number(value)?),
            "as_float" => Arg::Float(float(value)?),
            "as_bool" => Arg::Bool(value.as_bool().ok_or_else(|| invalid(kind))?),
            "as_string" => Arg::Str(value.as_str().ok_or_else(|| invalid(kind))?.into()),
            "as_ints" => Arg::Ints(items()?.iter().map(|json| number(json).map(Sym::Int)).collect::<Result<_>>()?),
            "as_sym_ints" => Arg::Ints(items()?.iter().map(sym).collect::<Result<_>>()?),
            "as_floats" => Arg::Floats(items()?.iter().map(float).collect::<Result<_>>()?),
            "as_sym_int" | "as_sym_float" | "as_sym_bool" => {
                if let Some(int) = value["as_int"].as_i64() {
                    Arg::Int(int)
                } else if let Some(number) = value.get("as_float").and_then(Json::as_f64) {
                    Arg::Float(number)
                } else if let Some(flag) = value["as_bool"].as_bool() {
                    Arg::Bool(flag)
                } else {
                    Arg::Sym(text(value, "as_name")?)
                }
            }
            "as_scalar_type" => match value.as_i64().and_then(dtype) {
                Some(dtype) => Arg::DType(dtype),
                None => Arg::Other(kind.into()),
            },
            "as_device" | "as_layout" | "as_memory_format" => Arg::Ignored,
            "as_graph" => Arg::Graph(Box::new(Graph::read(&value["graph"])?)),
            other => Arg::Other(other.into()),
        })
    }
}

fn optional(json: &Json<'_>) -> Result<Option<String>> {
    let tensor = json.get("as_tensor").or_else(|| json.get("name").is_some().then_some(json));
    match tensor {
        Some(tensor) => name(tensor).map(Some),
        None => Ok(None),
    }
}

fn sym(json: &Json<'_>) -> Result<Sym> {
    match json["as_int"].as_i64() {
        Some(int) => Ok(Sym::Int(int)),
        None => Ok(Sym::Name(text(json, "as_name")?)),
    }
}

impl Input {
    fn read(json: &Json<'_>) -> Result<Self> {
        let Some((kind, spec)) = json.entry() else {
            return Err(invalid("input_specs"));
        };
        let weight = |field: &str, is_constant: bool| -> Result<Input> {
            Ok(Input::Weight { arg: name(&spec["arg"])?, name: text(spec, field)?, is_constant })
        };
        Ok(match kind {
            "user_input" => match Arg::read(&spec["arg"])? {
                Arg::Tensor(name) | Arg::Sym(name) => Input::User { arg: Some(name) },
                Arg::Other(kind) => Input::Other { name: kind },
                _ => Input::User { arg: None },
            },
            "parameter" => weight("parameter_name", false)?,
            "buffer" => weight("buffer_name", spec["persistent"].as_bool() == Some(false))?,
            "tensor_constant" => weight("tensor_constant_name", true)?,
            "constant_input" => Input::Fixed,
            other => Input::Other { name: format!("{other} `{}`", spec["arg"]["name"].as_str().unwrap_or_default()) },
        })
    }
}

/// The dtype of an output that is a Python number.
fn scalar(json: &Json<'_>) -> Option<DType> {
    match json.entry()?.0 {
        "as_int" | "as_sym_int" => Some(DType::I64),
        "as_float" | "as_sym_float" => Some(DType::F32),
        "as_bool" | "as_sym_bool" => Some(DType::Bool),
        _ => None,
    }
}

impl Output {
    fn read(json: &Json<'_>) -> Result<Self> {
        let Some((kind, spec)) = json.entry() else {
            return Err(invalid("output_specs"));
        };
        let mutation = |kind: &'static str, field: &str| -> Result<Output> {
            Ok(Output::Mutation { kind, target: text(spec, field)? })
        };
        Ok(match kind {
            "user_output" => Output::User(Arg::read(&spec["arg"])?, scalar(&spec["arg"])),
            "buffer_mutation" => mutation("buffer", "buffer_name")?,
            "parameter_mutation" => mutation("parameter", "parameter_name")?,
            "user_input_mutation" => mutation("input", "user_input_name")?,
            other => Output::Other(other.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_paths_and_symbols() {
        assert_eq!(module_path("L__self__,,Net;L__self__layer1,layer1.0.conv1,torch.nn.Conv2d"), "layer1.0.conv1");
        assert_eq!(module_path(""), "");
        let expr = |text: &str| Size::Expr(text.into(), None);
        assert_eq!(expr("Symbol('s77', positive=True, integer=True)").symbol(), Some("s77"));
        assert_eq!(expr("Mul(Integer(2), Symbol('s77', integer=True))").symbol(), None);
        assert_eq!(expr("Symbol('s0') + Symbol('s1')").symbol(), None);
    }

    #[test]
    fn arguments_of_every_kind() {
        let read = |text: &str| Arg::read(&Json::parse(text.as_bytes()).unwrap());
        assert!(matches!(read(r#"{"as_float": "-Infinity"}"#).unwrap(), Arg::Float(f64::NEG_INFINITY)));
        assert!(matches!(read(r#"{"as_none": true}"#).unwrap(), Arg::None));
        assert!(matches!(read(r#"{"as_new_kind": {}}"#).unwrap(), Arg::Other(kind) if kind == "as_new_kind"));
        let ints = read(r#"{"as_sym_ints": [{"as_name": "s"}, {"as_int": -1}]}"#).unwrap();
        assert!(matches!(ints, Arg::Ints(ints) if matches!(&ints[..], [Sym::Name(_), Sym::Int(-1)])));
        let tensors = read(r#"{"as_optional_tensors": [{"as_none": true}, {"as_tensor": {"name": "x"}}]}"#).unwrap();
        assert!(matches!(tensors, Arg::Tensors(names) if names == [None, Some("x".to_string())]));
        assert!(read("{}").is_err() && read(r#"{"as_int": "x"}"#).is_err());
    }
}
