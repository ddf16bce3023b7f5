//! Writing zip archives of stored entries, whose data begin where PyTorch wants them. Written here because PyTorch's
//! alignment is padding in the local headers, and checksums are only known when the data has gone by.

use std::io::{Seek, SeekFrom, Write};

use super::file::{io, put};
use super::{ALIGNMENT, Take};
use crate::error::{Error, Result};

/// Writes entries one after the other. The size of each is known before, its checksum is filled in after.
pub(super) struct ZipWriter<'w, W> {
    out: &'w mut W,
    at: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    crc: u32,
    size: u64,
    header: u64,
}

/// Sizes and offsets from here on need the fields of zip64.
const LARGE: u64 = 0xffff_ffff;
/// As many entries, or more, need the end record of zip64.
const MANY: usize = 0xffff;
const LOCAL_HEADER: u64 = 30;
/// Names are UTF-8.
const FLAGS: u16 = 0x0800;
/// The first of January 1980, where zip's calendar begins.
const DATE: u16 = 0x21;
/// Where the checksum is in a local header.
const CRC_AT: u64 = 14;

impl<'w, W: Write + Seek> ZipWriter<'w, W> {
    pub(super) fn new(out: &'w mut W) -> Self {
        Self { out, at: 0, entries: Vec::new() }
    }

    /// An entry whose bytes are at hand.
    pub(super) fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.entry(name, bytes.len() as u64, &mut |take| take(bytes))
    }

    /// An entry of `size` bytes, which `write` gives piece by piece.
    pub(super) fn entry(
        &mut self,
        name: &str,
        size: u64,
        write: &mut dyn FnMut(&mut Take<'_>) -> Result<()>,
    ) -> Result<()> {
        let header = self.at;
        let mut entry = Entry { name: name.to_owned(), crc: 0, size, header };
        // Written with the first piece, in case that is all, so that the header is right at once.
        let mut pending = Some(entry.local_header()?);
        let mut crc = crc32fast::Hasher::new();
        let mut left = size;
        let mut in_one = true;
        write(&mut |bytes| {
            crc.update(bytes);
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| Error::invalid(format!("`{name}` turns out to have more than {size} bytes")))?;
            if let Some(mut header) = pending.take() {
                in_one = left == 0;
                if in_one {
                    fill_in(&mut header, crc.clone().finalize());
                }
                put(self.out, &header)?;
                self.at += header.len() as u64;
            }
            put(self.out, bytes)?;
            self.at += bytes.len() as u64;
            Ok(())
        })?;
        if left > 0 {
            return Err(Error::invalid(format!("`{name}` turns out to have {left} bytes fewer than {size}")));
        }
        entry.crc = crc.finalize();
        if let Some(header) = pending {
            // Without a byte.
            put(self.out, &header)?;
            self.at += header.len() as u64;
        } else if !in_one {
            self.patch(&entry)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Fills in the checksum of an entry that came in several pieces.
    fn patch(&mut self, entry: &Entry) -> Result<()> {
        let mut seek_and_put = || {
            self.out.seek(SeekFrom::Start(entry.header + CRC_AT))?;
            self.out.write_all(&entry.crc.to_le_bytes())?;
            self.out.seek(SeekFrom::Start(self.at))
        };
        seek_and_put().map(drop).map_err(|error| io(&error))
    }

    /// Writes the directory.
    pub(super) fn finish(self) -> Result<()> {
        let start = self.at;
        let mut directory = Vec::new();
        for entry in &self.entries {
            entry.add_to_directory(&mut directory);
        }
        let size = directory.len() as u64;
        let count = self.entries.len();
        if start >= LARGE || size >= LARGE || count >= MANY {
            let end = start + size;
            // The end record of zip64, then where it is.
            let fixed: [&[u8]; 4] = [b"PK\x06\x06", &44u64.to_le_bytes(), &[45, 3, 45, 0], &[0; 8]];
            fixed.iter().for_each(|part| directory.extend_from_slice(part));
            for number in [count as u64, count as u64, size, start] {
                directory.extend_from_slice(&number.to_le_bytes());
            }
            directory.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            directory.extend_from_slice(&end.to_le_bytes());
            directory.extend_from_slice(&1u32.to_le_bytes());
        }
        directory.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        directory.extend_from_slice(&short_count.to_le_bytes());
        directory.extend_from_slice(&short_count.to_le_bytes());
        directory.extend_from_slice(&short(size).to_le_bytes());
        directory.extend_from_slice(&short(start).to_le_bytes());
        directory.extend_from_slice(&[0; 2]);
        put(self.out, &directory)?;
        self.out.flush().map_err(|error| io(&error))
    }
}

impl Entry {
    /// Version, flags, method, time and date: the same in both headers.
    fn start(&self, large: bool) -> [u8; 10] {
        let mut start = [0; 10];
        start[0] = if large { 45 } else { 20 };
        start[2..4].copy_from_slice(&FLAGS.to_le_bytes());
        start[8..].copy_from_slice(&DATE.to_le_bytes());
        start
    }

    /// The header before the data, with no checksum yet, padded as PyTorch does so that the data is aligned.
    fn local_header(&self) -> Result<Vec<u8>> {
        let name_len = self.name_len()?;
        let large = self.size >= LARGE;
        let mut extra = Vec::new();
        if large {
            extra.extend_from_slice(&[1, 0, 16, 0]);
            extra.extend_from_slice(&self.size.to_le_bytes());
            extra.extend_from_slice(&self.size.to_le_bytes());
        }
        let end = self.header + LOCAL_HEADER + u64::from(name_len) + extra.len() as u64 + 4;
        let padding = (end.next_multiple_of(ALIGNMENT) - end) as u16;
        extra.extend_from_slice(b"FB");
        extra.extend_from_slice(&padding.to_le_bytes());
        extra.extend(std::iter::repeat_n(b'Z', padding.into()));
        let mut header = b"PK\x03\x04".to_vec();
        header.extend_from_slice(&self.start(large));
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&short(self.size).to_le_bytes());
        header.extend_from_slice(&short(self.size).to_le_bytes());
        header.extend_from_slice(&name_len.to_le_bytes());
        header.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        header.extend_from_slice(self.name.as_bytes());
        header.extend_from_slice(&extra);
        Ok(header)
    }

    fn name_len(&self) -> Result<u16> {
        u16::try_from(self.name.len())
            .map_err(|_| Error::unsupported("the name of an entry is longer than 65,535 bytes"))
    }

    fn add_to_directory(&self, directory: &mut Vec<u8>) {
        let mut extra = Vec::new();
        let large = self.size >= LARGE;
        let sizes = [self.size, self.size];
        let numbers = sizes.iter().filter(|_| large).chain([&self.header].into_iter().filter(|at| **at >= LARGE));
        for number in numbers {
            extra.extend_from_slice(&number.to_le_bytes());
        }
        let zip64 = !extra.is_empty();
        directory.extend_from_slice(b"PK\x01\x02");
        // Made by Unix, so that unpacked files get the permissions below.
        directory.extend_from_slice(&[45, 3]);
        directory.extend_from_slice(&self.start(zip64));
        directory.extend_from_slice(&self.crc.to_le_bytes());
        directory.extend_from_slice(&short(self.size).to_le_bytes());
        directory.extend_from_slice(&short(self.size).to_le_bytes());
        directory.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        let extra_len = if zip64 { extra.len() as u16 + 4 } else { 0 };
        directory.extend_from_slice(&extra_len.to_le_bytes());
        // No comment, on the first disk, no internal attributes; a regular file with mode 644.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(0o100_644u32 << 16).to_le_bytes());
        directory.extend_from_slice(&short(self.header).to_le_bytes());
        directory.extend_from_slice(self.name.as_bytes());
        if zip64 {
            directory.extend_from_slice(&[1, 0]);
            directory.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            directory.extend_from_slice(&extra);
        }
    }
}

/// A number in a field of 32 bits, or the mark that zip64 has it.
fn short(number: u64) -> u32 {
    number.min(LARGE) as u32
}

fn fill_in(header: &mut [u8], crc: u32) {
    let at = CRC_AT as usize;
    header[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}
