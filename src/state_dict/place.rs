//! The device that a state dict's storages name.

use indexmap::IndexMap;

use super::StateDict;
use crate::device::Device;
use crate::error::{Error, Result};

const HELP: &str = "say where to: `sconce::load(path)?.map_location(\"cpu\")`, or `\"cuda:0\"` for the first GPU (`--device` for the command)";

impl StateDict {
    /// The device that its tensors were saved from, or that [`Checkpoint::map_location`](crate::Checkpoint::map_location)
    /// gave them; the CPU when it is empty. Nothing is moved: [`Model::new`](crate::Model::new) takes the weights from
    /// the file to its device.
    ///
    /// ```no_run
    /// # use sconce::{Model, Strict, models, nn::Module};
    /// # let mut net = models::resnet18();
    /// let state = sconce::load("saved_from_cuda.pth")?.map_location("cpu").state_dict()?;
    /// net.load_state_dict(&state, Strict::Yes)?;
    /// let model = Model::new(net, &state.device()?)?;
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when they name several, or one that this machine does not have
    /// (`cuda:1` where there is one GPU); [`ErrorKind::Disabled`](crate::ErrorKind::Disabled) for a GPU in a build
    /// without the feature `gpu`.
    pub fn device(&self) -> Result<Device> {
        let mut counts = IndexMap::<&str, usize>::new();
        for (_, tensor) in self.iter() {
            *counts.entry(tensor.location()).or_default() += 1;
        }
        let mut tags = counts.iter();
        match (tags.next(), tags.next()) {
            (None, _) => Ok(Device::cpu()),
            (Some((tag, _)), None) => Device::open(tag)
                .map_err(|error| error.context(format_args!("the state dict is on `{tag}`")).help(HELP)),
            _ => {
                let list: Vec<String> = counts.iter().map(|(tag, count)| format!("`{tag}` ({count})")).collect();
                let message =
                    format!("the tensors of the state dict are on {} devices: {}", list.len(), list.join(", "));
                Err(Error::device(message).help(HELP))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Storage, StoredTensor};
    use crate::dtype::DType;

    fn state(tags: &[&str]) -> StateDict {
        let tensor = |tag: &str| StoredTensor::new(Storage::owned([0u8], tag), DType::U8, [1], vec![1], 0).unwrap();
        tags.iter().enumerate().map(|(i, tag)| (i.to_string(), tensor(tag))).collect()
    }

    #[test]
    fn tags_name_the_device() {
        assert!(state(&[]).device().unwrap().is_cpu());
        assert!(state(&["cpu", "cpu"]).device().unwrap().is_cpu());
        assert_eq!(
            state(&["cuda:0", "cpu", "cuda:0"]).device().unwrap_err().to_string(),
            format!("the tensors of the state dict are on 2 devices: `cuda:0` (2), `cpu` (1)\n  help: {HELP}")
        );
        let missing = state(&["cuda:99"]).device().unwrap_err().to_string();
        assert!(missing.starts_with("the state dict is on `cuda:99`: device `cuda:99`"), "{missing}");
        assert!(missing.ends_with(HELP), "{missing}");
    }
}
