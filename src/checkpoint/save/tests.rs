use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;
use crate::checkpoint::value::{BigInt, Dict, DictKind, Enclosing};
use crate::checkpoint::{Container, Storage};
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::shape::Shape;
use std::sync::Arc;

fn quiet(done: &mut dyn FnMut(u64, u64)) -> Progress<'_> {
    Progress { done: 0, total: 0, tell: done }
}

fn to_bytes(value: &Value) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    write_torch(&pickle::pickle(value)?, &mut out, &mut quiet(&mut |_, _| {}))?;
    Ok(out.into_inner())
}

fn read(bytes: Vec<u8>) -> Value {
    Checkpoint::from_bytes("saved", bytes).unwrap().root().clone()
}

fn refusal(value: &Value) -> String {
    let error = to_bytes(value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    error.to_string()
}

/// Saving what was read of a saved value gives the same bytes: nothing was lost that saving sees.
fn check_stable(value: &Value) -> Value {
    let bytes = to_bytes(value).unwrap();
    let back = read(bytes.clone());
    assert_eq!(back.to_string(), value.to_string());
    assert!(to_bytes(&back).unwrap() == bytes, "{value} changed");
    back
}

fn tensor(storage: &Arc<Storage>, dtype: DType, len: usize) -> Value {
    StoredTensor::new(Arc::clone(storage), dtype, [len], vec![1], 0).unwrap().into()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300i64..70_000).prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 9..300).prop_map(|bytes| {
            let big = BigInt::from_bytes(&bytes);
            big.to_i64().map_or_else(|| Value::BigInt(Arc::new(big)), Value::Int)
        }),
        any::<f64>().prop_map(Value::Float),
        (any::<f64>(), any::<f64>()).prop_map(|(re, im)| Value::Complex(re, im)),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::ByteArray(bytes.into())),
        prop::sample::select(DType::ALL).prop_map(Value::DType),
        prop::sample::select(vec!["cpu", "cuda:0", "cuda:17", "mps", "odd:one", "a:01"])
            .prop_map(|name| Value::Device(name.into())),
        prop::collection::vec(0usize..9, 0..6).prop_map(|sizes| Value::Size(Arc::new(Shape::from(&sizes[..])))),
        prop::sample::select(vec!["a.B", "torch.nn.modules.linear.Linear", "m:A.B.C"])
            .prop_map(|name| Value::Global(name.into())),
        tensors().prop_map(Value::from),
        (0usize..5).prop_map(|len| Value::Storage(Storage::owned(vec![7; len * 4], "cuda:1"), Some(DType::F32))),
        (0usize..5).prop_map(|len| Value::Storage(Storage::owned(vec![7; len], "cpu"), None)),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..6);
        let keys = prop_oneof![any::<i64>().prop_map(Value::Int), ".{0,5}".prop_map(Value::from), Just(Value::None)];
        let kinds =
            prop::sample::select(vec![DictKind::Dict, DictKind::OrderedDict, DictKind::DefaultDict, DictKind::Counter]);
        prop_oneof![
            items.clone().prop_map(|items| Value::List(Arc::new(items))),
            items.clone().prop_map(|items| Value::Tuple(items.into())),
            // One list in two places.
            items.prop_map(|items| {
                let list = Value::List(Arc::new(items));
                Value::Tuple([list.clone(), list].into())
            }),
            prop::collection::vec(any::<i64>().prop_map(Value::Int), 0..6)
                .prop_map(|items| Value::Set(Arc::new(items))),
            prop::collection::vec(".{3}".prop_map(Value::from), 0..6)
                .prop_map(|items| Value::FrozenSet(Arc::new(items))),
            (kinds, prop::collection::vec((keys, inner.clone()), 0..6), prop::option::of(inner)).prop_map(
                |(kind, entries, extra)| {
                    let mut dict = Dict::new(kind, entries);
                    match kind {
                        DictKind::OrderedDict | DictKind::Counter => {
                            dict.attributes = extra.map(|extra| Dict::from_iter([("_metadata", extra)]).into());
                        }
                        DictKind::DefaultDict => dict.factory = extra.map(|_| Value::Global("builtins.list".into())),
                        DictKind::Dict => {}
                    }
                    dict.into()
                }
            ),
        ]
    })
}

fn tensors() -> impl Strategy<Value = StoredTensor> {
    let shapes = prop::collection::vec((0usize..4, 0usize..5), 0..4);
    (prop::sample::select(DType::ALL), shapes, 0usize..4, any::<[bool; 3]>()).prop_map(|(dtype, dims, offset, bits)| {
        let (shape, stride): (Vec<usize>, Vec<usize>) = dims.into_iter().unzip();
        let needed = offset + 1 + shape.iter().zip(&stride).map(|(size, stride)| size * stride).sum::<usize>();
        // The packed dtypes are bounded by the elements, not by the last one.
        let needed = needed + shape.iter().product::<usize>();
        let bytes: Vec<u8> = (0..needed * dtype.size()).map(|i| i as u8).collect();
        let view = StoredTensor::new(Storage::owned(bytes, "cpu"), dtype, shape, stride, offset).unwrap();
        let view = view.with_requires_grad(bits[0]).with_parameter(bits[1]);
        let signed = matches!(dtype, DType::Complex64 | DType::Complex128);
        view.with_bits(signed && bits[2], signed && bits[0])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_comes_back(value in values()) {
        check_stable(&value);
    }

    #[test]
    fn any_dict_of_tensors_comes_back_from_safetensors(tensors in prop::collection::vec(tensors(), 0..5)) {
        let fits = |tensor: &StoredTensor| crate::checkpoint::safetensors::DTYPES.iter().any(|(_, dtype)| *dtype == tensor.dtype());
        let f4_scalar = |tensor: &StoredTensor| tensor.dtype() == DType::F4E2M1FNX2 && tensor.shape().is_empty();
        let entries = tensors.into_iter().filter(|tensor| fits(tensor) && !f4_scalar(tensor)).enumerate();
        let dict: Dict = entries.map(|(i, tensor)| (format!("tensor \"{i}\" \u{e9}"), tensor)).collect();
        let value = Value::from(dict);
        let mut out = Cursor::new(Vec::new());
        safetensors::Plan::new(&value).unwrap().write(&mut out, &mut quiet(&mut |_, _| {})).unwrap();
        let back = Checkpoint::from_bytes("saved", out.into_inner()).unwrap();
        prop_assert_eq!(back.container(), Container::Safetensors);
        let (old, new) = (value.as_dict().unwrap(), back.root().as_dict().unwrap());
        prop_assert_eq!(old.len(), new.len());
        for ((old_name, old), (new_name, new)) in old.iter().zip(new) {
            let (old, new) = (old.as_tensor().unwrap(), new.as_tensor().unwrap());
            prop_assert_eq!((old_name.as_str().unwrap(), old.dtype(), old.shape()), (new_name.as_str().unwrap(), new.dtype(), new.shape()));
            prop_assert_eq!(old.contiguous_bytes().unwrap(), new.contiguous_bytes().unwrap());
        }
    }
}

#[test]
fn what_was_shared_stays_shared() {
    let storage = Storage::owned(vec![1; 32], "cpu");
    let list = Value::from(vec![1i64]);
    let one = tensor(&storage, DType::F32, 8);
    let value = Value::from(vec![one.clone(), one, tensor(&storage, DType::F32, 3), list.clone(), list]);
    let back = check_stable(&value);
    let of = |i: usize| match &back[i] {
        Value::Tensor(tensor) => Arc::clone(tensor),
        other => panic!("{other}"),
    };
    assert!(Arc::ptr_eq(&of(0), &of(1)) && Arc::ptr_eq(of(0).storage(), of(2).storage()));
    assert!(matches!((&back[3], &back[4]), (Value::List(a), Value::List(b)) if Arc::ptr_eq(a, b)));
}

#[test]
fn a_storage_of_several_dtypes_is_written_as_bytes() {
    let storage = Storage::owned((0..32).collect::<Vec<u8>>(), "cpu");
    let odd = Storage::owned(vec![0; 10], "cpu");
    let mut views = vec![tensor(&storage, DType::F32, 8), tensor(&storage, DType::I64, 4), tensor(&odd, DType::F32, 2)];
    let back = check_stable(&Value::from(views.clone()));
    let of = |i: usize| back[i].as_tensor().unwrap();
    assert_eq!((of(0).dtype(), of(1).dtype(), of(2).storage().len()), (DType::F32, DType::I64, 10));
    assert!(Arc::ptr_eq(of(0).storage(), of(1).storage()));
    views.push(Value::Storage(storage, Some(DType::F32)));
    assert_eq!(
        refusal(&Value::from(views)),
        "`[3]`: a storage is used both as bytes and as float32, which PyTorch cannot load"
    );
}

#[test]
fn what_python_cannot_have_is_refused_by_its_path() {
    let at = |value: Value| {
        Value::from(Dict::from_iter([("optimizer", Dict::from_iter([("state", vec![Value::None, value])]))]))
    };
    assert!(
        refusal(&at(Value::Cycle(Enclosing::default())))
            .starts_with("`optimizer.state[1]`: a reference to a container that is not around it any more")
    );
    let keyed = Dict::from_iter([(Value::from(vec![1i64]), Value::None)]);
    let error = refusal(&at(keyed.into()));
    assert_eq!(
        error,
        "`optimizer.state[1][a list of 1 item]`: a list of 1 item cannot be a key or the item of a set in Python"
    );
    let mut attributed = Dict::from_iter([("a", 1i64)]);
    attributed.attributes = Some(Value::None);
    assert!(refusal(&at(attributed.into())).starts_with("`optimizer.state[1]`: a dict with attributes"));
    assert!(
        refusal(&at(Value::Global("main".into()))).starts_with("`optimizer.state[1]`: the class `main` has no module")
    );
}

#[test]
fn deep_values_do_not_exhaust_the_stack() {
    let mut value = Value::None;
    for _ in 0..900 {
        value = Value::Tuple([Value::from(vec![value])].into());
        value = value[0].clone();
    }
    check_stable(&value);
}

#[test]
fn tells_how_far_it_is() {
    let value = Value::from(vec![tensor(&Storage::owned(vec![0; 20 << 20], "cpu"), DType::U8, 3)]);
    let mut told = Vec::new();
    let mut tell = |done, total| told.push((done, total));
    write_torch(&pickle::pickle(&value).unwrap(), &mut Cursor::new(Vec::new()), &mut quiet(&mut tell)).unwrap();
    assert_eq!(told, [8 << 20, 16 << 20, 20 << 20].map(|done| (done, 20 << 20)));
}

#[test]
fn strided_tensors_are_written_in_pieces() {
    let (rows, columns) = (3000, 2000);
    let bytes: Vec<u8> = (0..rows * columns).flat_map(|i| (i as u32).to_le_bytes()).collect();
    let storage = Storage::owned(bytes, "cpu");
    for (shape, stride) in [
        (vec![columns, rows], vec![1, columns]),
        (vec![1, 1, 2, rows / 2, 1, columns], vec![9, 9, rows / 2 * columns, columns, 9, 1]),
        (vec![4, columns, rows], vec![0, 1, columns]),
    ] {
        let tensor = StoredTensor::new(Arc::clone(&storage), DType::I32, shape, stride, 0).unwrap();
        let (mut all, mut largest) = (Vec::new(), 0);
        pieces::contiguous(&tensor, &mut pieces::Unpacked::default(), &mut |piece| {
            all.extend_from_slice(piece);
            largest = largest.max(piece.len());
            Ok(())
        })
        .unwrap();
        assert!(all == *tensor.contiguous_bytes().unwrap() && largest <= pieces::PIECE);
    }
}

/// A disk that is full after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0 {
            0 => Err(io::ErrorKind::StorageFull.into()),
            left => {
                self.0 -= left.min(bytes.len());
                Ok(left.min(bytes.len()))
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Full {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let value = Value::from(Dict::from_iter([("a", tensor(&Storage::owned(vec![3; 9 << 20], "cpu"), DType::U8, 3))]));
    let pickled = pickle::pickle(&value).unwrap();
    let whole = to_bytes(&value).unwrap().len();
    for room in [0, 1, 63, 500, 1000, 9 << 20, whole - 1] {
        let error = write_torch(&pickled, &mut Full(room), &mut quiet(&mut |_, _| {})).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Io, "cannot be written: no storage space"));
    }
    assert!(write_torch(&pickled, &mut Full(whole + 4), &mut quiet(&mut |_, _| {})).is_ok());
}

/// A file in which long runs of zeros are holes.
struct Sparse(std::fs::File);

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() >= 1 << 16 && bytes.iter().all(|&byte| byte == 0) {
            self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
            return Ok(bytes.len());
        }
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Entries of 4 GiB and more, and entries after them, need zip64; so do more than 65,535 entries.
#[test]
#[cfg(unix)]
fn large_archives_are_zip64() {
    let path = std::env::temp_dir().join(format!("sconce-zip64-{}.pt", std::process::id()));
    let mut out = Sparse(std::fs::File::create(&path).unwrap());
    let size = (4u64 << 30) + 5;
    let zeros = vec![0; 8 << 20];
    let mut archive = ZipWriter::new(&mut out);
    archive.small("archive/first", b"1").unwrap();
    archive
        .entry("archive/large", size, &mut |take| {
            let mut left = size;
            while left > 0 {
                let piece = left.min(zeros.len() as u64);
                take(&zeros[..piece as usize])?;
                left -= piece;
            }
            Ok(())
        })
        .unwrap();
    archive.small("archive/last", b"the last").unwrap();
    archive.finish().unwrap();
    let mut reader = ::zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let (large_size, large_start) =
        reader.by_name("archive/large").map(|file| (file.size(), file.data_start())).unwrap();
    assert_eq!((large_size, large_start.unwrap() % 64), (size, 0));
    let mut last = reader.by_name("archive/last").unwrap();
    assert!(last.header_start() > 4 << 30);
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text, "the last");
}

#[test]
fn more_entries_than_short_zip_counts() {
    let storage = |i: usize| Storage::owned([i as u8, (i >> 8) as u8], "cpu");
    let value = Value::from((0..70_000).map(|i| tensor(&storage(i), DType::U8, 2)).collect::<Vec<_>>());
    let back = read(to_bytes(&value).unwrap());
    let items = back.as_list().unwrap();
    assert_eq!(items.len(), 70_000);
    assert_eq!(
        *items[69_999].as_tensor().unwrap().contiguous_bytes().unwrap(),
        [(69_999 & 0xff) as u8, (69_999 >> 8) as u8]
    );
}
