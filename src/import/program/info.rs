//! What a program is, without running it.

use std::fmt;

use super::{Port, Program};
use crate::checkpoint::Checkpoint;
use crate::dtype::DType;
use crate::error::Result;

/// A program of a `.pt2` file as `sconce inspect` shows it: what it takes and gives, its operations with their counts,
/// and which of them do not run.
///
/// ```no_run
/// for program in sconce::ProgramInfo::of(&sconce::load("resnet18.pt2")?)? {
///     println!("{program}");
/// }
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramInfo {
    /// The program's name in the file, as a rule `model`.
    pub name: String,
    /// The version of PyTorch that wrote it.
    pub torch_version: String,
    /// Whether it is as exported, rather than decomposed with `run_decompositions()`.
    pub is_training_ir: bool,
    /// What the caller gives, in order.
    pub inputs: Vec<TensorInfo>,
    /// What the caller gets, in order.
    pub outputs: Vec<TensorInfo>,
    /// The operations in alphabetical order.
    pub ops: Vec<OpCount>,
}

/// What a model takes or gives: one tensor of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The argument's name in `forward`, or the output's place: a key of a dict, a number in a tuple, joined by points
    /// where they are nested.
    pub name: String,
    /// The dtype that the model was exported with.
    pub dtype: DType,
    /// The sizes; `None` where the caller chooses.
    pub shape: Vec<Option<usize>>,
    /// The sizes that the model was exported with, when the file says them: an example of what runs.
    pub exported: Option<Vec<usize>>,
    /// The least and the largest size where the caller chooses, as far as the file says them; without a largest one
    /// there is no limit.
    pub ranges: Vec<Option<(usize, Option<usize>)>>,
}

/// An operation of a program and how often it is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpCount {
    /// The overload, as `aten.conv2d.default`.
    pub name: String,
    /// How often.
    pub count: usize,
    /// Whether it runs.
    pub is_supported: bool,
}

impl ProgramInfo {
    /// The programs of a file, none when it is no `.pt2` file.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a program is damaged,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for one of an old schema.
    pub fn of(checkpoint: &Checkpoint) -> Result<Vec<Self>> {
        let Some(exported) = checkpoint.exported() else { return Ok(vec![]) };
        let names = exported.programs.iter().map(|program| program.name.as_str());
        names.map(|name| Program::parse(exported, Some(name)).map(|program| Self::new(name, &program))).collect()
    }

    fn new(name: &str, program: &Program) -> Self {
        let op = |(name, count, is_supported)| OpCount { name, count, is_supported };
        Self {
            name: name.into(),
            torch_version: program.torch_version().into(),
            is_training_ir: program.is_training_ir(),
            inputs: program.inputs().iter().map(TensorInfo::from).collect(),
            outputs: program.output_ports().iter().map(TensorInfo::from).collect(),
            ops: program.ops().into_iter().map(op).collect(),
        }
    }
}

/// A name of the file in one line.
pub(super) fn printable(name: &str) -> String {
    let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(one).collect()
}

impl From<&Port> for TensorInfo {
    fn from(port: &Port) -> Self {
        let Port { name, dtype, shape, exported, ranges, .. } = port.clone();
        Self { name, dtype, shape, exported, ranges }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |(d, size): (usize, &Option<usize>)| match (size, self.ranges.get(d).copied().flatten()) {
            (Some(size), _) => size.to_string(),
            (None, Some((least, Some(most)))) => format!("{least}..={most}"),
            (None, Some((least, None))) => format!("{least}.."),
            (None, None) => "?".into(),
        };
        let sizes: Vec<String> = self.shape.iter().enumerate().map(size).collect();
        write!(f, "{}: {} [{}]", printable(&self.name), self.dtype, sizes.join(", "))
    }
}

impl fmt::Display for ProgramInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.is_training_ir { "as exported" } else { "decomposed" };
        write!(f, "program `{}` of torch {}, {form}", printable(&self.name), printable(&self.torch_version))?;
        for (role, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for tensor in tensors {
                write!(f, "\n  {role:6} {tensor}")?;
            }
        }
        let total: usize = self.ops.iter().map(|op| op.count).sum();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let kinds = self.ops.len();
        write!(f, "\n  {total} operation{} of {kinds} kind{}", plural(total), plural(kinds))?;
        let mut ops: Vec<&OpCount> = self.ops.iter().collect();
        ops.sort_by_key(|op| std::cmp::Reverse(op.count));
        for op in ops {
            let note = if op.is_supported { "" } else { "  not supported" };
            write!(f, "\n  {:6} {}{note}", op.count, printable(&op.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_lines_and_sizes_say_their_range() {
        let shape = vec![None, Some(3), None, None];
        let ranges = vec![Some((2, Some(9))), None, Some((1, None)), None];
        let input = TensorInfo { name: "x\nerror".into(), dtype: DType::F32, shape, exported: None, ranges };
        let ops = vec![OpCount { name: "aten.\u{1b}[2J\n".into(), count: 1, is_supported: true }];
        let (name, torch_version) = ("model".into(), "2.15".into());
        let program =
            ProgramInfo { name, torch_version, is_training_ir: true, inputs: vec![input], outputs: vec![], ops };
        let expected = "program `model` of torch 2.15, as exported\n  input  x\\nerror: float32 [2..=9, 3, 1.., ?]\n  \
                        1 operation of 1 kind\n       1 aten.\\u{1b}[2J\\n";
        assert_eq!(program.to_string(), expected);
    }
}
