//! From a program to a graph, for one set of input shapes: the nodes in order, each checked against the dtypes and
//! shapes that the file has for its results.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use super::alias::{Base, Handle, ViewOp};
use super::aten::{self, Call, Out};
use super::host::Host;
use super::info::printable;
use super::schema::{self, Arg, Meta, Node, Size};
use super::value::{Data, X};
use super::{Program, symbols};
use crate::checkpoint::StoredTensor;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Var};

/// The most uses of operations that one error lists.
const MAX_REFUSED: usize = 64;

/// A graph in the making.
pub(super) struct Build<'a> {
    pub(super) graph: &'a mut Graph,
    program: &'a Program,
    /// The values of the graph that is being run: the program's, or that of a block in it.
    frame: Frame<'a>,
    pub(super) bases: Vec<Base>,
    /// The sizes that the inputs have, by symbol.
    symbols: HashMap<String, i64>,
    /// How large the elements of each value of the graph can be, as far as it was asked for.
    pub(super) bounds: Vec<f64>,
    refused: Vec<Refused<'a>>,
}

/// A use of an operation that is not supported, with how often it is there.
struct Refused<'a> {
    node: &'a Node,
    error: Error,
    count: usize,
}

impl Refused<'_> {
    fn place(&self) -> String {
        let module = printable(&self.node.module);
        if module.is_empty() { module } else { format!("`{module}`: ") }
    }

    fn alone(self) -> Error {
        let (place, target) = (self.place(), printable(&self.node.target));
        self.error.context(format_args!("{place}{target}"))
    }
}

/// In one line: `aten.index.Tensor` (once, first in `head`): why not.
impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", super::counted(&self.node.target, self.count, &self.node.module), self.error.message())
    }
}

struct Frame<'a> {
    graph: &'a schema::Graph,
    /// In an `autocast` block operations choose the width of floats, and the file says which.
    chooses_width: bool,
    values: HashMap<&'a str, Value>,
}

/// A value by name.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Tensor(Handle),
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    /// A further result that the operation does not compute.
    Missing(Rc<str>),
}

impl<'a> Build<'a> {
    /// Adds the program to `graph`; gives its outputs with the dtypes that the program says.
    pub(super) fn run(graph: &'a mut Graph, program: &'a Program, inputs: &[Var]) -> Result<Vec<(Var, DType)>> {
        let mut build = Build::new(graph, program);
        build.bind_inputs(inputs)?;
        let done = build.run_nodes(&program.schema.graph);
        // What follows from a refusal is no news.
        match build.refusal() {
            Some(error) => Err(error),
            None => done.and_then(|()| program.outputs().map(|output| build.output(output)).collect()),
        }
    }

    /// The uses of supported operations that are not supported, of a program that also has other operations.
    pub(super) fn refused_uses(graph: &mut Graph, program: &Program, inputs: &[Var]) -> Vec<String> {
        let mut build = Build::new(graph, program);
        // The first trouble of another kind ends the list.
        let _ = build.bind_inputs(inputs).and_then(|()| build.run_nodes(&program.schema.graph));
        let uses = build.refused.iter().filter(|refused| aten::is_supported(&refused.node.target));
        uses.map(Refused::to_string).collect()
    }

    fn new(graph: &'a mut Graph, program: &'a Program) -> Self {
        let top = &program.schema.graph;
        let frame = Frame { graph: top, chooses_width: false, values: HashMap::with_capacity(top.nodes.len() + 16) };
        let (bases, symbols, bounds, refused) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        Self { graph, program, frame, bases, symbols, bounds, refused }
    }

    fn bind_inputs(&mut self, inputs: &[Var]) -> Result<()> {
        let program = self.program;
        let ports = program.inputs();
        if ports.len() != inputs.len() {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            return Err(Error::shape(format!(
                "the program takes {} inputs ({}), {} were given",
                ports.len(),
                names.join(", "),
                inputs.len()
            )));
        }
        // Twice: a size may be an expression of one that a later input has.
        for (port, &var) in ports.iter().chain(ports).zip(inputs.iter().chain(inputs)) {
            let meta = self.meta(&port.arg)?;
            symbols::bind(&mut self.symbols, &program.schema.ranges, port, &meta.sizes, self.graph.shape(var))?;
        }
        for (port, &var) in ports.iter().zip(inputs) {
            let dtype = port.dtype;
            if dtype.is_float() == self.graph.node(var).is_int {
                let given = if dtype.is_float() { "integers" } else { "floats" };
                return Err(Error::shape(format!("input `{}`: expected {dtype}, found {given}", port.name)));
            }
            let handle = self.fresh(X::var(var, dtype));
            self.frame.values.insert(&port.arg, Value::Tensor(handle));
        }
        Ok(())
    }

    fn output(&mut self, arg: &Arg) -> Result<(Var, DType)> {
        let x = match arg {
            Arg::Tensor(name) => {
                let handle = self.handle(name)?;
                self.read(&handle)?
            }
            Arg::Int(value) => X::int(*value),
            Arg::Float(value) => X::number(*value, DType::F32),
            Arg::Bool(value) => X::number(f64::from(u8::from(*value)), DType::Bool),
            Arg::Sym(name) => match self.value(name)? {
                Value::Int(value) => X::int(value),
                Value::Float(value) => X::number(value, DType::F32),
                Value::Bool(value) => X::number(f64::from(u8::from(value)), DType::Bool),
                _ => return Err(Error::unsupported(format!("the output `{name}` is no number"))),
            },
            other => return Err(Error::unsupported(format!("an output of the kind {other:?}"))),
        };
        let var = if x.dtype.is_float() || x.dtype == DType::Bool { self.var(&x)? } else { self.int_var(&x)? };
        Ok((var, x.dtype))
    }

    fn run_nodes(&mut self, graph: &'a schema::Graph) -> Result<()> {
        for node in &graph.nodes {
            if let Err(error) = self.run_node(node) {
                self.refuse(node, error)?;
            }
        }
        Ok(())
    }

    /// Notes what is not supported and goes on, so that all of it becomes one error.
    fn refuse(&mut self, node: &'a Node, error: Error) -> Result<()> {
        let refused = Refused { node, error, count: 1 };
        if refused.error.kind() != ErrorKind::Unsupported {
            return Err(refused.alone());
        }
        let is_same = |other: &&mut Refused<'_>| {
            other.node.target == node.target && other.error.message() == refused.error.message()
        };
        match self.refused.iter_mut().find(is_same) {
            Some(other) => other.count += 1,
            None => self.refused.push(refused),
        }
        match self.stand_in(node).filter(|()| self.refused.len() < MAX_REFUSED) {
            Some(()) => Ok(()),
            None => Err(Error::invalid("what follows is not known")),
        }
    }

    /// Everything that was noted.
    fn refusal(&mut self) -> Option<Error> {
        let mut refused = std::mem::take(&mut self.refused);
        if refused.len() <= 1 && refused.iter().all(|refused| refused.count == 1) {
            return refused.pop().map(Refused::alone);
        }
        let list: Vec<String> = refused.iter().map(Refused::to_string).collect();
        let plural = if list.len() == 1 { "operation in a way that is" } else { "operations in ways that are" };
        Some(Error::unsupported(format!("the program uses {} {plural} not supported: {}", list.len(), list.join("; "))))
    }

    /// Gives a node's results as the file describes them, if it says enough.
    fn stand_in(&mut self, node: &'a Node) -> Option<()> {
        for name in output_names(node) {
            let meta = self.frame.graph.tensors.get(name)?;
            let dtype = meta.dtype.filter(|dtype| dtype.is_runnable())?;
            let mut sizes = Vec::new();
            for size in &meta.sizes {
                // A size that depends on data is any.
                if let Some(symbol) = size.symbol() {
                    self.symbols.entry(symbol.into()).or_insert(2);
                }
                sizes.push(usize::try_from(self.symbol(size)?).ok()?);
            }
            let var = self.graph.input(aten::checked(sizes).ok()?.into(), dtype);
            let handle = self.fresh(X::var(var, dtype));
            self.frame.values.insert(name, Value::Tensor(handle));
        }
        Some(())
    }

    fn run_node(&mut self, node: &'a Node) -> Result<()> {
        if let Some(operands) = aten::block(&node.target) {
            return self.run_block(node, operands);
        }
        let Some(handler) = aten::find(&node.target) else {
            return Err(Error::unsupported("the operation is not supported"));
        };
        let out = handler.run(&mut Call { build: self, node })?;
        self.bind(node, out)
    }

    /// Runs a graph inside of the graph: a `no_grad` or `autocast` block, whose operands start at `first`.
    fn run_block(&mut self, node: &'a Node, first: usize) -> Result<()> {
        let Some(Arg::Graph(inner)) = node.args.get(first - 1).map(|(_, arg)| arg) else {
            return Err(Error::invalid("the block has no graph where one is expected"));
        };
        let operands = node.args[first..].iter().map(|(_, arg)| self.argument(arg)).collect::<Result<Vec<_>>>()?;
        let mut values = HashMap::new();
        for (name, value) in inner.inputs.iter().zip(operands) {
            if let Arg::Tensor(name) | Arg::Sym(name) = name {
                values.insert(name.as_str(), value);
            }
        }
        let chooses_width = node.target == "higher_order.wrap_with_autocast" || self.frame.chooses_width;
        let outer = std::mem::replace(&mut self.frame, Frame { graph: inner, chooses_width, values });
        let results = self
            .run_nodes(inner)
            .and_then(|()| inner.outputs.iter().map(|arg| self.argument(arg)).collect::<Result<Vec<_>>>());
        self.frame = outer;
        let names = output_names(node);
        for (name, value) in names.into_iter().zip(results?) {
            self.frame.values.insert(name, value);
        }
        Ok(())
    }

    fn argument(&mut self, arg: &Arg) -> Result<Value> {
        Ok(match arg {
            Arg::Tensor(name) | Arg::Sym(name) => self.value(name)?,
            Arg::Int(value) => Value::Int(*value),
            Arg::Float(value) => Value::Float(*value),
            Arg::Bool(value) => Value::Bool(*value),
            Arg::None => Value::None,
            other => return Err(Error::unsupported(format!("an operand of the kind {other:?}"))),
        })
    }

    fn bind(&mut self, node: &'a Node, out: Out) -> Result<()> {
        let names = output_names(node);
        let out = match out {
            Out::X(x) if self.frame.chooses_width => Out::X(self.declared(names.first(), x)?),
            out => out,
        };
        let values: Vec<Value> = match out {
            Out::X(x) => vec![Value::Tensor(self.fresh(x))],
            Out::Xs(xs) => xs.into_iter().map(|x| Value::Tensor(self.fresh(x))).collect(),
            Out::View(handle, views) => vec![Value::Tensor(self.alias(&handle, &views)?)],
            Out::Views(handle, all) => {
                all.iter().map(|views| Ok(Value::Tensor(self.alias(&handle, views)?))).collect::<Result<_>>()?
            }
            Out::Value(value) => vec![value],
            Out::Nothing => return Ok(()),
        };
        let mut values = values.into_iter();
        for name in names {
            let value = values.next().unwrap_or_else(|| Value::Missing(node.target.as_str().into()));
            if let Value::Tensor(handle) = &value {
                let x = self.read(handle)?;
                self.check(name, &x)?;
            }
            self.frame.values.insert(name, value);
        }
        match values.next() {
            None => Ok(()),
            Some(_) => Err(Error::invalid("the program names fewer results than the operation has")),
        }
    }

    /// A float as wide as the file says.
    fn declared(&mut self, name: Option<&&str>, x: X) -> Result<X> {
        let dtype = name.and_then(|name| self.frame.graph.tensors.get(*name)).and_then(|meta| meta.dtype);
        match dtype.filter(|dtype| dtype.is_float() && x.dtype.is_float()) {
            Some(dtype) => self.cast(&x, dtype),
            None => Ok(x),
        }
    }

    /// Compares a result with what the file says about it.
    fn check(&self, name: &str, x: &X) -> Result<()> {
        let Some(meta) = self.frame.graph.tensors.get(name) else { return Ok(()) };
        let shape = self.shape(x);
        let fits = shape.len() == meta.sizes.len()
            && shape.iter().zip(&meta.sizes).all(|(&own, size)| match size {
                Size::Int(size) => i64::try_from(own).is_ok_and(|own| own == *size),
                Size::Expr(..) => symbols::value(&self.symbols, size).is_none_or(|size| size == own as i64),
            });
        if !fits {
            let sizes: Vec<String> = meta.sizes.iter().map(symbols::show).collect();
            return Err(Error::shape(format!("`{name}` is {shape:?}, the file says [{}]", sizes.join(", "))));
        }
        if meta.dtype.is_some_and(|dtype| dtype != x.dtype) {
            let dtype = meta.dtype.expect("checked");
            return Err(Error::shape(format!("`{name}` is {}, the file says {dtype}", x.dtype)));
        }
        Ok(())
    }

    pub(super) fn meta(&self, name: &str) -> Result<&'a Meta> {
        let graph = self.frame.graph;
        graph.tensors.get(name).ok_or_else(|| Error::invalid(format!("the program says nothing about `{name}`")))
    }

    /// The value called `name`; a weight is read from the file now.
    pub(super) fn value(&mut self, name: &str) -> Result<Value> {
        if let Some(value) = self.frame.values.get(name) {
            return match value {
                Value::Missing(target) => {
                    Err(Error::unsupported(format!("`{name}`, a further result of {target}, is not computed")))
                }
                value => Ok(value.clone()),
            };
        }
        let program = self.program;
        let Some((own_name, weight)) = program.weight(name)? else {
            return Err(Error::invalid(format!("the program has no value `{name}`")));
        };
        let x = self.stored(own_name, weight)?;
        let handle = self.weight(x, own_name);
        // Names are those of the program, which outlives the build.
        let key = program.arg_name(name).expect("it has a weight");
        self.frame.values.insert(key, Value::Tensor(handle.clone()));
        Ok(Value::Tensor(handle))
    }

    /// A tensor of the file: floats as a parameter, integers and booleans as numbers that are known now.
    fn stored(&mut self, name: &str, tensor: &StoredTensor) -> Result<X> {
        let dtype = tensor.dtype();
        if dtype.is_float() {
            return Ok(X::var(self.graph.parameter(name, tensor)?, dtype));
        }
        let host = crate::tensor::Tensor::from_stored(tensor).and_then(|tensor| Host::from_tensor(&tensor));
        Ok(X::host(host.map_err(|error| error.context(format_args!("`{name}`")))?, dtype))
    }

    pub(super) fn handle(&mut self, name: &str) -> Result<Handle> {
        match self.value(name)? {
            Value::Tensor(handle) => Ok(handle),
            other => Err(Error::invalid(format!("`{name}` is no tensor, but {other:?}"))),
        }
    }

    pub(super) fn shape(&self, x: &X) -> Vec<usize> {
        match &x.data {
            Data::Host(host) => host.shape.clone(),
            &Data::Var(var) => self.graph.shape(var).to_vec(),
        }
    }

    /// The value in the graph, as floats.
    pub(super) fn var(&mut self, x: &X) -> Result<Var> {
        match &x.data {
            &Data::Var(var) if self.graph.node(var).is_int => self.graph.int_to_float(var),
            &Data::Var(var) => Ok(var),
            Data::Host(host) => {
                let tensor = host.cast(DType::F32).to_tensor()?;
                match host.as_ints() {
                    Ok(ints) if ints.iter().any(|&x| x.unsigned_abs() as f64 > self.exact()) => {
                        let most = self.exact_shown();
                        Err(Error::unsupported(format!("integers above {most} are not computed with on a device")))
                    }
                    _ => self.graph.constant(tensor),
                }
            }
        }
    }

    /// The value in the graph, as integers.
    pub(super) fn int_var(&mut self, x: &X) -> Result<Var> {
        match &x.data {
            &Data::Var(var) if self.graph.node(var).is_int => Ok(var),
            &Data::Var(var) => self.graph.float_to_int(var),
            Data::Host(host) => self.graph.constant(host.cast(DType::I64).to_tensor()?),
        }
    }

    /// The numbers of a value, if they are known now: constants, and parameters, which are read.
    pub(super) fn known(&self, x: &X) -> Result<Option<Rc<Host>>> {
        let var = match &x.data {
            Data::Host(host) => return Ok(Some(Rc::clone(host))),
            &Data::Var(var) => var,
        };
        self.graph.known(var)?.map(|tensor| Ok(Rc::new(Host::from_tensor(&tensor)?))).transpose()
    }

    pub(super) fn symbol(&self, size: &Size) -> Option<i64> {
        symbols::value(&self.symbols, size)
    }
}

/// The names of a node's results.
fn output_names(node: &Node) -> Vec<&str> {
    let mut names = Vec::new();
    for arg in &node.outputs {
        match arg {
            Arg::Tensor(name) | Arg::Sym(name) => names.push(name.as_str()),
            Arg::Tensors(all) => names.extend(all.iter().flatten().map(String::as_str)),
            _ => {}
        }
    }
    names
}

/// The views that broadcast, as PyTorch's `expand` does.
pub(super) fn expand_to(shape: &[usize]) -> ViewOp {
    ViewOp::Expand(shape.to_vec())
}
