//! Writing tensors and storages: the calls of PyTorch's rebuild functions.

use std::sync::Arc;

use super::pickle::{NamedStorage, Pickler, address};
use crate::checkpoint::pickle::{opcode as op, storage_class};
use crate::checkpoint::value::{Dict, DictKind, Object, Value};
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};

impl<'v> Pickler<'v, '_> {
    /// A tensor or parameter, as a call that makes it.
    pub(super) fn tensor(&mut self, tensor: &'v StoredTensor) -> Result<()> {
        if !tensor.is_parameter() {
            return self.view(tensor, tensor.requires_grad());
        }
        self.global("torch._utils", "_rebuild_parameter")?;
        self.view(tensor, false)?;
        self.bool(tensor.requires_grad());
        self.ordered_dict()?;
        self.ops(&[op::TUPLE3, op::REDUCE]);
        Ok(())
    }

    fn view(&mut self, tensor: &'v StoredTensor, requires_grad: bool) -> Result<()> {
        let storage = tensor.storage();
        let typed = self.typed(storage, tensor.dtype());
        self.global("torch._utils", if typed { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" })?;
        self.op(op::MARK);
        self.storage(storage, typed.then_some(tensor.dtype()))?;
        self.int(tensor.offset() as i64);
        self.sizes(tensor.shape());
        self.sizes(tensor.stride());
        self.bool(requires_grad);
        // Its hooks, of which PyTorch saves none.
        self.ordered_dict()?;
        if !typed {
            self.global("torch", tensor.dtype().name())?;
        }
        let (conj, neg) = tensor.bits();
        if conj || neg {
            self.op(op::EMPTY_DICT);
            for (name, _) in [("conj", conj), ("neg", neg)].into_iter().filter(|(_, set)| *set) {
                self.string(name)?;
                self.ops(&[op::NEWTRUE, op::SETITEM]);
            }
        }
        self.ops(&[op::TUPLE, op::REDUCE]);
        Ok(())
    }

    /// Whether a tensor's storage is written with the tensor's dtype, and not as bytes: where PyTorch has a storage of
    /// that dtype, and all that use the storage agree.
    fn typed(&mut self, storage: &Arc<Storage>, dtype: DType) -> bool {
        let address = address(storage);
        let fits = storage_class(dtype).is_some() && storage.len().is_multiple_of(dtype.size());
        if !fits || self.untyped.contains(&address) {
            return false;
        }
        let known = self.storage_index.get(&address).map(|&at| self.storages[at as usize].dtype);
        match known {
            Some(known) if known != Some(dtype) && !storage.is_empty() => {
                self.mixed.insert(address);
                false
            }
            _ => true,
        }
    }

    /// A storage by itself.
    pub(super) fn bare_storage(&mut self, storage: &'v Arc<Storage>, dtype: Option<DType>) -> Result<()> {
        self.storage(storage, dtype)
    }

    /// A persistent id: `("storage", class, key, location, number of elements)`.
    fn storage(&mut self, storage: &'v Arc<Storage>, dtype: Option<DType>) -> Result<()> {
        let address = address(storage);
        let key = match self.storage_index.get(&address) {
            Some(&key) => key,
            None => {
                let key = self.storages.len() as u32;
                self.storages.push(NamedStorage { storage, dtype });
                self.storage_index.insert(address, key);
                key
            }
        };
        self.agree(key, address, dtype)?;
        self.op(op::MARK);
        self.string("storage")?;
        let size = match dtype {
            None => {
                self.global("torch.storage", "UntypedStorage")?;
                1
            }
            Some(dtype) => {
                let class = storage_class(dtype).filter(|_| storage.len().is_multiple_of(dtype.size()));
                let bytes = storage.len();
                let refused = || Error::unsupported(format!("PyTorch has no {dtype} storage of {bytes} bytes"));
                self.global("torch", class.ok_or_else(refused)?)?;
                dtype.size()
            }
        };
        self.text(key.to_string().as_bytes())?;
        self.string(storage.location())?;
        self.int((storage.len() / size) as i64);
        self.ops(&[op::TUPLE, op::BINPERSID]);
        Ok(())
    }

    /// PyTorch loads a storage only if it has the same class wherever it is named.
    fn agree(&mut self, key: u32, address: u64, dtype: Option<DType>) -> Result<()> {
        let known = self.storages[key as usize].dtype;
        if known == dtype || self.storages[key as usize].storage.is_empty() {
            return Ok(());
        }
        if self.untyped.contains(&address) {
            let name = |dtype: Option<DType>| dtype.map_or("bytes", DType::name);
            return Err(Error::unsupported(format!(
                "a storage is used both as {} and as {}, which PyTorch cannot load",
                name(known),
                name(dtype)
            )));
        }
        self.mixed.insert(address);
        Ok(())
    }
}

/// The call that makes a tensor which is more than a view of a storage.
pub(super) fn call(tensor: &StoredTensor) -> Result<Object> {
    let Some(device) = tensor.extra().and_then(|extra| extra.device.as_deref()) else { return Ok(tensor.reduce()) };
    // It goes from its storage to another device when it is loaded.
    if tensor.class().is_some() || tensor.has_hooks() || !tensor.has_data() || tensor.quantizer().is_some() {
        return Err(Error::unsupported(format!("a tensor for the device `{device}` with attributes cannot be saved")));
    }
    let plain = tensor.clone().with_extra(None).with_parameter(false).with_requires_grad(false);
    let moved = |requires_grad: bool| {
        let args = vec![plain.into(), tensor.dtype().into(), device.into(), requires_grad.into()];
        function("_rebuild_device_tensor_from_cpu_tensor", args)
    };
    if !tensor.is_parameter() {
        return Ok(moved(tensor.requires_grad()));
    }
    let hooks = Value::from(Dict::new(DictKind::OrderedDict, []));
    Ok(function("_rebuild_parameter", vec![moved(false).into(), tensor.requires_grad().into(), hooks]))
}

/// A call of a function of `torch._utils`.
fn function(name: &str, args: Vec<Value>) -> Object {
    Object::call(Value::Global(format!("torch._utils.{name}").into()), args)
}
