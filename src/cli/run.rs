//! `sconce run`: one forward pass.

use std::io::Write;
use std::path::PathBuf;

use sconce::{DType, Device, ErrorKind, Tensor};

use super::compare::{Comparison, Tolerance, show, values};
use super::{
    Context, Failure, Result, Verdict, image, labels, model, parse_positive, parse_precision, parse_tolerance,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file that PyTorch wrote
    file: PathBuf,

    /// The architecture that a state dict's weights belong to, as `resnet50` or `mlp`
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,

    #[command(flatten)]
    model: model::Args,

    /// An input of the model: a `.npy` file, or a PNG or JPEG picture; neighbouring pictures become one batch
    #[arg(long, short, required = true, value_name = "FILE")]
    input: Vec<PathBuf>,

    /// Write an output to a `.npy` file; given twice, the first two outputs
    #[arg(long, short, value_name = "FILE")]
    output: Vec<PathBuf>,

    /// Check an output against a `.npy` file; exit with status 1 when it differs
    #[arg(long, value_name = "FILE")]
    expect: Vec<PathBuf>,

    /// With --expect: the difference that is allowed
    #[arg(long, requires = "expect", default_value = "1e-5", value_parser = parse_tolerance, allow_negative_numbers = true)]
    atol: f64,

    /// With --expect: the difference that is allowed besides, as a part of the expected value
    #[arg(long, requires = "expect", default_value = "1e-3", value_parser = parse_tolerance, allow_negative_numbers = true)]
    rtol: f64,

    /// How exactly to compute on a GPU: f32, fast (products of f16 on matrix units, summed in f32) or f16
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = parse_precision)]
    dtype: sconce::Precision,

    /// Print the K largest values of each row [default: 5 when the input is a picture]
    #[arg(long, value_name = "K", value_parser = parse_positive)]
    topk: Option<usize>,

    /// A file with one class name a line, to print with the largest values
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Print the largest values as probabilities: after a softmax over the last dimension
    #[arg(long)]
    softmax: bool,

    #[command(flatten)]
    image: image::Args,
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Verdict> {
    let labels = args.labels.as_deref().map(labels::read).transpose()?;
    let expected: Vec<Tensor> = args.expect.iter().map(Tensor::read_npy).collect::<sconce::Result<_>>()?;
    let pictures = image::all_images(&args.input)?;
    let inputs = image::read_inputs(&args.input, &args.image)?;
    let source = model::Source { path: &args.file, arch: args.arch.as_deref(), args: &args.model };
    let opened = source.open()?;
    let mut devices = devices(&context.global.device).into_iter();
    let mut model = source.build(&opened, &next_device(&mut devices, None, context)?)?.with_precision(args.dtype);
    if context.console.is_verbose() {
        let kinds: Vec<_> = inputs.iter().map(|x| (x.shape().clone(), x.dtype())).collect();
        context.console.say(super::plan_line(model.compile(&kinds)?));
        context.console.say(super::kernels_line(&model.kernels(&kinds)?, args.dtype));
    }
    let outputs = loop {
        match model.run(&inputs) {
            Err(error) if error.kind() == ErrorKind::Device => {
                model.to(&next_device(&mut devices, Some(error.into()), context)?);
            }
            result => break result?,
        }
    };

    enough(outputs.len(), args.output.len(), "--output")?;
    enough(outputs.len(), expected.len(), "--expect")?;
    for (path, output) in args.output.iter().zip(&outputs) {
        match output.dtype() {
            // `.npy` has no such dtype; every value of it is a `float32`.
            DType::BF16 => output.to(DType::F32)?.write_npy(path)?,
            _ => output.write_npy(path)?,
        }
        context.console.say(format_args!("wrote `{}`: {} {}", path.display(), output.dtype(), output.shape()));
    }
    let topk = args.topk.or((pictures || labels.is_some() || args.softmax).then_some(5));
    for (number, output) in outputs.iter().enumerate() {
        if outputs.len() > 1 {
            writeln!(context.out, "output {number}")?;
        }
        match topk {
            Some(k) => {
                let ranking = Ranking { k, labels: labels.as_deref(), softmax: args.softmax };
                let names = if pictures { args.input.as_slice() } else { &[] };
                ranking.write(context.out, output, names)?;
            }
            None => summarize(context.out, output)?,
        }
    }
    let tolerance = Tolerance { atol: args.atol, rtol: args.rtol };
    let mut verdict = Verdict::Done;
    for ((output, expected), path) in outputs.iter().zip(&expected).zip(&args.expect) {
        let comparison = Comparison::new(output, expected, tolerance)?;
        writeln!(context.out, "`{}` {comparison}", path.display())?;
        if !comparison.passed() {
            verdict = Verdict::CheckFailed;
        }
    }
    Ok(verdict)
}

/// The devices of `--device`: one, or several with commas between them, each for when those before it fail. Adapters may
/// have commas in their names.
fn devices(text: &str) -> Vec<&str> {
    match text.contains(',') && Device::open(text).is_err() {
        true => text.split(',').map(str::trim).collect(),
        false => vec![text],
    }
}

/// The next device that opens, after `trouble` with the one before, which is said; the trouble when there is no other.
fn next_device<'a>(
    devices: &mut impl Iterator<Item = &'a str>,
    mut trouble: Option<Failure>,
    context: &Context<'_>,
) -> Result<Device> {
    loop {
        let next = devices.next();
        match (next, trouble) {
            (Some(_), None) => {}
            (Some(name), Some(failure)) => {
                let text = failure.to_string();
                let line = text.lines().next().unwrap_or_default();
                context.console.say(format_args!("{line}: going on with `{name}`"));
            }
            (None, trouble) => return Err(trouble.unwrap_or_else(|| Failure::new("no device is named"))),
        }
        match context.open_device(next.unwrap_or_default()) {
            Ok(device) => return Ok(device),
            Err(failure) => trouble = Some(failure),
        }
    }
}

fn enough(outputs: usize, given: usize, option: &str) -> Result<()> {
    if given <= outputs {
        return Ok(());
    }
    let plural = if outputs == 1 { "" } else { "s" };
    Err(Failure::new(format!("`{option}` is given {given} times, the model has {outputs} output{plural}")))
}

/// One line about an output, and its elements when they are few.
fn summarize(out: &mut dyn Write, output: &Tensor) -> Result<()> {
    let elements = values(output)?;
    write!(out, "{} {}", output.dtype(), output.shape())?;
    if elements.len() <= 16 {
        let elements: Vec<String> = elements.into_iter().map(show).collect();
        return Ok(writeln!(out, ": [{}]", elements.join(", "))?);
    }
    // NaN until there is a number.
    let (min, max) = elements.iter().fold((f64::NAN, f64::NAN), |(a, b), &x| (a.min(x), b.max(x)));
    let mean = elements.iter().sum::<f64>() / elements.len() as f64;
    let nan = elements.iter().filter(|x| x.is_nan()).count();
    write!(out, ": min {min:.6}, max {max:.6}, mean {mean:.6}")?;
    Ok(if nan == 0 { writeln!(out) } else { writeln!(out, ", {nan} NaN") }?)
}

/// How the largest values of an output are printed.
struct Ranking<'a> {
    k: usize,
    labels: Option<&'a [String]>,
    softmax: bool,
}

impl Ranking<'_> {
    /// A block for each row of the output; with `names` a row is one of these pictures.
    fn write(&self, out: &mut dyn Write, output: &Tensor, names: &[PathBuf]) -> Result<()> {
        let shape = output.shape();
        let Some(&classes) = shape.last().filter(|&&classes| classes > 0) else {
            return Err(Failure::new(format!("an output of shape {shape} has no largest values")));
        };
        if let Some(labels) = self.labels.filter(|labels| labels.len() != classes) {
            return Err(Failure::new(format!("there are {} labels, the output has {classes} classes", labels.len()))
                .help("one class name a line is expected, in the order of the classes"));
        }
        let elements = values(output)?;
        let rows = elements.len() / classes;
        for (number, row) in elements.chunks(classes).enumerate() {
            match names.get(number).filter(|_| names.len() == rows) {
                Some(path) => writeln!(out, "{}", path.display())?,
                None if rows > 1 => writeln!(out, "row {number}")?,
                None => {}
            }
            let row = if self.softmax { softmax(row) } else { row.to_vec() };
            self.write_row(out, &row)?;
        }
        Ok(())
    }

    fn write_row(&self, out: &mut dyn Write, row: &[f64]) -> Result<()> {
        let width = row.len().to_string().len();
        for index in largest(row, self.k) {
            let value = row[index];
            match self.labels {
                Some(labels) => writeln!(out, "  {index:width$}  {value:>9.4}  {}", labels[index])?,
                None => writeln!(out, "  {index:width$}  {value:>9.4}")?,
            }
        }
        Ok(())
    }
}

/// The positions of the `k` largest values, the largest first, of equal ones the first first. NaN is shown first, so
/// that it is not missed.
fn largest(row: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let key = |index: usize| if row[index].is_nan() { f64::INFINITY } else { row[index] };
    order.sort_by(|&a, &b| row[b].is_nan().cmp(&row[a].is_nan()).then(key(b).total_cmp(&key(a))));
    order.truncate(k);
    order
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|x| x / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(output: &Tensor, ranking: &Ranking<'_>, names: &[&str]) -> Result<String> {
        let mut out = Vec::new();
        let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        ranking.write(&mut out, output, &names)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn ranks() {
        assert_eq!(largest(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(largest(&[1.0, f64::NAN, f64::INFINITY, -f64::NAN], 9), [1, 3, 2, 0]);
        assert_eq!(largest(&[], 3), [0usize; 0]);
        let probabilities = softmax(&[1000.0, 1000.0 + 3f64.ln()]);
        assert!((probabilities[1] - 0.75).abs() < 1e-12, "{probabilities:?}");
    }

    #[test]
    fn prints_rows_with_labels() {
        let output = Tensor::new([2, 3], [0.5f32, 2.0, -1.0, 7.0, 6.0, 5.0]).unwrap();
        let labels: Vec<String> = ["cat", "dog", "eel"].map(String::from).into();
        let with = Ranking { k: 2, labels: Some(&labels), softmax: false };
        let text = ranking(&output, &with, &["a.png", "b.png"]).unwrap();
        assert_eq!(
            text,
            "a.png\n  1     2.0000  dog\n  0     0.5000  cat\nb.png\n  0     7.0000  cat\n  1     6.0000  dog\n"
        );
        let without = Ranking { k: 1, labels: None, softmax: false };
        assert_eq!(ranking(&output, &without, &[]).unwrap(), "row 0\n  1     2.0000\nrow 1\n  0     7.0000\n");
        let wrong = Ranking { k: 2, labels: Some(&labels[..2]), softmax: false };
        assert!(ranking(&output, &wrong, &[]).unwrap_err().to_string().contains("2 labels, the output has 3 classes"));
        let scalar = Tensor::new([], [1f32]).unwrap();
        assert!(ranking(&scalar, &without, &[]).is_err());
    }

    #[test]
    fn summarizes() {
        let print = |tensor: &Tensor| {
            let mut out = Vec::new();
            summarize(&mut out, tensor).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(&Tensor::new([2], [1f32, -0.5]).unwrap()), "float32 [2]: [1, -0.5]\n");
        let many =
            Tensor::new([20], (0..20).map(|x| if x == 3 { f32::NAN } else { x as f32 }).collect::<Vec<_>>()).unwrap();
        assert!(
            print(&many).ends_with("1 NaN\n") && print(&many).contains("min 0.000000, max 19.000000"),
            "{}",
            print(&many)
        );
    }
}
