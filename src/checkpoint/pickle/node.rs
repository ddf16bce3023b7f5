//! What a pickle builds, before it becomes values: nodes in an arena that refer to each other by index, so that an
//! object that changes after it was remembered is seen changed, and no tie is lost.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::persistent::Embedded;
use super::text;
use crate::checkpoint::Layout;
use crate::checkpoint::hash::Positions;
use crate::checkpoint::value::{BigInt, DictKind};
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::Shape;

/// A node's index in the arena.
pub(super) type Id = u32;

/// A value of a pickle. It takes 16 bytes, and most kinds own nothing: a file of a hundred thousand tensors makes a
/// million.
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    BigInt(Box<BigInt>),
    Float(f64),
    Complex(Box<(f64, f64)>),
    /// A string, as the file has it.
    Str(Part),
    /// A string that is spelled otherwise in the file.
    Text(Box<Arc<str>>),
    /// A string with surrogates, which are no characters by themselves: UTF-8 but for these.
    Surrogates(Box<Arc<[u8]>>),
    Bytes(Part),
    Blob(Box<Arc<[u8]>>),
    ByteArray(Box<Arc<[u8]>>),
    /// An index in [`Arena::lists`].
    List(u32),
    /// The first index in [`Arena::items`], and the length.
    Tuple(u32, u32),
    /// An index in [`Arena::dicts`].
    Dict(u32),
    /// A dict in which nothing was set yet, as each tensor has one for its hooks.
    EmptyDict(DictKind),
    Set(Box<SetNode>),
    /// A class or function, by its index in [`Globals`].
    Global(u32),
    /// A storage, by its index in [`Storages`], with the dtype of the class that it was named with; none for bytes.
    Storage(u32, Option<DType>),
    /// An index in [`Arena::tensors`].
    Tensor(u32),
    Size(Box<Shape>),
    Device(Box<Arc<str>>),
    Object(Box<ObjectNode>),
    /// What became a value, by its index there, with how deep the values in it are nested.
    Done(u32, u16),
    /// What is becoming one.
    Open,
}

const _: () = assert!(size_of::<Node>() == 16);

/// A part of the pickle's bytes.
#[derive(Clone, Copy)]
pub(super) struct Part {
    start: u32,
    len: u32,
}

pub(super) struct DictNode {
    pub(super) kind: DictKind,
    pub(super) entries: Vec<(Id, Id)>,
    pub(super) factory: Option<Id>,
    pub(super) attributes: Option<Id>,
}

impl DictNode {
    pub(super) fn new(kind: DictKind, entries: Vec<(Id, Id)>) -> Self {
        Self { kind, entries, factory: None, attributes: None }
    }
}

pub(super) struct SetNode {
    pub(super) frozen: bool,
    pub(super) items: Vec<Id>,
}

#[derive(Clone)]
pub(super) struct TensorNode {
    /// None for a tensor that is no strided view.
    pub(super) storage: Option<u32>,
    pub(super) dtype: DType,
    pub(super) requires_grad: bool,
    pub(super) is_parameter: bool,
    pub(super) conj: bool,
    pub(super) neg: bool,
    pub(super) offset: usize,
    /// Tuples of integers.
    pub(super) shape: Id,
    pub(super) stride: Id,
    pub(super) extra: Option<Box<ExtraNode>>,
}

/// What few tensors have besides a view of a storage.
#[derive(Clone, Default)]
pub(super) struct ExtraNode {
    pub(super) kind: KindNode,
    /// The Python class and the attributes of a tensor of a subclass.
    pub(super) class: Option<(Id, Id)>,
    pub(super) parameter_state: Option<Id>,
    pub(super) hooks: Option<Id>,
    pub(super) device: Option<Id>,
}

#[derive(Clone, Default)]
pub(super) enum KindNode {
    #[default]
    Strided,
    PerTensor {
        scale: f64,
        zero_point: i64,
    },
    PerChannel {
        scales: Id,
        zero_points: Id,
        axis: usize,
        float_parameters: bool,
    },
    /// No strided view: listed, with the call that makes it.
    Listed {
        layout: Layout,
        callee: Id,
        args: Vec<Id>,
    },
    /// A copy, for another device, of the tensor or NumPy array that is the first argument.
    Copy {
        callee: Id,
        args: Vec<Id>,
    },
}

impl TensorNode {
    /// How many numbers and ids are its own.
    pub(super) fn copied(&self, arena: &Arena<'_>) -> usize {
        let sizes = |id| arena.items(id).map_or(0, <[_]>::len);
        let args = match self.extra.as_deref() {
            Some(ExtraNode { kind: KindNode::Listed { args, .. } | KindNode::Copy { args, .. }, .. }) => args.len(),
            _ => 0,
        };
        sizes(self.shape) + sizes(self.stride) + args
    }
}

impl ExtraNode {
    /// Its parts, in the order in which they are converted.
    pub(super) fn part(&self, at: usize) -> Option<Id> {
        let (first, args): ([Option<Id>; 2], &[Id]) = match &self.kind {
            KindNode::Strided | KindNode::PerTensor { .. } => ([None; 2], &[]),
            KindNode::PerChannel { scales, zero_points, .. } => ([Some(*scales), Some(*zero_points)], &[]),
            KindNode::Listed { callee, args, .. } | KindNode::Copy { callee, args } => ([Some(*callee), None], args),
        };
        if let Some(&arg) = args.get(at) {
            return Some(arg);
        }
        let (class, state) = self.class.unzip();
        let rest = [first[0], first[1], class, state, self.parameter_state, self.hooks];
        rest.into_iter().flatten().nth(at - args.len())
    }
}

pub(super) struct ObjectNode {
    pub(super) class: Id,
    /// Whether the class made it without its constructor. See [`Object`](crate::checkpoint::Object).
    pub(super) bare: bool,
    pub(super) args: Vec<Id>,
    pub(super) kwargs: Option<Id>,
    pub(super) items: Vec<Id>,
    pub(super) entries: Vec<(Id, Id)>,
    pub(super) state: Option<Id>,
}

impl ObjectNode {
    pub(super) fn new(class: Id, args: Vec<Id>, kwargs: Option<Id>) -> Self {
        Self { class, bare: false, args, kwargs, items: Vec::new(), entries: Vec::new(), state: None }
    }
}

/// All nodes, and the parts of those that have a variable number.
#[derive(Default)]
pub(super) struct Arena<'a> {
    /// The pickle, of at most 4 GiB.
    pub(super) bytes: &'a [u8],
    pub(super) nodes: Vec<Node>,
    pub(super) items: Vec<Id>,
    pub(super) lists: Vec<Vec<Id>>,
    pub(super) dicts: Vec<DictNode>,
    pub(super) tensors: Vec<TensorNode>,
}

impl<'a> Arena<'a> {
    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// What [`Arena::get`] gives the bytes of, which are a part of the pickle's.
    pub(super) fn part(&self, bytes: &[u8]) -> Part {
        let start = bytes.as_ptr().addr() - self.bytes.as_ptr().addr();
        Part { start: start as u32, len: bytes.len() as u32 }
    }

    pub(super) fn get(&self, part: Part) -> &'a [u8] {
        &self.bytes[part.start as usize..][..part.len as usize]
    }

    pub(super) fn str(&self, part: Part) -> &'a str {
        std::str::from_utf8(self.get(part)).expect("checked when it was read")
    }

    /// A string of the pickle.
    pub(super) fn string(&self, bytes: &'a [u8]) -> Result<Node> {
        match text::utf8(bytes) {
            Ok(_) => Ok(Node::Str(self.part(bytes))),
            Err(_) if text::has_surrogates(bytes) => Ok(Node::Surrogates(Box::new(bytes.into()))),
            Err(error) => Err(error),
        }
    }

    /// A Python 2 `str`: text where it is UTF-8, bytes where not.
    pub(super) fn python2_str(&self, bytes: Cow<'a, [u8]>) -> Node {
        match bytes {
            Cow::Borrowed(bytes) => {
                let part = self.part(bytes);
                if text::utf8(bytes).is_ok() { Node::Str(part) } else { Node::Bytes(part) }
            }
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Node::Text(Box::new(text.into())),
                Err(error) => Node::Blob(Box::new(error.into_bytes().into())),
            },
        }
    }

    pub(super) fn list(&mut self, items: Vec<Id>) -> Node {
        self.lists.push(items);
        Node::List(self.lists.len() as u32 - 1)
    }

    pub(super) fn dict(&mut self, dict: DictNode) -> Node {
        self.dicts.push(dict);
        Node::Dict(self.dicts.len() as u32 - 1)
    }

    pub(super) fn tensor(&mut self, tensor: TensorNode) -> Node {
        self.tensors.push(tensor);
        Node::Tensor(self.tensors.len() as u32 - 1)
    }

    /// The tuple of the ids in `items` from `start` on.
    pub(super) fn tuple(&self, start: usize) -> Node {
        Node::Tuple(start as u32, (self.items.len() - start) as u32)
    }

    /// The items of a list or tuple.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match *self.node(id) {
            Node::List(index) => Some(&self.lists[index as usize]),
            Node::Tuple(start, len) => Some(&self.items[start as usize..][..len as usize]),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match *self.node(id) {
            Node::Dict(index) => Some(&self.dicts[index as usize].entries),
            Node::EmptyDict(_) => Some(&[]),
            _ => None,
        }
    }

    /// A dict, to change.
    pub(super) fn dict_mut(&mut self, id: Id) -> Option<&mut DictNode> {
        if let Node::EmptyDict(kind) = *self.node(id) {
            self.nodes[id as usize] = self.dict(DictNode::new(kind, Vec::new()));
        }
        match *self.node(id) {
            Node::Dict(index) => Some(&mut self.dicts[index as usize]),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(part) => Some(self.str(*part)),
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same, for as long as the pickle's bytes are there.
    pub(super) fn kept_text(&self, id: Id) -> Option<Cow<'a, str>> {
        match self.node(id) {
            Node::Str(part) => Some(Cow::Borrowed(self.str(*part))),
            Node::Text(text) => Some(Cow::Owned(text.to_string())),
            _ => None,
        }
    }

    /// The sizes or strides in a tuple, list or `torch.Size`, if they are natural numbers.
    pub(super) fn sizes(&self, id: Id) -> Option<Shape> {
        let size = |&id: &Id| match *self.node(id) {
            Node::Int(size) => usize::try_from(size).ok(),
            _ => None,
        };
        match self.node(id) {
            Node::Size(sizes) => Some((**sizes).clone()),
            _ => self.items(id)?.iter().map(size).collect(),
        }
    }
}

impl Node {
    /// What this is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Node::None => "none",
            Node::Bool(_) => "a bool",
            Node::Int(_) | Node::BigInt(_) => "an integer",
            Node::Float(_) => "a float",
            Node::Complex(_) => "a complex number",
            Node::Str(_) | Node::Text(_) | Node::Surrogates(_) => "a string",
            Node::Bytes(_) | Node::Blob(_) => "bytes",
            Node::ByteArray(_) => "a bytearray",
            Node::List(_) => "a list",
            Node::Tuple(..) => "a tuple",
            Node::Dict(_) | Node::EmptyDict(_) => "a dict",
            Node::Set(_) => "a set",
            Node::Global(_) => "a class",
            Node::Storage(..) => "a storage",
            Node::Tensor(_) => "a tensor",
            Node::Size(_) => "a torch.Size",
            Node::Device(_) => "a torch.device",
            Node::Object(_) => "an object",
            Node::Done(..) | Node::Open => "a value",
        }
    }
}

/// A class or function that a pickle names.
pub(super) struct Global {
    /// Module and name, joined by a dot, in Python 3's spelling.
    pub(super) name: Arc<str>,
    pub(super) known: Known,
}

/// The classes and functions whose meaning is built in. Everything else stays opaque.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Known {
    Nothing,
    Dict(DictKind),
    Encode,
    Bytes,
    ByteArray,
    Set {
        frozen: bool,
    },
    Complex,
    Object,
    List,
    Reconstructor,
    Size,
    Device,
    DType(DType),
    StorageClass(Option<DType>),
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    RebuildQTensor,
    RebuildSparse,
    RebuildNested,
    RebuildJagged,
    RebuildMeta,
    RebuildCopy,
    RebuildWrapper,
    RebuildFromType,
    /// A function that makes an object: `__newobj__(class, *args)`.
    NewObject,
    /// `torch.Tensor`, `torch.FloatTensor` and so on, with the dtype unless it is `torch.Tensor`.
    TensorClass(Option<DType>),
    Parameter,
    Layout,
    PerTensorAffine,
    PerChannelAffine {
        float_parameters: bool,
    },
    /// `torch.storage._load_from_bytes`.
    LoadFromBytes,
    /// A function of TorchScript that gives its first argument with a type.
    Typed,
}

/// The classes and functions that a pickle names, each once.
#[derive(Default)]
pub(super) struct Globals {
    all: Vec<Global>,
    index: HashMap<Arc<str>, u32>,
}

impl Globals {
    pub(super) fn intern(&mut self, module: &str, name: &str) -> u32 {
        // A class inside a class: where the module ends would be lost.
        let dot = if name.contains('.') { ':' } else { '.' };
        let full = format!("{}{dot}{name}", text::python3_module(module));
        if let Some(&index) = self.index.get(full.as_str()) {
            return index;
        }
        let index = self.all.len() as u32;
        let known = known(&full);
        let name: Arc<str> = full.into();
        self.index.insert(Arc::clone(&name), index);
        self.all.push(Global { name, known });
        index
    }

    pub(super) fn get(&self, index: u32) -> &Global {
        &self.all[index as usize]
    }
}

fn known(name: &str) -> Known {
    match name {
        "builtins.dict" => Known::Dict(DictKind::Dict),
        "collections.OrderedDict" => Known::Dict(DictKind::OrderedDict),
        "collections.defaultdict" => Known::Dict(DictKind::DefaultDict),
        "collections.Counter" => Known::Dict(DictKind::Counter),
        "_codecs.encode" => Known::Encode,
        "builtins.bytes" => Known::Bytes,
        "builtins.bytearray" => Known::ByteArray,
        "builtins.set" => Known::Set { frozen: false },
        "builtins.frozenset" => Known::Set { frozen: true },
        "builtins.complex" => Known::Complex,
        "builtins.object" => Known::Object,
        "builtins.list" => Known::List,
        "copyreg._reconstructor" => Known::Reconstructor,
        "copyreg.__newobj__" => Known::NewObject,
        "torch.Size" => Known::Size,
        "torch.device" => Known::Device,
        "torch.nn.parameter.Parameter" => Known::Parameter,
        "torch.serialization._get_layout" => Known::Layout,
        "torch.per_tensor_affine" => Known::PerTensorAffine,
        "torch.per_channel_affine" => Known::PerChannelAffine { float_parameters: false },
        "torch.per_channel_affine_float_qparams" => Known::PerChannelAffine { float_parameters: true },
        "torch._tensor._rebuild_from_type_v2" => Known::RebuildFromType,
        "torch.nested._internal.nested_tensor._rebuild_njt" => Known::RebuildJagged,
        "torch._utils._rebuild_qtensor" => Known::RebuildQTensor,
        "torch._utils._rebuild_sparse_tensor" => Known::RebuildSparse,
        "torch._utils._rebuild_nested_tensor" => Known::RebuildNested,
        "torch._utils._rebuild_meta_tensor_no_storage" => Known::RebuildMeta,
        "torch._utils._rebuild_device_tensor_from_numpy"
        | "torch._utils._rebuild_xla_tensor"
        | "torch._utils._rebuild_device_tensor_from_cpu_tensor" => Known::RebuildCopy,
        "torch._utils._rebuild_wrapper_subclass" => Known::RebuildWrapper,
        "torch._utils._rebuild_tensor" => Known::RebuildTensor,
        "torch._utils._rebuild_tensor_v2" => Known::RebuildTensorV2,
        "torch._utils._rebuild_tensor_v3" => Known::RebuildTensorV3,
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => Known::RebuildParameter,
        "torch.jit._pickle.build_intlist"
        | "torch.jit._pickle.build_doublelist"
        | "torch.jit._pickle.build_boollist"
        | "torch.jit._pickle.build_tensorlist"
        | "torch.jit._pickle.restore_type_tag" => Known::Typed,
        "torch.storage._load_from_bytes" => Known::LoadFromBytes,
        _ => torch_name(name).unwrap_or(Known::Nothing),
    }
}

/// Dtypes (`torch.float32`), storage classes (`torch.FloatStorage`, `torch.cuda.FloatStorage`) and tensor classes
/// (`torch.FloatTensor`).
pub(super) fn torch_name(full: &str) -> Option<Known> {
    let rest = full.strip_prefix("torch.")?;
    if let Some(dtype) = DType::ALL.iter().find(|dtype| dtype.name() == rest) {
        return Some(Known::DType(*dtype));
    }
    let class = ["cuda.", "storage."].iter().find_map(|prefix| rest.strip_prefix(prefix)).unwrap_or(rest);
    let named = |class: &str, name: &str| class.strip_suffix("Storage") == Some(name);
    let dtype = |name: &str| STORAGE_CLASSES.iter().find(|(_, class)| named(class, name)).map(|(dtype, _)| *dtype);
    if let Some(name) = class.strip_suffix("Tensor") {
        return (name.is_empty() || dtype(name).is_some()).then_some(Known::TensorClass(dtype(name)));
    }
    match class.strip_suffix("Storage")? {
        "Untyped" | "_Untyped" => Some(Known::StorageClass(None)),
        name => dtype(name).map(|dtype| Known::StorageClass(Some(dtype))),
    }
}

/// The dtypes that have a storage class in PyTorch, with its name in `torch`.
const STORAGE_CLASSES: &[(DType, &str)] = &[
    (DType::F64, "DoubleStorage"),
    (DType::F32, "FloatStorage"),
    (DType::F16, "HalfStorage"),
    (DType::BF16, "BFloat16Storage"),
    (DType::I64, "LongStorage"),
    (DType::I32, "IntStorage"),
    (DType::I16, "ShortStorage"),
    (DType::I8, "CharStorage"),
    (DType::U8, "ByteStorage"),
    (DType::Bool, "BoolStorage"),
    (DType::Complex128, "ComplexDoubleStorage"),
    (DType::Complex64, "ComplexFloatStorage"),
    (DType::QI8, "QInt8Storage"),
    (DType::QU8, "QUInt8Storage"),
    (DType::QI32, "QInt32Storage"),
    (DType::QU4X2, "QUInt4x2Storage"),
    (DType::QU2X4, "QUInt2x4Storage"),
];

/// What PyTorch's storage class of a dtype is called, without `torch.`; none for the newer dtypes, which
/// are saved with untyped storages.
pub(in crate::checkpoint) fn storage_class(dtype: DType) -> Option<&'static str> {
    STORAGE_CLASSES.iter().find(|(known, _)| *known == dtype).map(|(_, name)| *name)
}

/// The dtype of a storage class; an inner `None` for one of bytes.
pub(in crate::checkpoint) fn storage_dtype(name: &str) -> Option<Option<DType>> {
    match torch_name(name)? {
        Known::StorageClass(dtype) => Some(dtype),
        _ => None,
    }
}

/// What a file says about one storage.
pub(in crate::checkpoint) struct StorageId<'a> {
    pub(in crate::checkpoint) key: Cow<'a, str>,
    /// The dtype of its class; none when its elements are bytes.
    pub(in crate::checkpoint) dtype: Option<DType>,
    pub(in crate::checkpoint) location: Arc<str>,
    /// Its size, checked not to overflow.
    pub(in crate::checkpoint) bytes: u64,
    /// Where its bytes are, for the few that are no storage of the file by themselves.
    pub(in crate::checkpoint) inside: Option<Box<Inside>>,
}

/// What has the bytes of a storage.
pub(in crate::checkpoint) enum Inside {
    /// Another storage, by its index, from a byte of it on.
    Storage(u32, u64),
    /// The pickle itself.
    Pickle(Embedded),
}

impl StorageId<'_> {
    /// For a part of another storage, that one's index and the byte in it where the part begins.
    pub(in crate::checkpoint) fn view(&self) -> Option<(u32, u64)> {
        match self.inside.as_deref() {
            Some(&Inside::Storage(root, start)) => Some((root, start)),
            _ => None,
        }
    }
}

/// The storages that a pickle refers to, each key once, in the order of the first reference.
#[derive(Default)]
pub(super) struct Storages<'a> {
    pub(super) all: Vec<StorageId<'a>>,
    /// Whether the key of each is its position, as `torch.save` numbers them. Then they need no index.
    pub(super) indexed: bool,
    pub(super) index: Positions,
}
