//! A place in a header of text: what JSON and Python's literals have in common.

use crate::error::{Error, Result};

pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

impl Cursor<'_> {
    /// The next byte that is not space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Goes past `byte` if it is next.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<()> {
        match self.accept(byte) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{}`", char::from(byte)))),
        }
    }

    pub(crate) fn unexpected(&mut self, expected: &str) -> Error {
        let found = self.peek().map_or("its end".to_owned(), |byte| format!("`{}`", byte.escape_ascii()));
        Error::invalid(format!("{expected} expected at byte {}, found {found}", self.at))
    }
}
