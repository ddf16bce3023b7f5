//! Checkpoints for the benches, written by hand: with holes for tensors, so that size costs nothing.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// A checkpoint that is to be written: a dict of float32 tensors.
pub(crate) struct Spec {
    pub(crate) tensors: usize,
    /// Of each tensor: rows and columns.
    pub(crate) shape: [u64; 2],
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Nothing is written where the tensors are.
    Holes,
    /// Numbers.
    Stored,
    /// Numbers that deflate makes half as long.
    Deflated,
    /// Numbers, seen transposed.
    Transposed,
}

impl Spec {
    fn bytes(&self) -> u64 {
        self.shape[0] * self.shape[1] * 4
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut out =
            Archive { file: BufWriter::with_capacity(1 << 20, File::create(path)?), central: Vec::new(), count: 0 };
        out.entry("a/data.pkl", &self.pickle(), None)?;
        let data = match self.kind {
            Kind::Holes => Vec::new(),
            Kind::Deflated => numbers(self.bytes() as usize, 0x0f),
            _ => numbers(self.bytes() as usize, 0xff),
        };
        let packed = (self.kind == Kind::Deflated).then(|| deflate(&data));
        for i in 0..self.tensors {
            let name = format!("a/data/{i}");
            match (&packed, self.kind) {
                (_, Kind::Holes) => out.hole(&name, self.bytes())?,
                (Some(packed), _) => out.entry(&name, packed, Some(self.bytes()))?,
                (None, _) => out.entry(&name, &data, None)?,
            }
        }
        out.entry("a/version", b"3\n", None)?;
        out.finish()
    }

    /// As `torch.save` writes it: what may be met again is remembered, what was met is recalled.
    fn pickle(&self) -> Vec<u8> {
        let mut out = Pickle { bytes: b"\x80\x02}".to_vec(), remembered: 0, shared: [0; 5] };
        out.remember();
        out.bytes.push(b'(');
        let [rows, columns] = self.shape;
        let (shape, stride) = match self.kind {
            Kind::Transposed => ([columns, rows], [1, columns]),
            _ => ([rows, columns], [columns, 1]),
        };
        for i in 0..self.tensors {
            out.text(&format!("layers.{}.weight{}", i / 4, i % 4));
            out.shared(i, 0, b"ctorch._utils\n_rebuild_tensor_v2\n");
            out.bytes.extend(b"((");
            out.shared(i, 1, b"X\x07\0\0\0storage");
            out.shared(i, 2, b"ctorch\nFloatStorage\n");
            out.text(&i.to_string());
            out.shared(i, 3, b"X\x03\0\0\0cpu");
            out.int(rows * columns);
            out.bytes.push(b't');
            out.remember();
            out.bytes.extend(b"QK\0");
            for pair in [shape, stride] {
                pair.into_iter().for_each(|size| out.int(size));
                out.bytes.push(b'\x86');
                out.remember();
            }
            out.bytes.push(b'\x89');
            out.shared(i, 4, b"ccollections\nOrderedDict\n");
            out.bytes.extend(b")R");
            out.remember();
            out.bytes.push(b't');
            out.remember();
            out.bytes.push(b'R');
            out.remember();
        }
        out.bytes.extend(b"u.");
        out.bytes
    }
}

struct Pickle {
    bytes: Vec<u8>,
    remembered: u32,
    /// Where in the memo that is which all tensors name.
    shared: [u8; 5],
}

impl Pickle {
    fn remember(&mut self) {
        match u8::try_from(self.remembered) {
            Ok(key) => self.bytes.extend([b'q', key]),
            Err(_) => self.bytes.extend([&b"r"[..], &self.remembered.to_le_bytes()].concat()),
        }
        self.remembered += 1;
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend([b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat());
        self.remember();
    }

    fn int(&mut self, int: u64) {
        match (u8::try_from(int), i32::try_from(int)) {
            (Ok(int), _) => self.bytes.extend([b'K', int]),
            (_, Ok(int)) => self.bytes.extend([&b"J"[..], &int.to_le_bytes()].concat()),
            _ => self.bytes.extend([&[0x8a, 8][..], &int.to_le_bytes()].concat()),
        }
    }

    /// What tensor 0 spells out and the others recall.
    fn shared(&mut self, tensor: usize, number: usize, spelled: &[u8]) {
        if tensor > 0 {
            return self.bytes.extend([b'h', self.shared[number]]);
        }
        self.shared[number] = self.remembered as u8;
        self.bytes.extend(spelled);
        self.remember();
    }
}

/// Bytes without a pattern, of which `mask` is kept.
fn numbers(len: usize, mask: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes().map(|byte| byte & mask));
    }
    bytes.truncate(len);
    bytes
}

/// What the zip crate makes of it.
fn deflate(data: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("x", options).expect("a file in memory");
    archive.write_all(data).expect("a file in memory");
    let bytes = archive.finish().expect("a file in memory").into_inner();
    let field = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let start = 30 + field(26) + field(28);
    let directory = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").expect("a directory");
    let size = u32::from_le_bytes(bytes[directory + 20..directory + 24].try_into().expect("4 bytes")) as usize;
    bytes[start..start + size].to_vec()
}

/// A zip64 archive.
struct Archive {
    file: BufWriter<File>,
    central: Vec<u8>,
    count: u64,
}

impl Archive {
    /// An entry of these bytes; `unpacked` is their number before they were deflated.
    fn entry(&mut self, name: &str, data: &[u8], unpacked: Option<u64>) -> io::Result<()> {
        let method = if unpacked.is_some() { 8u16 } else { 0 };
        self.headers(name, data.len() as u64, unpacked.unwrap_or(data.len() as u64), method)?;
        self.file.write_all(data)
    }

    fn hole(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.headers(name, size, size, 0)?;
        self.file.seek(SeekFrom::Current(size as i64)).map(drop)
    }

    fn headers(&mut self, name: &str, size: u64, unpacked: u64, method: u16) -> io::Result<()> {
        let start = self.file.stream_position()?;
        // As torch aligns them, with an extra field.
        let pad = (64 - (start + 34 + name.len() as u64) % 64) % 64;
        // The flag says that the sizes are in the directory.
        self.file.write_all(b"PK\x03\x04\0\0\x08\0")?;
        self.file.write_all(&method.to_le_bytes())?;
        self.file.write_all(&[0; 16])?;
        self.file.write_all(&(name.len() as u16).to_le_bytes())?;
        self.file.write_all(&(pad as u16 + 4).to_le_bytes())?;
        self.file.write_all(name.as_bytes())?;
        self.file.write_all(b"FB")?;
        self.file.write_all(&(pad as u16).to_le_bytes())?;
        self.file.write_all(&vec![b'Z'; pad as usize])?;
        self.central.extend(b"PK\x01\x02\0\0\0\0\x08\0");
        self.central.extend(method.to_le_bytes());
        self.central.extend([0; 8]);
        self.central.extend([0xff; 8]);
        self.central.extend((name.len() as u16).to_le_bytes());
        self.central.extend(28u16.to_le_bytes());
        self.central.extend([0; 10]);
        self.central.extend([0xff; 4]);
        self.central.extend(name.as_bytes());
        self.central.extend([1, 0, 24, 0]);
        [unpacked, size, start].iter().for_each(|number| self.central.extend(number.to_le_bytes()));
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        let start = self.file.stream_position()?;
        self.file.write_all(&self.central)?;
        let mut end = b"PK\x06\x06".to_vec();
        end.extend(44u64.to_le_bytes());
        end.extend([0; 12]);
        [self.count, self.count, self.central.len() as u64, start].iter().for_each(|n| end.extend(n.to_le_bytes()));
        end.extend(b"PK\x06\x07\0\0\0\0");
        end.extend((start + self.central.len() as u64).to_le_bytes());
        end.extend([1, 0, 0, 0]);
        end.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        self.file.write_all(&end)?;
        self.file.flush()
    }
}
