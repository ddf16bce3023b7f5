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

impl From<&Port> for TensorInfo {
    fn from(port: &Port) -> Self {
        Self { name: port.name.clone(), dtype: port.dtype, shape: port.shape.clone(), exported: port.exported.clone() }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.shape.iter().map(|size| size.map_or("?".into(), |n| n.to_string())).collect();
        write!(f, "{}: {} [{}]", self.name, self.dtype, sizes.join(", "))
    }
}

impl fmt::Display for ProgramInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.is_training_ir { "as exported" } else { "decomposed" };
        write!(f, "program `{}` of torch {}, {form}", self.name, self.torch_version)?;
        for (role, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for tensor in tensors {
                write!(f, "\n  {role:6} {tensor}")?;
            }
        }
        let total: usize = self.ops.iter().map(|op| op.count).sum();
        write!(f, "\n  {total} operations of {} kinds", self.ops.len())?;
        let mut ops: Vec<&OpCount> = self.ops.iter().collect();
        ops.sort_by_key(|op| std::cmp::Reverse(op.count));
        for op in ops {
            let note = if op.is_supported { "" } else { "  not supported" };
            write!(f, "\n  {:6} {}{note}", op.count, op.name)?;
        }
        Ok(())
    }
}
