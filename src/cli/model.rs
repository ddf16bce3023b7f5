//! Opening the model that a command is about.

use std::path::Path;

use sconce::checkpoint::Container;
use sconce::{Checkpoint, Device, Model, Shape, StateDict, StoredModule, Strict, TensorInfo, models};

use super::{Failure, Result};

/// How the state dict of a file is found.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Args {
    /// Where the state dict is in the file, as `model_state_dict` or `ema.state`
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// Take this off the names of the weights, as the `module.` that DataParallel puts before them
    #[arg(long, value_name = "PREFIX")]
    pub(crate) strip_prefix: Option<String>,

    /// Run a model that was saved whole in train mode as `model.eval()` would
    #[arg(long)]
    pub(crate) eval: bool,
}

/// What a file has of a model.
pub(crate) enum Opened {
    /// Its weights, which an architecture is for.
    State(StateDict),
    /// A program of `torch.export`.
    Program(Checkpoint),
    /// A model that was saved whole.
    Module(StoredModule),
}

/// A file and what is needed to make the model in it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) arch: Option<&'a str>,
    pub(crate) args: &'a Args,
}

impl Source<'_> {
    /// Opens the file and finds its model or its state dict. Reads no weights.
    pub(crate) fn open(&self) -> Result<Opened> {
        let checkpoint = sconce::load(self.path)?;
        if self.arch.is_none() && checkpoint.container() == Container::ExportedProgram {
            return Ok(Opened::Program(checkpoint));
        }
        if self.arch.is_none()
            && let Some(module) = self.module(&checkpoint)
        {
            return Ok(Opened::Module(if self.args.eval { module.eval() } else { module }));
        }
        if self.args.eval {
            let path = self.path.display();
            return Err(Failure::new(format!("`--eval` is for a model that was saved whole, `{path}` has none")));
        }
        self.state(&checkpoint).map(Opened::State)
    }

    /// The model that was saved whole, if there is one; a prefix is of the names in a state dict.
    fn module(&self, checkpoint: &Checkpoint) -> Option<StoredModule> {
        match (&self.args.strip_prefix, &self.args.key) {
            (Some(_), _) => None,
            (None, Some(key)) => StoredModule::try_from(checkpoint.get(key)?).ok(),
            (None, None) => checkpoint.module().ok(),
        }
    }

    fn state(&self, checkpoint: &Checkpoint) -> Result<StateDict> {
        let state = match &self.args.key {
            Some(key) => checkpoint.state_dict_at(key)?,
            None => checkpoint.state_dict()?,
        };
        let Some(prefix) = &self.args.strip_prefix else { return Ok(state) };
        if !state.names().any(|name| name.starts_with(prefix.as_str())) {
            let first = state.names().next().unwrap_or_default();
            let path = self.path.display();
            return Err(Failure::new(format!("`{path}`: no name starts with `{prefix}`, the first is `{first}`")));
        }
        Ok(state.strip_prefix(prefix))
    }

    /// The model with its weights: the file's own, or the architecture that was named.
    pub(crate) fn build(&self, opened: &Opened, device: &Device) -> Result<Model> {
        let state = match opened {
            Opened::State(state) => state,
            Opened::Module(module) => {
                let path = self.path.display();
                return Model::from_stored(module, device).map_err(|error| Failure::about(format!("`{path}`"), error));
            }
            Opened::Program(checkpoint) => return self.program(checkpoint, device),
        };
        let Some(name) = self.arch else { return Err(self.no_architecture(state)) };
        let mut net = models::by_name(name, state).map_err(|error| self.about(error))?;
        net.load_state_dict(state, Strict::Yes).map_err(|error| self.about(error))?;
        Ok(Model::new(net, device)?)
    }

    /// The shape of one input of the model, without the batch.
    pub(crate) fn input_shape(&self, opened: &Opened) -> Result<Shape> {
        let state = match opened {
            Opened::State(state) => state,
            Opened::Program(_) | Opened::Module(_) => {
                let message = format!("`{}` does not say the shape of its input", self.path.display());
                return Err(Failure::new(message).help("give it with `--input-shape`"));
            }
        };
        let Some(name) = self.arch else { return Err(self.no_architecture(state)) };
        models::input_shape(name, state).map_err(|error| self.about(error))
    }

    /// A program of `torch.export`; `--key` names one of several.
    fn program(&self, checkpoint: &Checkpoint, device: &Device) -> Result<Model> {
        // `--key` names one of several programs.
        let model = Model::from_checkpoint(checkpoint, self.args.key.as_deref(), device);
        model.map_err(|error| Failure::about(format!("`{}`", self.path.display()), error))
    }

    /// What a program takes; nothing is said of other files.
    pub(crate) fn program_inputs(&self, opened: &Opened) -> Result<Option<Vec<TensorInfo>>> {
        match opened {
            Opened::Program(checkpoint) => Ok(Some(self.program(checkpoint, &Device::cpu())?.inputs().to_vec())),
            _ => Ok(None),
        }
    }

    fn about(&self, error: sconce::Error) -> Failure {
        Failure::about(format!("`{}` as `{}`", self.path.display(), self.arch.unwrap_or_default()), error)
    }

    /// A state dict has weights only; the help says which architecture they fit, when one does.
    fn no_architecture(&self, state: &StateDict) -> Failure {
        let fits = |name: &&&str| {
            models::by_name(name, state).is_ok_and(|mut net| net.load_state_dict(state, Strict::Yes).is_ok())
        };
        let path = self.path.display();
        let message = format!("`{path}` is a state dict: it has weights, and not how the model computes with them");
        match models::NAMES.iter().find(fits) {
            Some(name) => Failure::new(message).help(format!("they fit `--arch {name}`")),
            None => {
                let names = models::NAMES.join(", ");
                Failure::new(message).help(format!("name its architecture with `--arch`: {names}"))
            }
        }
    }
}
