//! The cases of `tools/reference.py`: graphs as data, and how a model is built from one.

use std::sync::Arc;

use sconce::checkpoint::{StoredTensor, Value};
use sconce::{
    Approximate, AvgPoolOptions, ConvOptions, Device, Graph, MaxPoolOptions, Model, PadMode, Padding, PaddingMode,
    Result, Tensor, Var,
};

use super::compare::{Tolerance, compare};

/// A small graph with inputs, parameters, and the outputs that PyTorch gives.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) parameters: Vec<(String, StoredTensor)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<usize>,
    pub(crate) expected: Vec<Tensor>,
    pub(crate) tolerance: Tolerance,
}

/// One op: the numbers of its inputs, `None` where an optional one is left out, and its arguments.
pub(crate) struct Node {
    pub(crate) op: String,
    pub(crate) inputs: Vec<Option<usize>>,
    pub(crate) args: Value,
}

/// The cases of `tests/data/ops/FAMILY.pt`.
pub(crate) fn read_family(family: &str) -> Result<Vec<Arc<Case>>> {
    let file = sconce::load(super::data(&format!("ops/{family}.pt")))?;
    file["cases"].as_list()?.iter().map(|case| read_case(case).map(Arc::new)).collect()
}

fn read_case(case: &Value) -> Result<Case> {
    let tensors = |key: &str| -> Result<Vec<Tensor>> {
        case[key].as_list()?.iter().map(|x| Tensor::from_stored(x.as_tensor()?)).collect()
    };
    let parameters = case["parameters"].as_dict()?.iter();
    let parameters = parameters.map(|(name, tensor)| Ok((name.as_str()?.to_string(), tensor.as_tensor()?.clone())));
    let nodes = case["nodes"].as_list()?.iter().map(|node| {
        let inputs = node["in"].as_list()?.iter();
        let inputs = inputs.map(|x| if x.is_none() { Ok(None) } else { index(x).map(Some) });
        Ok(Node { op: node["op"].as_str()?.into(), inputs: inputs.collect::<Result<_>>()?, args: node["args"].clone() })
    });
    Ok(Case {
        name: case["name"].as_str()?.into(),
        inputs: tensors("inputs")?,
        parameters: parameters.collect::<Result<_>>()?,
        nodes: nodes.collect::<Result<_>>()?,
        outputs: case["outputs"].as_list()?.iter().map(index).collect::<Result<_>>()?,
        expected: tensors("expected")?,
        tolerance: match case["pointwise"].as_bool()? {
            true => Tolerance::Elementwise,
            false => Tolerance::sums(index(&case["terms"])?),
        },
    })
}

/// Runs a case twice, since the second run replays the plan of the first.
pub(crate) fn run_case(case: &Arc<Case>, device: &Device) -> Result<(), String> {
    let graph = Arc::clone(case);
    let model = Model::from_fn(device, move |g: &mut Graph, x: &[Var]| build(g, x, &graph));
    for _ in 0..2 {
        let found = model.run(&case.inputs).map_err(|error| error.to_string())?;
        compare(&found, &case.expected, case.tolerance)?;
    }
    Ok(())
}

fn build(g: &mut Graph, inputs: &[Var], case: &Case) -> Result<Vec<Var>> {
    let mut values = inputs.to_vec();
    for (name, tensor) in &case.parameters {
        values.push(g.parameter(name, tensor)?);
    }
    for node in &case.nodes {
        let x: Vec<Option<Var>> = node.inputs.iter().map(|i| i.map(|i| values[i])).collect();
        let y = add_node(g, &node.op, &x, Args(&node.args))?;
        values.push(y);
    }
    Ok(case.outputs.iter().map(|&i| values[i]).collect())
}

/// Adds the op of this name, one of those that `tools/reference_cases/record.py` knows.
fn add_node(g: &mut Graph, op: &str, x: &[Option<Var>], args: Args<'_>) -> Result<Var> {
    let input = |i: usize| x[i].unwrap_or_else(|| panic!("{op}: input {i} is needed"));
    let pair = |i: usize| x[i].zip(x[i + 1]);
    macro_rules! call {
        ($($name:ident($($arg:expr),*))*) => { match op { $(stringify!($name) => return g.$name($($arg),*),)* _ => {} } };
    }
    call! {
        linear(input(0), input(1), x[2])
        conv1d(input(0), input(1), x[2], &args.conv()?)
        conv2d(input(0), input(1), x[2], &args.conv()?)
        batch_norm(input(0), pair(1), pair(3), args.f32("eps")?)
        layer_norm(input(0), &args.sizes("shape")?, x[1], x[2], args.f32("eps")?)
        softmax(input(0), args.int("dim")?)
        log_softmax(input(0), args.int("dim")?)
        cumsum(input(0), args.int("dim")?)
        max_pool1d(input(0), &args.max_pool()?)
        max_pool2d(input(0), &args.max_pool()?)
        avg_pool1d(input(0), &args.avg_pool()?)
        avg_pool2d(input(0), &args.avg_pool()?)
        adaptive_avg_pool1d(input(0), args.int("output_size")? as usize)
        adaptive_max_pool1d(input(0), args.int("output_size")? as usize)
        adaptive_avg_pool2d(input(0), args.output_size()?)
        adaptive_max_pool2d(input(0), args.output_size()?)
        mean(input(0), &args.ints("dim")?, args.bool("keepdim")?)
        sum(input(0), &args.ints("dim")?, args.bool("keepdim")?)
        amax(input(0), &args.ints("dim")?, args.bool("keepdim")?)
        matmul(input(0), input(1))
        embedding(input(0), input(1))
        add(input(0), input(1))
        sub(input(0), input(1))
        mul(input(0), input(1))
        div(input(0), input(1))
        maximum(input(0), input(1))
        minimum(input(0), input(1))
        pow(input(0), input(1))
        flatten(input(0), args.int("start_dim")?, args.int("end_dim")?)
        reshape(input(0), &args.ints("shape")?)
        permute(input(0), &args.ints("dims")?)
        transpose(input(0), args.int("dim0")?, args.int("dim1")?)
        squeeze(input(0), args.int("dim")?)
        unsqueeze(input(0), args.int("dim")?)
        expand(input(0), &args.ints("shape")?)
        leaky_relu(input(0), args.f32("negative_slope")?)
        hardtanh(input(0), args.f32("min_val")?, args.f32("max_val")?)
        elu(input(0), args.f32("alpha")?)
        relu(input(0))
        relu6(input(0))
        sigmoid(input(0))
        tanh(input(0))
        silu(input(0))
        hardswish(input(0))
        hardsigmoid(input(0))
        neg(input(0))
        abs(input(0))
        exp(input(0))
        log(input(0))
        sqrt(input(0))
        rsqrt(input(0))
        erf(input(0))
    }
    match op {
        "dropout" => Ok(input(0)),
        "constant" => g.constant(Tensor::from_stored(args.0["value"].as_tensor()?)?),
        "cat" => g.cat(&(0..x.len()).map(input).collect::<Vec<_>>(), args.int("dim")?),
        "gelu" => g.gelu(input(0), args.approximate()?),
        "slice" => {
            let [start, end, step] = [args.int("start")?, args.int("end")?, args.int("step")?].map(|x| x as usize);
            g.slice(input(0), args.int("dim")?, start, end, step)
        }
        "pad" => {
            let pads = args.pads(g.shape(input(0)).len())?;
            g.pad(input(0), &pads, args.pad_mode()?)
        }
        "scaled_dot_product_attention" => {
            let scale = (!args.0["scale"].is_none()).then(|| args.f32("scale")).transpose()?;
            g.scaled_dot_product_attention(input(0), input(1), input(2), x[3], args.bool("is_causal")?, scale)
        }
        _ => panic!("the op `{op}` of the reference cases is not known to the tests"),
    }
}

/// The arguments of an op, by PyTorch's names.
#[derive(Clone, Copy)]
struct Args<'a>(&'a Value);

impl Args<'_> {
    fn int(self, name: &str) -> Result<isize> {
        Ok(self.0[name].as_i64()? as isize)
    }

    fn ints(self, name: &str) -> Result<Vec<isize>> {
        self.0[name].as_list()?.iter().map(|x| Ok(x.as_i64()? as isize)).collect()
    }

    fn sizes(self, name: &str) -> Result<Vec<usize>> {
        self.0[name].as_list()?.iter().map(index).collect()
    }

    /// A list of one size a dimension, if it is given.
    fn each<const N: usize>(self, name: &str) -> Result<Option<[usize; N]>> {
        let Some(_) = self.0.get(name) else { return Ok(None) };
        let sizes = self.sizes(name)?;
        Ok(Some(sizes.try_into().unwrap_or_else(|sizes| panic!("{name}: {sizes:?} has not {N} sizes"))))
    }

    fn f32(self, name: &str) -> Result<f32> {
        Ok(self.0[name].as_f64()? as f32)
    }

    fn bool(self, name: &str) -> Result<bool> {
        self.0[name].as_bool()
    }

    fn conv<const N: usize>(self) -> Result<ConvOptions<N>> {
        let mut options = ConvOptions::default();
        options.stride = self.each("stride")?.unwrap_or(options.stride);
        options.dilation = self.each("dilation")?.unwrap_or(options.dilation);
        if let Some(groups) = self.0.get("groups") {
            options.groups = index(groups)?;
        }
        options.padding = match self.0.get("padding").map(Value::as_str) {
            None => Padding::Valid,
            Some(Ok("same")) => Padding::Same,
            Some(Ok("valid")) => Padding::Valid,
            Some(Ok(other)) => panic!("padding {other}"),
            Some(Err(_)) => Padding::Explicit(self.each("padding")?.expect("given")),
        };
        options.padding_mode = match self.0.get("padding_mode").map(Value::as_str).transpose()? {
            None => PaddingMode::Zeros,
            Some("reflect") => PaddingMode::Reflect,
            Some("replicate") => PaddingMode::Replicate,
            Some("circular") => PaddingMode::Circular,
            Some(other) => panic!("padding mode {other}"),
        };
        Ok(options)
    }

    fn max_pool<const N: usize>(self) -> Result<MaxPoolOptions<N>> {
        let mut options = MaxPoolOptions::new(self.each("kernel_size")?.expect("a kernel size"));
        options.stride = self.each("stride")?.unwrap_or(options.stride);
        options.padding = self.each("padding")?.unwrap_or(options.padding);
        options.dilation = self.each("dilation")?.unwrap_or(options.dilation);
        options.ceil_mode = self.0.get("ceil_mode").is_some_and(|x| x.as_bool().expect("a bool"));
        Ok(options)
    }

    fn avg_pool<const N: usize>(self) -> Result<AvgPoolOptions<N>> {
        let mut options = AvgPoolOptions::new(self.each("kernel_size")?.expect("a kernel size"));
        options.stride = self.each("stride")?.unwrap_or(options.stride);
        options.padding = self.each("padding")?.unwrap_or(options.padding);
        options.ceil_mode = self.0.get("ceil_mode").is_some_and(|x| x.as_bool().expect("a bool"));
        options.count_include_pad = self.0.get("count_include_pad").is_none_or(|x| x.as_bool().expect("a bool"));
        options.divisor_override = self.0.get("divisor_override").map(index).transpose()?;
        Ok(options)
    }

    fn output_size(self) -> Result<[Option<usize>; 2]> {
        let size = |i: usize| {
            let size = &self.0["output_size"][i];
            if size.is_none() { Ok(None) } else { index(size).map(Some) }
        };
        Ok([size(0)?, size(1)?])
    }

    fn approximate(self) -> Result<Approximate> {
        Ok(match self.0["approximate"].as_str()? {
            "none" => Approximate::None,
            "tanh" => Approximate::Tanh,
            other => panic!("approximate {other}"),
        })
    }

    /// PyTorch lists the pairs of the last dimensions, innermost first; the graph wants all, outermost first.
    fn pads(self, rank: usize) -> Result<Vec<(usize, usize)>> {
        let given = self.sizes("pad")?;
        let mut pads: Vec<(usize, usize)> = given.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        pads.resize(rank, (0, 0));
        pads.reverse();
        Ok(pads)
    }

    fn pad_mode(self) -> Result<PadMode> {
        Ok(match self.0["mode"].as_str()? {
            "constant" => PadMode::Constant(self.f32("value")?),
            "reflect" => PadMode::Reflect,
            "replicate" => PadMode::Replicate,
            "circular" => PadMode::Circular,
            other => panic!("padding mode {other}"),
        })
    }
}

/// A number of an input or a size.
pub(crate) fn index(value: &Value) -> Result<usize> {
    Ok(usize::try_from(value.as_i64()?).expect("sizes are not negative"))
}
