//! Cases 10, 11, 15-18: state dicts that do not fit as they are.

use sconce::nn::{self, Module};
use sconce::{LoadReport, StateDict, Strict, Tensor};

use super::nets::{BatchStatistics, Net, Normed};
use super::{check, expected, load, net, resaved, strings, tensor};

#[test]
fn case_10_warm_start() {
    let state = load("10_pretrained").state_dict().unwrap();
    let mut net = Net::new(3);
    let error = net.load_state_dict(&state, Strict::Yes).unwrap_err().to_string();
    assert_eq!(
        error,
        "state dict does not fit the model: 9 of 11 loaded, 2 missing, 1 unexpected\n  \
         missing     fc2.weight\n  missing     fc2.bias\n  unexpected  classifier.weight"
    );
    assert!(net.state_dict().is_empty(), "nothing was loaded");
    let report: LoadReport = net.load_state_dict(&state, Strict::No).unwrap();
    assert_eq!(report.missing, ["fc2.weight", "fc2.bias"]);
    assert_eq!(report.unexpected, ["classifier.weight"]);
    assert_eq!((report.loaded.len(), net.state_dict().len()), (9, 9));
    assert!(net.check_loaded().unwrap_err().to_string().contains("`fc2.weight`, `fc2.bias`"));
}

fn deep() -> Box<dyn Module> {
    Box::new((0..31).fold(nn::Sequential::new(), |net, _| net.append(nn::Linear::new(2, 2))))
}

#[test]
fn case_11_rename_and_filter() {
    let pretrained = load("11_pretrained").state_dict().unwrap();
    let mut net = deep();
    let own: Vec<String> = net.named_parameters().into_iter().map(|(name, _)| name).collect();
    let update = pretrained.filter(|name, _| own.iter().any(|own| own == name));
    let report = net.load_state_dict(&update, Strict::No).unwrap();
    assert_eq!((report.total(), report.loaded.len()), (62, 60));
    let counts = report.to_string();
    assert!(counts.starts_with("state dict does not fit the model: 60 of 62 loaded, 2 missing\n"), "{counts}");
    check("11", &pretrained.rename("head", "30").unwrap(), deep);
    check("11", &pretrained.rename_regex(r"^head\.(\w+)$", "30.$1").unwrap(), deep);
    let taken = pretrained.rename_regex(r"^head", "29").unwrap_err().to_string();
    assert_eq!(taken, "`head.weight` cannot be renamed: the name `29.weight` is taken");
}

#[test]
fn case_15_data_parallel() {
    for (name, prefix) in [("15_parallel", "module."), ("15_compiled", "_orig_mod.")] {
        let state = load(name).state_dict().unwrap();
        let error = Net::new(3).load_state_dict(&state, Strict::Yes).unwrap_err().to_string();
        let help =
            format!("  help: the file's names start with `{prefix}`; try `state_dict.strip_prefix(\"{prefix}\")`");
        assert!(error.contains(&help), "{error}");
        check("15", &state.strip_prefix(prefix), net);
        check("15", &state.select(prefix), net);
    }
}

#[test]
fn case_16_eval_mode() {
    // Every other case has a Dropout, and BatchNorm with running statistics.
    check("16", &load("16_batch_statistics").state_dict().unwrap(), || Box::new(BatchStatistics::new()));
}

#[test]
fn case_17_frozen() {
    let state = load("17_frozen").state_dict().unwrap();
    let frozen = state.filter(|_, tensor| !tensor.requires_grad());
    assert!(frozen.names().eq(strings(&expected("17")["frozen"])));
    let trainable: usize =
        state.filter(|_, tensor| tensor.requires_grad()).iter().map(|(_, tensor)| tensor.shape().numel()).sum();
    assert_eq!(trainable, 4 + 4 + 36 * 8 + 8 + 8 * 3 + 3);
    let again = resaved(&state, "17.pt");
    assert!(!again["conv1.weight"].as_tensor().unwrap().requires_grad());
    assert!(again["fc1.weight"].as_tensor().unwrap().requires_grad());
}

fn normed() -> Box<dyn Module> {
    Box::new(Normed::new())
}

/// Folded weights are computed in `f64` and rounded once; PyTorch rounds in between, so they differ by a few units in
/// the last place.
fn folded_as_in_pytorch(case: &str, state: &StateDict) {
    for (layer, expected) in expected(case)["weights"].as_dict().unwrap() {
        let name = format!("{}.weight", layer.as_str().unwrap());
        let (found, expected): (Tensor, Tensor) = (state.get_tensor(&name).unwrap(), tensor(expected));
        for (x, y) in found.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap()) {
            assert!((x - y).abs() <= 8.0 * f32::EPSILON * y.abs(), "case {case}, {name}: {x:e}, expected {y:e}");
        }
    }
}

#[test]
fn case_18_parametrized() {
    let files = [
        ("weight_norm", 3),
        ("weight_norm_old", 3),
        ("spectral_norm", 3),
        ("spectral_norm_old", 3),
        ("spectral_norm_v0", 3),
        ("pruned", 1),
    ];
    for (name, folds) in files {
        let case = format!("18{name}");
        let state = load(&format!("18_{name}")).state_dict().unwrap();
        let mut net = Normed::new();
        let report = net.load_state_dict(&state, Strict::Yes).unwrap();
        assert_eq!(report.to_string(), format!("state dict fits the model: 6 of 6 loaded ({folds} folded)"), "{name}");
        folded_as_in_pytorch(&case, &net.state_dict());
        folded_as_in_pytorch(&case, &state.fold().unwrap());
        check(&case, &state, normed);
        check(&case, &state.fold().unwrap(), normed);
    }
    let orthogonal = load("18_orthogonal").state_dict().unwrap();
    let error = Normed::new().load_state_dict(&orthogonal, Strict::Yes).unwrap_err().to_string();
    assert_eq!(
        error,
        "state dict does not fit the model: 5 of 6 loaded, 1 that cannot be used\n  \
         unusable    square.weight: an orthogonal parametrization, which is not supported; in Python, call \
         `torch.nn.utils.parametrize.remove_parametrizations(layer, \"weight\")` before saving"
    );
    assert!(orthogonal.fold().is_err());
}
