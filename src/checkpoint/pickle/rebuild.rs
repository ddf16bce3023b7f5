//! The functions that rebuild tensors: what PyTorch's own pickles call with a storage, or with other tensors.

use super::machine::Machine;
use super::node::{ExtraNode, Id, KindNode, Known, Node, TensorNode};
use super::reduce::Made;
use crate::checkpoint::Layout;
use crate::dtype::DType;
use crate::error::{Error, Result};

impl Machine<'_> {
    /// `_rebuild_tensor(storage, offset, size, stride)`; v2 adds `requires_grad, hooks`, v3 also `dtype`; both may end
    /// with a dict that holds the conjugate and negative bits. None when it names a dtype that is not known.
    pub(super) fn tensor(&self, name: &str, args: &[Id], count: usize) -> Result<Option<Made>> {
        let bad = |what: &str| Error::invalid(format!("`{name}` {what}"));
        if args.len() < count || args.len() > count + usize::from(count > 4) {
            return Err(bad(&format!("expects {count} arguments, {} were given", args.len())));
        }
        let (storage, storage_dtype, offset) = self.storage_and_offset(name, args)?;
        let requires_grad = match args.get(4).map(|&id| self.node(id)) {
            Some(Node::Bool(requires_grad)) => *requires_grad,
            None => false,
            Some(_) => return Err(bad("expects a bool for `requires_grad`")),
        };
        let dtype = match args.get(6).filter(|_| count == 7).map(|&id| self.known(id)) {
            Some(Known::DType(dtype)) => dtype,
            Some(_) => return Ok(None),
            None => storage_dtype.unwrap_or(DType::U8),
        };
        let (conj, neg) = match args.get(count) {
            Some(&metadata) => self.bits(metadata).ok_or_else(|| bad("has metadata that is not a dict of bools"))?,
            None => (false, false),
        };
        let hooks = args.get(5).and_then(|&hooks| self.hooks(hooks));
        let extra = hooks.map(|hooks| Box::new(ExtraNode { hooks: Some(hooks), ..ExtraNode::default() }));
        Ok(Some(Made::Tensor(TensorNode {
            storage: Some(storage),
            dtype,
            requires_grad,
            is_parameter: false,
            conj,
            neg,
            offset,
            shape: args[2],
            stride: args[3],
            extra,
        })))
    }

    fn storage_and_offset(&self, name: &str, args: &[Id]) -> Result<(u32, Option<DType>, usize)> {
        let bad = |what: &str| Error::invalid(format!("`{name}` {what}"));
        let Node::Storage(storage, dtype) = *self.node(args[0]) else {
            return Err(bad(&format!("expects a storage, {} was given", self.node(args[0]).describe())));
        };
        match *self.node(args[1]) {
            Node::Int(offset) => usize::try_from(offset).ok(),
            _ => None,
        }
        .map(|offset| (storage, dtype, offset))
        .ok_or_else(|| bad("expects an offset that is not negative"))
    }

    /// The conjugate and negative bits in a tensor's metadata. What other devices keep there means nothing here.
    fn bits(&self, metadata: Id) -> Option<(bool, bool)> {
        let mut bits = (false, false);
        if matches!(self.node(metadata), Node::None) {
            return Some(bits);
        }
        for &(key, value) in self.arena.entries(metadata)? {
            let bit = match self.arena.text(key)? {
                "conj" => &mut bits.0,
                "neg" => &mut bits.1,
                _ => continue,
            };
            let Node::Bool(value) = *self.node(value) else { return None };
            *bit = value;
        }
        Some(bits)
    }

    /// Backward hooks, if there are any: all but very old files have an empty dict.
    fn hooks(&self, id: Id) -> Option<Id> {
        let is_empty = self.arena.entries(id).is_some_and(<[_]>::is_empty);
        (!is_empty && !matches!(self.node(id), Node::None)).then_some(id)
    }

    fn bool(&self, id: Id) -> Option<bool> {
        match *self.node(id) {
            Node::Bool(bool) => Some(bool),
            _ => None,
        }
    }

    fn tensor_node(&self, id: Id) -> Option<&TensorNode> {
        match *self.node(id) {
            Node::Tensor(index) => Some(&self.arena.tensors[index as usize]),
            _ => None,
        }
    }

    /// `_rebuild_parameter(data, requires_grad, hooks)`, or with the state of the parameter's own attributes.
    pub(super) fn rebuild_parameter(&self, args: &[Id]) -> Option<Made> {
        let [data, requires_grad, hooks, ..] = *args else { return None };
        let mut tensor = self.tensor_node(data)?.clone();
        tensor.requires_grad = self.bool(requires_grad)?;
        tensor.is_parameter = true;
        tensor.set_hooks(self.hooks(hooks));
        if let Some(&state) = args.get(3) {
            tensor.extra().parameter_state = Some(state);
        }
        Some(Made::Tensor(tensor))
    }

    /// `Parameter(data)`, `Parameter(data, requires_grad)`: what torch 0.1 to 0.3 called.
    pub(super) fn parameter(&self, args: &[Id]) -> Option<Made> {
        let (&data, rest) = args.split_first()?;
        let mut tensor = self.tensor_node(data)?.clone();
        tensor.requires_grad = rest.first().map_or(Some(true), |&id| self.bool(id))?;
        tensor.is_parameter = true;
        Some(Made::Tensor(tensor))
    }

    /// `_rebuild_qtensor(storage, offset, size, stride, (scheme, ...), requires_grad, hooks)`.
    pub(super) fn quantized(&self, args: &[Id]) -> Option<Made> {
        let &[_, _, shape, stride, parameters, requires_grad, hooks] = args else { return None };
        let (storage, dtype, offset) = self.storage_and_offset("_rebuild_qtensor", args).ok()?;
        let kind = match *self.arena.items(parameters)? {
            [scheme, scale, zero_point] if self.known(scheme) == Known::PerTensorAffine => {
                let Node::Int(zero_point) = *self.node(zero_point) else { return None };
                KindNode::PerTensor { scale: self.float(scale)?, zero_point }
            }
            [scheme, scales, zero_points, axis] => {
                let Known::PerChannelAffine { float_parameters } = self.known(scheme) else { return None };
                let Node::Int(axis) = *self.node(axis) else { return None };
                KindNode::PerChannel { scales, zero_points, axis: usize::try_from(axis).ok()?, float_parameters }
            }
            _ => return None,
        };
        let mut tensor = TensorNode {
            storage: Some(storage),
            dtype: dtype?,
            requires_grad: self.bool(requires_grad)?,
            is_parameter: false,
            conj: false,
            neg: false,
            offset,
            shape,
            stride,
            extra: Some(Box::new(ExtraNode { kind, ..ExtraNode::default() })),
        };
        tensor.set_hooks(self.hooks(hooks));
        Some(Made::Tensor(tensor))
    }

    /// `_rebuild_sparse_tensor(layout, (indices, values, size[, is_coalesced]))`, or `(layout, (compressed indices, plain
    /// indices, values, size))`.
    pub(super) fn sparse(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[layout, data] = args else { return None };
        let layout = self.layout(layout)?;
        let (values, size) = match (layout, self.arena.items(data)?) {
            (Layout::SparseCoo, &[_, values, size] | &[_, values, size, _]) => (values, size),
            (Layout::Strided | Layout::SparseCoo, _) => return None,
            (_, &[_, _, values, size]) => (values, size),
            _ => return None,
        };
        let listed = KindNode::Listed { layout, callee, args: args.to_vec() };
        Some(self.listed(listed, self.tensor_node(values)?.dtype, size, size, false))
    }

    /// `torch.serialization._get_layout("torch.sparse_coo")`.
    fn layout(&self, id: Id) -> Option<Layout> {
        let Node::Object(object) = self.node(id) else { return None };
        let (Known::Layout, &[name]) = (self.known(object.class), &object.args[..]) else { return None };
        Some(match self.arena.text(name)? {
            "torch.strided" => Layout::Strided,
            "torch.sparse_coo" => Layout::SparseCoo,
            "torch.sparse_csr" => Layout::SparseCsr,
            "torch.sparse_csc" => Layout::SparseCsc,
            "torch.sparse_bsr" => Layout::SparseBsr,
            "torch.sparse_bsc" => Layout::SparseBsc,
            _ => return None,
        })
    }

    /// `_rebuild_nested_tensor(buffer, sizes, strides, offsets)`.
    pub(super) fn nested(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[buffer, _, _, _] = args else { return None };
        let buffer = self.tensor_node(buffer)?;
        let listed = KindNode::Listed { layout: Layout::Nested, callee, args: args.to_vec() };
        Some(self.listed(listed, buffer.dtype, buffer.shape, buffer.stride, false))
    }

    /// `_rebuild_njt({"values": ..., "offsets": ..., "requires_grad": ...})`.
    fn jagged(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[arguments] = args else { return None };
        let entries = self.arena.entries(arguments)?;
        let named = |name: &str| entries.iter().find(|(key, _)| self.arena.text(*key) == Some(name));
        let values = self.tensor_node(named("values")?.1)?;
        let requires_grad = named("requires_grad").and_then(|&(_, id)| self.bool(id)).unwrap_or(false);
        let listed = KindNode::Listed { layout: Layout::Jagged, callee, args: args.to_vec() };
        Some(self.listed(listed, values.dtype, values.shape, values.stride, requires_grad))
    }

    /// `_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`.
    pub(super) fn meta(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[dtype, size, stride, requires_grad] = args else { return None };
        let Known::DType(dtype) = self.known(dtype) else { return None };
        let listed = KindNode::Listed { layout: Layout::Meta, callee, args: args.to_vec() };
        Some(self.listed(listed, dtype, size, stride, self.bool(requires_grad)?))
    }

    /// `_rebuild_wrapper_subclass(class, dtype, size, stride, offset, layout, device, requires_grad)`.
    pub(super) fn wrapper(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[_, dtype, size, stride, _, _, _, requires_grad] = args else { return None };
        let Known::DType(dtype) = self.known(dtype) else { return None };
        let listed = KindNode::Listed { layout: Layout::Subclass, callee, args: args.to_vec() };
        Some(self.listed(listed, dtype, size, stride, self.bool(requires_grad)?))
    }

    fn listed(&self, kind: KindNode, dtype: DType, shape: Id, stride: Id, requires_grad: bool) -> Made {
        Made::Tensor(TensorNode {
            storage: None,
            dtype,
            requires_grad,
            is_parameter: false,
            conj: false,
            neg: false,
            offset: 0,
            shape,
            stride,
            extra: Some(Box::new(ExtraNode { kind, ..ExtraNode::default() })),
        })
    }

    /// `_rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)`, and the same from a tensor.
    pub(super) fn copy(&self, callee: Id, args: &[Id]) -> Option<Made> {
        let &[data, dtype, device, requires_grad] = args else { return None };
        let Known::DType(dtype) = self.known(dtype) else { return None };
        self.arena.text(device)?;
        if !matches!(self.node(data), Node::Tensor(_) | Node::Object(_)) {
            return None;
        }
        let kind = KindNode::Copy { callee, args: args.to_vec() };
        let extra = ExtraNode { kind, device: Some(device), ..ExtraNode::default() };
        Some(Made::Tensor(TensorNode {
            storage: None,
            dtype,
            requires_grad: self.bool(requires_grad)?,
            is_parameter: false,
            conj: false,
            neg: false,
            offset: 0,
            shape: data,
            stride: data,
            extra: Some(Box::new(extra)),
        }))
    }

    /// `_rebuild_from_type_v2(function, class, args, state)`: what the function gives, as a tensor of the class with
    /// these attributes.
    pub(super) fn subclass(&self, callee: Id, args: &[Id]) -> Result<Option<Made>> {
        let &[function, class, inner, state] = args else { return Ok(None) };
        let (Some(inner), Node::Global(_)) = (self.arena.items(inner), self.node(class)) else { return Ok(None) };
        let made = match self.known(function) {
            Known::RebuildJagged => self.jagged(function, inner),
            // Calls inside calls could go on without end.
            Known::RebuildFromType | Known::NewObject => None,
            _ => Some(self.call(function, inner)?),
        };
        let Some(Made::Tensor(mut tensor)) = made else { return Ok(None) };
        let extra = tensor.extra();
        extra.class = Some((class, state));
        if let KindNode::Listed { callee: own_callee, args: own_args, .. } = &mut extra.kind {
            (*own_callee, *own_args) = (callee, args.to_vec());
        }
        Ok(Some(Made::Tensor(tensor)))
    }

    /// Sets the state of a tensor, as torch 0.1 to 0.3 wrote it; false for what is no tensor, or no such state.
    pub(super) fn set_tensor_state(&mut self, object: Id, state: Id) -> Result<bool> {
        let Some(tensor) = self.with_state(object, state) else { return Ok(false) };
        self.charge(tensor.copied(&self.arena))?;
        self.arena.nodes[object as usize] = self.arena.tensor(tensor);
        Ok(true)
    }

    fn with_state(&self, object: Id, state: Id) -> Option<TensorNode> {
        let known = match self.node(object) {
            Node::Tensor(_) => Known::Nothing,
            Node::Object(object) if object.args.is_empty() && object.state.is_none() => self.known(object.class),
            _ => return None,
        };
        let state = self.arena.items(state)?;
        let own = || match known {
            Known::Nothing => self.tensor_node(object).cloned(),
            _ => None,
        };
        let mut tensor = match (known, state) {
            (Known::Nothing, &[requires_grad, _, _]) => {
                let mut tensor = own()?;
                tensor.requires_grad = self.bool(requires_grad)?;
                tensor
            }
            (Known::Nothing | Known::Parameter, &[data, _, _, requires_grad, _]) => {
                let mut tensor = self.tensor_node(data)?.clone();
                tensor.requires_grad = self.bool(requires_grad)?;
                tensor.is_parameter = known == Known::Parameter || own()?.is_parameter;
                tensor
            }
            (Known::Nothing | Known::TensorClass(_), &[_, _, _, _]) => {
                match self.tensor("_rebuild_tensor", state, 4).ok()?? {
                    Made::Tensor(tensor) => tensor,
                    _ => return None,
                }
            }
            _ => return None,
        };
        if let &[_, _, hooks] | &[_, _, hooks, _, _] = state {
            tensor.set_hooks(self.hooks(hooks));
        }
        Some(tensor)
    }
}

impl TensorNode {
    fn extra(&mut self) -> &mut ExtraNode {
        self.extra.get_or_insert_default()
    }

    fn set_hooks(&mut self, hooks: Option<Id>) {
        if hooks.is_some() || self.extra.is_some() {
            self.extra().hooks = hooks;
        }
    }
}
