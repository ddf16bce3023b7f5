//! Pointwise functions.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Value, pointwise};
use crate::graph::op::{Binary, Op, Program, Unary};
use crate::graph::step::Kernel;
use crate::graph::view::View;
use crate::graph::{Graph, Var};
use crate::shape::Shape;

/// How `gelu` is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approximate {
    /// With the error function: `x / 2 * (1 + erf(x / sqrt(2)))`.
    #[default]
    None,
    /// With the hyperbolic tangent: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    Tanh,
}

macro_rules! unary {
    ($($name:ident $variant:ident $doc:literal,)*) => {
        impl Graph {
            $(
                #[doc = $doc]
                ///
                /// # Errors
                /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
                pub fn $name(&mut self, x: Var) -> Result<Var> {
                    self.unary(Unary::$variant, x)
                }
            )*
        }
    };
}

unary! {
    relu Relu "`max(x, 0)`; NaN stays. [`torch.nn.ReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html).",
    sigmoid Sigmoid "`1 / (1 + exp(-x))`. [`torch.nn.Sigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html).",
    tanh Tanh "The hyperbolic tangent. [`torch.nn.Tanh`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html).",
    silu Silu "`x * sigmoid(x)`. [`torch.nn.SiLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html).",
    hardswish Hardswish "`x * relu6(x + 3) / 6`. [`torch.nn.Hardswish`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardswish.html).",
    hardsigmoid Hardsigmoid "`relu6(x + 3) / 6`. [`torch.nn.Hardsigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html).",
    neg Neg "`-x`.",
    abs Abs "`|x|`.",
    exp Exp "The exponential.",
    log Log "The natural logarithm.",
    sqrt Sqrt "The square root.",
    rsqrt Rsqrt "`1 / sqrt(x)`.",
    erf Erf "The error function.",
}

macro_rules! binary {
    ($($name:ident $variant:ident $doc:literal,)*) => {
        impl Graph {
            $(
                #[doc = $doc]
                ///
                /// # Errors
                /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the shapes do not broadcast,
                /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
                pub fn $name(&mut self, a: Var, b: Var) -> Result<Var> {
                    self.binary(Binary::$variant, a, b)
                }
            )*
        }
    };
}

binary! {
    add Add "`a + b`, broadcasting.",
    sub Sub "`a - b`, broadcasting.",
    mul Mul "`a * b`, broadcasting.",
    div Div "`a / b`, broadcasting.",
    maximum Maximum "The larger of `a` and `b`, broadcasting; NaN wins.",
    minimum Minimum "The smaller of `a` and `b`, broadcasting; NaN wins.",
    pow Pow "`a` to the power `b`, broadcasting.",
}

impl Graph {
    /// `min(max(x, 0), 6)`. [`torch.nn.ReLU6`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU6.html).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn relu6(&mut self, x: Var) -> Result<Var> {
        self.hardtanh(x, 0.0, 6.0)
    }

    /// `min(max(x, min), max)`; NaN stays.
    /// [`torch.nn.Hardtanh`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when `min` is not at most `max`,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn hardtanh(&mut self, x: Var, min: f32, max: f32) -> Result<Var> {
        if min.is_nan() || max.is_nan() || min > max {
            return Err(Error::shape(format!("hardtanh: {min} is not at most {max}")));
        }
        self.unary(Unary::Clamp { min, max }, x)
    }

    /// `x` where it is positive, else `negative_slope * x`.
    /// [`torch.nn.LeakyReLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn leaky_relu(&mut self, x: Var, negative_slope: f32) -> Result<Var> {
        self.unary(Unary::LeakyRelu { slope: negative_slope }, x)
    }

    /// `x` where it is positive, else `alpha * (exp(x) - 1)`.
    /// [`torch.nn.ELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn elu(&mut self, x: Var, alpha: f32) -> Result<Var> {
        self.unary(Unary::Elu { alpha }, x)
    }

    /// The Gaussian error linear unit.
    /// [`torch.nn.GELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn gelu(&mut self, x: Var, approximate: Approximate) -> Result<Var> {
        match approximate {
            Approximate::None => self.unary(Unary::Gelu, x),
            Approximate::Tanh => self.unary(Unary::GeluTanh, x),
        }
    }

    /// `x + value`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn add_scalar(&mut self, x: Var, value: f32) -> Result<Var> {
        let value = self.scalar(value);
        self.add(x, value)
    }

    /// `x * value`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for integers.
    pub fn mul_scalar(&mut self, x: Var, value: f32) -> Result<Var> {
        let value = self.scalar(value);
        self.mul(x, value)
    }

    pub(crate) fn unary(&mut self, unary: Unary, x: Var) -> Result<Var> {
        if unary != Unary::FromInt {
            self.expect_float(unary.name(), &[x])?;
        }
        let shape = self.shape(x).clone();
        Ok(self.add_node(Op::Unary(unary), vec![x], shape, unary == Unary::ToInt, ""))
    }

    /// Integers as floats; whole numbers up to 2^24 are exact.
    pub(crate) fn int_to_float(&mut self, x: Var) -> Result<Var> {
        self.unary(Unary::FromInt, x)
    }

    /// Floats as integers, what is behind the point cut off.
    pub(crate) fn float_to_int(&mut self, x: Var) -> Result<Var> {
        self.unary(Unary::ToInt, x)
    }

    pub(crate) fn binary(&mut self, binary: Binary, a: Var, b: Var) -> Result<Var> {
        self.expect_float(binary.name(), &[a, b])?;
        let shape = Shape::broadcast(self.shape(a), self.shape(b)).map_err(|error| error.context(binary.name()))?;
        Ok(self.add_float(Op::Binary(binary), vec![a, b], shape))
    }
}

impl Lowering<'_> {
    pub(in crate::graph) fn pointwise(
        &mut self,
        program: &Program,
        inputs: &[Value],
        shape: &[usize],
        is_int: bool,
    ) -> Value {
        // The output lies in memory as the first dense input of its shape does.
        let order = inputs
            .iter()
            .filter(|value| value.view.shape == shape)
            .map(|value| (value, value.view.order()))
            .find(|(value, order)| value.view.is_dense_in(order))
            .map_or_else(|| (0..shape.len()).collect(), |(_, order)| order);
        let out = View::dense(shape, &order);
        let views: Vec<&View> = inputs.iter().map(|value| &value.view).collect();
        let kernel = Kernel::Pointwise(pointwise(program.clone(), &views, &out, false));
        let out = self.dense(shape, &order, is_int, inputs, &kernel);
        self.push(kernel, inputs, &out);
        out
    }
}
