//! The pickle machine: a stack, a memo and an arena of nodes.

use std::borrow::Cow;
use std::collections::HashMap;

use super::input::Input;
use super::node::{DictNode, Globals, Id, Node, ObjectNode, SetNode, StorageId, Storages};
use super::{opcode as op, text};
use crate::checkpoint::value::{BigInt, DictKind};
use crate::error::{Error, Result};

/// Pickles of more values than this are refused: it bounds the arena, and is far above what real files hold.
const MAX_NODES: usize = 1 << 26;

/// What a pickle holds, still as nodes. See `into_value`.
pub(in crate::checkpoint) struct Unpickled<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) globals: Globals,
    pub(super) storages: Vec<StorageId>,
    pub(super) root: Id,
}

impl Unpickled<'_> {
    /// The storages that the pickle refers to, each key once.
    pub(in crate::checkpoint) fn storages(&self) -> &[StorageId] {
        &self.storages
    }
}

/// Runs the first pickle in `bytes`, up to its STOP.
pub(in crate::checkpoint) fn unpickle(bytes: &[u8]) -> Result<Unpickled<'_>> {
    let mut machine = Machine::new(bytes);
    loop {
        let at = machine.input.position();
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Unpickled {
                    nodes: machine.nodes,
                    globals: machine.globals,
                    storages: machine.storages.all,
                    root,
                });
            }
            Err(error) => return Err(error.context(format_args!("byte {at}"))),
        }
    }
}

pub(super) struct Machine<'a> {
    input: Input<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) globals: Globals,
    pub(super) storages: Storages,
    stack: Vec<Id>,
    /// Lengths of the stack at the marks; what lies below the last one cannot be popped.
    marks: Vec<usize>,
    memo: Memo,
}

/// Ids of the values that need only one node.
const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const EMPTY_TUPLE: Id = 3;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: Input::new(bytes),
            nodes: vec![Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple([].into())],
            globals: Globals::default(),
            storages: Storages::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
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
    fn literal(&mut self, opcode: u8) -> Result<Option<Node<'a>>> {
        let input = &mut self.input;
        Ok(Some(match opcode {
            op::BININT => Node::Int(i32::from_le_bytes(input.array()?).into()),
            op::BININT1 => Node::Int(input.byte()?.into()),
            op::BININT2 => Node::Int(u16::from_le_bytes(input.array()?).into()),
            op::LONG1 => long(input.sized::<1>()?),
            op::LONG4 => long(input.sized::<4>()?),
            op::BINFLOAT => Node::Float(f64::from_be_bytes(input.array()?)),
            op::BINUNICODE => string(input.sized::<4>()?)?,
            op::SHORT_BINUNICODE => string(input.sized::<1>()?)?,
            op::BINUNICODE8 => string(input.sized::<8>()?)?,
            op::BINSTRING => text::python2_str(Cow::Borrowed(input.sized::<4>()?)),
            op::SHORT_BINSTRING => text::python2_str(Cow::Borrowed(input.sized::<1>()?)),
            op::SHORT_BINBYTES => Node::Bytes(Cow::Borrowed(input.sized::<1>()?)),
            op::BINBYTES => Node::Bytes(Cow::Borrowed(input.sized::<4>()?)),
            op::BINBYTES8 => Node::Bytes(Cow::Borrowed(input.sized::<8>()?)),
            op::BYTEARRAY8 => Node::ByteArray(Cow::Borrowed(input.sized::<8>()?)),
            op::EMPTY_LIST => Node::List(Vec::new()),
            op::EMPTY_DICT => Node::Dict(DictNode::new(DictKind::Dict, Vec::new())),
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
            op::STRING => text::python2_str(text::quoted(input.line()?)?),
            op::UNICODE => Node::Str(text::raw_unicode_escape(input.line()?)?),
            _ => return Ok(None),
        }))
    }

    /// An instruction that works on the stack.
    fn operate(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            op::POP_MARK => drop(self.pop_to_mark()?),
            op::DUP => self.stack.push(self.top()?),
            op::GET | op::BINGET | op::LONG_BINGET => self.recall(opcode)?,
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.remember(opcode)?,
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let items = self.pop_many(usize::from(opcode - op::TUPLE1) + 1)?;
                self.push(Node::Tuple(items.into()))?;
            }
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            op::LIST => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items))?;
            }
            op::DICT => {
                let entries = pairs(&self.pop_to_mark()?)?;
                self.push(Node::Dict(DictNode::new(DictKind::Dict, entries)))?;
            }
            op::FROZENSET => {
                let items = self.pop_to_mark()?;
                self.push(Node::Set(Box::new(SetNode { frozen: true, items })))?;
            }
            op::APPEND => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                self.extend(&items)?;
            }
            op::ADDITEMS => {
                let items = self.pop_to_mark()?;
                self.add_items(&items)?;
            }
            op::SETITEM => {
                let pair = self.pop_many(2)?;
                self.set_items(&pair)?;
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            _ => self.construct(opcode)?,
        }
        Ok(())
    }

    /// An instruction that names, makes or fills an object.
    fn construct(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::GLOBAL => {
                let module = text::utf8(self.input.line()?)?;
                let name = text::utf8(self.input.line()?)?;
                self.push_global(module, name)
            }
            op::STACK_GLOBAL => {
                let names = self.pop_many(2)?;
                match (&self.nodes[names[0] as usize], &self.nodes[names[1] as usize]) {
                    (Node::Str(module), Node::Str(name)) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.push_global(&module, &name)
                    }
                    _ => Err(Error::invalid("a class is named by something else than two strings")),
                }
            }
            op::REDUCE => {
                let call = self.pop_many(2)?;
                self.push_call(call[0], call[1], None)
            }
            op::NEWOBJ => {
                let call = self.pop_many(2)?;
                self.push_call(call[0], call[1], None)
            }
            op::NEWOBJ_EX => {
                let call = self.pop_many(3)?;
                self.push_call(call[0], call[1], Some(call[2]))
            }
            op::INST => {
                let module = text::utf8(self.input.line()?)?;
                let name = text::utf8(self.input.line()?)?;
                let args = self.pop_to_mark()?;
                self.push_global(module, name)?;
                let class = self.pop()?;
                self.push_object(class, args)
            }
            op::OBJ => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err(Error::invalid("an object is made without a class"));
                }
                let class = args.remove(0);
                self.push_object(class, args)
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()?;
                self.set_state(object, state)
            }
            op::PERSID => {
                let id = text::utf8(self.input.line()?)?;
                Err(Error::invalid(format!("the persistent id `{}` is not a storage's", id.escape_debug())))
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let node = self.persistent(id)?;
                self.push(node)
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

    fn push_call(&mut self, callee: Id, args: Id, kwargs: Option<Id>) -> Result<()> {
        let Node::Tuple(args) = &self.nodes[args as usize] else {
            let found = self.nodes[args as usize].describe();
            return Err(Error::invalid(format!("an object is made with {found} for its arguments, not a tuple")));
        };
        let args = args.to_vec();
        let node = match kwargs {
            None => self.call(callee, args)?,
            Some(_) => Node::Object(ObjectNode::new(callee, args, kwargs)),
        };
        self.push(node)
    }

    fn push_object(&mut self, class: Id, args: Vec<Id>) -> Result<()> {
        let node = self.call(class, args)?;
        self.push(node)
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
            op::BINGET | op::BINPUT => self.input.byte()?.into(),
            op::LONG_BINGET | op::LONG_BINPUT => u32::from_le_bytes(self.input.array()?).into(),
            _ => match text::integer(self.input.line()?)? {
                Node::Int(key) if key >= 0 => key as u64,
                _ => return Err(Error::invalid("a memo key is not a natural number")),
            },
        })
    }

    pub(super) fn push(&mut self, node: Node<'a>) -> Result<()> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::unsupported(format!("the pickle holds more than {MAX_NODES} values")));
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    pub(super) fn top(&self) -> Result<Id> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| Error::invalid("the pickle's stack is empty"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.stack.len() < self.floor() + count {
            return Err(Error::invalid("the pickle's stack is empty"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| Error::invalid("the pickle's stack has no mark"))?;
        Ok(self.stack.split_off(mark))
    }
}

/// A little-endian two's complement integer.
fn long<'a>(bytes: &[u8]) -> Node<'a> {
    let big = BigInt::from_bytes(bytes);
    big.to_i64().map_or_else(|| Node::BigInt(Box::new(big)), Node::Int)
}

fn string(bytes: &[u8]) -> Result<Node<'_>> {
    Ok(Node::Str(Cow::Borrowed(text::utf8(bytes)?)))
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
    sparse: HashMap<u64, Id>,
}

impl Memo {
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
