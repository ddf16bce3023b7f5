//! Opening the model that a command is about.

use std::path::Path;

use sconce::nn::Module;
use sconce::{StateDict, Strict, models};

use super::{Failure, Result};

/// Which model is in the file.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Args {
    /// The architecture that a state dict's weights belong to, as `resnet50` or `mlp`
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,

    /// Where the state dict is in the file, as `model_state_dict`
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

impl Args {
    /// Opens a file and finds its state dict. Reads no weights.
    pub(crate) fn open(&self, path: &Path) -> Result<StateDict> {
        let checkpoint = sconce::load(path)?;
        match &self.key {
            Some(key) => Ok(checkpoint.state_dict_at(key)?),
            None => Ok(checkpoint.state_dict()?),
        }
    }

    /// The architecture with the weights of `state`.
    pub(crate) fn build(&self, path: &Path, state: &StateDict) -> Result<Box<dyn Module>> {
        let Some(name) = &self.arch else {
            return Err(no_architecture(path, state));
        };
        let about = |error| Failure::about(format!("`{}` as `{name}`", path.display()), error);
        let mut net = models::by_name(name, state).map_err(about)?;
        net.load_state_dict(state, Strict::Yes).map_err(about)?;
        Ok(net)
    }
}

/// A state dict has weights only; the help says which architecture they fit, when one does.
fn no_architecture(path: &Path, state: &StateDict) -> Failure {
    let fits = |name: &&&str| {
        models::by_name(name, state).is_ok_and(|mut net| net.load_state_dict(state, Strict::Yes).is_ok())
    };
    let failure = Failure::new(format!(
        "`{}` is a state dict: it has weights, and not how the model computes with them",
        path.display()
    ));
    match models::NAMES.iter().find(fits) {
        Some(name) => failure.help(format!("they fit `--arch {name}`")),
        None => failure.help(format!("name its architecture with `--arch`: {}", models::NAMES.join(", "))),
    }
}
