//! Zip archives and pickles made by hand, so that each field can be made wrong.

use std::io::{Cursor, Write};

/// One entry of an archive, with what its headers say. The defaults are true.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) crc: u32,
    pub(crate) size: u32,
    pub(crate) compressed: u32,
    pub(crate) local_name: String,
    pub(crate) local_extra: u16,
    pub(crate) header: Option<u32>,
    pub(crate) central_extra: Vec<u8>,
}

pub(crate) fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        data: data.into(),
        method: 0,
        flags: 0,
        crc: 0,
        size: data.len() as u32,
        compressed: data.len() as u32,
        local_name: name.into(),
        local_extra: 0,
        header: None,
        central_extra: Vec::new(),
    }
}

impl Entry {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        change(&mut self);
        self
    }
}

/// What the record at the end says; the defaults are true.
pub(crate) struct End {
    pub(crate) count: u16,
    pub(crate) size: u32,
    pub(crate) start: u32,
    /// Bytes between the directory and the end record.
    pub(crate) before: Vec<u8>,
}

pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_with(entries, |_| {})
}

pub(crate) fn zip_with(entries: &[Entry], change: impl FnOnce(&mut End)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for entry in entries {
        let header = entry.header.unwrap_or(out.len() as u32);
        out.extend(b"PK\x03\x04\0\0");
        out.extend(entry.flags.to_le_bytes());
        out.extend(entry.method.to_le_bytes());
        out.extend([0; 4]);
        for number in [entry.crc, entry.compressed, entry.size] {
            out.extend(number.to_le_bytes());
        }
        out.extend((entry.local_name.len() as u16).to_le_bytes());
        out.extend(entry.local_extra.to_le_bytes());
        out.extend(entry.local_name.as_bytes());
        out.extend(&entry.data);
        central.extend(b"PK\x01\x02\0\0\0\0");
        central.extend(entry.flags.to_le_bytes());
        central.extend(entry.method.to_le_bytes());
        central.extend([0; 4]);
        for number in [entry.crc, entry.compressed, entry.size] {
            central.extend(number.to_le_bytes());
        }
        central.extend((entry.name.len() as u16).to_le_bytes());
        central.extend((entry.central_extra.len() as u16).to_le_bytes());
        central.extend([0; 10]);
        central.extend(header.to_le_bytes());
        central.extend(entry.name.as_bytes());
        central.extend(&entry.central_extra);
    }
    let mut end =
        End { count: entries.len() as u16, size: central.len() as u32, start: out.len() as u32, before: Vec::new() };
    change(&mut end);
    out.extend(central);
    out.extend(&end.before);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(end.count.to_le_bytes());
    out.extend(end.count.to_le_bytes());
    out.extend(end.size.to_le_bytes());
    out.extend(end.start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// An archive that the zip crate compressed.
pub(crate) fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, data) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A checkpoint of this pickle (without its PROTO and STOP) with one storage, `0`, of 16 bytes.
pub(crate) fn checkpoint(body: &[u8]) -> Vec<u8> {
    zip(&entries(&[b"\x80\x02", body, b"."].concat()))
}

pub(crate) fn entries(pickle: &[u8]) -> Vec<Entry> {
    vec![
        entry("a/data.pkl", pickle),
        entry("a/byteorder", b"little"),
        entry("a/data/0", &[7; 16]),
        entry("a/version", b"3\n"),
    ]
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn int(int: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &int.to_le_bytes()].concat()
}

fn ints(ints: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), ints.iter().flat_map(|&i| int(i)).collect(), b"t".to_vec()].concat()
}

/// A reference to a storage of this class.
pub(crate) fn storage(key: &str, class: &str, numel: i64) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n").into_bytes();
    [b"(".to_vec(), text("storage"), class, text(key), text("cpu"), int(numel), b"tQ".to_vec()].concat()
}

/// A float32 tensor on storage `0`.
pub(crate) fn tensor(offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    tensor_of(&storage("0", "FloatStorage", 4), offset, shape, stride)
}

pub(crate) fn tensor_of(storage: &[u8], offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(),
        storage,
        &int(offset),
        &ints(shape),
        &ints(stride),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}
