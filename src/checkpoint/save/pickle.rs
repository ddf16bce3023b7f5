//! Writing values as a pickle of protocol 2, with the instructions that `torch.load` accepts under `weights_only`.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::tensors;
use crate::checkpoint::hash::QuickMap;
use crate::checkpoint::pickle::opcode as op;
use crate::checkpoint::value::{Dict, DictKind, Enclosing, Object, Value};
use crate::checkpoint::{Storage, StoredTensor};
use crate::error::{Error, Result};

/// A pickle, and the storages that it names by their positions here.
pub(super) struct Pickled {
    pub(super) bytes: Vec<u8>,
    pub(super) storages: Vec<Arc<Storage>>,
}

/// Pickles a value.
pub(super) fn pickle(root: &Value) -> Result<Pickled> {
    let container = match root {
        Value::Cycle(container) => container.get(),
        _ => None,
    };
    let root = container.as_ref().unwrap_or(root);
    let (mut untyped, mut strange) = (HashSet::new(), HashSet::new());
    loop {
        let kept = Kept::default();
        let mut pickler = Pickler::new(&untyped, &strange, &kept);
        pickler.run(root)?;
        let lent = pickler.strange();
        let Pickler { out, storages, mixed, .. } = pickler;
        if mixed.is_empty() && lent.is_empty() {
            let storages = storages.into_iter().map(|named| Arc::clone(named.storage)).collect();
            return Ok(Pickled { bytes: out, storages });
        }
        // Once more, with these as bytes, each of which is there only once, or to the error of the others.
        untyped.extend(mixed);
        strange.extend(lent);
    }
}

pub(super) struct Pickler<'v, 'u> {
    pub(super) out: Vec<u8>,
    /// What is still to be written, the next at the end. A value's parts are written without recursion, so that no
    /// depth exhausts the stack.
    tasks: Vec<Task<'v>>,
    /// What was written, and where it is remembered: objects by their addresses, strings and classes by content.
    pub(super) objects: QuickMap<u64, u32>,
    pub(super) strings: QuickMap<&'v str, u32>,
    pub(super) globals: QuickMap<(&'v str, &'v str), u32>,
    pub(super) remembered: u32,
    pub(super) storages: Vec<NamedStorage<'v>>,
    pub(super) storage_index: QuickMap<u64, u32>,
    /// Storages that have to be written as bytes, since tensors of several dtypes use them.
    pub(super) untyped: &'u HashSet<u64>,
    /// Those that turned out to be so now.
    pub(super) mixed: HashSet<u64>,
    /// Where the next value is kept that is not in the one that is written.
    kept: &'v Kept,
    /// What is being made by its address, and how much was remembered when that was last begun.
    making: QuickMap<u64, (Made<'v>, u32)>,
    /// Containers that were written where a cycle refers to them, and were not met in what is written yet.
    lent: HashSet<u64>,
    /// Those that never are.
    strange: &'u HashSet<u64>,
    root: Option<usize>,
    /// Whether the root is inside a container that was lent.
    is_part: bool,
    /// Whether anything was made inside itself, which can make little say much.
    is_nested: bool,
}

/// Values that live while the one that refers to them is written: a chain of calls that make tensors which are more than
/// a view, and of containers.
#[derive(Default)]
struct Kept(OnceCell<Box<(Value, Kept)>>);

impl Drop for Kept {
    fn drop(&mut self) {
        // One by one: dropping the first would drop the others inside each other.
        let mut next = self.0.take();
        while let Some(mut kept) = next {
            next = kept.1.0.take();
        }
    }
}

pub(super) struct NamedStorage<'v> {
    pub(super) storage: &'v Arc<Storage>,
    pub(super) dtype: Option<crate::dtype::DType>,
}

#[derive(Clone, Copy)]
enum Task<'v> {
    Value(&'v Value),
    /// Items that are appended to the list before them, from a position on.
    Items(&'v [Value], usize),
    /// Items that are left on the stack.
    Parts(&'v [Value], usize),
    /// Entries that are set in the dict before them.
    Entries(&'v [(Value, Value)], usize),
    Op(u8),
    /// A tuple of these items, which no other place refers to.
    Tuple(&'v [Value]),
    Global(&'static str, &'static str),
    /// Remembers the object of this address, which is made.
    Put(u64),
}

/// What has to be made of its parts before it can be remembered.
#[derive(Clone, Copy)]
enum Made<'v> {
    Tuple(&'v [Value]),
    Set(&'static str, &'v [Value]),
    DefaultDict(&'v Dict),
    Counter(&'v Dict),
    Object(&'v Object),
}

/// As many items go into one instruction.
const BATCH: usize = 1000;

/// A pickle with something made inside itself is not to get longer than this many bytes.
const LONGEST: usize = 256 << 20;

impl<'v, 'u> Pickler<'v, 'u> {
    fn new(untyped: &'u HashSet<u64>, strange: &'u HashSet<u64>, kept: &'v Kept) -> Self {
        Self {
            out: vec![op::PROTO, 2],
            tasks: Vec::new(),
            objects: QuickMap::default(),
            strings: QuickMap::default(),
            globals: QuickMap::default(),
            remembered: 0,
            storages: Vec::new(),
            storage_index: QuickMap::default(),
            untyped,
            mixed: HashSet::new(),
            kept,
            making: QuickMap::default(),
            lent: HashSet::new(),
            strange,
            root: None,
            is_part: false,
            is_nested: false,
        }
    }

    fn run(&mut self, root: &'v Value) -> Result<()> {
        self.root = root.address();
        self.tasks.push(Task::Value(root));
        while let Some(task) = self.tasks.pop() {
            self.step(task).map_err(|error| match self.path() {
                path if path.is_empty() => error,
                path => error.context(format_args!("`{path}`")),
            })?;
        }
        self.op(op::STOP);
        Ok(())
    }

    fn step(&mut self, task: Task<'v>) -> Result<()> {
        if self.is_nested && self.out.len() > LONGEST {
            return Err(Error::unsupported("objects that are made from themselves take too much room"));
        }
        match task {
            Task::Value(value) => return self.value(value),
            Task::Op(op) => self.op(op),
            Task::Tuple(items) => self.tuple(items),
            Task::Global(module, name) => return self.global(module, name),
            Task::Put(address) => {
                self.making.remove(&address);
                self.put_once(address);
            }
            Task::Parts(items, at) => {
                if let Some(item) = items.get(at) {
                    self.tasks.extend([Task::Parts(items, at + 1), Task::Value(item)]);
                }
            }
            Task::Items(items, at) => {
                if let Some(item) = items.get(at) {
                    self.tasks.push(Task::Items(items, at + 1));
                    self.batch(at, items.len(), op::APPEND, op::APPENDS);
                    self.tasks.push(Task::Value(item));
                }
            }
            Task::Entries(entries, at) => {
                if let Some((key, value)) = entries.get(at) {
                    self.tasks.push(Task::Entries(entries, at + 1));
                    check_key(key)?;
                    self.batch(at, entries.len(), op::SETITEM, op::SETITEMS);
                    self.tasks.extend([Task::Value(value), Task::Value(key)]);
                }
            }
        }
        Ok(())
    }

    /// Starts a batch before its first element, and has it end after its last.
    fn batch(&mut self, at: usize, len: usize, one: u8, many: u8) {
        let size = BATCH.min(len - at / BATCH * BATCH);
        if at.is_multiple_of(BATCH) && size > 1 {
            self.op(op::MARK);
        }
        if at % BATCH + 1 == size {
            self.tasks.push(Task::Op(if size == 1 { one } else { many }));
        }
    }

    fn value(&mut self, value: &'v Value) -> Result<()> {
        if let Some(made) = self.met(value) {
            return made;
        }
        match value {
            Value::None => self.op(op::NONE),
            Value::Bool(value) => self.bool(*value),
            Value::Int(value) => self.int(*value),
            Value::BigInt(value) => self.long(value.bytes())?,
            Value::Float(value) => self.float(*value),
            Value::Complex(re, im) => {
                self.global("builtins", "complex")?;
                self.float(*re);
                self.float(*im);
                self.ops(&[op::TUPLE2, op::REDUCE]);
            }
            Value::Str(text) => self.string(text)?,
            Value::Bytes(bytes) => self.once(address(bytes), |this| this.bytes(bytes))?,
            Value::ByteArray(bytes) => self.once(address(bytes), |this| {
                this.global("builtins", "bytearray")?;
                this.bytes(bytes)?;
                this.ops(&[op::TUPLE1, op::REDUCE]);
                Ok(())
            })?,
            Value::List(items) => self.once(address(items), |this| {
                this.op(op::EMPTY_LIST);
                this.tasks.push(Task::Items(items, 0));
                Ok(())
            })?,
            Value::Tuple(items) if items.is_empty() => self.op(op::EMPTY_TUPLE),
            Value::Tuple(items) => self.make_once(address(items), Made::Tuple(items))?,
            Value::Set(items) => self.set("set", items, address(items))?,
            Value::FrozenSet(items) => self.set("frozenset", items, address(items))?,
            Value::Dict(dict) => self.dict(dict, address(dict))?,
            Value::Tensor(tensor) if tensor.extra().is_some() => self.call(tensor)?,
            Value::Tensor(tensor) => self.once(address(tensor), |this| this.tensor(tensor))?,
            Value::Storage(storage, dtype) => self.bare_storage(storage, *dtype)?,
            Value::DType(dtype) => self.global("torch", dtype.name())?,
            Value::Device(name) => self.device(name)?,
            Value::Size(shape) => self.once(address(shape), |this| {
                this.global("torch", "Size")?;
                this.sizes(shape);
                this.ops(&[op::TUPLE1, op::REDUCE]);
                Ok(())
            })?,
            Value::Global(name) => self.named(name)?,
            Value::Object(object) => self.object(object, address(object))?,
            Value::Cycle(container) => self.cycle(container)?,
        }
        Ok(())
    }

    /// Recalls an object that was written, or writes and remembers it.
    fn once(&mut self, address: u64, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if !self.recall(address) {
            write(self)?;
            self.put(address);
        }
        Ok(())
    }

    /// Recalls an object that was written, or makes and remembers it.
    fn make_once(&mut self, address: u64, made: Made<'v>) -> Result<()> {
        match self.recall(address) {
            true => Ok(()),
            false => self.make(address, made),
        }
    }

    /// Makes an object and remembers it, before it is filled.
    fn make(&mut self, address: u64, made: Made<'v>) -> Result<()> {
        if let Some((_, remembered)) = self.making.insert(address, (made, self.remembered)) {
            // As Python does, it is made inside itself as well: of more that was remembered meanwhile each time. Where it was
            // begun, it is then recalled.
            if remembered == self.remembered {
                return Err(Error::unsupported("an object that is made from itself cannot be saved"));
            }
            self.is_nested = true;
        }
        self.tasks.push(Task::Put(address));
        match made {
            Made::Tuple(items) => self.tuple(items),
            Made::Set(class, items) => {
                self.global("builtins", class)?;
                self.op(op::EMPTY_LIST);
                self.tasks.extend([Task::Op(op::REDUCE), Task::Op(op::TUPLE1), Task::Items(items, 0)]);
            }
            Made::DefaultDict(dict) => {
                self.global("collections", "defaultdict")?;
                self.tasks.push(Task::Op(op::REDUCE));
                match dict.factory() {
                    Some(factory) => self.tasks.extend([Task::Op(op::TUPLE1), Task::Value(factory)]),
                    None => self.op(op::EMPTY_TUPLE),
                }
            }
            Made::Counter(dict) => {
                self.global("collections", "Counter")?;
                self.op(op::EMPTY_DICT);
                let entries = Task::Entries(dict.iter().as_slice(), 0);
                self.tasks.extend([Task::Op(op::REDUCE), Task::Op(op::TUPLE1), entries]);
            }
            Made::Object(object) => match &object.kwargs {
                Some(kwargs) => {
                    // Protocol 2 has no instruction for this; Python has a function.
                    self.tasks.extend([Task::Op(op::REDUCE), Task::Op(op::TUPLE3), Task::Value(kwargs)]);
                    self.tasks.push(Task::Tuple(&object.args));
                    self.tasks.extend([Task::Value(&object.callee), Task::Global("copyreg", "__newobj_ex__")]);
                }
                None => {
                    self.tasks.push(Task::Op(if object.bare { op::NEWOBJ } else { op::REDUCE }));
                    self.tasks.extend([Task::Tuple(&object.args), Task::Value(&object.callee)]);
                }
            },
        }
        Ok(())
    }

    /// A reference to a container from inside itself, or from what else is made before it.
    fn cycle(&mut self, container: &Enclosing) -> Result<()> {
        let container = container.get();
        let address = container.as_ref().and_then(Value::address).map(|address| address as u64);
        if let (Some(container), Some(address)) = (container, address) {
            if self.recall(address) {
                return Ok(());
            }
            if let Some((made, _)) = self.making.get(&address) {
                return self.make(address, *made);
            }
            if !self.strange.contains(&address) {
                let container = self.keep(container);
                self.value(container)?;
                self.lent.insert(address);
                return Ok(());
            }
        }
        Err(Error::unsupported("a reference to a container that is not around it any more")
            .help("the container was changed, or left out; save all of it as it was read"))
    }

    /// Notes that a value is in the one that is written, whatever cycles refer to. One that is being made is made here.
    fn met(&mut self, value: &'v Value) -> Option<Result<()>> {
        if self.lent.is_empty() || matches!(value, Value::Cycle(_)) {
            return None;
        }
        let address = value.address()?;
        self.is_part |= self.root == Some(address);
        self.lent.remove(&(address as u64));
        let (made, _) = *self.making.get(&(address as u64))?;
        Some(self.make(address as u64, made))
    }

    /// Containers that are not in what was written, nor around all of it: of one that was changed, cycles in it still
    /// refer to what it was.
    fn strange(&mut self) -> HashSet<u64> {
        match self.is_part && self.lent.len() == 1 {
            true => HashSet::new(),
            false => std::mem::take(&mut self.lent),
        }
    }

    fn keep(&mut self, value: Value) -> &'v Value {
        let (value, next) = &**self.kept.0.get_or_init(|| Box::new((value, Kept::default())));
        self.kept = next;
        value
    }

    fn tuple(&mut self, items: &'v [Value]) {
        if items.is_empty() {
            return self.op(op::EMPTY_TUPLE);
        }
        self.tasks.push(Task::Op(match items.len() {
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        }));
        self.tasks.push(Task::Parts(items, 0));
        if items.len() > 3 {
            self.op(op::MARK);
        }
    }

    fn set(&mut self, class: &'static str, items: &'v [Value], address: u64) -> Result<()> {
        items.iter().try_for_each(check_key)?;
        self.make_once(address, Made::Set(class, items))
    }

    fn dict(&mut self, dict: &'v Dict, address: u64) -> Result<()> {
        if self.recall(address) {
            return Ok(());
        }
        let entries = Task::Entries(dict.iter().as_slice(), 0);
        if let Some(attributes) = dict.attributes() {
            if matches!(dict.kind(), DictKind::Dict | DictKind::DefaultDict) {
                return Err(Error::unsupported(format!("a {} with attributes, which Python's has not", dict.kind())));
            }
            self.tasks.extend([Task::Op(op::BUILD), Task::Value(attributes)]);
        }
        match dict.kind() {
            DictKind::Dict => self.op(op::EMPTY_DICT),
            DictKind::OrderedDict => self.ordered_dict()?,
            DictKind::DefaultDict => {
                self.tasks.push(entries);
                return self.make(address, Made::DefaultDict(dict));
            }
            DictKind::Counter => return self.make(address, Made::Counter(dict)),
        }
        self.put(address);
        self.tasks.push(entries);
        Ok(())
    }

    /// An empty `OrderedDict`.
    pub(super) fn ordered_dict(&mut self) -> Result<()> {
        self.global("collections", "OrderedDict")?;
        self.ops(&[op::EMPTY_TUPLE, op::REDUCE]);
        Ok(())
    }

    fn object(&mut self, object: &'v Object, address: u64) -> Result<()> {
        if self.recall(address) {
            return Ok(());
        }
        if let Some(text) = object.as_surrogates() {
            self.text(text)?;
            self.put(address);
            return Ok(());
        }
        if let Some(state) = &object.state {
            self.tasks.extend([Task::Op(op::BUILD), Task::Value(state)]);
        }
        self.tasks.extend([Task::Entries(&object.entries, 0), Task::Items(&object.items, 0)]);
        self.make(address, Made::Object(object))
    }

    /// A tensor that is more than a view of a storage.
    fn call(&mut self, tensor: &Arc<StoredTensor>) -> Result<()> {
        let call = Value::Object(Arc::new(tensors::call(tensor)?));
        let Value::Object(call) = self.keep(call) else { unreachable!("an object is kept as it is") };
        self.object(call, address(tensor))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.global("_codecs", "encode")?;
        let text: String = bytes.iter().copied().map(char::from).collect();
        self.text(text.as_bytes())?;
        self.string("latin1")?;
        self.ops(&[op::TUPLE2, op::REDUCE]);
        Ok(())
    }

    fn device(&mut self, name: &'v str) -> Result<()> {
        self.global("torch", "device")?;
        let index = name.rsplit_once(':').and_then(|(kind, index)| Some((kind, index.parse::<u8>().ok()?)));
        match index.filter(|(kind, index)| *name == format!("{kind}:{index}")) {
            Some((kind, index)) => {
                self.string(kind)?;
                self.int(index.into());
                self.op(op::TUPLE2);
            }
            None => {
                self.string(name)?;
                self.op(op::TUPLE1);
            }
        }
        self.op(op::REDUCE);
        Ok(())
    }

    /// A tuple of sizes.
    pub(super) fn sizes(&mut self, sizes: &[usize]) {
        if sizes.len() > 3 {
            self.op(op::MARK);
        }
        for &size in sizes {
            self.int(size as i64);
        }
        self.op([op::EMPTY_TUPLE, op::TUPLE1, op::TUPLE2, op::TUPLE3].get(sizes.len()).copied().unwrap_or(op::TUPLE));
    }

    /// The keys and positions that lead to what is being written: `optimizer.state[3]`.
    fn path(&self) -> String {
        let mut path = String::new();
        for task in &self.tasks {
            // Tasks that have begun lead here, the others come later.
            let step = match task {
                Task::Items(_, at) | Task::Parts(_, at) if *at > 0 => Some(format!("[{}]", at - 1)),
                Task::Entries(entries, at) if *at > 0 => Some(match &entries[at - 1].0 {
                    Value::Str(name) => {
                        let name = name.chars().take(80).flat_map(char::escape_debug).collect::<String>();
                        format!("{}{name}", if path.is_empty() { "" } else { "." })
                    }
                    Value::Int(key) => format!("[{key}]"),
                    key => format!("[{}]", key.describe()),
                }),
                _ => None,
            };
            if let Some(step) = step {
                path += &step;
            }
        }
        path
    }
}

/// What tells one object from another while the value that holds them is borrowed.
pub(super) fn address<T: ?Sized>(object: &Arc<T>) -> u64 {
    Arc::as_ptr(object).cast::<()>().addr() as u64
}

/// Whether Python could use a value as a key: what can be changed cannot.
fn check_key(key: &Value) -> Result<()> {
    match key {
        Value::List(_) | Value::Set(_) | Value::Dict(_) | Value::ByteArray(_) => {
            Err(Error::unsupported(format!("{} cannot be a key or the item of a set in Python", key.describe())))
        }
        Value::Tuple(items) => items.iter().try_for_each(check_key),
        _ => Ok(()),
    }
}
