//! Models that were saved whole: their trees, what they print, and what those compute that run, against PyTorch.

mod common;

use common::compare::{Tolerance, compare};
use common::{data, devices};
use sconce::checkpoint::Value;
use sconce::{Device, ErrorKind, Model, StoredModule, Tensor};

/// The sums of the cases have at most a few dozen terms.
const TOLERANCE: Tolerance = Tolerance::OfLargest(5e-6);
/// Rounding errors grow from layer to layer, and made-up weights do not dampen them.
const NET_TOLERANCE: Tolerance = Tolerance::OfLargest(1e-4);

fn file(name: &str) -> sconce::Checkpoint {
    sconce::load(data(&format!("modules/{name}.pt"))).unwrap()
}

/// The cases of a file, each with its module.
fn cases(name: &str) -> Vec<(StoredModule, Value)> {
    let file = file(name);
    let cases = file["cases"].as_list().unwrap();
    cases.iter().map(|case| (StoredModule::try_from(&case["module"]).unwrap(), case.clone())).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_list().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn tensor(value: &Value) -> Tensor {
    Tensor::from_stored(value.as_tensor().unwrap()).unwrap()
}

fn all_cases() -> Vec<(StoredModule, Value)> {
    ["layers", "printed", "torchvision"].into_iter().flat_map(cases).collect()
}

#[test]
fn modules_print_as_in_pytorch() {
    let mut count = 0;
    for (module, case) in all_cases() {
        assert_eq!(module.to_string(), case["printed"].as_str().unwrap());
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn state_dicts_have_the_names_and_the_order_of_pytorch() {
    for (module, case) in all_cases() {
        let state = module.state_dict().unwrap();
        assert_eq!(state.names().collect::<Vec<_>>(), strings(&case["keys"]), "{module}");
    }
}

#[test]
fn named_modules_are_those_of_pytorch() {
    for (module, case) in all_cases() {
        let modules = module.named_modules();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, strings(&case["modules"]), "{module}");
        for (name, found) in &modules {
            assert_eq!(module.get(name).unwrap().to_string(), found.to_string());
        }
    }
}

#[test]
fn modules_compute_what_pytorch_computes() {
    let mut failures = Vec::new();
    let nets = cases("torchvision").into_iter().filter(|(_, case)| case.get("inputs").is_some());
    let nets = nets.map(|(module, case)| (module, case, NET_TOLERANCE));
    let layers = cases("layers").into_iter().map(|(module, case)| (module, case, TOLERANCE));
    for (module, case, tolerance) in layers.chain(nets) {
        for device in devices() {
            let run = || -> sconce::Result<Vec<Tensor>> {
                let inputs: Vec<Tensor> = case["inputs"].as_list()?.iter().map(tensor).collect();
                Model::from_stored(&module, device)?.run(&inputs)
            };
            let expected: Vec<Tensor> = case["expected"].as_list().unwrap().iter().map(tensor).collect();
            let result = run().map_err(|error| error.to_string());
            let result = result.and_then(|found| compare(&found, &expected, tolerance));
            let printed = module.to_string();
            let name = case.get("name").map_or(printed.as_str(), |name| name.as_str().unwrap());
            failures.extend(result.err().map(|error| format!("{name} on {device}: {error}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What was read from the file is what the layer has: both print every argument.
#[test]
fn layers_have_the_arguments_of_the_file() {
    for (module, _) in cases("layers").into_iter().chain(cases("torchvision")) {
        // Two that are the same layer in another form.
        let printed = module.to_string().replace("torch.Size([-1, 2])", "(-1, 2)");
        let printed = printed.replace("  (activation): GELU(approximate='none')\n", "");
        assert_eq!(module.to_module().unwrap().as_module().to_string(), printed);
    }
}

fn check_run(model: &Model, name: &str) {
    let expected = file(&format!("{name}.y"));
    let found = model.run(&[tensor(&expected["x"])]).unwrap();
    compare(&found, &[tensor(&expected["y"])], TOLERANCE).unwrap();
}

fn load(name: &str) -> sconce::Result<Model> {
    Model::load(data(&format!("modules/{name}.pt")), &Device::cpu())
}

#[test]
fn legacy_files_have_models_too() {
    let model = load("legacy").unwrap();
    check_run(&model, "legacy");
    let module = file("legacy").module().unwrap();
    assert!(module.to_string().starts_with("Sequential(\n  (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))\n"));
}

#[test]
fn weights_that_hooks_compute_are_computed() {
    check_run(&load("weight_norm").unwrap(), "weight_norm");
}

/// The message without the file's name.
fn refusal(name: &str) -> String {
    let error = load(name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let message = error.to_string();
    let (file, message) = message.split_once("`: ").unwrap();
    assert!(file.ends_with(&format!("modules/{name}.pt")), "{file}");
    message.to_owned()
}

#[test]
fn whole_models_load_and_run() {
    for device in devices() {
        for name in ["harmless", "nested", "compiled"] {
            let model = Model::load(data(&format!("modules/{name}.pt")), device).unwrap();
            check_run(&model, "harmless");
        }
    }
}

#[test]
fn train_mode_is_refused_and_can_be_left() {
    assert_eq!(
        refusal("train"),
        "the model does not run: `Sequential` was saved in train mode, in which 2 modules compute something else, \
         first `1`\n  help: call `model.eval()` before `torch.save`, or use `checkpoint.module()?.eval()`, \
         `sconce run --eval`"
    );
    let module = file("train").module().unwrap();
    assert!(module.is_training() && module.get("1").unwrap().is_training());
    let module = module.eval();
    assert!(!module.is_training() && !module.get("1").unwrap().is_training());
    check_run(&Model::new(module.to_module().unwrap(), &Device::cpu()).unwrap(), "train");
}

#[test]
fn code_that_is_not_in_the_file_is_named() {
    let export = "export it in Python: `torch.export.save(torch.export.export(model.eval(), (x,)), \"model.pt2\")`";
    assert_eq!(
        refusal("user"),
        format!(
            "the model does not run: `__main__.Net`: its `forward` is Python code, which is not in the file\n  \
             help: build the net in Rust and load `checkpoint.state_dict()` into it, or {export}"
        )
    );
    assert_eq!(
        refusal("hooked"),
        format!(
            "the model does not run: `0` (`torch.nn.modules.linear.Linear`): it has a forward pre-hook \
             `__main__.double`, which is code\n  help: remove it before `torch.save`, or {export}"
        )
    );
    assert_eq!(
        refusal("patched"),
        format!(
            "the model does not run: `1` (`torch.nn.modules.activation.ReLU`): its `forward` was replaced by other \
             code\n  help: remove it before `torch.save`, or {export}"
        )
    );
}

#[test]
fn all_that_does_not_run_is_listed() {
    let message = refusal("refused");
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "the model does not run for 5 reasons",
            "  `0` (`torch.nn.modules.rnn.LSTM`): a `LSTM` gives its states beside its output, which the modules around it \
             do not take",
            "  `1` (`torch.nn.modules.activation.Softmax`): `dim`: expected an integer, found `None`",
            "  `2` (`torch.nn.modules.pooling.MaxPool1d`): `return_indices` is True, only False runs",
            "  `3` (`__main__.Block`): its `forward` is Python code, which is not in the file",
            "  `4` (`torch.nn.modules.container.ModuleList`): it holds modules and has no `forward`",
        ]
    );
}

#[test]
fn one_model_is_found_and_several_are_listed() {
    assert_eq!(file("nested").module().unwrap().class(), "torch.nn.modules.container.Sequential");
    let error = file("several").module().unwrap_err().to_string();
    assert!(error.contains("expected one model, found 2: `g`, `d`"), "{error}");
    assert!(error.contains("StoredModule::try_from(&checkpoint[\"g\"])"), "{error}");
    let error = file("train.y").module().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("expected a model that was saved whole, found a dict of 2 items"), "{error}");
    assert!(StoredModule::try_from(&file("several")["g"]).is_ok());
    assert!(StoredModule::try_from(&file("several").root().clone()).is_err());
}

#[test]
fn attributes_parameters_and_buffers_are_read() {
    let module = file("user").module().unwrap();
    assert_eq!((module.class(), module.class_name()), ("__main__.Net", "Net"));
    assert_eq!(module.attribute("classes").unwrap()[1].as_str().unwrap(), "it's a dog");
    assert_eq!(module.attributes().map(|(name, _)| name).collect::<Vec<_>>(), ["pool", "classes"]);
    assert!(module.attribute("_modules").is_none() && module.hooks().is_empty());
    let block = module.get("blocks.1").unwrap();
    assert_eq!(
        block.parameters().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect::<Vec<_>>(),
        [("scale", vec![1])]
    );
    assert_eq!(
        block.buffers().map(|(name, _, saved)| (name, saved)).collect::<Vec<_>>(),
        [("table", true), ("scratch", false)]
    );
    assert_eq!(file("hooked").module().unwrap().get("0").unwrap().hooks(), [("_forward_pre_hooks", "__main__.double")]);
}

#[test]
fn a_compiled_module_has_the_names_that_pytorch_gives_it() {
    let names = |name: &str| -> Vec<String> {
        let state = file(name).state_dict().unwrap();
        state.names().map(String::from).collect()
    };
    let expected: Vec<String> = names("harmless").iter().map(|name| format!("_orig_mod.{name}")).collect();
    assert_eq!(names("compiled"), expected);
}
