//! A tensor's elements as PyTorch prints them: four digits, and the corners of what has more than 1000 elements.

use sconce::DType;
use sconce::checkpoint::{Quantizer, StoredTensor, Value};

use super::super::numbers::to_f64;
use super::super::{Failure, Result, text};

/// PyTorch's `set_printoptions` by default.
const PRECISION: usize = 4;
const THRESHOLD: usize = 1000;
const EDGE: usize = 3;
const LINE: usize = 80;

/// The corners of a tensor of many dimensions are many: no more than this are printed.
const MOST: usize = 20_000;

/// `tensor([[1., 2.], [3., 4.]])`. Of quantized tensors these are the numbers that they stand for, of those of 4-bit floats
/// the numbers, where PyTorch prints the bytes that hold two each.
pub(super) fn print(tensor: &StoredTensor) -> Result<String> {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let mut suffixes = Vec::new();
    match tensor.location() {
        "cpu" => {}
        location => suffixes.push(format!("device='{}'", text::clean(location))),
    }
    let sizes = |shape: &[usize]| {
        let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        format!("size=({}{})", sizes.join(", "), if sizes.len() == 1 { "," } else { "" })
    };
    let default = matches!(dtype, DType::F32 | DType::Complex64);
    let text = match shape.numel() {
        0 => {
            if shape.len() != 1 {
                suffixes.push(sizes(shape));
            }
            if !matches!(dtype, DType::F32) {
                suffixes.push(format!("dtype=torch.{dtype}"));
            }
            "tensor([]".to_owned()
        }
        _ => {
            let unpacked = match (tensor.quantizer(), dtype) {
                (Some(_), _) => {
                    suffixes.push(sizes(shape));
                    Some(tensor.to(DType::F32)?)
                }
                (None, DType::F4E2M1FNX2) => Some(tensor.to(DType::F32)?),
                _ => None,
            };
            if !default && !matches!(dtype, DType::I64 | DType::Bool) {
                suffixes.push(format!("dtype=torch.{dtype}"));
            }
            suffixes.extend(tensor.quantizer().into_iter().flat_map(quantizer));
            let numbers = unpacked.as_ref().unwrap_or(tensor);
            let shown = Shown::new(numbers.shape());
            let (words, width) = words(numbers, &shown)?;
            let mut text = "tensor(".to_owned();
            shown.write(&mut text, 7, 0, width, &mut words.into_iter());
            text
        }
    };
    if tensor.requires_grad() {
        suffixes.push("requires_grad=True".to_owned());
    }
    Ok(close(text, &suffixes))
}

/// What PyTorch prints of how integers stand for numbers.
fn quantizer(quantizer: &Quantizer) -> Vec<String> {
    match quantizer {
        Quantizer::PerTensor { scale, zero_point } => vec![
            "quantization_scheme=torch.per_tensor_affine".to_owned(),
            format!("scale={}", Value::Float(*scale)),
            format!("zero_point={zero_point}"),
        ],
        Quantizer::PerChannel { scales, zero_points, axis, float_parameters } => {
            let scheme = if *float_parameters { "_float_qparams" } else { "" };
            let printed = |tensor: &StoredTensor| print(tensor).unwrap_or_else(|_| tensor.describe());
            vec![
                format!("quantization_scheme=torch.per_channel_affine{scheme}"),
                format!("scale={}", printed(scales)),
                format!("zero_point={}", printed(zero_points)),
                format!("axis={axis}"),
            ]
        }
        _ => Vec::new(),
    }
}

/// The end of the last line, with what follows the elements.
fn close(mut text: String, suffixes: &[String]) -> String {
    let mut last = text.rfind('\n').map_or(text.len() + 2, |at| text.len() - at + 1);
    for suffix in suffixes {
        if last + suffix.len() + 2 > LINE {
            text += &format!(",\n{:7}{suffix}", "");
            last = 7 + suffix.len();
        } else {
            text += &format!(", {suffix}");
            last += suffix.len() + 2;
        }
    }
    text + ")"
}

/// Which positions of a tensor are printed.
struct Shown {
    shape: Vec<usize>,
    summarized: bool,
}

impl Shown {
    fn new(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), summarized: shape.iter().product::<usize>() > THRESHOLD }
    }

    /// The positions along a dimension, and where a gap comes between them.
    fn along(&self, dim: usize) -> (Vec<usize>, Option<usize>) {
        let size = self.shape[dim];
        match self.summarized && size > 2 * EDGE {
            true => ((0..EDGE).chain(size - EDGE..size).collect(), Some(EDGE)),
            false => ((0..size).collect(), None),
        }
    }

    /// The positions of the elements in row-major order, in the order in which they are printed.
    fn positions(&self) -> Result<Vec<usize>> {
        let mut positions = vec![0];
        for (dim, &size) in self.shape.iter().enumerate() {
            let (along, _) = self.along(dim);
            if positions.len().saturating_mul(along.len()) > MOST {
                return Err(Failure::new("not printed: it has too many dimensions"));
            }
            positions = positions.iter().flat_map(|&at| along.iter().map(move |&i| at * size + i)).collect();
        }
        Ok(positions)
    }

    fn write(&self, out: &mut String, indent: usize, dim: usize, width: usize, words: &mut std::vec::IntoIter<String>) {
        let rank = self.shape.len();
        if dim == rank {
            *out += &words.next().expect("a word for each position");
            return;
        }
        let (along, gap) = self.along(dim);
        out.push('[');
        if dim + 1 == rank {
            let mut row: Vec<String> = words.take(along.len()).collect();
            if let Some(gap) = gap {
                row.insert(gap, " ...".to_owned());
            }
            let per_line = (LINE.saturating_sub(indent) / (width + 2)).max(1);
            let lines: Vec<String> = row.chunks(per_line).map(|line| line.join(", ")).collect();
            *out += &lines.join(&format!(",\n{:1$}", "", indent + 1));
        } else {
            let between = format!(",{}{:2$}", "\n".repeat(rank - dim - 1), "", indent + 1);
            for i in 0..along.len() {
                if i > 0 {
                    *out += &between;
                }
                if Some(i) == gap {
                    *out += "...";
                    *out += &between;
                }
                self.write(out, indent + 1, dim + 1, width, words);
            }
        }
        out.push(']');
    }
}

/// Each element that is shown, as text, and the width that lines are filled by.
fn words(tensor: &StoredTensor, shown: &Shown) -> Result<(Vec<String>, usize)> {
    let (dtype, size) = (tensor.dtype(), tensor.dtype().size());
    let positions = shown.positions()?;
    let all = tensor.contiguous_bytes()?;
    let mut bytes = Vec::with_capacity(positions.len() * size);
    for at in positions {
        bytes.extend_from_slice(&all[at * size..(at + 1) * size]);
    }
    let part = match dtype {
        DType::Complex32 => DType::F16,
        DType::BComplex32 => DType::BF16,
        DType::Complex64 => DType::F32,
        DType::Complex128 => DType::F64,
        DType::I64 => {
            return Ok(align(bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x).to_string()).collect()));
        }
        DType::U64 => {
            return Ok(align(bytes.as_chunks().0.iter().map(|&x| u64::from_le_bytes(x).to_string()).collect()));
        }
        DType::Bool => {
            return Ok(align(bytes.iter().map(|&x| if x == 0 { "False" } else { "True" }.to_owned()).collect()));
        }
        DType::I32 | DType::I16 | DType::I8 | DType::U32 | DType::U16 | DType::U8 => {
            let mut numbers = Vec::new();
            to_f64(dtype, &bytes, &mut numbers)?;
            return Ok(align(numbers.iter().map(|x| format!("{x:.0}")).collect()));
        }
        other => {
            let mut numbers = Vec::new();
            to_f64(other, &bytes, &mut numbers)?;
            let format = Format::new(&numbers);
            return Ok((numbers.iter().map(|&x| format.word(x)).collect(), format.width));
        }
    };
    let mut numbers = Vec::new();
    to_f64(part, &bytes, &mut numbers)?;
    let (re, im): (Vec<f64>, Vec<f64>) = numbers.as_chunks::<2>().0.iter().map(|&[re, im]| (re, im)).unzip();
    let (re_format, im_format) = (Format::new(&re), Format::new(&im));
    let word = |(&re, &im): (&f64, &f64)| {
        let im = im_format.word(im);
        let im = im.trim_start();
        format!("{}{}{im}j", re_format.word(re), if im.starts_with('-') { "" } else { "+" })
    };
    Ok((re.iter().zip(&im).map(word).collect(), re_format.width + im_format.width + 1))
}

fn align(words: Vec<String>) -> (Vec<String>, usize) {
    let width = words.iter().map(String::len).max().unwrap_or(0);
    (words.into_iter().map(|word| format!("{word:>width$}")).collect(), width)
}

/// How the floats of a tensor are written.
struct Format {
    integers: bool,
    scientific: bool,
    width: usize,
}

impl Format {
    fn new(numbers: &[f64]) -> Self {
        let mut format = Self { integers: true, scientific: false, width: 1 };
        let normal = || numbers.iter().copied().filter(|x| x.is_finite() && *x != 0.0);
        let (min, max) = normal().fold((f64::INFINITY, 0f64), |(min, max), x| (min.min(x.abs()), max.max(x.abs())));
        if max == 0.0 {
            return format;
        }
        format.integers = normal().all(|x| x == x.ceil());
        format.scientific = max / min > 1000.0 || max > 1e8 || min < 1e-4;
        format.width = normal().map(|x| format.text(x).len()).max().unwrap_or(1);
        format
    }

    fn text(&self, x: f64) -> String {
        if x.is_nan() {
            return "nan".into();
        }
        if x.is_infinite() {
            return if x > 0.0 { "inf" } else { "-inf" }.into();
        }
        match (self.scientific, self.integers) {
            (true, _) => {
                let text = format!("{x:.PRECISION$e}");
                let (digits, exponent) = text.split_once('e').expect("an exponent");
                let exponent: i32 = exponent.parse().expect("an exponent");
                format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
            }
            (false, true) => format!("{x:.0}."),
            (false, false) => format!("{x:.PRECISION$}"),
        }
    }

    fn word(&self, x: f64) -> String {
        format!("{:>1$}", self.text(x), self.width)
    }
}

#[cfg(test)]
mod tests {
    use sconce::Tensor;

    use super::*;

    fn printed(tensor: &Tensor) -> String {
        let stored = StoredTensor::from_bytes(tensor.dtype(), tensor.shape().clone(), tensor.bytes()).unwrap();
        print(&stored).unwrap()
    }

    /// What PyTorch 2.15 prints.
    #[test]
    fn prints_as_torch_does() {
        let floats = |shape: &[usize], data: &[f32]| printed(&Tensor::new(shape, data).unwrap());
        assert_eq!(floats(&[3], &[1., 2., 3.]), "tensor([1., 2., 3.])");
        assert_eq!(floats(&[], &[0.5]), "tensor(0.5000)");
        assert_eq!(floats(&[0], &[]), "tensor([])");
        assert_eq!(floats(&[0, 3], &[]), "tensor([], size=(0, 3))");
        assert_eq!(
            floats(&[2, 2], &[1., -0.25, f32::NAN, f32::INFINITY]),
            "tensor([[ 1.0000, -0.2500],\n        [    nan,     inf]])"
        );
        assert_eq!(floats(&[2], &[1e-5, 1.]), "tensor([1.0000e-05, 1.0000e+00])");
        assert_eq!(floats(&[2, 1, 2], &[0., 1., 2., 3.]), "tensor([[[0., 1.]],\n\n        [[2., 3.]]])");
        let long: Vec<i64> = (0..1001).collect();
        assert_eq!(printed(&Tensor::new([1001], &long).unwrap()), "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
        let bools = StoredTensor::from_bytes(DType::Bool, [2], [1, 0]).unwrap();
        assert_eq!(print(&bools).unwrap(), "tensor([ True, False])");
        let double = StoredTensor::from_bytes(DType::F64, [], 2f64.to_le_bytes()).unwrap().with_requires_grad(true);
        assert_eq!(print(&double).unwrap(), "tensor(2., dtype=torch.float64, requires_grad=True)");
        let complex: Vec<u8> = [1f32, -2., 0., 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let complex = StoredTensor::from_bytes(DType::Complex64, [2], complex).unwrap();
        assert_eq!(print(&complex).unwrap(), "tensor([1.-2.0000j, 0.+0.5000j])");
    }

    #[test]
    fn long_rows_are_wrapped_and_corners_are_shown() {
        let row: Vec<f32> = (0..20).map(|x| x as f32 / 8.0).collect();
        assert_eq!(
            printed(&Tensor::new([20], &row).unwrap()),
            "tensor([0.0000, 0.1250, 0.2500, 0.3750, 0.5000, 0.6250, 0.7500, 0.8750, 1.0000,\n        \
             1.1250, 1.2500, 1.3750, 1.5000, 1.6250, 1.7500, 1.8750, 2.0000, 2.1250,\n        2.2500, 2.3750])"
        );
        let many = Tensor::new([40, 40], (0..1600).map(|x| x as f32).collect::<Vec<_>>()).unwrap();
        let text = printed(&many);
        assert!(
            text.starts_with(
                "tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 3.7000e+01, 3.8000e+01,\n         3.9000e+01],\n"
            ),
            "{text}"
        );
        assert!(text.contains("],\n        ...,\n        ["), "{text}");
        let wide = Tensor::zeros(DType::F32, vec![2; 20]);
        let stored = StoredTensor::from_bytes(DType::F32, vec![2; 20], wide.bytes()).unwrap();
        assert!(print(&stored).unwrap_err().to_string().contains("too many dimensions"));
    }
}
