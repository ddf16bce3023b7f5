//! From the tree in the file to modules that run.

use std::fmt::Write as _;

use super::extra_repr::torch_class;
use super::{StoredModule, check, join, layers, torchvision};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::nn::{self, Module};
use crate::state_dict::Strict;

/// What a model computes from its inputs.
pub(crate) type Forward = dyn Fn(&mut Graph, &[Var]) -> Result<Vec<Var>> + Send + Sync;

/// Modules that are made at most: a small file can share a module in so many places that it never ends.
const MOST: usize = 50_000;

/// What a model computes.
pub(crate) fn forward(module: &StoredModule) -> Result<Box<Forward>> {
    let module = to_module(module)?;
    Ok(Box::new(move |graph: &mut Graph, inputs: &[Var]| call(&*module, graph, inputs)))
}

/// The outputs of a module for all of its inputs: PyTorch's own modules that take several are called as they are there.
fn call(module: &dyn Module, graph: &mut Graph, inputs: &[Var]) -> Result<Vec<Var>> {
    let expected = if let Some(heads) = module.downcast_ref::<nn::MultiheadAttention>() {
        if let &[query, key, value] = inputs {
            let output = heads.attend(graph, [query, key, value], None, false)?;
            return Ok(vec![output, heads.attention_weights(graph, query, key)?]);
        }
        "3 inputs (query, key, value)"
    } else if let Some(transformer) = module.downcast_ref::<nn::Transformer>() {
        if let &[source, target] = inputs {
            return Ok(vec![transformer.transform(graph, source, target)?]);
        }
        "2 inputs (source, target)"
    } else if let Some(decoder) = module.downcast_ref::<nn::TransformerDecoder>() {
        if let &[target, memory] = inputs {
            return Ok(vec![decoder.decode(graph, target, memory)?]);
        }
        "2 inputs (target, memory)"
    } else if let Some(layer) = module.downcast_ref::<nn::TransformerDecoderLayer>() {
        if let &[target, memory] = inputs {
            return Ok(vec![layer.decode(graph, target, memory)?]);
        }
        "2 inputs (target, memory)"
    } else if let Some(lstm) = module.downcast_ref::<nn::LSTM>() {
        let states = match *inputs {
            [_] => Some(None),
            [_, h, c] => Some(Some([h, c])),
            _ => None,
        };
        if let Some(states) = states {
            let (output, states) = lstm.forward_from(graph, inputs[0], states)?;
            return Ok([output].into_iter().chain(states).collect());
        }
        "1 input, or 3 (input, h_0, c_0)"
    } else if module.is::<nn::GRU>() || module.is::<nn::RNN>() {
        if let &[x, ref state @ ..] = inputs
            && state.len() < 2
        {
            let state = state.first().copied();
            let (output, state) = match module.downcast_ref::<nn::GRU>() {
                Some(gru) => gru.forward_from(graph, x, state)?,
                None => module.downcast_ref::<nn::RNN>().expect("one of the two").forward_from(graph, x, state)?,
            };
            return Ok(vec![output, state]);
        }
        "1 input, or 2 (input, h_0)"
    } else {
        if let &[x] = inputs {
            return Ok(vec![module.forward(graph, x)?]);
        }
        "1 input"
    };
    Err(Error::shape(format!("the model takes {expected}, {} were given", inputs.len())))
}

pub(super) fn to_module(module: &StoredModule) -> Result<Box<dyn Module>> {
    let mut builder = Builder::default();
    let built = builder.module(module, "");
    let Some(mut built) = built.filter(|_| builder.problems.is_empty() && builder.training.is_empty()) else {
        return Err(builder.into_error(module));
    };
    built.load_state_dict(&module.state_dict()?, Strict::Yes)?;
    Ok(built)
}

/// What became of a module.
pub(super) enum Built {
    /// It runs, once it has weights.
    Module(Box<dyn Module>),
    /// Something in it does not run, which was noted.
    Broken,
    /// Its class is not known.
    Unknown,
}

impl Built {
    pub(super) fn new(module: impl Module) -> Self {
        Self::Module(Box::new(module))
    }
}

/// Why a module does not run.
struct Problem {
    path: String,
    class: String,
    reason: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Its `forward` is not in the file.
    Code,
    /// Something was attached to it.
    Attached,
    /// It has arguments, or is of a class, that this crate does not compute.
    Unsupported,
}

/// Makes modules, and collects what keeps it from that.
#[derive(Default)]
pub(super) struct Builder {
    problems: Vec<Problem>,
    /// The modules that are in train mode where that matters.
    training: Vec<String>,
    count: usize,
}

impl Builder {
    /// The module at `path`, without weights; `None` when there is a problem.
    pub(super) fn module(&mut self, module: &StoredModule, path: &str) -> Option<Box<dyn Module>> {
        self.count += 1;
        if self.count > MOST {
            if self.count == MOST + 1 {
                let reason = format!("a model of more than {MOST} modules does not run");
                self.problem(module, path, reason, Kind::Unsupported);
            }
            return None;
        }
        self.inspect(module, path);
        if !path.is_empty()
            && let Some(why) = does_not_nest(module)
        {
            self.refuse(module, path, &format!("a `{}` {why}", module.class_name()));
            return None;
        }
        let built = match check::wrapped(module.class()) {
            Some(name) => self.wrapper(module, path, name),
            None => layers::build(self, module, path),
        };
        match built.and_then(|built| match built {
            Built::Unknown => torchvision::build(self, module, path),
            known => Ok(known),
        }) {
            Ok(Built::Module(module)) => Some(module),
            Ok(Built::Broken) => None,
            Ok(Built::Unknown) => {
                self.problem(module, path, reason_of(module), kind_of(module));
                None
            }
            Err(error) => {
                self.problem(module, path, error.to_string(), Kind::Unsupported);
                None
            }
        }
    }

    /// Notes what keeps this module from running, whatever its class.
    pub(super) fn inspect(&mut self, module: &StoredModule, path: &str) {
        if let Some(reason) = check::hooks(module) {
            self.problem(module, path, reason, Kind::Attached);
        }
        // `torch.compile` replaces `forward` by its own, which computes the same.
        if check::wrapped(module.class()).is_none()
            && let Some(method) = check::patched(module)
        {
            self.problem(module, path, format!("its `{method}` was replaced by other code"), Kind::Attached);
        }
        if check::trains(module) {
            self.training.push(path.to_owned());
        }
    }

    /// Notes that a module does not run.
    pub(super) fn refuse(&mut self, module: &StoredModule, path: &str, reason: &str) {
        self.problem(module, path, reason.to_owned(), Kind::Unsupported);
    }

    fn wrapper(&mut self, module: &StoredModule, path: &str, name: &'static str) -> Result<Built> {
        let child = child(module, name)?;
        let class = module.class_name().to_owned();
        Ok(match self.module(&child, &join(path, name)) {
            Some(module) => Built::new(Wrapper { name, class, module }),
            None => Built::Broken,
        })
    }

    /// The part called `name` of a layer, which is of one of these classes of `torch.nn`; `None` when it has a problem
    /// of its own.
    pub(super) fn part<T>(
        &mut self,
        module: &StoredModule,
        path: &str,
        name: &str,
        classes: &[&str],
        make: impl FnOnce(&StoredModule) -> Result<T>,
    ) -> Result<Option<T>> {
        self.nested(module, path, name, classes, |_, part, _| make(part).map(Some))
    }

    /// Several parts of the same class.
    pub(super) fn parts<T, const N: usize>(
        &mut self,
        module: &StoredModule,
        path: &str,
        names: [&str; N],
        classes: &[&str],
        make: impl Fn(&StoredModule) -> Result<T>,
    ) -> Result<[Option<T>; N]> {
        let mut parts = Vec::new();
        for name in names {
            parts.push(self.part(module, path, name, classes, &make)?);
        }
        Ok(parts.try_into().unwrap_or_else(|_| unreachable!("one for each name")))
    }

    /// A part that has parts itself.
    pub(super) fn nested<T>(
        &mut self,
        module: &StoredModule,
        path: &str,
        name: &str,
        classes: &[&str],
        make: impl FnOnce(&mut Self, &StoredModule, &str) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let (part, path) = (child(module, name)?, join(path, name));
        self.inspect(&part, &path);
        let class = torch_class(part.class());
        if !class.is_some_and(|class| classes.contains(&class)) {
            let reason = format!("a `{}` with it does not run, one with a `{}` does", module.class_name(), classes[0]);
            self.refuse(&part, &path, &reason);
            return Ok(None);
        }
        make(self, &part, &path).or_else(|error| {
            self.refuse(&part, &path, &error.to_string());
            Ok(None)
        })
    }

    fn problem(&mut self, module: &StoredModule, path: &str, reason: String, kind: Kind) {
        self.problems.push(Problem { path: path.to_owned(), class: module.class().to_owned(), reason, kind });
    }

    fn into_error(self, root: &StoredModule) -> Error {
        const SHOWN: usize = 8;
        let mut reasons: Vec<String> = self.problems.iter().map(Problem::line).collect();
        if let Some(first) = self.training.first() {
            let place = if first.is_empty() { String::new() } else { format!(", first `{first}`") };
            let (count, class) = (self.training.len(), root.class_name());
            let what = if count == 1 { "1 module computes".into() } else { format!("{count} modules compute") };
            reasons.push(format!("`{class}` was saved in train mode, in which {what} something else{place}"));
        }
        let mut message = String::from("the model does not run");
        match &reasons[..] {
            [one] => message += &format!(": {one}"),
            _ => {
                let _ = write!(message, " for {} reasons", reasons.len());
                for reason in reasons.iter().take(SHOWN) {
                    let _ = write!(message, "\n  {reason}");
                }
                if reasons.len() > SHOWN {
                    let _ = write!(message, "\n  ... and {} more", reasons.len() - SHOWN);
                }
            }
        }
        Error::unsupported(message).help(self.help())
    }

    fn help(&self) -> String {
        let has = |kind: Kind| self.problems.iter().any(|problem| problem.kind == kind);
        let export = "export it in Python: `torch.export.save(torch.export.export(model.eval(), (x,)), \"model.pt2\")`";
        if has(Kind::Code) {
            return format!("build the net in Rust and load `checkpoint.state_dict()` into it, or {export}");
        }
        if has(Kind::Attached) {
            return format!("remove it before `torch.save`, or {export}");
        }
        if has(Kind::Unsupported) {
            return export.into();
        }
        "call `model.eval()` before `torch.save`, or use `checkpoint.module()?.eval()`, `sconce run --eval`".into()
    }
}

impl Problem {
    fn line(&self) -> String {
        let Self { path, class, reason, .. } = self;
        if path.is_empty() { format!("`{class}`: {reason}") } else { format!("`{path}` (`{class}`): {reason}") }
    }
}

/// The module called `name` in `module`.
pub(super) fn child(module: &StoredModule, name: &str) -> Result<StoredModule> {
    let child = module.children().find(|(own, _)| *own == name);
    child.map(|(_, child)| child).ok_or_else(|| Error::invalid(format!("it has no `{name}`")))
}

/// Why the module runs only by itself or in one that knows it, if it does.
fn does_not_nest(module: &StoredModule) -> Option<&'static str> {
    match torch_class(module.class())? {
        "MultiheadAttention" | "Transformer" | "TransformerDecoder" | "TransformerDecoderLayer" => {
            Some("takes several inputs, which the modules around it do not give")
        }
        "RNN" | "LSTM" | "GRU" => Some("gives its states beside its output, which the modules around it do not take"),
        _ => None,
    }
}

fn is_torch(module: &StoredModule) -> bool {
    module.class().starts_with("torch.nn.")
}

fn reason_of(module: &StoredModule) -> String {
    match module.class_name() {
        "ModuleList" | "ModuleDict" if is_torch(module) => "it holds modules and has no `forward`".into(),
        name if is_torch(module) => format!("`{name}` is not implemented"),
        _ => "its `forward` is Python code, which is not in the file".into(),
    }
}

fn kind_of(module: &StoredModule) -> Kind {
    if is_torch(module) { Kind::Unsupported } else { Kind::Code }
}

/// A module whose class only passes its input on to the one in it.
struct Wrapper {
    name: &'static str,
    class: String,
    module: Box<dyn Module>,
}

impl nn::Structure for Wrapper {
    fn class_name(&self) -> &str {
        &self.class
    }

    fn fields(&self) -> nn::Fields<'_> {
        vec![(self.name.into(), nn::Field::Module(self.module.as_module()))]
    }

    fn fields_mut(&mut self) -> nn::FieldsMut<'_> {
        vec![(self.name.into(), nn::FieldMut::Module(self.module.as_module_mut()))]
    }

    crate::module!(@object);
}

impl Module for Wrapper {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        self.module.forward(graph, x)
    }
}
