//! Graphs: what to compute, at the level of PyTorch's composite ops, and how it becomes the steps of a plan.
//!
//! The methods of [`Graph`] are named as PyTorch's functions and check their arguments as those do. Shapes are
//! concrete: a model is traced once for each set of input shapes that it meets.

mod lower;
mod memory;
pub(crate) mod op;
mod ops;
mod passes;
pub(crate) mod step;
pub(crate) mod view;

use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::StoredTensor;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::Tensor;

pub(crate) use lower::lower;
pub use op::PadMode;
use op::{Op, Parameter};
pub use ops::{Approximate, AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions, Padding, PaddingMode};
pub(crate) use ops::{Cell, CellWeights, Recurrent};
#[cfg(test)]
pub(crate) use passes::only_needed;
pub(crate) use passes::optimize;

/// What a model computes for one set of input shapes: nodes in the order in which they were added.
///
/// ```
/// use sconce::{Device, Graph, Model, Tensor, Var};
/// let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| {
///     let y = g.relu(x[0])?;
///     Ok(vec![g.add(y, x[1])?])
/// });
/// let y = model.run(&[Tensor::new([2], [-1f32, 2.])?, Tensor::new([1], [10f32])?])?;
/// assert_eq!(y[0].as_slice::<f32>()?, [10., 12.]);
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<Var>,
    outputs: Vec<Var>,
    /// Parameters by name and storage, so that a tensor that is used twice is one node.
    parameters: HashMap<(Arc<str>, usize), Vec<Var>>,
    /// Whether floats are 16 bits wide where it runs, which count to 2^11 rather than to 2^24.
    pub(crate) is_half: bool,
}

/// A value of a [`Graph`]. It belongs to the graph that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(u32);

impl Var {
    /// Its place in the order of computation.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation with its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Var>,
    pub(crate) shape: Shape,
    /// `Float32` or `Int64`: the plan computes in `f32` and `i32`.
    pub(crate) is_int: bool,
    /// Whether it depends on parameters and constants alone.
    pub(crate) is_constant: bool,
    /// The state dict's name of a parameter, else the layer's name where it is known.
    pub(crate) name: Arc<str>,
}

impl Graph {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a model input.
    pub(crate) fn input(&mut self, shape: Shape, dtype: DType) -> Var {
        let name = format!("input {}", self.inputs.len());
        let var = self.add_node(Op::Input, vec![], shape, !dtype.is_float(), &name);
        self.inputs.push(var);
        var
    }

    pub(crate) fn set_outputs(&mut self, outputs: Vec<Var>) {
        self.outputs = outputs;
    }

    /// Adds a tensor of a state dict, under its name there. The same tensor added twice is one value.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when it does not run: see [`DType::is_runnable`] and
    /// [`StoredTensor::layout`].
    pub fn parameter(&mut self, name: &str, tensor: &StoredTensor) -> Result<Var> {
        self.parameter_as(name, tensor, !tensor.dtype().is_float())
    }

    /// Adds a tensor of a state dict as floats, whatever its dtype: what a layer's weight is.
    pub(crate) fn float_parameter(&mut self, name: &str, tensor: &StoredTensor) -> Result<Var> {
        self.parameter_as(name, tensor, false)
    }

    fn parameter_as(&mut self, name: &str, tensor: &StoredTensor, is_int: bool) -> Result<Var> {
        tensor.check_runnable(name)?;
        let key = (Arc::<str>::from(name), Arc::as_ptr(tensor.storage()).addr());
        for &var in self.parameters.get(&key).into_iter().flatten() {
            let node = self.node(var);
            if matches!(&node.op, Op::Parameter(p) if p.tensor.is_same_view(tensor)) && node.is_int == is_int {
                return Ok(var);
            }
        }
        let op = Op::Parameter(Parameter { name: key.0.clone(), tensor: tensor.clone() });
        let var = self.add_node(op, vec![], tensor.shape().clone(), is_int, name);
        self.parameters.entry(key).or_default().push(var);
        Ok(var)
    }

    /// Adds a tensor that is part of the program, of a float or an integer dtype.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when its dtype does not run.
    pub fn constant(&mut self, tensor: Tensor) -> Result<Var> {
        let (shape, is_int) = (tensor.shape().clone(), !tensor.dtype().is_float());
        let tensor = if is_int {
            let narrow = |x: i64| {
                i32::try_from(x).map_err(|_| Error::unsupported(format!("the constant {x} does not fit 32 bits")))
            };
            Tensor::new(shape.clone(), tensor.to_i64()?.into_iter().map(narrow).collect::<Result<Vec<_>>>()?)?
        } else if tensor.dtype() == DType::F32 {
            tensor
        } else {
            Tensor::new(shape.clone(), tensor.to_f32()?)?
        };
        Ok(self.add_node(Op::Constant(tensor), vec![], shape, is_int, ""))
    }

    /// The elements of a parameter or a constant.
    pub(crate) fn known(&self, x: Var) -> Result<Option<Tensor>> {
        match &self.node(x).op {
            Op::Parameter(parameter) => Tensor::from_stored(&parameter.tensor).map(Some),
            Op::Constant(tensor) => Ok(Some(tensor.clone())),
            _ => Ok(None),
        }
    }

    /// A scalar constant.
    pub(crate) fn scalar(&mut self, value: f32) -> Var {
        let tensor = Tensor::new([], [value]).expect("one element");
        self.add_node(Op::Constant(tensor), vec![], Shape::default(), false, "")
    }

    /// The shape of a value.
    pub fn shape(&self, x: Var) -> &Shape {
        &self.node(x).shape
    }

    /// The name of a value: a parameter's name in the state dict, a layer's name where it is known, or nothing.
    pub fn name(&self, x: Var) -> &str {
        &self.node(x).name
    }

    pub(crate) fn node(&self, x: Var) -> &Node {
        &self.nodes[x.0 as usize]
    }

    /// Every value, in the order of computation.
    pub(crate) fn vars(&self) -> impl Iterator<Item = Var> + use<> {
        (0..self.nodes.len() as u32).map(Var)
    }

    /// Adds a node. The name may be empty: then it is that of the first input that has one and is not a parameter.
    pub(crate) fn add_node(&mut self, op: Op, inputs: Vec<Var>, shape: Shape, is_int: bool, name: &str) -> Var {
        let is_constant = match op {
            Op::Input => false,
            Op::Parameter(_) | Op::Constant(_) => true,
            _ => inputs.iter().all(|&x| self.node(x).is_constant),
        };
        self.nodes.push(Node { op, inputs, shape, is_int, is_constant, name: name.into() });
        Var(u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes"))
    }

    /// Adds a float node without a name.
    fn add_float(&mut self, op: Op, inputs: Vec<Var>, shape: impl Into<Shape>) -> Var {
        self.add_node(op, inputs, shape.into(), false, "")
    }

    /// How often each value is used; an output counts as a use.
    pub(crate) fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for &x in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            counts[x.0 as usize] += 1;
        }
        counts
    }

    /// A value as an error names it: `` `fc.weight` [10, 3] `` or `input [2, 4]`.
    fn describe(&self, x: Var, role: &str) -> String {
        let node = self.node(x);
        match &node.op {
            Op::Parameter(p) => format!("{role} `{}` {}", p.name, node.shape),
            _ => format!("{role} {}", node.shape),
        }
    }

    /// An error unless the values are floats.
    fn expect_float(&self, op: &str, inputs: &[Var]) -> Result<()> {
        match inputs.iter().find(|&&x| self.node(x).is_int) {
            None => Ok(()),
            Some(&x) => Err(Error::unsupported(format!(
                "{op}: {} holds integers, floats are expected",
                self.describe(x, "input")
            ))),
        }
    }
}
