//! Files that are damaged, hostile or something else: each gives one clear error. None panics, hangs or makes the reader
//! take memory that the file does not have bytes for.

mod bombs;
mod build;
mod containers;
mod files;
mod memory;
mod properties;
mod safetensors;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use build::{checkpoint, deflated, entries, entry, int, storage, tensor, tensor_of, text, zip, zip_with};
use sconce::checkpoint::Value;
use sconce::{Checkpoint, ErrorKind, Result};

/// A file of these bytes, removed when it is dropped.
struct File(PathBuf);

impl File {
    fn new(bytes: &[u8]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sconce-{}-{}.pt", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(bytes: &[u8]) -> Result<Checkpoint> {
    sconce::load(&File::new(bytes).0)
}

/// Checks the error's first line after the file's name, which starts with the kind of trouble, and that the file is
/// committed under this name.
#[track_caller]
fn refused(name: &str, bytes: &[u8], expected: &str) {
    files::committed(&files::file_name(name), bytes);
    let file = File::new(bytes);
    let error = match sconce::load(&file.0) {
        Ok(checkpoint) => panic!("{name}: loaded as {checkpoint:?}"),
        Err(error) => error,
    };
    let text = error.to_string();
    let prefix = format!("`{}`: ", file.0.display());
    let line = text.lines().next().unwrap().strip_prefix(&prefix).unwrap_or_else(|| panic!("{name}: {text}"));
    assert_eq!(line, expected, "{name}");
    let kind = if expected.starts_with("invalid") { ErrorKind::Invalid } else { ErrorKind::Unsupported };
    assert_eq!(error.kind(), kind, "{name}");
    assert!(text.lines().count() <= 2, "{name}: {text}");
}

/// Checks that a file with one tensor opens, and what reading the tensor says.
#[track_caller]
fn refused_when_read(name: &str, bytes: &[u8], expected: &str) {
    files::committed(&files::file_name(name), bytes);
    let error = load(bytes).unwrap().root().as_tensor().unwrap().contiguous_bytes().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, expected), "{name}");
}

#[test]
fn files_that_are_something_else() {
    let html = b"\n <!DOCTYPE html><html><body>404</body></html>";
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "invalid checkpoint: the file is empty"),
        ("html page", html, "invalid checkpoint: an HTML or XML page, not a checkpoint"),
        ("git lfs pointer", lfs, "invalid checkpoint: a git-LFS pointer, not the file itself"),
        ("gguf", b"GGUF\x03\0\0\0", "invalid checkpoint: a GGUF file, not one of PyTorch"),
        ("hdf5", b"\x89HDF\r\n\x1a\n\0\0", "invalid checkpoint: an HDF5 file (Keras, perhaps), not one of PyTorch"),
        ("npy", b"\x93NUMPY\x01\0", "invalid checkpoint: a NumPy `.npy` array, not a checkpoint"),
        ("gzip", b"\x1f\x8b\x08\0", "invalid checkpoint: gzip-compressed"),
        ("xz", b"\xfd7zXZ\0\0", "invalid checkpoint: xz-compressed"),
        ("bzip2", b"BZh91AY", "invalid checkpoint: bzip2-compressed"),
        ("mobile flatbuffer", b"\x18\0\0\0PTMF\0\0", "invalid checkpoint: a model for PyTorch Mobile (a flatbuffer)"),
        ("json", b"{\"architectures\": []}", "invalid checkpoint: JSON text, not a checkpoint"),
        (
            "zeros",
            &[0; 100],
            "invalid checkpoint: it starts with zeros, as a file does whose download was not finished",
        ),
        (
            "random bytes",
            b"\x01\x02\x03\xff random",
            "invalid checkpoint: it is not a file that PyTorch writes; it starts with the bytes 01 02 03 ff 20 72 61 6e",
        ),
    ];
    for (name, bytes, expected) in cases {
        refused(&format!("file {name}"), bytes, expected);
    }
    let directory = sconce::load(std::env::temp_dir()).unwrap_err();
    assert!(directory.to_string().contains(": invalid checkpoint: a directory, not a file"), "{directory}");
    let missing = sconce::load("no-such-file.pt").unwrap_err();
    assert_eq!(
        (missing.kind(), missing.to_string().as_str()),
        (ErrorKind::Io, "`no-such-file.pt`: no such file or directory")
    );
}

#[test]
fn archives_that_are_something_else() {
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "old TorchScript",
            &["a/model.json"],
            "unsupported checkpoint: a TorchScript archive of torch 1.2 or older (`model.json`)",
        ),
        ("export", &["a/archive_format"], "unsupported checkpoint: an archive of the format `x`; `pt2` is read"),
        (
            "old export",
            &["serialized_exported_program.json"],
            "unsupported checkpoint: a program without `serialized_state_dict.pt`",
        ),
        ("npz", &["x.npy", "y.npy"], "invalid checkpoint: a NumPy `.npz` archive, not a checkpoint"),
        ("wheel", &["a/b.py"], "invalid checkpoint: a zip archive, but not one that PyTorch wrote"),
        ("zipped checkpoint", &["a/model.pth"], "invalid checkpoint: a zip archive, but not one that PyTorch wrote"),
        ("no pickle", &["a/version", "a/data/0"], "invalid checkpoint: a zip archive without the entry `a/data.pkl`"),
        (
            "no directory",
            &["data.pkl"],
            "invalid checkpoint: a zip archive without the entry `data.pkl` in a directory",
        ),
    ];
    for (name, entries, expected) in cases {
        let entries: Vec<_> = entries.iter().map(|name| entry(name, b"x")).collect();
        refused(&format!("archive {name}"), &zip(&entries), expected);
    }
    refused(
        "archive no entries",
        b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "invalid checkpoint: an empty zip archive",
    );
}

#[test]
fn damaged_archives() {
    let good = checkpoint(b"N");
    assert!(load(&good).unwrap().root().is_none());
    let cut = &good[..good.len() - 30];
    refused(
        "zip truncated",
        cut,
        &format!(
            "invalid checkpoint: the zip archive is cut short: its end, the directory of its entries, is not in the {} \
             bytes of the file",
            cut.len()
        ),
    );
    let all = || entries(b"N.");
    let changed = |at: usize, change: &dyn Fn(&mut build::Entry)| {
        let mut all = all();
        change(&mut all[at]);
        zip(&all)
    };
    let end = good.len() - 22;
    let bad_end = format!("invalid checkpoint: the zip archive's end record, at byte {end}, is damaged");
    refused("zip directory past the end", &zip_with(&entries(b"\x80\x02N."), |end| end.start = 0x7fff_ffff), &bad_end);
    refused("zip directory longer than the file", &zip_with(&entries(b"\x80\x02N."), |end| end.size += 1), &bad_end);
    refused(
        "zip one entry too few",
        &zip_with(&all(), |end| end.count = 3),
        "invalid checkpoint: the zip directory has 4 entries, its end record says 3",
    );
    let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
    locator.extend(u64::MAX.to_le_bytes());
    locator.extend([0; 4]);
    refused(
        "zip zip64 record past the end",
        &zip_with(&entries(b"\x80\x02N."), |end| end.before.clone_from(&locator)),
        &format!("invalid checkpoint: the zip archive's end record, at byte {}, is damaged", end + 20),
    );
    let twice = [all(), vec![entry("a/data.pkl", b"I1\n.")]].concat();
    refused("zip two pickles", &zip(&twice), "invalid checkpoint: the zip archive has two entries called `a/data.pkl`");
    let name = "invalid checkpoint: the zip directory, at byte 184, is damaged: `a/data.pkl`";
    refused(
        "zip header past the directory",
        &changed(0, &|e| e.header = Some(4000)),
        &format!("{name} starts at byte 4000, past the entries' end at byte 184"),
    );
    refused(
        "zip data past the directory",
        &changed(0, &|e| (e.size, e.compressed) = (1 << 31, 1 << 31)),
        &format!("{name} has 2147483648 bytes, 184 are left"),
    );
    refused(
        "zip stored, but of two sizes",
        &changed(0, &|e| e.size = 1 << 31),
        &format!("{name} is stored, but has 2147483648 bytes and takes 2"),
    );
    refused(
        "zip more than deflate can",
        &changed(0, &|e| (e.method, e.size) = (8, 1 << 31)),
        &format!("{name} unpacks from 2 bytes to 2147483648, more than deflate can"),
    );
    refused(
        "zip zip64 size that overflows",
        &changed(0, &|e| {
            (e.size, e.compressed) = (u32::MAX, u32::MAX);
            e.central_extra = [&[1, 0, 16, 0], [0xff; 16].as_slice()].concat();
        }),
        &format!("{name} has 18446744073709551615 bytes, 184 are left"),
    );
    refused(
        "zip zip64 field that is cut short",
        &changed(0, &|e| {
            e.size = u32::MAX;
            e.central_extra = vec![1, 0, 4, 0, 1, 2, 3, 4];
        }),
        "invalid checkpoint: the zip directory is damaged at byte 184",
    );
    let mut overlapping = all();
    overlapping.extend((0..50).map(|i| {
        entry(&format!("a/copy{i}"), b"").with(|e| {
            (e.header, e.size, e.compressed) = (Some(44), 2000, 2000);
        })
    }));
    refused(
        "zip entries on top of each other",
        &zip(&overlapping),
        "invalid checkpoint: the zip archive's entries are larger than the archive: they overlap",
    );
}

#[test]
fn local_headers_that_lie() {
    let changed = |at: usize, change: &dyn Fn(&mut build::Entry)| {
        let mut all = entries(&[b"\x80\x02".as_slice(), &tensor(0, &[4], &[1]), b"."].concat());
        change(&mut all[at]);
        zip(&all)
    };
    assert!(load(&changed(0, &|_| {})).is_ok());
    let at = |bytes: &[u8], name: &str| {
        let start = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() - 30;
        format!("`{name}`: its local zip header, at byte {start},")
    };
    let bytes = changed(2, &|e| e.local_name = "a/data/1".into());
    let start = at(&bytes, "a/data/1").replace("a/data/1", "a/data/0");
    refused_when_read("header another name", &bytes, &format!("{start} contradicts the zip directory"));
    let bytes = changed(2, &|e| e.local_extra = 0xffff);
    let expected = format!("{} reaches into the directory", at(&bytes, "a/data/0"));
    refused_when_read("header extra past the end", &bytes, &expected);
    let bytes = changed(3, &|e| e.local_extra = 1);
    let expected = format!("invalid checkpoint: {} is followed by fewer than 2 bytes of data", at(&bytes, "a/version"));
    refused("header data moved into the directory", &bytes, &expected);
    let bytes = changed(2, &|e| e.header = Some(1));
    let expected = "`a/data/0`: its local zip header, at byte 1, does not start with `PK\\3\\4`";
    refused_when_read("header header elsewhere", &bytes, expected);
    refused("header encrypted", &changed(0, &|e| e.flags = 1), "unsupported checkpoint: `a/data.pkl` is encrypted");
    refused(
        "header compressed otherwise",
        &changed(2, &|e| e.method = 93),
        "unsupported checkpoint: `a/data/0` is compressed with method 93",
    );
    refused(
        "header a later version",
        &changed(3, &|e| e.data = b"11".into()),
        "unsupported checkpoint: archive version 11; 1 to 10 are read",
    );
    refused(
        "header no version",
        &changed(3, &|e| e.data = b"??".into()),
        "invalid checkpoint: `a/version` is not a number: `??`",
    );
    refused(
        "header middle-endian",
        &changed(1, &|e| e.data = b"middle".into()),
        "invalid checkpoint: `a/byteorder` is neither `little` nor `big`: `middle`",
    );
    let bytes = changed(0, &|e| e.crc = 12345);
    refused(
        "header another checksum",
        &bytes,
        "invalid checkpoint: `a/data.pkl`, at byte 0, is damaged: its checksum is wrong",
    );
}

#[test]
fn storages_that_do_not_fit() {
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "missing record",
            storage("1", "FloatStorage", 4),
            "invalid checkpoint: the entry `a/data/1`, of 16 bytes, is missing",
        ),
        (
            "record too short",
            storage("0", "DoubleStorage", 4),
            "invalid checkpoint: `a/data/0` should have 32 bytes, by the pickle, and has 16",
        ),
        (
            "record elsewhere",
            storage("../../etc/passwd", "ByteStorage", 1),
            "invalid checkpoint: the entry `a/data/../../etc/passwd`, of 1 bytes, is missing",
        ),
        (
            "negative size",
            storage("0", "FloatStorage", -4),
            "invalid checkpoint: `a/data.pkl`: byte 60: storage `0` has -4 elements of 4 bytes",
        ),
        (
            "size that overflows",
            storage("0", "DoubleStorage", i64::MAX),
            "invalid checkpoint: `a/data.pkl`: byte 61: storage `0` has 9223372036854775807 elements of 8 bytes",
        ),
        (
            "no storage class",
            storage("0", "FancyStorage", 4),
            "unsupported checkpoint: `a/data.pkl`: byte 60: storage `0` is of class `torch.FancyStorage`, which this crate \
             does not know",
        ),
        (
            "two dtypes on one storage",
            [storage("0", "FloatStorage", 4), storage("0", "IntStorage", 4)].concat(),
            "invalid checkpoint: `a/data.pkl`: byte 117: storage `0` has 16 bytes of float32 in one place, 16 of int32 in another",
        ),
        (
            "not a tuple",
            b"NQ".to_vec(),
            "invalid checkpoint: `a/data.pkl`: byte 3: a persistent id is not `('storage', class, key, location, number of \
             elements)`",
        ),
    ];
    for (name, body, expected) in cases {
        refused(&format!("storage {name}"), &checkpoint(body), expected);
    }
    let empty = tensor_of(&storage("9", "FloatStorage", 0), 5, &[0, 3], &[3, 1]);
    assert_eq!(load(&checkpoint(&empty)).unwrap().root().as_tensor().unwrap().shape()[..], [0, 3]);
}

#[test]
fn tensors_that_do_not_fit() {
    let past = "invalid checkpoint: `a/data.pkl`: a float32 tensor of shape";
    let max = i64::MAX;
    let cases: &[(&str, Vec<u8>, String)] = &[
        (
            "too many",
            tensor(0, &[5], &[1]),
            format!("{past} [5], stride [1] and offset 0 needs 20 bytes, its storage has 16"),
        ),
        (
            "too far",
            tensor(4, &[1], &[1]),
            format!("{past} [1], stride [1] and offset 4 needs 20 bytes, its storage has 16"),
        ),
        (
            "strided past the end",
            tensor(0, &[2, 2], &[4, 1]),
            format!("{past} [2, 2], stride [4, 1] and offset 0 needs 24 bytes, its storage has 16"),
        ),
        (
            "stride that overflows",
            tensor(0, &[3], &[max]),
            format!("{past} [3], stride [{max}] and offset 0 overflows"),
        ),
        (
            "offset that overflows",
            tensor(max, &[1], &[1]),
            format!("{past} [1], stride [1] and offset {max} overflows"),
        ),
        (
            "expanded past all memory",
            tensor(0, &[max, max], &[0, 0]),
            format!("{past} [{max}, {max}], stride [0, 0] and offset 0 overflows"),
        ),
        (
            "negative offset",
            tensor(-1, &[1], &[1]),
            "invalid checkpoint: `a/data.pkl`: byte 158: `_rebuild_tensor_v2` expects an offset that is not negative"
                .into(),
        ),
        (
            "negative size",
            tensor(0, &[-1], &[1]),
            "invalid checkpoint: `a/data.pkl`: a tensor's sizes are not natural numbers".into(),
        ),
        (
            "negative stride",
            tensor(0, &[1], &[-1]),
            "invalid checkpoint: `a/data.pkl`: a tensor's strides are not natural numbers".into(),
        ),
        (
            "fewer strides than sizes",
            tensor(0, &[2, 2], &[1]),
            "invalid checkpoint: `a/data.pkl`: a tensor of shape [2, 2] has 1 strides".into(),
        ),
        (
            "no storage",
            tensor_of(b"N", 0, &[1], &[1]),
            "invalid checkpoint: `a/data.pkl`: byte 100: `_rebuild_tensor_v2` expects a storage, none was given".into(),
        ),
        (
            "few arguments",
            b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec(),
            "invalid checkpoint: `a/data.pkl`: byte 36: `_rebuild_tensor_v2` expects 6 arguments, 0 were given".into(),
        ),
    ];
    for (name, body, expected) in cases {
        refused(&format!("tensor {name}"), &checkpoint(body), expected);
    }
    let nested =
        [b"}".to_vec(), text("model"), b"}".to_vec(), text("fc.weight"), tensor(0, &[5], &[1]), b"ss".to_vec()];
    refused(
        "tensor a tensor with a name",
        &checkpoint(&nested.concat()),
        "invalid checkpoint: `a/data.pkl`: `model.fc.weight`: a float32 tensor of shape [5], stride [1] and offset 0 needs 20 \
         bytes, its storage has 16",
    );
}

#[test]
fn pickles_that_do_not_work() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty stack", b"", "byte 2: the pickle's stack is empty"),
        ("pop past a mark", b"N(\x85", "byte 4: the pickle's stack is empty"),
        ("no mark", b"Nt", "byte 3: the pickle's stack has no mark"),
        ("nothing remembered", b"h\x05", "byte 2: nothing is remembered as 5"),
        ("far memo", b"j\xff\xff\xff\xff", "byte 2: nothing is remembered as 4294967295"),
        ("no instruction", b"\xff", "byte 2: 0xff is not a pickle instruction"),
        (
            "long string",
            b"X\xff\xff\xff\xffabc",
            "byte 2: the pickle is cut short: 4294967295 more bytes expected, 4 left",
        ),
        (
            "very long string",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            "byte 2: the pickle is cut short: 18446744073709551615 more bytes expected, 1 left",
        ),
        (
            "long integer",
            b"\x8b\xff\xff\xff\x7f",
            "byte 2: the pickle is cut short: 2147483647 more bytes expected, 1 left",
        ),
        (
            "long bytes",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
            "byte 2: the pickle is cut short: 9223372036854775807 more bytes expected, 1 left",
        ),
        ("long frame", b"\x95\xff\xff\0\0\0\0\0\0", "byte 2: the pickle is cut short: a frame of 65535 bytes, 1 left"),
        ("class without end", b"cos", "byte 2: the pickle ends inside a line of text"),
        ("no UTF-8", b"X\x01\0\0\0\xff", "byte 2: a string is not UTF-8"),
        ("class named by numbers", b"NN\x93", "byte 4: a class is named by something else than two strings"),
        (
            "arguments that are no tuple",
            b"cos\nsystem\nNR",
            "byte 14: an object is made with none for its arguments, not a tuple",
        ),
        ("append to nothing", b"NNa", "byte 4: items are appended to none"),
        ("entries of a list", b"]NNs", "byte 5: entries are set in a list"),
        ("key without value", b"}(Nu", "byte 5: a dict has a key without a value"),
        ("items of a frozenset", b"(\x91(N\x90", "byte 6: items are added to a set"),
        ("state of a tuple", b")}b", "byte 4: a state is set on a tuple"),
        ("object without class", b"(o", "byte 3: an object is made without a class"),
        ("integer of letters", b"Iabc\n", "byte 2: a decimal integer was expected"),
        ("persistent id as text", b"Pabc\n", "byte 2: the persistent id `abc` is not a storage's"),
    ];
    for (name, body, expected) in cases {
        refused(&format!("pickle {name}"), &checkpoint(body), &format!("invalid checkpoint: `a/data.pkl`: {expected}"));
    }
    let unsupported: &[(&str, &[u8], &str)] = &[
        ("protocol", b"\x80\x09", "byte 2: pickle protocol 9; 0 to 5 are read"),
        ("extension", b"\x82\x01", "byte 2: the pickle uses Python's extension registry, which the file does not hold"),
        ("buffer", b"\x97", "byte 2: the pickle keeps data in buffers outside of the file"),
        ("state twice", b"ca\nB\n)R}b}b", "byte 12: a state is set on the same object twice"),
    ];
    for (name, body, expected) in unsupported {
        refused(
            &format!("pickle {name}"),
            &checkpoint(body),
            &format!("unsupported checkpoint: `a/data.pkl`: {expected}"),
        );
    }
    let cut = zip(&entries(b"\x80\x02}"));
    refused(
        "pickle no end",
        &cut,
        "invalid checkpoint: `a/data.pkl`: byte 3: the pickle is cut short: 1 more bytes expected, 0 left",
    );
}

#[test]
fn nothing_is_executed() {
    let marker = std::env::temp_dir().join(format!("sconce-was-here-{}", std::process::id()));
    let command = format!("touch {}", marker.display());
    let body = [b"}".to_vec(), text("x"), b"cposix\nsystem\n(".to_vec(), text(&command), b"tRs".to_vec()].concat();
    let checkpoint = load(&checkpoint(&body)).unwrap();
    let object = checkpoint["x"].as_object().unwrap();
    assert_eq!((object.class(), object.args()[0].as_str().unwrap()), ("posix.system", command.as_str()));
    assert!(!marker.exists());
}

#[test]
fn values_without_end() {
    // A list in itself, an object in its own state.
    let list = load(&checkpoint(b"]q\x00h\x00a")).unwrap();
    assert_eq!(list.root().to_string(), "[...]");
    let object = load(&checkpoint(b"ca\nB\n)Rq\x00}X\x02\0\0\0meh\x00sb")).unwrap();
    assert!(matches!(object["me"], Value::Cycle(_)));
    // A tuple of itself twice, 900 times over: 2^900 values to print, 900 to read.
    let doubling = [b"N".to_vec(), b"2\x86".repeat(900)].concat();
    let doubling = load(&checkpoint(&doubling)).unwrap();
    assert!(doubling.root().to_string().len() < 1 << 20);
    for (name, one) in [("lists", b"]a".as_slice()), ("tuples", b"\x85"), ("objects", b"b")] {
        let depth = 1_000_000;
        let body = match name {
            "lists" => [b"]".repeat(depth), b"a".repeat(depth - 1)].concat(),
            "tuples" => [b"N".to_vec(), one.repeat(depth)].concat(),
            _ => [b"ca\nB\n)R".repeat(20_000), b"b".repeat(19_999)].concat(),
        };
        let error = load(&checkpoint(&body)).unwrap_err();
        assert!(error.to_string().contains(": unsupported checkpoint: `a/data.pkl`: "), "{name}: {error}");
        assert!(error.to_string().ends_with("values are nested more than 1000 deep"), "{name}: {error}");
    }
    let deep = [b"]".repeat(1000), b"a".repeat(999)].concat();
    let value = load(&checkpoint(&deep)).unwrap();
    assert!(value.root().to_string().contains("[...]"));
}

#[test]
fn compressed_bombs() {
    let zeros = vec![b']'; 64 << 20];
    let bomb = deflated(&[("a/data.pkl", &zeros)]);
    let error = load(&bomb).unwrap_err().to_string();
    assert!(error.contains(": unsupported checkpoint: `a/data.pkl` would unpack from 6"), "{error}");
    // A storage is unpacked when it is read, and to the size that the pickle says.
    let pickle = [b"\x80\x02".to_vec(), tensor(0, &[4], &[1]), b".".to_vec()].concat();
    let good = deflated(&[("a/data.pkl", &pickle), ("a/data/0", &[9; 16])]);
    let tensor = load(&good).unwrap().root().as_tensor().unwrap().clone();
    assert_eq!(*tensor.contiguous_bytes().unwrap(), [9; 16]);
    let long = deflated(&[("a/data.pkl", &pickle), ("a/data/0", &[9; 17])]);
    assert!(
        load(&long).unwrap_err().to_string().contains("`a/data/0` should have 16 bytes, by the pickle, and has 17")
    );
}

#[test]
fn damaged_compressed_storages_are_errors_when_they_are_read() {
    let pickle = [b"\x80\x02".to_vec(), tensor(0, &[4], &[1]), b".".to_vec()].concat();
    let mut bytes = deflated(&[("a/data.pkl", &pickle), ("a/data/0", b"0123456789abcdef")]);
    let at = bytes.windows(8).position(|window| window == b"a/data/0").unwrap() + 8;
    bytes[at + 4] ^= 0x10;
    let checkpoint = load(&bytes).unwrap();
    for _ in 0..2 {
        let error = checkpoint.root().as_tensor().unwrap().contiguous_bytes().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("`a/data/0`, at byte "), "{error}");
        assert!(error.to_string().contains(" is damaged: "), "{error}");
    }
}

#[test]
fn numbers_of_any_size() {
    let body =
        [b"(".to_vec(), int(-5), b"\x8a\x09\0\0\0\0\0\0\0\0\x01L99999999999999999999L\nI01\nt".to_vec()].concat();
    let values = load(&checkpoint(&body)).unwrap();
    assert_eq!(values.root().to_string(), "(-5, 18446744073709551616, 99999999999999999999, True)");
    let digits = [b"L".to_vec(), b"9".repeat(1 << 20), b"L\n".to_vec()].concat();
    refused(
        "numbers a million digits",
        &checkpoint(&digits),
        "invalid checkpoint: `a/data.pkl`: byte 2: a decimal integer was expected",
    );
    let bytes = [b"\x8b".to_vec(), (1u32 << 20).to_le_bytes().to_vec(), vec![0x7f; 1 << 20]].concat();
    assert!(load(&checkpoint(&bytes)).unwrap().root().to_string().starts_with("0x7f7f"));
}
