//! Every layer of `nn`, built from its arguments and loaded from a state dict, against PyTorch's: outputs and print.

mod common;

use common::cases::index;
use common::compare::{Tolerance, compare};
use common::{data, devices};
use sconce::checkpoint::Value;
use sconce::nn::{self, Module};
use sconce::{Model, Result, StateDict, Strict, Tensor};

/// The sums of the cases have at most a few dozen terms.
const TOLERANCE: Tolerance = Tolerance::OfLargest(5e-6);

#[test]
fn layers_compute_what_pytorch_computes() {
    let file = sconce::load(data("layers.pt")).unwrap();
    let mut failures = Vec::new();
    for case in file["cases"].as_list().unwrap() {
        for device in devices() {
            let mut layer = build(case).unwrap();
            layer.load_state_dict(&state_dict(case).unwrap(), Strict::Yes).unwrap();
            let model = Model::new(layer, device).unwrap();
            let [x, expected] =
                ["input", "expected"].map(|key| Tensor::from_stored(case[key].as_tensor().unwrap()).unwrap());
            let result = model.run(&[x]).map_err(|error| error.to_string());
            let result = result.and_then(|found| compare(&found, &[expected], TOLERANCE));
            failures.extend(result.err().map(|error| format!("{} on {device}: {error}", printed(case))));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn layers_print_as_pytorch_prints_them() {
    let file = sconce::load(data("layers.pt")).unwrap();
    for case in file["cases"].as_list().unwrap() {
        assert_eq!(build(case).unwrap().as_module().to_string(), printed(case));
    }
}

#[test]
fn layers_have_the_names_of_pytorch() {
    let file = sconce::load(data("layers.pt")).unwrap();
    for case in file["cases"].as_list().unwrap() {
        let mut layer = build(case).unwrap();
        let state = state_dict(case).unwrap();
        layer.load_state_dict(&state, Strict::Yes).unwrap();
        assert!(layer.state_dict().names().eq(state.names()), "{}", printed(case));
    }
}

fn printed(case: &Value) -> &str {
    case["printed"].as_str().unwrap()
}

fn state_dict(case: &Value) -> Result<StateDict> {
    let mut state = StateDict::new();
    for (name, tensor) in case["state_dict"].as_dict()? {
        state.insert(name.as_str()?, tensor.as_tensor()?.clone());
    }
    Ok(state)
}

/// The layer of a case, from PyTorch's name and arguments.
fn build(case: &Value) -> Result<Box<dyn Module>> {
    let args = Args(case);
    macro_rules! boxed {
        ($layer:expr) => {
            Ok(Box::new($layer))
        };
        ($layer:expr; $($name:ident $read:ident),*) => {{
            let mut layer = $layer;
            $(if let Some(value) = args.keyword(stringify!($name)) { layer = layer.$name($read(value)?); })*
            Ok(Box::new(layer))
        }};
    }
    match case["layer"].as_str()? {
        "Linear" => boxed!(nn::Linear::new(args.size(0)?, args.size(1)?); bias boolean),
        "Conv1d" => boxed!(nn::Conv1d::new(args.size(0)?, args.size(1)?, args.size(2)?); stride index, padding index),
        "Conv2d" => boxed!(nn::Conv2d::new(args.size(0)?, args.size(1)?, dims(args.at(2))?);
            stride dims, padding padding, dilation dims, groups index, bias boolean, padding_mode padding_mode),
        "BatchNorm1d" => boxed!(nn::BatchNorm1d::new(args.size(0)?); affine boolean),
        "BatchNorm2d" => boxed!(nn::BatchNorm2d::new(args.size(0)?); eps float, track_running_stats boolean),
        "BatchNorm3d" => boxed!(nn::BatchNorm3d::new(args.size(0)?)),
        "LayerNorm" => {
            boxed!(nn::LayerNorm::new(sizes(args.at(0))?); eps float, bias boolean, elementwise_affine boolean)
        }
        "Embedding" => boxed!(nn::Embedding::new(args.size(0)?, args.size(1)?)),
        "ReLU" => boxed!(nn::ReLU::new()),
        "ReLU6" => boxed!(nn::ReLU6::new()),
        "LeakyReLU" => boxed!(nn::LeakyReLU::new(args.float("negative_slope")?)),
        "Sigmoid" => boxed!(nn::Sigmoid::new()),
        "Tanh" => boxed!(nn::Tanh::new()),
        "SiLU" => boxed!(nn::SiLU::new()),
        "GELU" => boxed!(nn::GELU::new(); approximate approximate),
        "Hardswish" => boxed!(nn::Hardswish::new()),
        "Hardsigmoid" => boxed!(nn::Hardsigmoid::new()),
        "ELU" => boxed!(nn::ELU::new(args.float("alpha")?)),
        "Softmax" => boxed!(nn::Softmax::new(args.float("dim")? as isize)),
        "LogSoftmax" => boxed!(nn::LogSoftmax::new(args.float("dim")? as isize)),
        "MaxPool2d" => boxed!(nn::MaxPool2d::new(dims(args.at(0))?); stride dims, padding dims, ceil_mode boolean),
        "AvgPool2d" => {
            boxed!(nn::AvgPool2d::new(dims(args.at(0))?); stride dims, padding dims, count_include_pad boolean)
        }
        "AdaptiveAvgPool2d" => boxed!(nn::AdaptiveAvgPool2d::new(output_size(args.at(0))?)),
        "AdaptiveMaxPool2d" => boxed!(nn::AdaptiveMaxPool2d::new(output_size(args.at(0))?)),
        "MaxPool1d" => boxed!(nn::MaxPool1d::new(args.size(0)?); stride index),
        "AvgPool1d" => boxed!(nn::AvgPool1d::new(args.size(0)?); padding index),
        "AdaptiveAvgPool1d" => boxed!(nn::AdaptiveAvgPool1d::new(args.size(0)?)),
        "Hardtanh" => boxed!(nn::Hardtanh::new(args.at(0).as_f64()?, args.at(1).as_f64()?)),
        "Dropout" => boxed!(nn::Dropout::new(args.at(0).as_f64()?)),
        "Flatten" => match args.0["positional"].as_list()?.len() {
            2 => {
                boxed!(nn::Flatten::new().start_dim(args.size(0)? as isize).end_dim(args.size(1)? as isize))
            }
            _ => boxed!(nn::Flatten::new()),
        },
        "Identity" => boxed!(nn::Identity::new()),
        "MultiheadAttention" => {
            boxed!(nn::MultiheadAttention::new(args.size(0)?, args.size(1)?); batch_first boolean, bias boolean)
        }
        "TransformerEncoderLayer" => {
            let layer = nn::TransformerEncoderLayer::new(args.size(0)?, args.size(1)?);
            let layer = if args.keyword("activation").is_some() { layer.gelu() } else { layer };
            boxed!(layer; dim_feedforward index, batch_first boolean, norm_first boolean)
        }
        "RNN" => boxed!(nn::RNN::new(args.size(0)?, args.size(1)?); num_layers index),
        "GRU" => {
            boxed!(nn::GRU::new(args.size(0)?, args.size(1)?); num_layers index, bidirectional boolean, dropout float)
        }
        "LSTM" => boxed!(nn::LSTM::new(args.size(0)?, args.size(1)?);
            num_layers index, batch_first boolean, bidirectional boolean, proj_size index, bias boolean),
        other => panic!("the layer `{other}` of the reference cases is not known to the tests"),
    }
}

/// The positional and keyword arguments of a case.
struct Args<'a>(&'a Value);

impl<'a> Args<'a> {
    fn at(&self, position: usize) -> &'a Value {
        &self.0["positional"][position]
    }

    fn size(&self, position: usize) -> Result<usize> {
        index(self.at(position))
    }

    fn keyword(&self, name: &str) -> Option<&'a Value> {
        self.0["args"].get(name)
    }

    /// PyTorch's defaults are spelled out where the constructor here has no default.
    fn float(&self, name: &str) -> Result<f64> {
        self.keyword(name).unwrap_or_else(|| panic!("{} needs {name}", self.0["layer"])).as_f64()
    }
}

fn boolean(value: &Value) -> Result<bool> {
    value.as_bool()
}

fn float(value: &Value) -> Result<f64> {
    value.as_f64()
}

/// One size or a list of them.
fn sizes(value: &Value) -> Result<Vec<usize>> {
    match value.as_list() {
        Ok(list) => list.iter().map(index).collect(),
        Err(_) => Ok(vec![index(value)?]),
    }
}

fn dims(value: &Value) -> Result<nn::Dims<2>> {
    Ok(match value.as_list() {
        Ok(_) => pair(value)?.into(),
        Err(_) => index(value)?.into(),
    })
}

fn output_size(value: &Value) -> Result<nn::Dims<2, Option<usize>>> {
    let size = |value: &Value| if value.is_none() { Ok(None) } else { index(value).map(Some) };
    Ok(match value.as_list() {
        Ok(list) => [size(&list[0])?, size(&list[1])?].into(),
        Err(_) => index(value)?.into(),
    })
}

/// A pair, or one size that stands for both.
fn pair(value: &Value) -> Result<[usize; 2]> {
    let sizes = sizes(value)?;
    Ok([sizes[0], sizes[sizes.len() - 1]])
}

fn padding(value: &Value) -> Result<nn::Padding<2>> {
    Ok(match value.as_str() {
        Ok("same") => nn::Padding::Same,
        Ok(other) => panic!("padding {other}"),
        Err(_) => nn::Padding::Explicit(pair(value)?),
    })
}

fn padding_mode(value: &Value) -> Result<nn::PaddingMode> {
    Ok(match value.as_str()? {
        "reflect" => nn::PaddingMode::Reflect,
        other => panic!("padding mode {other}"),
    })
}

fn approximate(value: &Value) -> Result<nn::Approximate> {
    Ok(match value.as_str()? {
        "tanh" => nn::Approximate::Tanh,
        other => panic!("approximate {other}"),
    })
}
