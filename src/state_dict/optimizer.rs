//! The state of an optimizer, as `optimizer.state_dict()` gives it.

use std::collections::HashMap;
use std::fmt;

use super::find::keys;
use crate::checkpoint::{Dict, StoredTensor, Value};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// What `optimizer.state_dict()` gives: the groups of parameters with their settings, and of each parameter what the
/// optimizer keeps for it. Parameters are known by their position among those that the optimizer was given.
///
/// [`torch.optim.Optimizer.state_dict`](https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.state_dict.html).
///
/// ```no_run
/// use sconce::OptimizerState;
/// let checkpoint = sconce::load("training.pth")?;
/// let optimizer = OptimizerState::try_from(&checkpoint["optimizer_state_dict"])?;
/// let group = &optimizer.param_groups()[0];
/// let (lr, betas) = (group.lr()?, group.betas()?);
/// let first = optimizer.param(0).expect("trained at least once");
/// let (step, moments) = (first.step()?, first.tensor("exp_avg")?);
/// # Ok::<(), sconce::Error>(())
/// ```
#[derive(Clone)]
pub struct OptimizerState {
    groups: Vec<ParamGroup>,
    /// By position; parameters that were never stepped have none.
    params: Vec<Option<ParamState>>,
}

/// What a file knows a parameter by: its position since torch 1.6, before that `id(parameter)`, its name in optimizers
/// of FSDP.
#[derive(PartialEq, Eq, Hash)]
enum Id<'a> {
    Int(i64),
    Name(&'a str),
}

impl<'a> Id<'a> {
    fn of(key: &'a Value) -> Option<Self> {
        match key {
            Value::Int(int) => Some(Id::Int(*int)),
            Value::Str(name) => Some(Id::Name(name)),
            _ => None,
        }
    }
}

/// One group of an optimizer's parameters: which they are, and their settings.
#[derive(Clone)]
pub struct ParamGroup {
    params: Vec<usize>,
    names: Option<Vec<String>>,
    entries: Value,
}

/// What an optimizer keeps for one parameter, such as `step`, `exp_avg` and `exp_avg_sq`, or `momentum_buffer`.
#[derive(Clone)]
pub struct ParamState {
    position: usize,
    entries: Value,
}

impl TryFrom<&Value> for OptimizerState {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`] when the value is not a dict with `state` and `param_groups` as PyTorch makes it.
    fn try_from(value: &Value) -> Result<Self> {
        let (Some(state), Some(groups)) = (value.get("state"), value.get("param_groups")) else {
            let found = value.describe();
            let error =
                Error::invalid(format!("expected an optimizer's dict of `state` and `param_groups`, found {found}"));
            return Err(match value {
                Value::Dict(dict) if !dict.is_empty() => error.help(format!("its keys are {}", keys(dict))),
                _ => error,
            });
        };
        let mut positions = HashMap::new();
        let groups = groups.as_list().map_err(|error| error.context("`param_groups`"))?;
        let groups: Vec<ParamGroup> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| {
                ParamGroup::read(group, &mut positions)
                    .map_err(|error| error.context(format_args!("`param_groups.{i}`")))
            })
            .collect::<Result<_>>()?;
        let mut params = vec![None; positions.len()];
        for (key, entries) in state.as_dict().map_err(|error| error.context("`state`"))? {
            let position = Id::of(key).and_then(|id| positions.get(&id).copied());
            let Some(position) = position else {
                // Optimizers of one's own may keep what belongs to no parameter, under names.
                match key {
                    Value::Int(_) => {
                        return Err(Error::invalid(format!("`state.{key}`: no group has the parameter {key}")));
                    }
                    _ => continue,
                }
            };
            entries.as_dict().map_err(|error| error.context(format_args!("`state.{key}`")))?;
            params[position] = Some(ParamState { position, entries: entries.clone() });
        }
        Ok(Self { groups, params })
    }
}

impl OptimizerState {
    /// The groups of parameters.
    pub fn param_groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    /// The number of parameters in all groups.
    pub fn num_params(&self) -> usize {
        self.params.len()
    }

    /// What is kept for the parameter at a position; `None` when nothing is, as before its first step.
    pub fn param(&self, position: usize) -> Option<&ParamState> {
        self.params.get(position)?.as_ref()
    }

    /// What is kept for each parameter, in their order; those for which nothing is kept are left out.
    pub fn params(&self) -> impl Iterator<Item = &ParamState> {
        self.params.iter().flatten()
    }

    /// What is kept for each parameter by its name, given the names of the parameters in the order in which the
    /// optimizer was given them: for `Adam(model.parameters())` that of
    /// [`named_parameters`](crate::nn::Module::named_parameters).
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`] when there are more or fewer names than parameters, or the file
    /// [has names for them](ParamGroup::param_names) and they are others.
    pub fn by_name<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Result<Vec<(String, &ParamState)>> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let error = |message: String| Error::new(ErrorKind::StateDict, message);
        if names.len() != self.params.len() {
            return Err(error(format!(
                "the optimizer has {} parameters, {} names were given",
                self.params.len(),
                names.len()
            ))
            .help("frozen parameters and buffers have no place unless they were given to the optimizer"));
        }
        for group in &self.groups {
            for (&position, own) in group.params.iter().zip(group.names.iter().flatten()) {
                if names[position] != *own {
                    let given = &names[position];
                    return Err(error(format!("parameter {position} of the optimizer is `{own}`, not `{given}`")));
                }
            }
        }
        Ok(self.params().map(|param| (names[param.position].clone(), param)).collect())
    }
}

impl ParamGroup {
    fn read<'a>(group: &'a Value, positions: &mut HashMap<Id<'a>, usize>) -> Result<Self> {
        let Some(params) = group.as_dict()?.get("params") else {
            return Err(Error::invalid("there is no key `params`"));
        };
        let position = |key: &'a Value| {
            let next = positions.len();
            let id = Id::of(key).ok_or_else(|| {
                Error::invalid(format!("expected the number or name of a parameter, found {}", key.describe()))
            })?;
            Ok(*positions.entry(id).or_insert(next))
        };
        let keys = params.as_list()?;
        let params = keys.iter().map(position).collect::<Result<Vec<usize>>>()?;
        let names = group.get("param_names").and_then(|names| names.as_list().ok()).or(Some(keys));
        let names = names.and_then(|names| names.iter().map(|name| Some(name.as_str().ok()?.to_string())).collect());
        Ok(Self { params, names, entries: group.clone() })
    }

    /// The positions of the group's parameters.
    pub fn params(&self) -> &[usize] {
        &self.params
    }

    /// The names of the parameters, if the file has them: the optimizer was made with `model.named_parameters()` (torch
    /// 2.6 and later) or is one of FSDP.
    pub fn param_names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// A setting by PyTorch's name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All settings, `params` among them.
    pub fn entries(&self) -> &Dict {
        entries(&self.entries)
    }

    /// A setting that is a number; one of these may be kept as a tensor of one element.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the group has no such key, [`ErrorKind::Invalid`] when it is not a number.
    pub fn number(&self, key: &str) -> Result<f64> {
        number(&self.entries, key)
    }

    /// The learning rate.
    ///
    /// # Errors
    /// Those of [`number`](Self::number).
    pub fn lr(&self) -> Result<f64> {
        self.number("lr")
    }

    /// The momentum of SGD and RMSprop.
    ///
    /// # Errors
    /// Those of [`number`](Self::number).
    pub fn momentum(&self) -> Result<f64> {
        self.number("momentum")
    }

    /// The weight decay.
    ///
    /// # Errors
    /// Those of [`number`](Self::number).
    pub fn weight_decay(&self) -> Result<f64> {
        self.number("weight_decay")
    }

    /// What is added to a denominator.
    ///
    /// # Errors
    /// Those of [`number`](Self::number).
    pub fn eps(&self) -> Result<f64> {
        self.number("eps")
    }

    /// The coefficients of the running averages of Adam and its kin.
    ///
    /// # Errors
    /// Those of [`number`](Self::number).
    pub fn betas(&self) -> Result<(f64, f64)> {
        let betas = find(&self.entries, "betas")?;
        match betas.as_list() {
            Ok([first, second]) => as_number(first).zip(as_number(second)),
            _ => None,
        }
        .ok_or_else(|| Error::invalid(format!("`betas`: expected two numbers, found {}", betas.describe())))
    }
}

impl ParamState {
    /// The position of the parameter among those of the optimizer.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The steps that were taken: PyTorch keeps an integer or, since 1.12, a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the optimizer counts none (SGD), [`ErrorKind::Invalid`] when it is no whole number.
    pub fn step(&self) -> Result<i64> {
        let step = number(&self.entries, "step")?;
        match step.trunc() == step && step.abs() < 9e15 {
            true => Ok(step as i64),
            false => Err(Error::invalid(format!("`step`: expected a whole number, found {step:?}"))),
        }
    }

    /// A tensor by PyTorch's name: `exp_avg`, `exp_avg_sq`, `momentum_buffer`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none of that name, [`ErrorKind::Invalid`] when it is something else.
    pub fn tensor(&self, name: &str) -> Result<&StoredTensor> {
        find(&self.entries, name)?.as_tensor().map_err(|error| error.context(format_args!("`{name}`")))
    }

    /// A value by PyTorch's name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.get(name)
    }

    /// Everything that is kept.
    pub fn entries(&self) -> &Dict {
        entries(&self.entries)
    }
}

fn entries(value: &Value) -> &Dict {
    value.as_dict().expect("checked when it was read")
}

fn find<'a>(value: &'a Value, key: &str) -> Result<&'a Value> {
    value.get(key).ok_or_else(|| {
        Error::not_found(format!("the optimizer has no `{key}` there"))
            .help(format!("there are {}", keys(entries(value))))
    })
}

fn number(value: &Value, key: &str) -> Result<f64> {
    let value = find(value, key)?;
    as_number(value).ok_or_else(|| Error::invalid(format!("`{key}`: expected a number, found {}", value.describe())))
}

/// A number, or the only element of a tensor.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Tensor(tensor) if tensor.shape().numel() == 1 => {
            let number = Tensor::from_stored(tensor).ok()?.to(DType::F64).ok()?;
            number.as_slice::<f64>().ok()?.first().copied()
        }
        value => value.as_f64().ok(),
    }
}

impl fmt::Debug for OptimizerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimizerState").field("param_groups", &self.groups).field("params", &self.params).finish()
    }
}

impl fmt::Debug for ParamGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.entries)
    }
}

impl fmt::Debug for ParamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Dict::from_iter(entries).into()
    }

    fn scalar(value: f32) -> Value {
        StoredTensor::from_bytes(DType::F32, [], value.to_le_bytes()).unwrap().into()
    }

    /// Two groups whose parameters have these keys.
    fn optimizer(keys: [i64; 3], state: Vec<(i64, Value)>) -> Value {
        let group = |params: &[i64], lr: Value| {
            dict([("lr", lr), ("betas", vec![0.9, 0.99].into()), ("params", params.to_vec().into())])
        };
        let groups = vec![group(&keys[..2], 0.5.into()), group(&keys[2..], scalar(0.25))];
        dict([("state", Dict::from_iter(state).into()), ("param_groups", groups.into())])
    }

    #[test]
    fn parameters_are_known_by_their_position() {
        let state = |step: Value| dict([("step", step), ("exp_avg", scalar(3.0))]);
        for keys in [[0, 1, 2], [140_000_000_000, 7, 99]] {
            let value = optimizer(keys, vec![(keys[2], state(Value::Int(4))), (keys[0], state(scalar(5.0)))]);
            let optimizer = OptimizerState::try_from(&value).unwrap();
            let groups = optimizer.param_groups();
            assert_eq!((groups[0].params(), groups[1].params()), (&[0, 1][..], &[2][..]));
            assert_eq!((groups[0].lr().unwrap(), groups[1].lr().unwrap()), (0.5, 0.25));
            assert_eq!(groups[1].betas().unwrap(), (0.9, 0.99));
            let steps: Vec<_> = optimizer.params().map(|p| (p.position(), p.step().unwrap())).collect();
            assert_eq!(steps, [(0, 5), (2, 4)]);
            assert!(optimizer.param(1).is_none());
            let named = optimizer.by_name(["a", "b", "c"]).unwrap();
            assert_eq!(named.iter().map(|(name, p)| (&**name, p.position())).collect::<Vec<_>>(), [("a", 0), ("c", 2)]);
            assert_eq!(named[0].1.tensor("exp_avg").unwrap().shape().numel(), 1);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let read = |value: &Value| OptimizerState::try_from(value);
        let whole = read(&optimizer([0, 1, 2], vec![(0, dict([("step", 0.5.into())]))])).unwrap();
        assert_eq!(
            whole.by_name(["a"]).unwrap_err().to_string().lines().next().unwrap(),
            "the optimizer has 3 parameters, 1 names were given"
        );
        assert_eq!(
            whole.param_groups()[0].momentum().unwrap_err().to_string(),
            "the optimizer has no `momentum` there\n  help: there are `lr`, `betas`, `params`"
        );
        assert_eq!(
            whole.param(0).unwrap().step().unwrap_err().to_string(),
            "`step`: expected a whole number, found 0.5"
        );
        let error = |value: &Value| read(value).unwrap_err().to_string();
        assert_eq!(
            error(&dict([("epoch", Value::Int(1))])),
            "expected an optimizer's dict of `state` and `param_groups`, found a dict of 1 item\n  \
             help: its keys are `epoch`"
        );
        assert_eq!(error(&optimizer([0, 1, 2], vec![(5, dict([]))])), "`state.5`: no group has the parameter 5");
    }

    #[test]
    fn names_are_keys_too() {
        let group = dict([("params", vec!["a.weight", "a.bias"].into())]);
        let state = dict([("a.bias", dict([("step", Value::Int(2))]))]);
        let value = dict([("state", state), ("param_groups", vec![group].into())]);
        let optimizer = OptimizerState::try_from(&value).unwrap();
        assert_eq!(optimizer.param_groups()[0].param_names().unwrap(), ["a.weight", "a.bias"]);
        assert_eq!(optimizer.param(1).unwrap().step().unwrap(), 2);
        assert!(optimizer.by_name(["a.bias", "a.weight"]).is_err());
        assert_eq!(optimizer.by_name(["a.weight", "a.bias"]).unwrap()[0].0, "a.bias");
    }
}
