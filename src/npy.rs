//! NumPy's `.npy` files, read into tensors and written from them.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::checkpoint::{Cursor, NPY_MAGIC as MAGIC, NUMPY_DTYPES, npy_header};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// NumPy's own headers are some hundred bytes; the version 2 length field would allow 4 GiB.
const MAX_HEADER: usize = 1 << 20;

impl Tensor {
    /// Reads a `.npy` file: versions 1 to 3, floats of 16, 32 and 64 bits, integers of 8 to 64 bits and booleans, in
    /// either byte order, in C and in Fortran order.
    ///
    /// ```no_run
    /// let x = sconce::Tensor::read_npy("x.npy")?;
    /// println!("{} {}", x.dtype(), x.shape());
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be read, otherwise those of
    /// [`Tensor::from_npy`]; all name the file.
    pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor> {
        let path = path.as_ref();
        let name = format!("`{}`", path.display());
        let file = File::open(path).map_err(|error| Error::io(format!("{name}: {error}")))?;
        read(&mut BufReader::new(file)).map_err(|error| error.context(name))
    }

    /// Reads the bytes of a `.npy` file.
    ///
    /// ```
    /// use sconce::Tensor;
    /// let x = Tensor::new([2, 2], [1f32, 2., 3., 4.])?;
    /// let back = Tensor::from_npy(&x.to_npy()?)?;
    /// assert_eq!(back.as_slice::<f32>()?, [1., 2., 3., 4.]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the bytes are not a whole `.npy` file and nothing more,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for other dtypes.
    pub fn from_npy(mut bytes: &[u8]) -> Result<Tensor> {
        read(&mut bytes)
    }

    /// Writes a `.npy` file that `numpy.load` reads; what was there is overwritten.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be written, otherwise those of
    /// [`Tensor::to_npy`]; all name the file.
    pub fn write_npy(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = format!("`{}`", path.display());
        let bytes = self.to_npy().map_err(|error| error.context(&name))?;
        std::fs::write(path, bytes).map_err(|error| Error::io(format!("{name}: {error}")))
    }

    /// The bytes of a `.npy` file (version 1, C order) that holds this tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when NumPy has no such dtype, as `bfloat16`, and for
    /// more than 64 dimensions.
    pub fn to_npy(&self) -> Result<Vec<u8>> {
        let mut bytes = npy_header(self.dtype(), self.shape())?;
        bytes.extend_from_slice(self.bytes());
        Ok(bytes)
    }
}

fn read(reader: &mut impl Read) -> Result<Tensor> {
    let mut start = [0u8; 8];
    read_exactly(reader, &mut start, "the magic bytes")?;
    if &start[..6] != MAGIC {
        return Err(Error::invalid("not a `.npy` file: it does not start with `\\x93NUMPY`"));
    }
    let len = match start[6] {
        1 => {
            let mut len = [0u8; 2];
            read_exactly(reader, &mut len, "the header's length")?;
            u16::from_le_bytes(len).into()
        }
        2 | 3 => {
            let mut len = [0u8; 4];
            read_exactly(reader, &mut len, "the header's length")?;
            u32::from_le_bytes(len) as usize
        }
        version => {
            return Err(Error::unsupported(format!("`.npy` version {version}.{} (1, 2 and 3 are read)", start[7])));
        }
    };
    if len > MAX_HEADER {
        return Err(Error::invalid(format!("a `.npy` header of {len} bytes, at most {MAX_HEADER} are expected")));
    }
    let mut header = vec![0u8; len];
    read_exactly(reader, &mut header, "the header")?;
    let header = Header::parse(&header).map_err(|error| error.context("the `.npy` header"))?;
    header.read_data(reader)
}

/// Fills `buffer`; the error of a file that is too short says in what it ended.
fn read_exactly(reader: &mut impl Read, buffer: &mut [u8], what: &str) -> Result<()> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::invalid(format!("truncated: the `.npy` file ends within {what}")),
        _ => Error::io(error.to_string()),
    })
}

struct Header {
    dtype: DType,
    big_endian: bool,
    fortran_order: bool,
    shape: Shape,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Self> {
        let mut parser = Cursor { text, at: 0 };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        parser.expect(b'{')?;
        while !parser.accept(b'}') {
            let key = parser.quoted()?;
            parser.expect(b':')?;
            match key {
                "descr" => descr = Some(parser.descr()?),
                "fortran_order" => fortran_order = Some(parser.boolean()?),
                "shape" => shape = Some(parser.tuple()?),
                other => return Err(Error::invalid(format!("an unknown key `{other}`"))),
            }
            if !parser.accept(b',') {
                parser.expect(b'}')?;
                break;
            }
        }
        let missing = |key: &str| Error::invalid(format!("no `{key}`"));
        let (dtype, big_endian) = parse_descr(descr.ok_or_else(|| missing("descr"))?)?;
        Ok(Self {
            dtype,
            big_endian,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?.into(),
        })
    }

    fn read_data(self, reader: &mut impl Read) -> Result<Tensor> {
        let Header { dtype, shape, .. } = &self;
        let overflow = || Error::invalid(format!("a {dtype} array of shape {shape} is larger than memory can be"));
        let len = if shape.contains(&0) {
            0
        } else {
            shape.iter().try_fold(dtype.size(), |len, &size| len.checked_mul(size)).ok_or_else(overflow)?
        };
        // Grows with the bytes that are there, whatever the header promises; one more tells whether anything follows.
        let mut bytes = Vec::new();
        let limit = (len as u64).checked_add(1).ok_or_else(overflow)?;
        reader.take(limit).read_to_end(&mut bytes).map_err(|error| Error::io(error.to_string()))?;
        if bytes.len() < len {
            return Err(Error::invalid(format!(
                "truncated: a {dtype} array of shape {shape} takes {len} bytes, the `.npy` file has {}",
                bytes.len()
            )));
        }
        if bytes.len() > len {
            return Err(Error::invalid(format!("the `.npy` file has bytes after its {dtype} array of shape {shape}")));
        }
        if self.big_endian {
            bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        }
        if *dtype == DType::Bool {
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        if self.fortran_order {
            bytes = to_row_major(&bytes, shape, dtype.size());
        }
        Tensor::from_bytes(*dtype, self.shape, &bytes)
    }
}

/// A dtype and whether it is big-endian, from `<f4`, `>i8`, `|u1`.
fn parse_descr(descr: &str) -> Result<(DType, bool)> {
    let unsupported = || {
        Error::unsupported(format!("`.npy` dtype `{descr}`"))
            .help("floats of 16, 32 and 64 bits, integers and booleans are read; use `x.astype('float32')`")
    };
    let mut chars = descr.chars();
    let (order, kind) = (chars.next().ok_or_else(unsupported)?, chars.next().ok_or_else(unsupported)?);
    let size: usize = chars.as_str().parse().map_err(|_| unsupported())?;
    let known = NUMPY_DTYPES.iter().find(|row| (row.1, row.2) == (kind, size) && kind != 'c');
    let (dtype, ..) = known.ok_or_else(unsupported)?;
    match order {
        '<' | '=' => Ok((*dtype, false)),
        '>' => Ok((*dtype, true)),
        '|' if size == 1 => Ok((*dtype, false)),
        _ => Err(unsupported()),
    }
}

/// Reorders column-major elements of `size` bytes.
fn to_row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = vec![size; shape.len()];
    for dim in 1..shape.len() {
        strides[dim] = strides[dim - 1] * shape[dim - 1];
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; shape.len()];
    let mut at = 0;
    while out.len() < bytes.len() {
        out.extend_from_slice(&bytes[at..at + size]);
        for dim in (0..shape.len()).rev() {
            index[dim] += 1;
            at += strides[dim];
            if index[dim] < shape[dim] {
                break;
            }
            at -= strides[dim] * shape[dim];
            index[dim] = 0;
        }
    }
    out
}

/// The parts of a Python literal.
impl<'a> Cursor<'a> {
    fn quoted(&mut self) -> Result<&'a str> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.unexpected("a string")),
        };
        let start = self.at + 1;
        let Some(len) = self.text[start..].iter().position(|&byte| byte == quote) else {
            self.at = self.text.len();
            return Err(self.unexpected("the end of a string"));
        };
        self.at = start + len + 1;
        std::str::from_utf8(&self.text[start..start + len]).map_err(|_| Error::invalid("a string is not UTF-8"))
    }

    fn descr(&mut self) -> Result<&'a str> {
        match self.peek() {
            Some(b'[' | b'(') => Err(Error::unsupported("a `.npy` file of structured records")
                .help("save one field of it: `numpy.save(path, x['field'])`")),
            _ => self.quoted(),
        }
    }

    fn word(&mut self) -> &'a [u8] {
        self.peek();
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
        &rest[..len]
    }

    fn boolean(&mut self) -> Result<bool> {
        let word = self.word();
        let value = match word {
            b"True" => true,
            b"False" => false,
            _ => return Err(self.unexpected("`True` or `False`")),
        };
        self.at += word.len();
        Ok(value)
    }

    fn tuple(&mut self) -> Result<Vec<usize>> {
        self.expect(b'(')?;
        let mut sizes = Vec::new();
        while !self.accept(b')') {
            let word = self.word();
            // Python 2 wrote long integers with an `L`.
            let digits = std::str::from_utf8(word.strip_suffix(b"L").unwrap_or(word)).unwrap_or_default();
            let size = digits.parse().map_err(|_| self.unexpected("a size"))?;
            self.at += word.len();
            sizes.push(size);
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A version 1 file of this header and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn error(bytes: &[u8]) -> (ErrorKind, String) {
        let error = Tensor::from_npy(bytes).unwrap_err();
        (error.kind(), error.to_string())
    }

    fn numpy(name: &str) -> Tensor {
        Tensor::read_npy(format!("{}/tests/data/npy/{name}.npy", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// Each file holds `numpy.arange(6).reshape(2, 3)` (tools/npy_files.py).
    #[test]
    fn reads_every_dtype_numpy_writes() {
        for (name, dtype) in
            [("f8", DType::F64), ("f4", DType::F32), ("f2", DType::F16), ("big_f4", DType::F32), ("big_f2", DType::F16)]
        {
            let x = numpy(name);
            assert_eq!((x.dtype(), &x.shape()[..]), (dtype, &[2, 3][..]), "{name}");
            assert_eq!(x.to_f32().unwrap(), [0., 1., 2., 3., 4., 5.], "{name}");
        }
        for (name, dtype) in [
            ("i8", DType::I64),
            ("i4", DType::I32),
            ("i2", DType::I16),
            ("i1", DType::I8),
            ("u1", DType::U8),
            ("big_i8", DType::I64),
            ("fortran_i2", DType::I16),
            ("version_2", DType::I32),
            ("version_3", DType::I32),
        ] {
            let x = numpy(name);
            assert_eq!((x.dtype(), &x.shape()[..]), (dtype, &[2, 3][..]), "{name}");
            assert_eq!(x.to_i64().unwrap(), [0, 1, 2, 3, 4, 5], "{name}");
        }
        assert_eq!(numpy("u2").as_slice::<u16>().unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numpy("u4").as_slice::<u32>().unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numpy("big_u8").as_slice::<u64>().unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!((numpy("b1").dtype(), numpy("b1").to_i64().unwrap()), (DType::Bool, vec![0, 1, 1, 1, 1, 1]));
    }

    #[test]
    fn reads_ranks_and_orders() {
        let scalar = numpy("scalar");
        assert_eq!((scalar.shape().len(), scalar.to_f32().unwrap()), (0, vec![2.5]));
        assert_eq!(&numpy("empty").shape()[..], [0, 3]);
        // arange(24).reshape(2, 3, 4) in Fortran order
        let cube = numpy("fortran_cube");
        assert_eq!(&cube.shape()[..], [2, 3, 4]);
        assert_eq!(cube.to_f32().unwrap(), (0..24).map(|x| x as f32).collect::<Vec<_>>());
    }

    #[test]
    fn writes_what_numpy_writes() {
        let folder = format!("{}/tests/data/npy", env!("CARGO_MANIFEST_DIR"));
        for name in ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "b1", "scalar", "empty"] {
            let bytes = std::fs::read(format!("{folder}/{name}.npy")).unwrap();
            assert_eq!(Tensor::from_npy(&bytes).unwrap().to_npy().unwrap(), bytes, "{name}");
        }
        let error = Tensor::zeros(DType::BF16, [2]).to_npy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("bfloat16"), "{error}");
    }

    #[test]
    fn refuses_what_is_not_whole() {
        let whole = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 8]);
        assert!(Tensor::from_npy(&whole).is_ok());
        for len in 0..whole.len() {
            let (kind, text) = error(&whole[..len]);
            assert_eq!(kind, ErrorKind::Invalid, "{len} bytes: {text}");
            assert!(text.starts_with("truncated: "), "{len} bytes: {text}");
        }
        assert!(error(b"PK\x03\x04 and more").1.contains("not a `.npy` file"));
        let long = [whole.as_slice(), &[0]].concat();
        assert!(error(&long).1.contains("bytes after its"), "{:?}", error(&long));
    }

    #[test]
    fn refuses_bad_headers() {
        let header = |descr: &str, order: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"), &[])
        };
        for (bytes, kind, words) in [
            (header("'|O'", "False", "(1,)"), ErrorKind::Unsupported, "dtype `|O`"),
            (header("'<c8'", "False", "(1,)"), ErrorKind::Unsupported, "dtype `<c8`"),
            (header("'|f4'", "False", "(1,)"), ErrorKind::Unsupported, "dtype `|f4`"),
            (header("[('a', '<f4')]", "False", "(1,)"), ErrorKind::Unsupported, "structured records"),
            (header("'<f4'", "0", "(1,)"), ErrorKind::Invalid, "`True` or `False`"),
            (header("'<f4'", "False", "(-1,)"), ErrorKind::Invalid, "a size"),
            (header("'<f4'", "False", "(1"), ErrorKind::Invalid, "`)`"),
            (header("'<f4'", "False", "(9223372036854775807, 9)"), ErrorKind::Invalid, "larger than memory"),
            (header("'<f4'", "False", "(1000000000000,)"), ErrorKind::Invalid, "truncated"),
            (header("'<f4", "False", "(1,)"), ErrorKind::Invalid, "header"),
            (file("{'descr': '<f4', 'shape': (1,)}", &[]), ErrorKind::Invalid, "no `fortran_order`"),
            (file("{'descr': '<f4', 'size': 1}", &[]), ErrorKind::Invalid, "unknown key `size`"),
            (file("", &[]), ErrorKind::Invalid, "byte 0, found its end"),
        ] {
            let (found, text) = error(&bytes);
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(words), "`{text}` should contain `{words}`");
        }
        assert_eq!(error(b"\x93NUMPY\x09\x00").0, ErrorKind::Unsupported);
        assert!(error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").1.contains("at most"));
    }

    #[test]
    fn errors_name_the_file() {
        let error = Tensor::read_npy("no/such.npy").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("`no/such.npy`: "), "{error}");
    }
}
