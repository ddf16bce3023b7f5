//! The directory of a zip archive: which entries it has and where their bytes are. Written here because PyTorch's
//! alignment shows in the local headers only, and because opening must cost no more than a walk over the directory.

use std::ops::Range;

use crate::checkpoint::hash::Positions;
use crate::error::{Error, Result};

/// An archive's entries by name. Borrows the archive's bytes.
pub(super) struct Directory<'a> {
    records: Records<'a>,
    /// Where each entry's record is. Few of a large archive's entries are looked at twice, so that no more is kept.
    places: Vec<usize>,
    index: Positions,
}

/// The records of a central directory, which are read from the bytes when they are asked for.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the central directory starts: every entry ends before it.
    pub(super) start: usize,
}

/// One entry, as the central directory describes it.
pub(super) struct Entry<'a> {
    /// Where its record is.
    pub(super) record: usize,
    pub(super) name: &'a [u8],
    pub(super) method: Method,
    pub(super) encrypted: bool,
    /// Of the contents; 0 where the writer computed none.
    pub(super) crc: u32,
    pub(super) compressed: usize,
    pub(super) size: usize,
    pub(super) header: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Method {
    Stored,
    Deflated,
    Other(u16),
}

/// Deflate makes no more than this many bytes out of one.
const MAX_RATIO: usize = 1032;

const LOCAL_HEADER: usize = 30;
const CENTRAL_HEADER: usize = 46;
const CENTRAL_NAME_LENGTH: usize = 28;
const END_RECORD: usize = 22;
const ZIP64_LOCATOR: usize = 20;
const ZIP64_END_RECORD: usize = 56;

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let end = End::find(bytes)?;
        let records = Records { bytes, start: end.directory.start };
        let expected = end.count.min(end.directory.len() / CENTRAL_HEADER);
        let mut places = Vec::with_capacity(expected);
        let mut index = Positions::with_capacity(expected);
        let mut total = Some(0usize);
        let mut rest = Fields { bytes: &bytes[..end.directory.end], at: end.directory.start };
        while rest.at < end.directory.end {
            let entry = Entry::read(&mut rest, end.directory.start)?;
            let hash = index.hash(entry.name);
            let is_same = |at: usize| records.name(places[at]) == entry.name;
            let rehash = |index: &Positions, at: usize| index.hash(records.name(places[at]));
            if index.find_or_insert(hash, places.len(), is_same, rehash).is_some() {
                return Err(Error::invalid(format!("the zip archive has two entries called `{}`", entry.shown_name())));
            }
            total = total.and_then(|total| total.checked_add(entry.compressed));
            places.push(entry.record);
        }
        if places.len() != end.count {
            return Err(Error::invalid(format!(
                "the zip directory has {} entries, its end record says {}",
                places.len(),
                end.count
            )));
        }
        // Entries that overlap would let a small file unpack to any size.
        if total.is_none_or(|total| total > end.directory.start) {
            return Err(Error::invalid("the zip archive's entries are larger than the archive: they overlap"));
        }
        Ok(Self { records, places, index })
    }

    pub(super) fn records(&self) -> Records<'a> {
        self.records
    }

    /// The names of all entries, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.places.iter().map(|&record| self.records.name(record))
    }

    /// The entry called `name`.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<Entry<'a>>> {
        self.position(name).map(|at| self.records.entry(self.places[at])).transpose()
    }

    /// Where in the directory's order the entry called `name` is. `guess` is looked at first.
    pub(super) fn position_near(&self, guess: usize, name: &[u8]) -> Option<usize> {
        match self.places.get(guess) {
            Some(&record) if self.records.name(record) == name => Some(guess),
            _ => self.position(name),
        }
    }

    /// The entry at a position.
    pub(super) fn entry(&self, at: usize) -> Result<Entry<'a>> {
        self.records.entry(self.places[at])
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.index.find(self.index.hash(name), |at| self.records.name(self.places[at]) == name)
    }
}

impl<'a> Records<'a> {
    /// The name in the record at a byte.
    fn name(self, record: usize) -> &'a [u8] {
        let mut fields = Fields { bytes: self.bytes, at: record + CENTRAL_NAME_LENGTH };
        fields
            .u16()
            .ok()
            .and_then(|len| {
                fields.at = record + CENTRAL_HEADER;
                fields.take(len.into()).ok()
            })
            .unwrap_or_default()
    }

    /// What the record at a byte says.
    pub(super) fn entry(self, record: usize) -> Result<Entry<'a>> {
        Entry::read(&mut Fields { bytes: self.bytes, at: record }, self.start)
    }

    /// Where an entry's bytes, compressed or not, are in the file.
    pub(super) fn range(self, entry: &Entry<'_>) -> Result<Range<usize>> {
        let bad = |what: &str| {
            let name = entry.shown_name();
            Error::invalid(format!("`{name}`: its local zip header, at byte {}, {what}", entry.header))
        };
        let mut local = Fields { bytes: &self.bytes[..self.start], at: entry.header };
        let mut fields = || -> Result<_> {
            local.skip(6)?;
            let flags = local.u16()?;
            let method = local.u16()?;
            local.skip(LOCAL_HEADER - 14)?;
            let name = local.u16()?;
            let extra = local.u16()?;
            let name = local.take(name.into())?;
            local.skip(extra.into())?;
            Ok((flags, method, name, local.at))
        };
        if !self.bytes[entry.header..self.start].starts_with(b"PK\x03\x04") {
            return Err(bad("does not start with `PK\\3\\4`"));
        }
        let (flags, method, name, start) = fields().map_err(|_| bad("reaches into the directory"))?;
        if flags & 1 != 0 {
            return Err(Error::unsupported(format!("`{}` is encrypted", entry.shown_name())));
        }
        if name != entry.name || Method::from(method) != entry.method {
            return Err(bad("contradicts the zip directory"));
        }
        match start.checked_add(entry.compressed) {
            Some(end) if end <= self.start => Ok(start..end),
            _ => Err(bad(&format!("is followed by fewer than {} bytes of data", entry.compressed))),
        }
    }
}

impl<'a> Entry<'a> {
    fn read(fields: &mut Fields<'a>, directory: usize) -> Result<Self> {
        let at = fields.at;
        let cut_short = |_| Error::invalid(format!("the zip directory is damaged at byte {at}"));
        Self::fields(fields).map_err(cut_short)?.check(at, directory)
    }

    fn fields(fields: &mut Fields<'a>) -> Result<Self> {
        let record = fields.at;
        if fields.u32()? != 0x0201_4b50 {
            return Err(fields.outside());
        }
        fields.skip(4)?;
        let flags = fields.u16()?;
        let method = fields.u16()?.into();
        fields.skip(4)?;
        let crc = fields.u32()?;
        let mut compressed = u64::from(fields.u32()?);
        let mut size = u64::from(fields.u32()?);
        let [name, extra, comment] = [fields.u16()?, fields.u16()?, fields.u16()?];
        fields.skip(8)?;
        let mut header = u64::from(fields.u32()?);
        let name = fields.take(name.into())?;
        let mut extras = Fields { bytes: fields.take(extra.into())?, at: 0 };
        fields.skip(comment.into())?;
        while extras.left() >= 4 {
            let id = extras.u16()?;
            let len = extras.u16()?;
            let mut extra = Fields { bytes: extras.take(len.into())?, at: 0 };
            if id == 1 {
                // Zip64: the fields that were too large, in this order.
                for field in [&mut size, &mut compressed, &mut header] {
                    if *field == 0xffff_ffff {
                        *field = extra.u64()?;
                    }
                }
            }
        }
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let (compressed, size, header) = (number(compressed), number(size), number(header));
        let encrypted = flags & 1 != 0;
        Ok(Entry { record, name, method, encrypted, crc, compressed, size, header })
    }

    fn check(self, at: usize, directory: usize) -> Result<Self> {
        let bad = |what: String| {
            Error::invalid(format!("the zip directory, at byte {at}, is damaged: `{}` {what}", self.shown_name()))
        };
        if self.encrypted {
            return Err(Error::unsupported(format!("`{}` is encrypted", self.shown_name())));
        }
        if self.header >= directory {
            return Err(bad(format!("starts at byte {}, past the entries' end at byte {directory}", self.header)));
        }
        if self.compressed > directory - self.header {
            return Err(bad(format!("has {} bytes, {} are left", self.compressed, directory - self.header)));
        }
        if self.method == Method::Stored && self.size != self.compressed {
            return Err(bad(format!("is stored, but has {} bytes and takes {}", self.size, self.compressed)));
        }
        if self.method == Method::Deflated && self.size > self.compressed.saturating_mul(MAX_RATIO) {
            return Err(bad(format!("unpacks from {} bytes to {}, more than deflate can", self.compressed, self.size)));
        }
        Ok(self)
    }

    /// The name, for messages.
    pub(super) fn shown_name(&self) -> String {
        let name = String::from_utf8_lossy(self.name);
        name.chars().take(120).flat_map(char::escape_debug).collect()
    }
}

impl From<u16> for Method {
    fn from(number: u16) -> Self {
        match number {
            0 => Method::Stored,
            8 => Method::Deflated,
            other => Method::Other(other),
        }
    }
}

/// What the records at an archive's end say.
struct End {
    directory: Range<usize>,
    count: usize,
}

impl End {
    fn find(bytes: &[u8]) -> Result<Self> {
        let at = Self::position(bytes)?;
        Self::read(bytes, at)
            .map_err(|_| Error::invalid(format!("the zip archive's end record, at byte {at}, is damaged")))?
            .check(at)
    }

    /// Finds the last end record: a comment, or other bytes, may follow it.
    fn position(bytes: &[u8]) -> Result<usize> {
        let reach = bytes.len().saturating_sub(END_RECORD + 0xffff);
        let last = bytes.len().checked_sub(END_RECORD);
        let at = last
            .and_then(|last| bytes[reach..last + 4].windows(4).rposition(|window| window == b"PK\x05\x06"))
            .map(|at| reach + at);
        at.ok_or_else(|| {
            Error::invalid(format!(
                "the zip archive is cut short: its end, the directory of its entries, is not in the {} bytes of the file",
                bytes.len()
            ))
            .help("download or copy it again")
        })
    }

    fn read(bytes: &[u8], at: usize) -> Result<Self> {
        let mut fields = Fields { bytes, at: at + 4 };
        let disks = [fields.u16()?, fields.u16()?];
        let counts = [fields.u16()?, fields.u16()?];
        let size = fields.u32()?;
        let start = fields.u32()?;
        let zip64 = at.checked_sub(ZIP64_LOCATOR).filter(|&at| bytes[at..].starts_with(b"PK\x06\x07"));
        let (size, start, count, end) = match zip64 {
            None if disks == [0, 0] && counts[0] == counts[1] => (size.into(), start.into(), counts[0].into(), at),
            None => return Err(fields.outside()),
            Some(locator) => {
                let mut fields = Fields { bytes, at: locator + 8 };
                let record = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
                if record > locator.saturating_sub(ZIP64_END_RECORD) {
                    return Err(fields.outside());
                }
                let mut fields = Fields { bytes, at: record };
                if fields.u32()? != 0x0606_4b50 {
                    return Err(fields.outside());
                }
                fields.skip(20)?;
                let [here, count, large_size, large_start] =
                    [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
                // The short record says the same, where it has room to.
                let same = |short: u32, long: u64| short == u32::MAX || u64::from(short) == long;
                let same_count = counts[1] == u16::MAX || u64::from(counts[1]) == count;
                if here != count || !same(size, large_size) || !same(start, large_start) || !same_count {
                    return Err(fields.outside());
                }
                (large_size, large_start, count, record)
            }
        };
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let stop = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        if stop > end {
            return Err(fields.outside());
        }
        Ok(End { directory: start..stop, count: usize::try_from(count).unwrap_or(usize::MAX) })
    }

    fn check(self, at: usize) -> Result<Self> {
        match self.count {
            0 => Err(Error::invalid(format!("the zip archive, which ends at byte {at}, has no entries"))),
            _ => Ok(self),
        }
    }
}

/// Where the last archive in `bytes` starts and ends. It starts at 0 unless it was written after another one: then it
/// counts its positions from its own start, as `torch.save` does when it is called again with an open file.
pub(super) fn last_archive(bytes: &[u8]) -> Result<Range<usize>> {
    let at = End::position(bytes)?;
    let mut fields = Fields { bytes, at: at + 12 };
    let (size, start, comment) = (fields.u32()?, fields.u32()?, fields.u16()?);
    // The directory, or the larger end record, is where it is, and says where it is counted from the archive's start.
    let (place, stated) = match at.checked_sub(ZIP64_LOCATOR).filter(|&at| bytes[at..].starts_with(b"PK\x06\x07")) {
        Some(locator) => (locator.checked_sub(ZIP64_END_RECORD), Fields { bytes, at: locator + 8 }.u64()?),
        None => (at.checked_sub(size as usize), start.into()),
    };
    let start = place.and_then(|place| place.checked_sub(usize::try_from(stated).ok()?));
    let start = start.filter(|&start| bytes[start..].starts_with(b"PK\x03\x04")).unwrap_or(0);
    Ok(start..fields.at.saturating_add(comment.into()).min(bytes.len()))
}

/// Little-endian numbers, read in order and never past the end.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.left() {
            return Err(self.outside());
        }
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.take(len).map(drop)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("2 bytes")))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("4 bytes")))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes")))
    }

    /// The caller says where it was and what it means.
    fn outside(&self) -> Error {
        Error::invalid("bytes that contradict each other")
    }
}
