//! The pickle machine: a stack, a memo and an arena of nodes.

use std::borrow::Cow;

use super::input::Input;
use super::node::{Arena, DictNode, Globals, Id, Node, ObjectNode, SetNode, StorageId, Storages};
use super::persistent::Outside;
use super::reduce::Made;
use super::{opcode as op, text};
use crate::checkpoint::hash::QuickMap;
use crate::checkpoint::value::{BigInt, DictKind};
use crate::error::{Error, Result};

/// Pickles of more values than this are refused: it bounds the arena, and is far above what real files hold.
const MAX_NODES: usize = 1 << 26;

/// What calls copy for each byte of the pickle. Real pickles spell out what they call with, in a byte a part or more.
const MOST_COPIED_PER_BYTE: usize = 8;

/// What a pickle holds, still as nodes. See `into_value`.
pub(in crate::checkpoint) struct Unpickled<'a> {
    pub(super) arena: Arena<'a>,
    pub(super) globals: Globals,
    pub(super) storages: Vec<StorageId<'a>>,
    pub(super) root: Id,
    end: usize,
}

impl<'a> Unpickled<'a> {
    /// The storages that the pickle refers to, each key once.
    pub(in crate::checkpoint) fn storages(&self) -> &[StorageId<'a>] {
        &self.storages
    }

    /// The index of the storage that the pickle is, if it is one.
    pub(in crate::checkpoint) fn root_storage(&self) -> Option<usize> {
        match *self.arena.node(self.root) {
            Node::Storage(index, _) => Some(index as usize),
            _ => None,
        }
    }

    /// Where the pickle ends in the bytes that it was read from.
    pub(in crate::checkpoint) fn end(&self) -> usize {
        self.end
    }
}

/// Runs the first pickle in `bytes`, up to its STOP.
pub(in crate::checkpoint) fn unpickle(bytes: &[u8]) -> Result<Unpickled<'_>> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Error::unsupported(format!("a pickle of {} bytes; up to 4 GiB are read", bytes.len())));
    }
    unpickle_at(bytes, 0, Outside::Storages)
}

/// Runs the pickle that starts at byte `start` of `bytes`, up to its STOP. Errors count bytes from the start of `bytes`.
pub(in crate::checkpoint) fn unpickle_at(bytes: &[u8], start: usize, mut outside: Outside) -> Result<Unpickled<'_>> {
    let mut machine = Machine::new(bytes, start);
    if let Outside::Objects(objects) = &mut outside {
        machine.adopt(objects)?;
    }
    machine.outside = outside;
    machine.run()
}

pub(super) struct Machine<'a> {
    /// Where the pickle starts; the input counts from there.
    start: usize,
    input: Input<'a>,
    pub(super) arena: Arena<'a>,
    pub(super) globals: Globals,
    pub(super) storages: Storages<'a>,
    /// The classes and functions that were named, by the lines that name them.
    named: QuickMap<&'a [u8], Id>,
    pub(super) stack: Vec<Id>,
    /// Lengths of the stack at the marks; what lies below the last one cannot be popped.
    marks: Vec<usize>,
    memo: Memo,
    pub(super) outside: Outside,
    /// How many parts of values were copied by calls.
    copied: usize,
    /// The storages that were found in strings of bytes, by the string.
    pub(super) embedded: QuickMap<Id, u32>,
}

/// Ids of the values that need only one node; the integers of one byte follow them.
const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const EMPTY_TUPLE: Id = 3;
const ZERO: Id = 4;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], start: usize) -> Self {
        // Every part of the arena is counted in 32 bits and takes at least a byte of the pickle.
        let bytes = bytes.get(start..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
        // Untouched memory costs nothing, moving what has grown does.
        let mut nodes = Vec::with_capacity((bytes.len() / 8).clamp(512, 1 << 21));
        nodes.extend([Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(0, 0)]);
        nodes.extend((0..=255).map(Node::Int));
        Self {
            start,
            input: Input::new(bytes),
            arena: Arena { bytes, nodes, ..Arena::default() },
            globals: Globals::default(),
            storages: Storages::default(),
            named: QuickMap::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            outside: Outside::Storages,
            copied: 0,
            embedded: QuickMap::default(),
        }
    }

    fn run(mut self) -> Result<Unpickled<'a>> {
        loop {
            let at = self.start + self.input.position();
            match self.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Unpickled {
                        arena: self.arena,
                        globals: self.globals,
                        storages: self.storages.all,
                        root,
                        end: self.start + self.input.position(),
                    });
                }
                Err(error) => return Err(error.context(format_args!("byte {at}"))),
            }
        }
    }

    /// Executes one instruction; the last one gives the result.
    fn step(&mut self) -> Result<Option<Id>> {
        let opcode = self.input.byte()?;
        match opcode {
            op::STOP => return self.pop().map(Some),
            op::NONE => self.stack.push(NONE),
            op::NEWTRUE => self.stack.push(TRUE),
            op::NEWFALSE => self.stack.push(FALSE),
            op::EMPTY_TUPLE => self.stack.push(EMPTY_TUPLE),
            op::BININT1 => {
                let int = self.input.byte()?;
                self.stack.push(ZERO + Id::from(int));
            }
            op::BINPUT => {
                let key = self.input.byte()?;
                self.memo.put(key.into(), self.top()?);
            }
            op::LONG_BINPUT => {
                let key = u32::from_le_bytes(self.input.array()?);
                self.memo.put(key.into(), self.top()?);
            }
            op::BINGET | op::LONG_BINGET => self.recall(opcode)?,
            op::MARK => self.marks.push(self.stack.len()),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 | op::TUPLE => self.tuple(opcode)?,
            op::BINUNICODE => {
                let bytes = self.input.sized::<4>()?;
                let text = self.arena.string(bytes)?;
                self.push(text)?;
            }
            op::PROTO => self.protocol()?,
            op::FRAME => self.frame()?,
            _ => match self.literal(opcode)? {
                Some(node) => self.push(node)?,
                None => self.operate(opcode)?,
            },
        }
        Ok(None)
    }

    /// The value that an instruction spells out, if it does.
    fn literal(&mut self, opcode: u8) -> Result<Option<Node>> {
        let input = &mut self.input;
        Ok(Some(match opcode {
            op::BININT => Node::Int(i32::from_le_bytes(input.array()?).into()),
            op::BININT2 => Node::Int(u16::from_le_bytes(input.array()?).into()),
            op::LONG1 => long(input.sized::<1>()?),
            op::LONG4 => long(input.sized::<4>()?),
            op::BINFLOAT => Node::Float(f64::from_be_bytes(input.array()?)),
            op::SHORT_BINUNICODE | op::BINUNICODE8 => {
                let bytes = if opcode == op::BINUNICODE8 { input.sized::<8>()? } else { input.sized::<1>()? };
                self.arena.string(bytes)?
            }
            op::BINSTRING => self.arena.python2_str(Cow::Borrowed(input.sized::<4>()?)),
            op::SHORT_BINSTRING => self.arena.python2_str(Cow::Borrowed(input.sized::<1>()?)),
            op::SHORT_BINBYTES => Node::Bytes(self.arena.part(input.sized::<1>()?)),
            op::BINBYTES => Node::Bytes(self.arena.part(input.sized::<4>()?)),
            op::BINBYTES8 => Node::Bytes(self.arena.part(input.sized::<8>()?)),
            op::BYTEARRAY8 => Node::ByteArray(Box::new(input.sized::<8>()?.into())),
            op::EMPTY_LIST => self.arena.list(Vec::new()),
            op::EMPTY_DICT => Node::EmptyDict(DictKind::Dict),
            op::EMPTY_SET => Node::Set(Box::new(SetNode { frozen: false, items: Vec::new() })),
            op::INT => match input.line()? {
                b"00" => Node::Bool(false),
                b"01" => Node::Bool(true),
                line => text::integer(line)?,
            },
            op::LONG => {
                let line = input.line()?;
                text::integer(line.strip_suffix(b"L").unwrap_or(line))?
            }
            op::FLOAT => Node::Float(text::float(input.line()?)?),
            op::STRING => self.arena.python2_str(text::quoted(input.line()?)?),
            op::UNICODE => match text::raw_unicode_escape(input.line()?)? {
                Cow::Borrowed(bytes) => self.arena.string(bytes)?,
                Cow::Owned(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => Node::Text(Box::new(text.into())),
                    Err(error) => Node::Surrogates(Box::new(error.into_bytes().into())),
                },
            },
            _ => return Ok(None),
        }))
    }

    fn tuple(&mut self, opcode: u8) -> Result<()> {
        let from = match opcode {
            op::TUPLE => self.pop_mark()?,
            _ => self.depth_of(usize::from(opcode - op::TUPLE1) + 1)?,
        };
        let start = self.arena.items.len();
        self.arena.items.extend(self.stack.drain(from..));
        let tuple = self.arena.tuple(start);
        self.push(tuple)
    }

    /// An instruction that works on the stack.
    fn operate(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            op::POP_MARK => drop(self.pop_to_mark()?),
            op::DUP => self.stack.push(self.top()?),
            op::GET => self.recall(opcode)?,
            op::PUT | op::MEMOIZE => self.remember(opcode)?,
            op::LIST => {
                let items = self.pop_to_mark()?;
                let list = self.arena.list(items);
                self.push(list)?;
            }
            op::DICT => {
                let entries = pairs(&self.pop_to_mark()?)?;
                let dict = self.arena.dict(DictNode::new(DictKind::Dict, entries));
                self.push(dict)?;
            }
            op::FROZENSET => {
                let items = self.pop_to_mark()?;
                self.push(Node::Set(Box::new(SetNode { frozen: true, items })))?;
            }
            op::APPEND | op::APPENDS | op::ADDITEMS | op::SETITEM | op::SETITEMS => {
                let from = match opcode {
                    op::APPEND => self.depth_of(1)?,
                    op::SETITEM => self.depth_of(2)?,
                    _ => self.pop_mark()?,
                };
                let target = self.stack[self.floor()..from].last().copied().ok_or_else(empty)?;
                match opcode {
                    op::APPEND | op::APPENDS => self.extend(target, from)?,
                    op::ADDITEMS => self.add_items(target, from)?,
                    _ => self.set_items(target, from)?,
                }
                self.stack.truncate(from);
            }
            _ => self.construct(opcode)?,
        }
        Ok(())
    }

    /// An instruction that names, makes or fills an object.
    fn construct(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::GLOBAL => {
                let lines = self.input.lines(2)?;
                if let Some(&id) = self.named.get(lines) {
                    self.stack.push(id);
                    return Ok(());
                }
                let mut parts = text::utf8(lines)?.split('\n');
                let (module, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                self.push_global(module, name)?;
                self.named.insert(lines, self.top()?);
                Ok(())
            }
            op::STACK_GLOBAL => {
                let [module, name] = self.pop_array()?;
                match (self.arena.text(module), self.arena.text(name)) {
                    (Some(module), Some(name)) => {
                        let global = self.globals.intern(module, name);
                        self.push(Node::Global(global))
                    }
                    _ => Err(Error::invalid("a class is named by something else than two strings")),
                }
            }
            op::REDUCE | op::NEWOBJ => {
                let [callee, args] = self.pop_array()?;
                let made = match self.embedded(callee, args)? {
                    Some(made) => made,
                    None => self.call(callee, self.arguments(args)?)?,
                };
                self.push_made(made.bare_if(opcode == op::NEWOBJ))
            }
            op::NEWOBJ_EX => {
                let [class, args, kwargs] = self.pop_array()?;
                let args = self.arguments(args)?.to_vec();
                self.push_made(Made::Object(ObjectNode::new(class, args, Some(kwargs))))
            }
            op::INST => {
                let module = text::utf8(self.input.line()?)?;
                let name = text::utf8(self.input.line()?)?;
                let args = self.pop_to_mark()?;
                self.push_global(module, name)?;
                let class = self.pop()?;
                let made = self.call(class, &args)?;
                self.push_made(made.bare_if(args.is_empty()))
            }
            op::OBJ => {
                let parts = self.pop_to_mark()?;
                let (&class, args) =
                    parts.split_first().ok_or_else(|| Error::invalid("an object is made without a class"))?;
                let made = self.call(class, args)?;
                self.push_made(made.bare_if(args.is_empty()))
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()?;
                self.set_state(object, state)
            }
            op::PERSID => {
                let id = text::utf8(self.input.line()?)?;
                let made = self.persistent_text(id)?;
                self.push_made(made)
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let made = self.persistent(id)?;
                self.push_made(made)
            }
            op::EXT1 | op::EXT2 | op::EXT4 => {
                Err(Error::unsupported("the pickle uses Python's extension registry, which the file does not hold"))
            }
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                Err(Error::unsupported("the pickle keeps data in buffers outside of the file"))
            }
            other => Err(Error::invalid(format!("0x{other:02x} is not a pickle instruction"))),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.input.byte()? {
            0..=5 => Ok(()),
            other => Err(Error::unsupported(format!("pickle protocol {other}; 0 to 5 are read"))),
        }
    }

    fn frame(&mut self) -> Result<()> {
        let len = u64::from_le_bytes(self.input.array()?);
        if len > self.input.left() as u64 {
            let left = self.input.left();
            return Err(Error::invalid(format!("the pickle is cut short: a frame of {len} bytes, {left} left")));
        }
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<()> {
        let global = self.globals.intern(module, name);
        self.push(Node::Global(global))
    }

    /// The arguments of a call: a tuple's items.
    fn arguments(&self, id: Id) -> Result<&[Id]> {
        match self.arena.node(id) {
            Node::Tuple(..) => Ok(self.arena.items(id).unwrap_or_default()),
            other => Err(Error::invalid(format!(
                "an object is made with {} for its arguments, not a tuple",
                other.describe()
            ))),
        }
    }

    fn push_made(&mut self, made: Made) -> Result<()> {
        self.charge(made.copied(&self.arena))?;
        let node = match made {
            Made::Node(node) => node,
            Made::Existing(id) => {
                self.stack.push(id);
                return Ok(());
            }
            Made::Dict(dict) => self.arena.dict(dict),
            Made::Tensor(tensor) => self.arena.tensor(tensor),
            Made::Object(object) => Node::Object(Box::new(object)),
        };
        self.push(node)
    }

    /// Counts parts of values that a call copied: it may be given the same large dict again and again.
    pub(super) fn charge(&mut self, parts: usize) -> Result<()> {
        self.copied += parts;
        match self.copied > self.input.len().saturating_mul(MOST_COPIED_PER_BYTE) {
            true => Err(Error::unsupported("calls are given the same large values again and again")),
            false => Ok(()),
        }
    }

    fn recall(&mut self, opcode: u8) -> Result<()> {
        let key = self.memo_key(opcode)?;
        let id = self.memo.get(key).ok_or_else(|| Error::invalid(format!("nothing is remembered as {key}")))?;
        self.stack.push(id);
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<()> {
        let key = if opcode == op::MEMOIZE { self.memo.len() } else { self.memo_key(opcode)? };
        let id = self.top()?;
        self.memo.put(key, id);
        Ok(())
    }

    fn memo_key(&mut self, opcode: u8) -> Result<u64> {
        Ok(match opcode {
            op::BINGET => self.input.byte()?.into(),
            op::LONG_BINGET => u32::from_le_bytes(self.input.array()?).into(),
            _ => match text::integer(self.input.line()?)? {
                Node::Int(key) if key >= 0 => key as u64,
                _ => return Err(Error::invalid("a memo key is not a natural number")),
            },
        })
    }

    #[inline]
    pub(super) fn push(&mut self, node: Node) -> Result<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Puts a node into the arena.
    pub(super) fn add(&mut self, node: Node) -> Result<Id> {
        if self.arena.nodes.len() >= MAX_NODES {
            return Err(Error::unsupported(format!("the pickle holds more than {MAX_NODES} values")));
        }
        self.arena.nodes.push(node);
        Ok(self.arena.nodes.len() as Id - 1)
    }

    /// Where a part of the pickle is in the bytes that it was read from.
    pub(super) fn position_of(&self, part: &[u8]) -> usize {
        self.start + self.input.position_of(part)
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        self.stack[self.floor()..].last().copied().ok_or_else(empty)
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// Where the last `count` of the stack begin.
    fn depth_of(&self, count: usize) -> Result<usize> {
        self.stack.len().checked_sub(count).filter(|&from| from >= self.floor()).ok_or_else(empty)
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Id; N]> {
        let from = self.depth_of(N)?;
        let ids = self.stack[from..].try_into().expect("N ids");
        self.stack.truncate(from);
        Ok(ids)
    }

    fn pop_mark(&mut self) -> Result<usize> {
        self.marks.pop().ok_or_else(|| Error::invalid("the pickle's stack has no mark"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.pop_mark()?;
        Ok(self.stack.split_off(mark))
    }
}

fn empty() -> Error {
    Error::invalid("the pickle's stack is empty")
}

/// A little-endian two's complement integer.
fn long(bytes: &[u8]) -> Node {
    let big = BigInt::from_bytes(bytes);
    big.to_i64().map_or_else(|| Node::BigInt(Box::new(big)), Node::Int)
}

/// Keys and values in turn.
pub(super) fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::invalid("a dict has a key without a value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// Remembered ids. Keys are counted up from 0 by every writer; others, however large, cost no more.
#[derive(Default)]
struct Memo {
    dense: Vec<Id>,
    sparse: QuickMap<u64, Id>,
}

impl Memo {
    #[inline]
    fn put(&mut self, key: u64, id: Id) {
        let len = self.dense.len() as u64;
        if key < len {
            self.dense[key as usize] = id;
        } else if key == len {
            self.dense.push(id);
            if !self.sparse.is_empty() {
                self.sparse.remove(&key);
            }
        } else {
            self.sparse.insert(key, id);
        }
    }

    fn get(&self, key: u64) -> Option<Id> {
        match self.dense.get(usize::try_from(key).ok()?) {
            Some(&id) => Some(id),
            None => self.sparse.get(&key).copied(),
        }
    }

    fn len(&self) -> u64 {
        (self.dense.len() + self.sparse.len()) as u64
    }
}
