//! Weights that PyTorch computes from other tensors before each `forward`: `weight_norm`, `spectral_norm`, pruning.
//! In eval mode the result is fixed, so it can take the place of what it is computed from.

use std::borrow::Cow;
use std::collections::HashMap;

use super::StateDict;
use crate::checkpoint::{Storage, StoredTensor};
use crate::dtype::{DType, convert};
use crate::error::{Error, ErrorKind, Result};

/// What folding gives.
pub(crate) struct Fold<'a> {
    /// The tensors that were asked for in the place of their parts, which are gone, as are those of `refused`.
    pub(crate) state: Cow<'a, StateDict>,
    /// The names that were put in.
    pub(crate) folded: Vec<String>,
    /// The names that cannot be computed, and why.
    pub(crate) refused: Vec<(String, String)>,
}

impl Fold<'_> {
    /// What to do about what is refused.
    pub(crate) const WAY_OUT: &'static str =
        "in Python, call `torch.nn.utils.parametrize.remove_parametrizations(layer, \"weight\")` before saving";
}

/// How a weight is made from its parts.
enum Recipe {
    /// `v * (g / ||v||)`, the norm over all dimensions but one.
    WeightNorm { g: String, v: String },
    /// `orig / sigma` with `sigma = u . (W v)`, where `W` is `orig` with one dimension first and the others flattened.
    SpectralNorm { orig: String, u: String, v: String },
    /// `orig * mask`.
    Mask { orig: String, mask: String },
    /// The weight is there, besides its parts: `spectral_norm` of torch 0.4.
    Stored,
    /// A parametrization that is not one of these.
    Unknown(String),
}

impl StateDict {
    /// Computes the weights that the file has in parts, as PyTorch computes them in eval mode, and puts them in the
    /// place of their parts: `conv.weight` for `conv.weight_g` and `conv.weight_v`. The values are computed when they
    /// are first read. [`load_state_dict`](crate::nn::Module::load_state_dict) does the same for the weights that the
    /// model asks for.
    ///
    /// | in the file | is |
    /// |---|---|
    /// | `weight_g`, `weight_v`; `parametrizations.weight.original0`, `original1` | [`weight_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html): `v * g / norm(v)`; the shape of `g` tells `dim` |
    /// | `weight_orig`, `weight_u`, `weight_v`; `parametrizations.weight.original`, `0._u`, `0._v` | [`spectral_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.spectral_norm.html): `orig / (u . (W v))`; the lengths of `u` and `v` tell `dim`, and where several fit it is PyTorch's default, 0 (1 for transposed convolutions, which only `load_state_dict` can tell) |
    /// | `weight_orig`, `weight_mask` | [pruning](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.BasePruningMethod.html): `orig * mask` |
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the names of the weights whose parametrization is another one; the file does
    /// not say what it computes.
    pub fn fold(&self) -> Result<Self> {
        let fold = self.fold_for(|_| Some(0));
        if fold.refused.is_empty() {
            return Ok(fold.state.into_owned());
        }
        let list: Vec<String> = fold.refused.iter().map(|(name, reason)| format!("`{name}`: {reason}")).collect();
        Err(Error::unsupported(list.join("; ")).help(Fold::WAY_OUT))
    }

    /// Folds the weights that `wanted` gives a default `dim` for.
    pub(crate) fn fold_for(&self, wanted: impl Fn(&str) -> Option<usize>) -> Fold<'_> {
        let mut recipes = self.recipes();
        recipes.retain(|(name, _, _)| wanted(name).is_some());
        let mut fold = Fold { state: Cow::Borrowed(self), folded: Vec::new(), refused: Vec::new() };
        if recipes.is_empty() {
            return fold;
        }
        let mut results = HashMap::new();
        let mut parts = HashMap::new();
        for (name, recipe, names) in recipes {
            let made = self.make(&name, &recipe, wanted(&name).unwrap_or(0));
            match &made {
                Ok(_) => fold.folded.push(name.clone()),
                Err(error) => fold.refused.push((name.clone(), error.to_string())),
            }
            parts.extend(names.into_iter().map(|part| (part, name.clone())));
            results.insert(name, made.ok());
        }
        let mut state = StateDict { key: self.key.clone(), metadata: self.metadata.clone(), ..Self::new() };
        for (name, tensor) in self.iter() {
            match parts.get(name) {
                None => _ = state.insert(name, tensor.clone()),
                Some(whole) => {
                    if let Some(made) = results.remove(whole).flatten() {
                        state.insert(whole, made);
                    }
                }
            }
        }
        fold.state = Cow::Owned(state);
        fold
    }

    /// The weights that are there in parts, with the names of the parts.
    fn recipes(&self) -> Vec<(String, Recipe, Vec<String>)> {
        let mut recipes = Vec::new();
        let mut parametrized = indexmap::IndexMap::<String, Vec<&str>>::new();
        for name in self.names() {
            if let Some((path, rest)) = split_parametrization(name)
                && let Some((parameter, _)) = rest.split_once('.')
            {
                parametrized.entry(format!("{path}{parameter}")).or_default().push(name);
            } else if let Some(base) = name.strip_suffix("_g") {
                recipes.extend(self.old_weight_norm(base));
            } else if let Some(base) = name.strip_suffix("_orig") {
                recipes.extend(self.old_hook(base));
            }
        }
        for (base, names) in parametrized {
            let recipe = self.parametrization(&names);
            recipes.push((base, recipe, names.into_iter().map(String::from).collect()));
        }
        recipes
    }

    fn old_weight_norm(&self, base: &str) -> Option<(String, Recipe, Vec<String>)> {
        let (g, v) = (format!("{base}_g"), format!("{base}_v"));
        let is_norm = self.get(base).is_none() && norm_dim(self.get(&g)?, self.get(&v)?).is_some();
        is_norm.then(|| (base.to_string(), Recipe::WeightNorm { g: g.clone(), v: v.clone() }, vec![g, v]))
    }

    /// `spectral_norm` and pruning, which both keep the parameter as `weight_orig`.
    fn old_hook(&self, base: &str) -> Option<(String, Recipe, Vec<String>)> {
        let [orig, u, v, mask] = ["orig", "u", "v", "mask"].map(|part| format!("{base}_{part}"));
        let has = |name: &str| self.get(name).is_some();
        let (recipe, parts) = match (has(base), has(&u), has(&v), has(&mask)) {
            (true, true, false, false) => (Recipe::Stored, vec![base.to_string(), orig, u]),
            (false, true, true, false) => {
                let parts = vec![orig.clone(), u.clone(), v.clone()];
                (Recipe::SpectralNorm { orig, u, v }, parts)
            }
            (false, false, false, true) => {
                let parts = vec![orig.clone(), mask.clone()];
                (Recipe::Mask { orig, mask }, parts)
            }
            _ => return None,
        };
        Some((base.to_string(), recipe, parts))
    }

    /// What the tensors under `parametrizations.weight.` belong to.
    fn parametrization(&self, names: &[&str]) -> Recipe {
        // The names inside the list of parametrizations: `original`, `0._u`.
        let inside = |name: &'_ str| {
            let rest = split_parametrization(name).map_or("", |(_, rest)| rest);
            rest.split_once('.').map_or("", |(_, inside)| inside).to_string()
        };
        let mut inner: Vec<(String, String)> = names.iter().map(|name| (inside(name), name.to_string())).collect();
        inner.sort();
        let keys: Vec<&str> = inner.iter().map(|(key, _)| key.as_str()).collect();
        let full = |i: usize| inner[i].1.clone();
        let fits = |g: usize, v: usize| match (self.get(&full(g)), self.get(&full(v))) {
            (Some(g), Some(v)) => norm_dim(g, v).is_some(),
            _ => false,
        };
        match keys[..] {
            ["original0", "original1"] if fits(0, 1) => Recipe::WeightNorm { g: full(0), v: full(1) },
            ["0._u", "0._v", "original"] => Recipe::SpectralNorm { u: full(0), v: full(1), orig: full(2) },
            ["0.base", "original"] => Recipe::Unknown("an orthogonal parametrization, which is not supported".into()),
            _ => Recipe::Unknown(format!(
                "an unknown parametrization with {}: what it computes is not in the file",
                keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            )),
        }
    }

    /// Checks the parts of a weight and gives it, to be computed when it is read.
    fn make(&self, name: &str, recipe: &Recipe, default_dim: usize) -> Result<StoredTensor> {
        let part = |name: &str| self.get(name).cloned().ok_or_else(|| self.not_found(name));
        match recipe {
            Recipe::Unknown(reason) => Err(Error::unsupported(reason.clone())),
            Recipe::Stored => part(name),
            Recipe::WeightNorm { g, v } => {
                let (g, v) = (part(g)?, part(v)?);
                let dim = norm_dim(&g, &v).ok_or_else(|| misfit("weight_norm", &[&g, &v]))?;
                lazy(v, [g], move |v, [g]| weight_norm(v, g, dim))
            }
            Recipe::SpectralNorm { orig, u, v } => {
                let (orig, u, v) = (part(orig)?, part(u)?, part(v)?);
                let fits = |&dim: &usize| {
                    let rows = orig.shape()[dim];
                    u.shape().numel() == rows && v.shape().numel().checked_mul(rows) == Some(orig.shape().numel())
                };
                let mut dims = [default_dim].into_iter().chain(0..orig.shape().len());
                let dim = dims.find(|dim| *dim < orig.shape().len() && fits(dim));
                let dim = dim.ok_or_else(|| misfit("spectral_norm", &[&orig, &u, &v]))?;
                let split = Split::at(&orig, dim);
                lazy(orig, [u, v], move |weight, [u, v]| spectral_norm(weight, u, v, split))
            }
            Recipe::Mask { orig, mask } => {
                let (orig, mask) = (part(orig)?, part(mask)?);
                if orig.shape() != mask.shape() {
                    return Err(misfit("pruning", &[&orig, &mask]));
                }
                lazy(orig, [mask], |weight, [mask]| weight.iter_mut().zip(mask).for_each(|(x, mask)| *x *= mask))
            }
        }
    }
}

/// The path of the module (empty or ending in a dot) and what follows `parametrizations.`.
fn split_parametrization(name: &str) -> Option<(&str, &str)> {
    const WORD: &str = "parametrizations.";
    let at = name.match_indices(WORD).map(|(at, _)| at).find(|&at| at == 0 || name[..at].ends_with('.'))?;
    Some((&name[..at], &name[at + WORD.len()..]))
}

fn misfit(what: &str, parts: &[&StoredTensor]) -> Error {
    let shapes: Vec<String> = parts.iter().map(|part| part.shape().to_string()).collect();
    Error::new(ErrorKind::StateDict, format!("the shapes {} do not fit {what}", shapes.join(", ")))
}

/// The dimensions of a weight around one of them.
#[derive(Clone, Copy)]
struct Split {
    rows: usize,
    /// The product of the dimensions behind.
    inner: usize,
}

impl Split {
    fn at(tensor: &StoredTensor, dim: usize) -> Self {
        Self { rows: tensor.shape()[dim], inner: tensor.shape()[dim + 1..].iter().product() }
    }

    /// The index along the dimension, and that in the others flattened, of an element.
    fn place(self, index: usize) -> (usize, usize) {
        let block = self.rows * self.inner;
        (index % block / self.inner, index / block * self.inner + index % self.inner)
    }
}

/// The dimension that `g` has a norm for each place of, or one row when the norm is over everything. `g` has the shape
/// of `v` with 1 in the other dimensions, so it tells: where it is 1 everywhere, all dimensions that fit mean the same.
fn norm_dim(g: &StoredTensor, v: &StoredTensor) -> Option<Split> {
    let (norms, weight) = (g.shape(), v.shape());
    if norms.numel() == 1 && (norms.is_empty() || norms.len() == weight.len() || norms.len() == 1) {
        return Some(Split { rows: 1, inner: weight.numel() });
    }
    let long: Vec<usize> = (0..norms.len()).filter(|&dim| norms[dim] != 1).collect();
    match long[..] {
        [dim] if norms.len() == weight.len() && norms[dim] == weight[dim] => Some(Split::at(v, dim)),
        _ => None,
    }
}

fn weight_norm(v: &mut [f64], g: &[f64], split: Split) {
    let mut squares = vec![0.0; split.rows];
    for (i, x) in v.iter().enumerate() {
        squares[split.place(i).0] += x * x;
    }
    let factors: Vec<f64> = g.iter().zip(&squares).map(|(g, square)| g / square.sqrt()).collect();
    for (i, x) in v.iter_mut().enumerate() {
        *x *= factors[split.place(i).0];
    }
}

fn spectral_norm(weight: &mut [f64], u: &[f64], v: &[f64], split: Split) {
    let mut sigma = 0.0;
    for (i, x) in weight.iter().enumerate() {
        let (row, column) = split.place(i);
        sigma += u[row] * x * v[column];
    }
    weight.iter_mut().for_each(|x| *x /= sigma);
}

/// A tensor like `weight` that `compute` makes of its elements and those of `others` when it is first read: in `f64`,
/// rounded once.
fn lazy<const N: usize>(
    weight: StoredTensor,
    others: [StoredTensor; N],
    compute: impl Fn(&mut [f64], [&[f64]; N]) + Send + Sync + 'static,
) -> Result<StoredTensor> {
    let dtype = weight.dtype();
    for part in others.iter().chain([&weight]) {
        let refusal = part.refusal().map(|(what, _)| what);
        let integers = || (!part.dtype().is_float()).then(|| format!("a {} tensor", part.dtype()));
        if let Some(what) = refusal.or_else(integers) {
            return Err(Error::unsupported(format!("one of its parts is {what}")));
        }
    }
    let (shape, location) = (weight.shape().clone(), weight.location().to_string());
    let (requires_grad, is_parameter) = (weight.requires_grad(), weight.is_parameter());
    let len = shape.numel() * dtype.size();
    let storage = Storage::deferred(len, location, move || {
        let mut values = numbers(&weight)?;
        let others = others.iter().map(numbers).collect::<Result<Vec<_>>>()?;
        compute(&mut values, std::array::from_fn(|i| &others[i][..]));
        Ok(convert(DType::F64, dtype, bytemuck::cast_slice(&values))?.into())
    });
    let stride = shape.contiguous_strides();
    let tensor = StoredTensor::new(storage, dtype, shape, stride, 0)?;
    Ok(tensor.with_requires_grad(requires_grad).with_parameter(is_parameter))
}

fn numbers(tensor: &StoredTensor) -> Result<Vec<f64>> {
    let bytes = convert(tensor.dtype(), DType::F64, &tensor.contiguous_bytes()?)?;
    Ok(bytes.chunks_exact(8).map(|x| f64::from_le_bytes(x.try_into().expect("8 bytes"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> StoredTensor {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        StoredTensor::from_bytes(DType::F32, shape, bytes).unwrap()
    }

    fn state(tensors: &[(&str, &[usize], &[f32])]) -> StateDict {
        tensors.iter().map(|(name, shape, values)| (name.to_string(), tensor(shape, values))).collect()
    }

    fn floats(state: &StateDict, name: &str) -> Vec<f32> {
        state.get_tensor(name).unwrap().to_f32().unwrap()
    }

    #[test]
    fn weight_norm_takes_its_dim_from_the_shape_of_g() {
        let v: &[f32] = &[3., 4., 0., 0., 5., 12.];
        let cases: [(&[usize], &[f32], &[f32]); 4] = [
            (&[2, 1], &[10., 26.], &[6., 8., 0., 0., 10., 24.]),
            (&[1, 3], &[3., 41f32.sqrt(), 24.], &[3., 4., 0., 0., 5., 24.]),
            (&[1, 1], &[194f32.sqrt()], v),
            (&[], &[194f32.sqrt() * 2.], &[6., 8., 0., 0., 10., 24.]),
        ];
        for (shape, g, expected) in cases {
            for [g_name, v_name] in
                [["a.w_g", "a.w_v"], ["a.parametrizations.w.original0", "a.parametrizations.w.original1"]]
            {
                let s = state(&[("a.b", &[1], &[1.]), (g_name, shape, g), (v_name, &[2, 3], v), ("c", &[1], &[1.])]);
                let folded = s.fold().unwrap();
                assert!(folded.names().eq(["a.b", "a.w", "c"]));
                let error: f32 = floats(&folded, "a.w").iter().zip(expected).map(|(x, y)| (x - y).abs()).sum();
                assert!(error < 1e-5, "{shape:?}: {:?}", floats(&folded, "a.w"));
            }
        }
    }

    #[test]
    fn spectral_norm_divides_by_sigma() {
        let w: &[f32] = &[1., 2., 3., 4., 5., 6.];
        // dim 0: u . (W v) = 1 * (1 + 3) = 4; dim 1: columns 1 and 2 of row 0, 0 * ... + 3 * 1.
        for (u, v, sigma) in [(vec![1., 0.], vec![1., 0., 1.], 4.), (vec![0., 0., 1.], vec![1., 0.], 3.)] {
            let expected: Vec<f32> = w.iter().map(|x| x / sigma).collect();
            let s = state(&[("w_orig", &[2, 3], w), ("w_u", &[u.len()], &u), ("w_v", &[v.len()], &v)]);
            assert_eq!(floats(&s.fold().unwrap(), "w"), expected);
            let p = ["original", "0._u", "0._v"].map(|part| format!("parametrizations.w.{part}"));
            let s = state(&[(&p[0], &[2, 3], w), (&p[1], &[u.len()], &u), (&p[2], &[v.len()], &v)]);
            assert_eq!(floats(&s.fold().unwrap(), "w"), expected);
        }
        let square =
            state(&[("w_orig", &[2, 2], &[1., 2., 3., 4.]), ("w_u", &[2], &[1., 0.]), ("w_v", &[2], &[0., 1.])]);
        assert_eq!(floats(&square.fold().unwrap(), "w"), [0.5, 1., 1.5, 2.]);
        let transposed = square.fold_for(|_| Some(1)).state.into_owned();
        assert_eq!(floats(&transposed, "w"), [1f32, 2., 3., 4.].map(|x| x / 3.));
    }

    #[test]
    fn the_stored_weight_of_old_files_and_masks() {
        let old = state(&[("w_orig", &[2], &[1., 2.]), ("w", &[2], &[5., 6.]), ("w_u", &[2], &[1., 2.])]);
        let folded = old.fold().unwrap();
        assert!(folded.names().eq(["w"]));
        assert_eq!(floats(&folded, "w"), [5., 6.]);
        let pruned = state(&[("w_orig", &[2], &[1., 2.]), ("w_mask", &[2], &[0., 1.])]);
        assert_eq!(floats(&pruned.fold().unwrap(), "w"), [0., 2.]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let s = state(&[
            ("a.parametrizations.weight.original", &[2], &[1., 2.]),
            ("a.parametrizations.weight.0.base", &[2], &[1., 2.]),
            ("b.parametrizations.weight.original", &[2], &[1., 2.]),
        ]);
        let error = s.fold().unwrap_err().to_string();
        assert_eq!(
            error.lines().next().unwrap(),
            "`a.weight`: an orthogonal parametrization, which is not supported; `b.weight`: an unknown parametrization \
             with `original`: what it computes is not in the file"
        );
        let odd = state(&[("w_orig", &[2], &[1., 2.]), ("w_u", &[3], &[0.; 3]), ("w_v", &[1], &[1.])]);
        assert_eq!(
            odd.fold().unwrap_err().to_string().lines().next().unwrap(),
            "`w`: the shapes [2], [3], [1] do not fit spectral_norm"
        );
    }

    #[test]
    fn other_tensors_that_end_alike_stay() {
        let s = state(&[("proj_g", &[2], &[1., 2.]), ("proj_v", &[3], &[1.; 3]), ("x_orig", &[1], &[1.])]);
        assert!(s.fold().unwrap().names().eq(s.names()));
    }
}
