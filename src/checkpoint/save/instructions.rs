//! The instructions of a pickle: numbers, strings, classes and what is remembered.

use super::pickle::Pickler;
use crate::checkpoint::pickle::opcode as op;
use crate::checkpoint::value::BigInt;
use crate::error::{Error, Result};

impl<'v> Pickler<'v, '_> {
    pub(super) fn op(&mut self, op: u8) {
        self.out.push(op);
    }

    pub(super) fn ops(&mut self, ops: &[u8]) {
        self.out.extend_from_slice(ops);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.op(if value { op::NEWTRUE } else { op::NEWFALSE });
    }

    pub(super) fn int(&mut self, value: i64) {
        if let Ok(byte) = u8::try_from(value) {
            self.ops(&[op::BININT1, byte]);
        } else if let Ok(short) = u16::try_from(value) {
            self.op(op::BININT2);
            self.ops(&short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.op(op::BININT);
            self.ops(&int.to_le_bytes());
        } else {
            let bytes = BigInt::from_bytes(&value.to_le_bytes());
            self.ops(&[op::LONG1, bytes.bytes().len() as u8]);
            self.ops(bytes.bytes());
        }
    }

    pub(super) fn long(&mut self, bytes: &[u8]) -> Result<()> {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.ops(&[op::LONG1, len]),
            Err(_) => {
                self.op(op::LONG4);
                self.length(bytes.len(), "an integer")?;
            }
        }
        self.ops(bytes);
        Ok(())
    }

    pub(super) fn float(&mut self, value: f64) {
        self.op(op::BINFLOAT);
        self.ops(&value.to_be_bytes());
    }

    /// A string that may come again.
    pub(super) fn string(&mut self, text: &'v str) -> Result<()> {
        if let Some(&at) = self.strings.get(text) {
            self.get(at);
            return Ok(());
        }
        self.text(text.as_bytes())?;
        let at = self.remember();
        self.strings.insert(text, at);
        Ok(())
    }

    /// A string by its UTF-8.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<()> {
        self.op(op::BINUNICODE);
        self.length(text.len(), "a string")?;
        self.ops(text);
        Ok(())
    }

    fn length(&mut self, len: usize, what: &str) -> Result<()> {
        let short = u32::try_from(len);
        let short = short.map_err(|_| Error::unsupported(format!("{what} of {len} bytes cannot be saved")))?;
        self.ops(&short.to_le_bytes());
        Ok(())
    }

    /// A class or function by its qualified name; see [`Value::Global`].
    pub(super) fn named(&mut self, name: &'v str) -> Result<()> {
        if let Some((module, name)) = name.split_once(':') {
            // Protocol 2 names classes inside classes by calls.
            let (outer, inner) = name.split_once('.').unwrap_or((name, ""));
            let inner: Vec<&'v str> = inner.split('.').filter(|name| !name.is_empty()).collect();
            for _ in &inner {
                self.global("builtins", "getattr")?;
            }
            self.global(module, outer)?;
            for name in inner {
                self.string(name)?;
                self.ops(&[op::TUPLE2, op::REDUCE]);
            }
            return Ok(());
        }
        match name.rsplit_once('.') {
            Some((module, name)) => self.global(module, name),
            None => Err(Error::unsupported(format!("the class `{name}` has no module, so it cannot be saved"))),
        }
    }

    /// A class or function of a module, by Python 3's name.
    pub(super) fn global(&mut self, module: &'v str, name: &'v str) -> Result<()> {
        if let Some(&at) = self.globals.get(&(module, name)) {
            self.get(at);
            return Ok(());
        }
        if module.contains('\n') || name.contains('\n') {
            return Err(Error::unsupported("the name of a class has a line break, so it cannot be saved"));
        }
        // Protocol 2 has Python 2's names.
        let old = match module {
            "builtins" => "__builtin__",
            "copyreg" => "copy_reg",
            other => other,
        };
        self.op(op::GLOBAL);
        for part in [old, name] {
            self.ops(part.as_bytes());
            self.op(b'\n');
        }
        let at = self.remember();
        self.globals.insert((module, name), at);
        Ok(())
    }

    /// Recalls what was remembered as this object, if it was.
    pub(super) fn recall(&mut self, address: u64) -> bool {
        let at = self.objects.get(&address).copied();
        if let Some(at) = at {
            self.get(at);
        }
        at.is_some()
    }

    /// Remembers the object that was just made, or drops it if it was made inside itself and remembered there.
    pub(super) fn put_once(&mut self, address: u64) {
        match self.objects.contains_key(&address) {
            true => {
                self.op(op::POP);
                self.recall(address);
            }
            false => self.put(address),
        }
    }

    /// Remembers the object that was just written.
    pub(super) fn put(&mut self, address: u64) {
        let at = self.remember();
        self.objects.insert(address, at);
    }

    fn get(&mut self, at: u32) {
        self.memo(op::BINGET, op::LONG_BINGET, at);
    }

    fn remember(&mut self) -> u32 {
        let at = self.remembered;
        self.remembered += 1;
        self.memo(op::BINPUT, op::LONG_BINPUT, at);
        at
    }

    fn memo(&mut self, short: u8, long: u8, at: u32) {
        match u8::try_from(at) {
            Ok(at) => self.ops(&[short, at]),
            Err(_) => {
                self.op(long);
                self.ops(&at.to_le_bytes());
            }
        }
    }
}
