//! A zip archive whose records agree with each other, but for the changes at the input's end: so that mutations reach
//! what is behind the checks of offsets and sizes.
//!
//! The input is a byte of [`Archive`]'s flags; entries, each a name, flags, the length of the data (two bytes) and the
//! data; a byte 255; and changes of four bytes: record, offset in it, kind, value.
#![no_main]

mod read;

/// The names that mean something, and one that means nothing. A number past them is the length of a name that follows.
const NAMES: &[&str] = &[
    "a/data.pkl",
    "a/version",
    "a/byteorder",
    "a/data/0",
    "a/data/1",
    "a/constants.pkl",
    "a/constants/0",
    "a/code/__torch__.py",
    "a/archive_format",
    "a/models/model.json",
    "a/data/weights/model_weights_config.json",
    "a/data/weights/weight_0",
    "a/data/weights/model.pt",
    "a/data/constants/model_constants_config.json",
    "a/serialized_exported_program.json",
    "a/serialized_state_dict.pt",
    "a/.data/version",
    "b/other",
];

// Of the archive.
const ZIP64_END: u8 = 1;
const SATURATED: u8 = 2;
const COMMENT: u8 = 4;
const REVERSED: u8 = 8;
const PREFIXED: u8 = 16;
const TWICE: u8 = 32;
// Of an entry: the two lowest bits are the method.
const DESCRIPTOR: u8 = 4;
const ZIP64: u8 = 8;
const ZIP64_LOCAL: u8 = 16;
const NO_CRC: u8 = 32;
const ALIGNED: u8 = 64;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(bytes) = archive(&mut Input(input)) {
        read::read(bytes);
    }
});

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (data, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        data
    }

    fn number<const N: usize>(&mut self) -> usize {
        self.take(N).iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
    }
}

/// The bytes of an archive so far.
#[derive(Default)]
struct Archive {
    out: Vec<u8>,
    central: Vec<Vec<u8>>,
    /// Where the local headers are, and later the other records.
    records: Vec<usize>,
}

fn archive(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let flags = input.byte()?;
    let mut archive = Archive::default();
    if flags & PREFIXED != 0 {
        archive.out.extend([0x55; 64]);
    }
    while let Some(name) = input.byte().filter(|&name| name != 255) {
        let name = match NAMES.get(usize::from(name)) {
            Some(name) => name.as_bytes(),
            None => input.take(usize::from(name) - NAMES.len()),
        };
        archive.entry(name, input);
    }
    let start = archive.directory(flags);
    archive.end(flags, start);
    let Archive { mut out, records, .. } = archive;
    while let [record, offset, kind, value] = *input.take(4) {
        let record = records.get(usize::from(record) % records.len().max(1)).copied().unwrap_or_default();
        change(&mut out, record + usize::from(offset % 64), kind, value);
    }
    if flags & TWICE != 0 {
        out.extend(out.clone());
    }
    Some(out)
}

/// Changes a number of one, two, four or eight bytes.
fn change(out: &mut [u8], at: usize, kind: u8, value: u8) {
    let width = 1 << (kind >> 6);
    for (i, byte) in out.iter_mut().skip(at).take(width).enumerate() {
        *byte = match kind % 4 {
            0 => value,
            1 => *byte ^ value,
            2 if i == 0 => byte.wrapping_add(value),
            2 => *byte,
            // Small numbers.
            _ if i == 0 => value,
            _ => 0,
        };
    }
}

impl Archive {
    fn entry(&mut self, name: &[u8], input: &mut Input<'_>) {
        let flags = input.byte().unwrap_or_default();
        let len = input.number::<2>();
        let stated = if flags & 3 == 2 { input.number::<4>() } else { len };
        let data = input.take(len);
        let (method, packed, size) = match flags & 3 {
            0 => (0u16, data.to_vec(), data.len()),
            1 => (8, deflated(data), data.len()),
            2 => (8, data.to_vec(), stated),
            _ => (12, data.to_vec(), data.len()),
        };
        let bits = if flags & DESCRIPTOR != 0 { 8u16 } else { 0 };
        let crc = if flags & (NO_CRC | 2) != 0 { 0 } else { crc32(data) };
        let header = self.out.len();
        self.records.push(header);
        let sizes = match bits {
            0 => [crc, packed.len() as u32, size as u32],
            _ => [0; 3],
        };
        let large = [size as u64, packed.len() as u64, header as u64].map(u64::to_le_bytes).concat();
        let mut extra = Vec::new();
        if flags & ZIP64_LOCAL != 0 {
            extra.extend([1, 0, 16, 0]);
            extra.extend(&large[..16]);
        }
        if flags & ALIGNED != 0 {
            let padding = (64 - (header + 30 + name.len() + extra.len() + 4) % 64) as u8;
            extra.extend([b'F', b'B', padding, 0]);
            extra.extend(vec![b'Z'; padding.into()]);
        }
        self.out.extend(b"PK\x03\x04\x14\0");
        self.out.extend([bits, method, 0, 0].map(u16::to_le_bytes).concat());
        self.out.extend(sizes.map(u32::to_le_bytes).concat());
        self.out.extend([name.len() as u16, extra.len() as u16].map(u16::to_le_bytes).concat());
        self.out.extend([name, &extra].concat());
        self.out.extend(&packed);
        if bits != 0 {
            self.out.extend(b"PK\x07\x08");
            self.out.extend([crc, packed.len() as u32, size as u32].map(u32::to_le_bytes).concat());
        }
        let (sizes, place, extra) = match flags & ZIP64 {
            0 => ([packed.len() as u32, size as u32], header as u32, Vec::new()),
            _ => ([u32::MAX; 2], u32::MAX, [&[1, 0, 24, 0][..], &large].concat()),
        };
        let mut record = b"PK\x01\x02\x14\0\x14\0".to_vec();
        record.extend([bits, method, 0, 0].map(u16::to_le_bytes).concat());
        record.extend([crc, sizes[0], sizes[1]].map(u32::to_le_bytes).concat());
        record.extend([name.len() as u16, extra.len() as u16, 0, 0, 0, 0, 0].map(u16::to_le_bytes).concat());
        record.extend(place.to_le_bytes());
        record.extend([name, &extra].concat());
        self.central.push(record);
    }

    /// Puts the central directory, and tells where it starts.
    fn directory(&mut self, flags: u8) -> usize {
        let start = self.out.len();
        if flags & REVERSED != 0 {
            self.central.reverse();
        }
        for record in &self.central {
            self.records.push(self.out.len());
            self.out.extend(record);
        }
        start
    }

    fn end(&mut self, flags: u8, start: usize) {
        let (size, count) = (self.out.len() - start, self.central.len());
        let zip64 = flags & ZIP64_END != 0;
        if zip64 {
            let record = self.out.len();
            self.records.push(record);
            self.out.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
            self.out.extend([count, count, size, start].map(|number| (number as u64).to_le_bytes()).concat());
            self.records.push(self.out.len());
            self.out.extend(b"PK\x06\x07\0\0\0\0");
            self.out.extend((record as u64).to_le_bytes());
            self.out.extend([1, 0, 0, 0]);
        }
        self.records.push(self.out.len());
        self.out.extend(b"PK\x05\x06\0\0\0\0");
        let saturated = zip64 && flags & SATURATED != 0;
        let (count, places) = match saturated {
            true => (u16::MAX, [u32::MAX; 2]),
            false => (count as u16, [size as u32, start as u32]),
        };
        self.out.extend([count.to_le_bytes(); 2].concat());
        self.out.extend(places.map(u32::to_le_bytes).concat());
        match flags & COMMENT {
            0 => self.out.extend([0, 0]),
            _ => self.out.extend(b"\x05\0hello"),
        }
    }
}

/// The bytes in blocks that deflate stores as they are.
fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in data.chunks(0xffff) {
        let len = block.len() as u16;
        out.push(0);
        out.extend([len, !len].map(u16::to_le_bytes).concat());
        out.extend(block);
    }
    out.extend([1, 0, 0, 0xff, 0xff]);
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
