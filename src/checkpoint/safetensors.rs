//! Safetensors: the length of a header, the header as JSON, the bytes of the tensors.
//!
//! Format: <https://huggingface.co/docs/safetensors>. Checked is what the reference implementation checks: the tensors
//! lie one after the other, and the file ends where the last one does.

use std::sync::Arc;

use serde_json::{Deserializer, Value as Json};

use super::cursor::Cursor;
use super::hash::QuickMap;
use super::source::Source;
use super::value::{Dict, DictKind, Value};
use super::{Storage, StoredTensor};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The dtypes by the format's names.
pub(super) const DTYPES: &[(&str, DType)] = &[
    ("F64", DType::F64),
    ("F32", DType::F32),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I64", DType::I64),
    ("I32", DType::I32),
    ("I16", DType::I16),
    ("I8", DType::I8),
    ("U64", DType::U64),
    ("U32", DType::U32),
    ("U16", DType::U16),
    ("U8", DType::U8),
    ("BOOL", DType::Bool),
    ("C64", DType::Complex64),
    ("F8_E4M3", DType::F8E4M3FN),
    ("F8_E5M2", DType::F8E5M2),
    ("F8_E4M3FNUZ", DType::F8E4M3FNUZ),
    ("F8_E5M2FNUZ", DType::F8E5M2FNUZ),
    ("F8_E8M0", DType::F8E8M0FNU),
    (F4, DType::F4E2M1FNX2),
];

/// The format counts the 4-bit elements, PyTorch the bytes that hold two.
pub(super) const F4: &str = "F4";
/// The key of the header's free text, a dict of strings. It is an attribute of the dict of tensors.
pub(crate) const METADATA: &str = "__metadata__";
/// The format's own limit.
pub(super) const MAX_HEADER: u64 = 100_000_000;
/// The bytes of the header's length.
const LENGTH: usize = 8;

/// Reads a mapped safetensors file: a dict of tensors in the order of the header. No tensor's bytes are read.
pub(super) fn open(source: &Arc<Source>) -> Result<Value> {
    let (header, start) = header(source)?;
    let header = Header::parse(header).map_err(|error| error.context("the safetensors header"))?;
    header.check(source.len() - start)?;
    let location: Arc<str> = "cpu".into();
    let mut entries = Vec::with_capacity(header.tensors.len());
    for Info { name, dtype, shape, start: from, end: to } in header.tensors {
        let storage = Storage::range(Arc::clone(source), start + from..start + to, Arc::clone(&location));
        let strides = crate::shape::Shape::from(&shape[..]).contiguous_strides();
        let tensor = StoredTensor::new(storage, dtype, shape, strides, 0)
            .map_err(|error| error.context(format_args!("`{}`", name.escape_debug())))?;
        entries.push((Value::from(name), Value::from(tensor)));
    }
    let mut dict = Dict::new(DictKind::OrderedDict, entries);
    dict.attributes = header.metadata.map(|metadata| Value::from(Dict::from_iter([(METADATA, metadata)])));
    Ok(Value::from(dict))
}

/// The bytes of the header, and where the data starts.
fn header(bytes: &[u8]) -> Result<(&[u8], usize)> {
    let cut_short = |what: &str| {
        Error::invalid(format!("the safetensors file is cut short: {what}")).help("download or copy it again")
    };
    let (len, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| cut_short("its header is missing"))?;
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER {
        return Err(Error::invalid(format!("a safetensors header of {len} bytes; at most {MAX_HEADER} are allowed")));
    }
    let len = len as usize;
    let header = rest.get(..len).ok_or_else(|| cut_short(&format!("a header of {len} bytes, {} left", rest.len())))?;
    Ok((header, LENGTH + len))
}

struct Header {
    tensors: Vec<Info>,
    metadata: Option<Value>,
}

/// What the header says about a tensor. The bytes are counted from the end of the header.
struct Info {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Self> {
        let mut parser = Cursor { text, at: 0 };
        let mut header = Header { tensors: Vec::new(), metadata: None };
        let mut names: QuickMap<String, ()> = QuickMap::default();
        parser.object(|parser, name| {
            if names.insert(name.clone(), ()).is_some() {
                return Err(Error::invalid(format!("the name `{}` is there twice", name.escape_debug())));
            }
            if name == METADATA {
                header.metadata = Some(metadata(parser)?);
            } else {
                let shown = name.escape_debug().to_string();
                let info = Info::parse(parser, name).map_err(|error| error.context(format_args!("`{shown}`")))?;
                header.tensors.push(info);
            }
            Ok(())
        })?;
        match parser.peek() {
            None => Ok(header),
            Some(_) => Err(parser.unexpected("its end")),
        }
    }

    /// Checks that the tensors take all of the data, each byte once.
    fn check(&self, data: usize) -> Result<()> {
        let mut order: Vec<&Info> = self.tensors.iter().collect();
        order.sort_by_key(|info| (info.start, info.end));
        let mut at = 0;
        for info in order {
            let Info { name, start, end, .. } = info;
            let bad = |what: String| Err(Error::invalid(format!("`{}` {what}", name.escape_debug())));
            if *start != at {
                let what = if *start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
                return bad(format!("starts at byte {start} of the data and {what}, which ends at byte {at}"));
            }
            if info.bytes() != Some(end - start) {
                let shape = crate::shape::Shape::from(&info.shape[..]);
                return bad(format!("is a {} tensor of shape {shape} and takes {} bytes", info.dtype, end - start));
            }
            at = *end;
        }
        match at.cmp(&data) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                let error = format!("the safetensors file is cut short: {at} bytes of data expected, {data} found");
                Err(Error::invalid(error).help("download or copy it again"))
            }
            std::cmp::Ordering::Less => {
                Err(Error::invalid(format!("the safetensors file has {} bytes after its tensors", data - at)))
            }
        }
    }
}

impl Info {
    fn parse(parser: &mut Cursor<'_>, name: String) -> Result<Self> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        parser.object(|parser, key| {
            let fresh = match key.as_str() {
                "dtype" => dtype.replace(parser.string()?).is_none(),
                "shape" => shape.replace(parser.sizes("a list of sizes")?).is_none(),
                "data_offsets" => offsets.replace(parser.sizes("two offsets")?).is_none(),
                _ => parser.value("a value", Some).map(|_| true)?,
            };
            match fresh {
                true => Ok(()),
                false => Err(Error::invalid(format!("`{key}` is there twice"))),
            }
        })?;
        let missing = |key: &str| Error::invalid(format!("it has no `{key}`"));
        let dtype = dtype.ok_or_else(|| missing("dtype"))?;
        let mut shape = shape.ok_or_else(|| missing("shape"))?;
        let offsets = offsets.ok_or_else(|| missing("data_offsets"))?;
        let [start, end] = offsets[..] else { return Err(Error::invalid("its `data_offsets` are not two numbers")) };
        if start > end {
            return Err(Error::invalid(format!("it starts at byte {start} of the data and ends at byte {end}")));
        }
        let known = DTYPES.iter().find(|(known, _)| *known == dtype);
        let dtype = match known {
            Some((_, known)) => *known,
            None => {
                let dtype: String = dtype.chars().take(40).flat_map(char::escape_debug).collect();
                return Err(Error::unsupported(format!("PyTorch has no dtype for `{dtype}`")));
            }
        };
        if dtype == DType::F4E2M1FNX2 {
            match shape.last_mut() {
                Some(last) if last.is_multiple_of(2) => *last /= 2,
                _ => return Err(Error::unsupported("its rows have an odd number of 4-bit elements")),
            }
        }
        Ok(Self { name, dtype, shape, start, end })
    }

    /// The bytes that the elements take, if they can be counted.
    fn bytes(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(self.dtype.size(), |bytes, &size| bytes.checked_mul(size))
    }
}

/// The free text: a dict of strings.
fn metadata(parser: &mut Cursor<'_>) -> Result<Value> {
    let mut entries = Vec::new();
    parser.object(|parser, key| {
        let text = parser.string()?;
        entries.push((Value::from(key), Value::from(text)));
        Ok(())
    })?;
    Ok(Value::from(Dict::new(DictKind::Dict, entries)))
}

/// Objects are read key by key, since a key that is there twice has to be seen; what is in them, serde_json reads.
impl Cursor<'_> {
    fn object(&mut self, mut entry: impl FnMut(&mut Self, String) -> Result<()>) -> Result<()> {
        self.expect(b'{')?;
        if self.accept(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            entry(self, key)?;
            if !self.accept(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// The next value, as what `convert` makes of it.
    fn value<T>(&mut self, expected: &str, convert: impl FnOnce(Json) -> Option<T>) -> Result<T> {
        self.peek();
        let mut stream = Deserializer::from_slice(&self.text[self.at..]).into_iter::<Json>();
        let value = stream.next().and_then(Result::ok).and_then(convert);
        let value = value.ok_or_else(|| self.unexpected(expected))?;
        self.at += stream.byte_offset();
        Ok(value)
    }

    fn string(&mut self) -> Result<String> {
        self.value("a string", |value| match value {
            Json::String(text) => Some(text),
            _ => None,
        })
    }

    fn sizes(&mut self, expected: &str) -> Result<Vec<usize>> {
        self.value(expected, |value| {
            value.as_array()?.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect()
        })
    }
}
