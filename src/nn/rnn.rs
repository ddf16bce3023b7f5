//! RNN, LSTM, GRU.

use super::module::{Field, FieldMut, Fields, FieldsMut, Module, Structure};
use super::repr::{boolean, float};
use super::slot::Parameter;
use crate::error::{Error, Result};
use crate::graph::{Cell, CellWeights, Graph, Recurrent, Var};

/// The arguments and weights that all recurrent layers have.
struct Base {
    cell: Cell,
    input_size: usize,
    hidden_size: usize,
    proj_size: usize,
    num_layers: usize,
    bias: bool,
    batch_first: bool,
    dropout: f64,
    bidirectional: bool,
    /// `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0`, then those of `l0_reverse`, `l1`, ...
    weights: Vec<(String, Parameter)>,
}

impl Base {
    fn new(cell: Cell, input_size: usize, hidden_size: usize) -> Self {
        let base = Self {
            cell,
            input_size,
            hidden_size,
            proj_size: 0,
            num_layers: 1,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            bidirectional: false,
            weights: Vec::new(),
        };
        base.with_weights()
    }

    fn with_weights(mut self) -> Self {
        let directions: &[&str] = if self.bidirectional { &["", "_reverse"] } else { &[""] };
        let state = if self.proj_size > 0 { self.proj_size } else { self.hidden_size };
        let height = self.cell.gates() * self.hidden_size;
        self.weights = Vec::new();
        for layer in 0..self.num_layers {
            let input = if layer == 0 { self.input_size } else { state * directions.len() };
            for direction in directions {
                let mut add = |name: &str, shape: &[usize]| {
                    self.weights.push((format!("{name}_l{layer}{direction}"), Parameter::new(shape)));
                };
                add("weight_ih", &[height, input]);
                add("weight_hh", &[height, state]);
                if self.bias {
                    add("bias_ih", &[height]);
                    add("bias_hh", &[height]);
                }
                if self.proj_size > 0 {
                    add("weight_hr", &[self.proj_size, self.hidden_size]);
                }
            }
        }
        self
    }

    fn run(&self, graph: &mut Graph, x: Var, states: Option<&[Var]>) -> Result<(Var, Vec<Var>)> {
        if self.num_layers == 0 || self.hidden_size == 0 || self.proj_size >= self.hidden_size.max(1) {
            let (layers, hidden, projection) = (self.num_layers, self.hidden_size, self.proj_size);
            return Err(Error::shape(format!(
                "{layers} recurrent layers with a state of {hidden} and a projection to {projection}"
            ))
            .help("expected at least one layer, and a projection to less than the state"));
        }
        let each = 2 + 2 * usize::from(self.bias) + usize::from(self.proj_size > 0);
        let mut weights = Vec::new();
        for own in self.weights.chunks(each) {
            let vars = own.iter().map(|(_, weight)| weight.var(graph)).collect::<Result<Vec<_>>>()?;
            weights.push(CellWeights {
                input: vars[0],
                hidden: vars[1],
                input_bias: self.bias.then(|| vars[2]),
                hidden_bias: self.bias.then(|| vars[3]),
                projection: (self.proj_size > 0).then(|| vars[each - 1]),
            });
        }
        let (bidirectional, batch_first) = (self.bidirectional, self.batch_first);
        Recurrent { cell: self.cell, weights, bidirectional, batch_first }.run(graph, x, states)
    }

    fn extra_repr(&self) -> String {
        let mut text = format!("{}, {}", self.input_size, self.hidden_size);
        if self.proj_size != 0 {
            text += &format!(", proj_size={}", self.proj_size);
        }
        if self.num_layers != 1 {
            text += &format!(", num_layers={}", self.num_layers);
        }
        if !self.bias {
            text += &format!(", bias={}", boolean(false));
        }
        if self.batch_first {
            text += &format!(", batch_first={}", boolean(true));
        }
        if self.dropout != 0.0 {
            text += &format!(", dropout={}", float(self.dropout));
        }
        if self.bidirectional {
            text += &format!(", bidirectional={}", boolean(true));
        }
        text
    }
}

/// What each of the layers has.
macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident($cell:expr) gives $states:literal $state:ty: $wrap:expr, $unwrap:expr;)*) => { $(
        $(#[$doc])*
        pub struct $name(Base);

        impl $name {
            #[doc = concat!("`nn.", stringify!($name), "(input_size, hidden_size)`.")]
            pub fn new(input_size: usize, hidden_size: usize) -> Self {
                Self(Base::new($cell, input_size, hidden_size))
            }

            /// The number of layers, each over the outputs of the one before it: 1 by default.
            #[must_use]
            pub fn num_layers(self, num_layers: usize) -> Self {
                Self(Base { num_layers, ..self.0 }.with_weights())
            }

            /// Whether there are biases: by default.
            #[must_use]
            pub fn bias(self, bias: bool) -> Self {
                Self(Base { bias, ..self.0 }.with_weights())
            }

            /// Whether the batch is the first dimension of input and output: not by default.
            #[must_use]
            pub fn batch_first(self, batch_first: bool) -> Self {
                Self(Base { batch_first, ..self.0 })
            }

            /// The dropout between the layers in training; it is kept to be printed.
            #[must_use]
            pub fn dropout(self, dropout: f64) -> Self {
                Self(Base { dropout, ..self.0 })
            }

            /// Whether each layer also runs from the last step to the first: not by default.
            #[must_use]
            pub fn bidirectional(self, bidirectional: bool) -> Self {
                Self(Base { bidirectional, ..self.0 }.with_weights())
            }

            #[doc = concat!("The outputs of all steps and ", $states, ", from the states given, else from zeros:")]
            #[doc = concat!("`output, state = ", stringify!($name), "(x, state)`.")]
            ///
            /// # Errors
            /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit.
            pub fn forward_from(&self, graph: &mut Graph, x: Var, state: Option<$state>) -> Result<(Var, $state)> {
                let state = state.map($unwrap);
                let (y, last) = self.0.run(graph, x, state.as_ref().map(<[Var; _]>::as_slice))?;
                Ok((y, $wrap(last)))
            }
        }

        impl Structure for $name {
            fn class_name(&self) -> &str {
                stringify!($name)
            }

            fn fields(&self) -> Fields<'_> {
                self.0.weights.iter().map(|(name, weight)| (name.as_str().into(), Field::Parameter(weight))).collect()
            }

            fn fields_mut(&mut self) -> FieldsMut<'_> {
                let weights = self.0.weights.iter_mut();
                weights.map(|(name, weight)| (name.as_str().into(), FieldMut::Parameter(weight))).collect()
            }

            crate::module!(@object);
        }

        crate::module!(@display $name);

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                Ok(self.0.run(graph, x, None)?.0)
            }

            fn extra_repr(&self) -> String {
                self.0.extra_repr()
            }
        }
    )* };
}

layers! {
    /// `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)` over the steps of `[steps, batch, input_size]` (or
    /// `[batch, steps, input_size]` with `batch_first(true)`, or `[steps, input_size]`), giving `[steps, batch,
    /// directions * hidden_size]`.
    ///
    /// `forward` starts from zeros and gives the output alone; [`forward_from`](Self::forward_from) takes and gives the
    /// state too, `[num_layers * directions, batch, hidden_size]`.
    ///
    /// [`nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html).
    RNN(Cell::Tanh) gives "the last state" Var: |last: Vec<Var>| last[0], |state| [state];

    /// A layer with an input, a forget and an output gate, over the steps of `[steps, batch, input_size]` (or
    /// `[batch, steps, input_size]` with `batch_first(true)`, or `[steps, input_size]`), giving `[steps, batch,
    /// directions * hidden_size]`.
    ///
    /// `forward` starts from zeros and gives the output alone; [`forward_from`](Self::forward_from) takes and gives the
    /// two states `h` and `c` too, `[num_layers * directions, batch, hidden_size]` each.
    ///
    /// [`nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).
    ///
    /// ```
    /// use sconce::nn::{LSTM, Module};
    ///
    /// let lstm = LSTM::new(8, 16).num_layers(2).batch_first(true);
    /// assert_eq!(lstm.to_string(), "LSTM(8, 16, num_layers=2, batch_first=True)");
    /// assert_eq!(lstm.named_parameters()[4].0, "weight_ih_l1");
    /// ```
    LSTM(Cell::Lstm) gives "the last states `h` and `c`" [Var; 2]: |last: Vec<Var>| [last[0], last[1]], |states| states;

    /// A layer with a reset and an update gate, over the steps of `[steps, batch, input_size]` (or `[batch, steps,
    /// input_size]` with `batch_first(true)`, or `[steps, input_size]`), giving `[steps, batch, directions *
    /// hidden_size]`.
    ///
    /// `forward` starts from zeros and gives the output alone; [`forward_from`](Self::forward_from) takes and gives the
    /// state too, `[num_layers * directions, batch, hidden_size]`.
    ///
    /// [`nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html).
    GRU(Cell::Gru) gives "the last state" Var: |last: Vec<Var>| last[0], |state| [state];
}

impl RNN {
    /// ReLU instead of tanh.
    #[must_use]
    pub fn relu(self) -> Self {
        Self(Base { cell: Cell::Relu, ..self.0 })
    }
}

impl LSTM {
    /// The size that the output is projected to, smaller than `hidden_size`: 0, the default, for none.
    #[must_use]
    pub fn proj_size(self, proj_size: usize) -> Self {
        Self(Base { proj_size, ..self.0 }.with_weights())
    }
}
