//! What the tensors of a file are together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sconce::checkpoint::{Layout, Storage, StoredTensor, Value};

use super::super::text;
use super::walk::{Content, Item};

/// A number of tensors and of their elements. An element that two names share counts once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) tensors: usize,
    pub(super) elements: u64,
}

#[derive(Default)]
pub(super) struct Totals<'c> {
    pub(super) all: Count,
    /// Those of models that training changes: of modules what they have as parameters, of state dicts what has floats and
    /// is no running statistic.
    pub(super) parameters: Count,
    /// BatchNorm's running statistics and counters.
    pub(super) buffers: Count,
    /// Moments and steps of optimizers.
    pub(super) optimizer: Count,
    /// Integers, and what belongs to no model: the states of random generators, losses, plain lists of tensors.
    pub(super) other: Count,
    pub(super) trainable: Count,
    /// Of all tensors' elements, as if nothing was shared.
    pub(super) bytes: u64,
    /// Of all storages.
    pub(super) storage_bytes: u64,
    pub(super) storages: usize,
    /// In the order of the file.
    pub(super) dtypes: Vec<(&'static str, usize)>,
    pub(super) locations: Vec<(&'c str, usize)>,
    /// Classes and functions of objects that are kept as data.
    pub(super) opaque: Vec<(&'c str, usize)>,
    pub(super) shared: Vec<Shared<'c>>,
}

/// Tensors that are views of one storage.
pub(super) struct Shared<'c> {
    pub(super) names: Vec<&'c str>,
    pub(super) storage: usize,
    pub(super) bytes: u64,
    /// What they would take more if each had its own.
    pub(super) saved: u64,
    /// Whether all of them are the same view.
    pub(super) tied: bool,
}

/// The bytes of a tensor's elements; of one that keeps them in other tensors, those of these.
pub(super) fn bytes(tensor: &StoredTensor) -> u64 {
    let own = match tensor.layout() {
        Layout::Strided => (tensor.shape().numel() as u64).saturating_mul(tensor.dtype().size() as u64),
        _ => 0,
    };
    tensor.parts().into_iter().fold(own, |sum, part| sum.saturating_add(bytes(part)))
}

impl<'c> Totals<'c> {
    pub(super) fn of(content: &'c Content<'_>) -> Self {
        let mut totals = Self::default();
        let mut views = HashSet::new();
        let mut storages: HashMap<*const Storage, Vec<(&'c str, &'c StoredTensor)>> = HashMap::new();
        for item in &content.items {
            match item.value {
                Value::Tensor(tensor) => {
                    totals.add(item, tensor, views.insert(view(tensor)));
                    for tensor in std::iter::once(&**tensor).chain(tensor.parts()) {
                        storages.entry(Arc::as_ptr(tensor.storage())).or_default().push((&item.name, tensor));
                    }
                }
                // PyTorch's own modules are known; the others are not, whatever they are.
                Value::Object(object) if object.class().starts_with("torch.nn.modules.") => {}
                Value::Object(object) if object.is_array() => {}
                Value::Object(object) => count(&mut totals.opaque, object.class()),
                _ => {}
            }
        }
        totals.storages = storages.len();
        totals.opaque.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (storage, tensors) in storages {
            let len = tensors[0].1.storage().len() as u64;
            totals.storage_bytes += len;
            // A tensor of a subclass may hold the same one twice.
            let is_shared = tensors.iter().any(|(name, _)| *name != tensors[0].0);
            if is_shared && len > 0 {
                totals.shared.push(Shared {
                    storage: content.storages[&storage],
                    bytes: len,
                    saved: tensors.iter().map(|(_, tensor)| bytes(tensor)).sum::<u64>().saturating_sub(len),
                    tied: tensors.iter().all(|(_, tensor)| tensor.is_same_view(tensors[0].1)),
                    names: tensors.into_iter().map(|(name, _)| name).collect(),
                });
            }
        }
        totals.shared.sort_by_key(|shared| shared.storage);
        totals
    }

    fn add(&mut self, item: &Item<'_>, tensor: &'c StoredTensor, is_new: bool) {
        let counts = is_new && tensor.layout() == Layout::Strided;
        let elements = if counts { tensor.shape().numel() as u64 } else { 0 };
        let has_numbers = tensor.dtype().is_float()
            || tensor.dtype().is_complex()
            || tensor.dtype().name().starts_with("float")
            || tensor.quantizer().is_some();
        let role = match item.name.rsplit('.').next() {
            _ if item.in_optimizer && !tensor.is_parameter() => &mut self.optimizer,
            Some("running_mean" | "running_var" | "num_batches_tracked") => &mut self.buffers,
            _ if has_numbers && (tensor.is_parameter() || item.in_state_dict) => &mut self.parameters,
            _ => &mut self.other,
        };
        role.add(elements);
        self.all.add(elements);
        if tensor.requires_grad() {
            self.trainable.add(elements);
        }
        self.bytes = self.bytes.saturating_add(bytes(tensor));
        count(&mut self.dtypes, tensor.dtype().name());
        if tensor.layout() != Layout::Meta {
            count(&mut self.locations, tensor.location());
        }
    }

    /// The lines below the tree.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.all.tensors == 0 {
            return vec!["no tensors".to_owned()];
        }
        let dtypes: Vec<String> =
            self.dtypes.iter().map(|(name, count)| format!("{} {name}", text::number(*count as u64))).collect();
        let mut lines = vec![format!(
            "{} ({}), {}",
            text::count(self.all.tensors, "tensor"),
            dtypes.join(", "),
            text::bytes(self.storage_bytes)
        )];
        let mut parts = Vec::new();
        if self.parameters.tensors > 0 {
            parts.push(text::count(self.parameters.elements as usize, "parameter"));
        }
        for (count, what) in [
            (self.buffers, "of running statistics"),
            (self.optimizer, "of optimizer state"),
            (self.other, "of other tensors"),
        ] {
            if count.tensors > 0 {
                parts.push(format!("{} {what}", text::count(count.elements as usize, "element")));
            }
        }
        lines.push(parts.join(", "));
        if self.trainable.tensors > 0 {
            let frozen = self.all.tensors - self.trainable.tensors;
            let elements = text::number(self.trainable.elements);
            lines.push(format!(
                "{} with requires_grad ({elements} elements), {} without",
                text::count(self.trainable.tensors, "tensor"),
                text::number(frozen as u64)
            ));
        }
        if self.locations.iter().any(|&(location, _)| location != "cpu") {
            let tags: Vec<String> = self
                .locations
                .iter()
                .map(|(tag, count)| format!("{} ({})", text::clean(tag), text::count(*count, "tensor")))
                .collect();
            lines.push(format!("saved from {}", tags.join(", ")));
        }
        lines.extend(self.shared_lines());
        if !self.opaque.is_empty() {
            const MOST: usize = 8;
            let mut classes: Vec<String> = self
                .opaque
                .iter()
                .take(MOST)
                .map(|(class, count)| format!("{} ({count})", text::clean(class)))
                .collect();
            if self.opaque.len() > MOST {
                classes.push(format!("{} more", self.opaque.len() - MOST));
            }
            lines.push(format!("objects kept as data, never run: {}", classes.join(", ")));
        }
        lines
    }

    fn shared_lines(&self) -> Vec<String> {
        const MOST: usize = 8;
        let mut lines: Vec<String> = self
            .shared
            .iter()
            .take(MOST)
            .map(|shared| {
                let what = if shared.tied { "tied" } else { "views of one storage" };
                let saved = match shared.saved {
                    0 => String::new(),
                    saved => format!(", {} saved", text::bytes(saved)),
                };
                format!("{what}: {}{saved}", text::names(shared.names.iter().copied(), 4))
            })
            .collect();
        if let Some(rest) = self.shared.get(MOST..).filter(|rest| !rest.is_empty()) {
            let saved = rest.iter().map(|shared| shared.saved).sum();
            lines.push(format!(
                "{} more shared storages, {} saved",
                text::number(rest.len() as u64),
                text::bytes(saved)
            ));
        }
        lines
    }
}

impl Count {
    fn add(&mut self, elements: u64) {
        self.tensors += 1;
        self.elements = self.elements.saturating_add(elements);
    }
}

fn view(tensor: &StoredTensor) -> (*const Storage, usize, Vec<usize>, Vec<usize>, &'static str) {
    let (shape, stride) = (tensor.shape().to_vec(), tensor.stride().to_vec());
    (Arc::as_ptr(tensor.storage()), tensor.offset(), shape, stride, tensor.dtype().name())
}

fn count<'n>(counts: &mut Vec<(&'n str, usize)>, name: &'n str) {
    match counts.iter_mut().find(|(other, _)| *other == name) {
        Some((_, count)) => *count += 1,
        None => counts.push((name, 1)),
    }
}
