//! Reading a pickle's bytes, never past their end.

use crate::error::{Error, Result};

/// The bytes of a pickle and a position in them. Lengths in the file are checked against the bytes that are left before
/// anything is allocated for them.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Where a part of the bytes, as [`Input::take`] gives them, begins.
    pub(super) fn position_of(&self, part: &[u8]) -> usize {
        part.as_ptr().addr() - self.bytes.as_ptr().addr()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8> {
        match self.bytes.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(cut_short(1, 0)),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.left() {
            return Err(cut_short(len, self.left()));
        }
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    /// As many bytes as the next `N` bytes, a little-endian number, say.
    pub(super) fn sized<const N: usize>(&mut self) -> Result<&'a [u8]> {
        let mut len = [0; 8];
        len[..N].copy_from_slice(&self.array::<N>()?);
        self.take(usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX))
    }

    /// The next lines, with their line feeds.
    pub(super) fn lines(&mut self, count: usize) -> Result<&'a [u8]> {
        let start = self.at;
        for _ in 0..count {
            self.line()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// The bytes up to the next line feed, which is read too.
    pub(super) fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| Error::invalid("the pickle ends inside a line of text"))?;
        self.at += len + 1;
        Ok(&rest[..len])
    }
}

#[cold]
fn cut_short(needed: usize, left: usize) -> Error {
    Error::invalid(format!("the pickle is cut short: {needed} more bytes expected, {left} left"))
}
