//! Programs of `torch.export` against PyTorch: `tools/programs.py` exports small modules in both forms and writes what
//! PyTorch answers.

mod common;

use common::compare::{Tolerance, compare};
use common::{data, devices};
use sconce::{Checkpoint, DType, Device, ErrorKind, Model, Precision, ProgramInfo, Tensor};

/// The tensors of a dict of the expectations, by name.
fn tensors(case: &Checkpoint, key: &str) -> Vec<(String, Tensor)> {
    let entries = case[key].as_dict().unwrap().into_iter();
    entries
        .map(|(name, value)| {
            let tensor = Tensor::from_stored(value.as_tensor().unwrap()).unwrap();
            (name.as_str().unwrap().to_string(), tensor)
        })
        .collect()
}

fn file(name: &str) -> std::path::PathBuf {
    data(&format!("programs/{name}"))
}

/// Integers and booleans as `int64`, floats as `float32`.
fn plain(x: &Tensor) -> Tensor {
    match x.dtype().is_float() {
        true => Tensor::new(x.shape().clone(), x.to_f32().unwrap()).unwrap(),
        false => Tensor::new(x.shape().clone(), x.to_i64().unwrap()).unwrap(),
    }
}

/// Runs `NAME.pt2` and compares it with `expected.pt` on every device.
fn check(name: &str, expected: &str) {
    check_within(name, expected, 2e-6);
}

fn check_within(name: &str, expected: &str, bound: f32) {
    let case = sconce::load(file(&format!("{expected}.pt"))).unwrap();
    let (inputs, outputs) = (tensors(&case, "inputs"), tensors(&case, "outputs"));
    for device in devices() {
        let model = Model::load(file(&format!("{name}.pt2")), device).unwrap();
        let given: Vec<(&str, Tensor)> = inputs.iter().rev().map(|(name, x)| (name.as_str(), x.clone())).collect();
        let found = model.run_named(&given).unwrap_or_else(|error| panic!("{name} on {device:?}: {error}"));
        let names: Vec<&String> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names, outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), "{name}");
        for ((key, found), (_, expected)) in found.iter().zip(&outputs) {
            let compared = compare(&[plain(found)], &[plain(expected)], Tolerance::OfLargest(bound));
            compared.unwrap_or_else(|error| panic!("{name}, `{key}` on {device:?}: {error}"));
        }
    }
}

macro_rules! programs {
    ($($test:ident: $($name:literal),* as $expected:literal;)*) => {
        $(#[test] fn $test() { $(check($name, $expected);)* })*
    };
}

programs! {
    convolutions_in_place: "residual", "residual.core" as "residual";
    writes_through_views: "writes", "writes.core" as "writes";
    dicts_and_keywords: "signature", "signature.core" as "signature";
    tied_strided_and_boolean_weights: "tied", "tied.core" as "tied";
    containers_of_older_versions: "tied.2_6", "tied.2_8" as "tied";
    free_batch: "dynamic", "dynamic.core" as "dynamic";
    resizing_and_sampling: "resized" as "resized";
    attention: "encoder", "encoder.core" as "encoder";
    recurrent_layers: "recurrent" as "recurrent";
    gated_layers: "gated" as "gated";
    rows_that_see_nothing: "blind", "blind.core" as "blind";
    masks_from_the_input: "masked", "masked.core" as "masked";
    places_from_the_input: "indices", "indices.core" as "indices";
    orders_and_running_results: "orders", "orders.core" as "orders";
    functions_near_and_far: "functions", "functions.core" as "functions";
    volumes_and_folds: "volumes", "volumes.core" as "volumes";
    integers_that_grow: "numbers", "numbers.core" as "numbers";
    places_in_large_tensors: "large" as "large";
    classes: "classes" as "classes";
    sums_of_exponentials: "spreads", "spreads.core" as "spreads";
    a_size_that_is_twice_another: "double" as "double";
    rests_of_large_numbers: "divisions", "divisions.core" as "divisions";
    copies_to_another_layout: "layouts" as "layouts";
    what_is_not_finite: "edges", "edges.core" as "edges";
    floats_of_sizes: "scales", "scales.core" as "scales";
    recurrent_cells: "cells", "cells.core" as "cells";
    hugging_face_bert: "hugging-face/bert", "hugging-face/bert.core" as "hugging-face/bert";
    hugging_face_llama: "hugging-face/llama", "hugging-face/llama.core" as "hugging-face/llama";
    hugging_face_t5: "hugging-face/t5", "hugging-face/t5.core" as "hugging-face/t5";
}

/// Random programs of `tools/random_programs.py`, in both forms: views, writes through views, promotion, indices.
#[test]
fn random_programs() {
    let entries = std::fs::read_dir(file("random")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    let programs: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".pt2")).collect();
    assert!(programs.len() >= 40, "{}", programs.len());
    for name in programs {
        let seed = name.split('.').next().unwrap();
        check_exactly(&format!("random/{name}"), &format!("random/{seed}"));
    }
}

/// Runs a program and compares it with what PyTorch answers, dtypes included, on every device.
fn check_exactly(name: &str, expected: &str) {
    let case = sconce::load(file(&format!("{expected}.pt"))).unwrap();
    let (inputs, outputs) = (tensors(&case, "inputs"), tensors(&case, "outputs"));
    let functions: Vec<String> = case["names"].as_list().unwrap().iter().map(|name| format!("{name}")).collect();
    let given: Vec<Tensor> = inputs.into_iter().map(|(_, x)| x).collect();
    for device in devices() {
        let model = Model::load(file(&format!("{name}.pt2")), device).unwrap();
        let found = model.run(&given).unwrap_or_else(|error| panic!("{name} on {device:?}: {error}"));
        assert_eq!(found.len(), outputs.len(), "{name}");
        for ((found, (_, expected)), function) in found.iter().zip(&outputs).zip(&functions) {
            assert_eq!(found.dtype(), expected.dtype(), "{name}, {function}");
            let compared = compare(&[plain(found)], &[plain(expected)], Tolerance::OfLargest(2e-5));
            compared.unwrap_or_else(|error| panic!("{name}, {function} on {device:?}: {error}"));
        }
    }
}

/// Files that these versions of torch wrote themselves: `tools/versions.py`.
const VERSIONS: [&str; 6] = ["2_6", "2_7", "2_8", "2_9", "2_12", "2_15"];

#[test]
fn every_version_of_torch_wrote_programs_that_run() {
    for version in VERSIONS {
        for (name, expected) in [
            ("convolutions", "convolutions"),
            ("attention", "attention"),
            ("buffers", "buffers"),
            ("buffers.core", "buffers"),
        ] {
            check(&format!("../versions/{version}.{name}"), &format!("../versions/{version}.{expected}"));
        }
        let checkpoint = sconce::load(file(&format!("../versions/{version}.convolutions.pt2"))).unwrap();
        let [program] = &ProgramInfo::of(&checkpoint).unwrap()[..] else { panic!("one program") };
        assert!(program.torch_version.starts_with(&version.replace('_', ".")), "{}", program.torch_version);
        assert_eq!(program.inputs[0].shape, [None, Some(3), Some(17), Some(16)]);
        let model = Model::from_checkpoint(&checkpoint, None, &Device::cpu()).unwrap();
        let error = model.run(&[common::made_input([10, 3, 17, 16], 1.0)]).unwrap_err().to_string();
        assert!(error.contains("is 10, outside of the program's range 2..=9"), "{error}");
    }
}

#[test]
fn a_free_size_runs_at_every_size_in_its_range() {
    let model = Model::load(file("dynamic.pt2"), &Device::cpu()).unwrap();
    assert_eq!(model.inputs()[0].shape, [None, Some(2), Some(6), Some(5)]);
    for batch in [2, 3, 5, 8, 9] {
        let y = model.run(&[common::made_input([batch, 2, 6, 5], 1.0)]).unwrap();
        assert_eq!((y[0].shape().to_vec(), y[1].shape().to_vec()), (vec![batch * 3], vec![batch * 2]));
    }
    for batch in [1, 10] {
        let error = model.run(&[common::made_input([batch, 2, 6, 5], 1.0)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains(&format!("is {batch}, outside of the program's range 2..=9")), "{error}");
    }
    let fixed = Model::load(file("residual.pt2"), &Device::cpu()).unwrap();
    let error = fixed.run(&[common::made_input([2, 3, 17, 16], 1.0)]).unwrap_err().to_string();
    assert!(
        error.contains("expected [1, 3, 17, 16], found [2, 3, 17, 16]") && error.contains("dynamic_shapes"),
        "{error}"
    );
}

/// Programs with a free batch, and with a free batch and length, at five sizes each: `tools/dynamic.py`.
#[test]
fn a_residual_network_and_bert_run_at_every_size() {
    for name in ["free_images", "free_words"] {
        let case = sconce::load(file(&format!("{name}.pt"))).unwrap();
        for device in devices() {
            let model = Model::load(file(&format!("{name}.pt2")), device).unwrap();
            for run in case["runs"].as_list().unwrap() {
                let list = |key: &str| -> Vec<(String, Tensor)> {
                    let entries = run[key].as_dict().unwrap().into_iter();
                    entries
                        .map(|(k, v)| {
                            (k.as_str().unwrap().into(), Tensor::from_stored(v.as_tensor().unwrap()).unwrap())
                        })
                        .collect()
                };
                let (inputs, outputs) = (list("inputs"), list("outputs"));
                let given: Vec<(&str, Tensor)> = inputs.iter().map(|(name, x)| (name.as_str(), x.clone())).collect();
                let found = model.run_named(&given).unwrap_or_else(|error| panic!("{name} on {device:?}: {error}"));
                for ((key, found), (_, expected)) in found.iter().zip(&outputs) {
                    let compared = compare(&[plain(found)], &[plain(expected)], Tolerance::OfLargest(4e-6));
                    compared.unwrap_or_else(|error| panic!("{name}, `{key}` on {device:?}: {error}"));
                }
            }
        }
    }
    let images = Model::load(file("free_images.pt2"), &Device::cpu()).unwrap();
    let error = images.run(&[common::made_input([9, 3, 17, 17], 1.0)]).unwrap_err().to_string();
    assert!(error.contains("dimension 0") && error.contains("is 9, outside of the program's range 1..=8"), "{error}");
    let words = Model::load(file("free_words.pt2"), &Device::cpu()).unwrap();
    let tokens = |length: usize| Tensor::new([1, length], vec![1i64; length]).unwrap();
    let error = words.run(&[tokens(33), tokens(33)]).unwrap_err().to_string();
    assert!(error.contains("dimension 1") && error.contains("is 33, outside of the program's range 2..=32"), "{error}");
    let error = words.run(&[tokens(5), tokens(6)]).unwrap_err().to_string();
    assert!(error.contains("input `mask`: dimension 1 is 6") && error.contains("is 5 in another place"), "{error}");
}

/// An archive with several programs, which another tool compressed.
#[test]
fn several_programs_are_told_apart_by_name() {
    let checkpoint = sconce::load(file("two.pt2")).unwrap();
    let names: Vec<String> = ProgramInfo::of(&checkpoint).unwrap().into_iter().map(|program| program.name).collect();
    assert_eq!(names, ["twice", "thrice"]);
    for (name, expected) in [("twice", [2.0, 4.0]), ("thrice", [3.0, 6.0])] {
        let model = Model::from_checkpoint(&checkpoint, Some(name), &Device::cpu()).unwrap();
        let y = model.run(&[Tensor::new([2], [1f32, 2.0]).unwrap()]).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap(), expected);
    }
    let error = |key| Model::from_checkpoint(&checkpoint, key, &Device::cpu()).unwrap_err();
    assert!(error(None).to_string().starts_with("the file has several programs: `twice`, `thrice`\n  help: name"));
    assert_eq!(error(Some("once")).to_string(), "there is no program `once`; there are `twice`, `thrice`");
    assert_eq!((error(None).kind(), error(Some("once")).kind()), (ErrorKind::NotFound, ErrorKind::NotFound));
}

#[test]
fn other_archives_are_refused_by_name() {
    for (name, words) in [
        ("schema_7", "a program of schema version 7."),
        ("schema_9", "a program of schema version 9."),
        ("pickled", "`factor` is a pickled tensor subclass, which does not run"),
        ("custom", "`factor` is a custom object, which does not run"),
        ("opaque", "`factor` is an opaque object, which does not run"),
        ("inductor", "an AOTInductor package: code for one kind of processor, without the graph"),
    ] {
        let error = Model::load(file(&format!("{name}.pt2")), &Device::cpu()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn refusals_name_everything_at_once() {
    for name in ["counter", "counter.core", "unknown", "antialias", "refused", "refused_more"] {
        let case = sconce::load(file(&format!("{}.pt", name.trim_end_matches(".core")))).unwrap();
        let error = match Model::load(file(&format!("{name}.pt2")), &Device::cpu()) {
            Ok(model) => {
                let shape: Vec<usize> = model.inputs()[0].shape.iter().map(|size| size.unwrap_or(2)).collect();
                model.run(&[common::made_input(shape, 1.0)]).unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        for word in case["error"].as_list().unwrap() {
            assert!(error.to_string().contains(word.as_str().unwrap()), "{error}");
        }
    }
}

/// 16-bit floats are stored and given as such, and computed with as `f32`: nearer to the truth than PyTorch's.
#[test]
fn programs_of_narrow_floats_run() {
    for (name, bound) in [("float16", 2e-3), ("bfloat16", 1.6e-2), ("autocast", 1e-2)] {
        check_within(name, name, bound);
        check_within(&format!("{name}.core"), name, bound);
    }
    let model = Model::load(file("float16.pt2"), &Device::cpu()).unwrap();
    let case = sconce::load(file("float16.pt")).unwrap();
    let inputs: Vec<Tensor> = tensors(&case, "inputs").into_iter().map(|(_, x)| x).collect();
    let found = model.run(&inputs).unwrap();
    assert_eq!(found.iter().map(Tensor::dtype).collect::<Vec<_>>(), [DType::F16, DType::F16, DType::F32]);
}

/// An index beyond its own dimension is not one of the next row, and integers that a float would round are not given.
#[test]
fn numbers_out_of_range_are_errors() {
    let case = sconce::load(file("indices.pt")).unwrap();
    let inputs: Vec<Tensor> = tensors(&case, "inputs").into_iter().map(|(_, x)| x).collect();
    for device in devices() {
        for name in ["indices.pt2", "indices.core.pt2"] {
            let model = Model::load(file(name), device).unwrap();
            for bad in [[0i64, 5, 0], [0, 0, -6]] {
                let places = Tensor::new([3], bad).unwrap();
                let error = model.run(&[inputs[0].clone(), inputs[1].clone(), places]).unwrap_err();
                assert!(error.to_string().contains("out of range"), "{name} on {device:?}: {error}");
            }
        }
        let model = Model::load(file("orders.pt2"), device).unwrap();
        let error = model.run(&[Tensor::new([5, 4], [1f32; 20]).unwrap(), Tensor::new([3, 5], [999i64; 15]).unwrap()]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("an integer of 2^24 or more"), "{error}");
    }
}

/// Integers between an input and an output, and a class that is not there.
#[test]
fn integers_that_would_be_rounded_are_errors() {
    let small = Tensor::new([2, 2], [0.5f32, 1.0, 2.0, 3.0]).unwrap();
    let run = |name: &str, device: &Device, inputs: &[Tensor]| Model::load(file(name), device).unwrap().run(inputs);
    for device in devices() {
        for name in ["numbers.pt2", "numbers.core.pt2"] {
            let a = Tensor::new([2, 3], [4099i64, 1, 1, 1, 1, 1]).unwrap();
            let error = run(name, device, &[a, small.clone()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
            assert!(error.to_string().starts_with("an integer of 2^24 or more: "), "{name} on {device:?}: {error}");
            let x = Tensor::new([2, 2], [1f32, 2.0, 3.0, -20000.0]).unwrap();
            let error = run(name, device, &[Tensor::new([2, 3], [1i64; 6]).unwrap(), x]).unwrap_err().to_string();
            assert!(error.starts_with("an integer of 2^24 or more: "), "{name} on {device:?}: {error}");
        }
        for bad in [5i64, -1] {
            let error = run("classes.pt2", device, &[Tensor::new([3], [0, bad, 4]).unwrap()]).unwrap_err().to_string();
            assert!(error.contains("at position 1 is out of range, expected 0..5"), "{device:?}: {error}");
        }
    }
    let wide = |len: usize| Tensor::new([len], vec![0f32; len]).unwrap();
    let inputs = [wide(4100), wide(4100), Tensor::new([2], [1i64, 2]).unwrap()];
    let error = run("pairs.pt2", &Device::cpu(), &inputs).unwrap_err().to_string();
    assert!(error.contains("indices from the input among 16810000 places: at most 2^24"), "{error}");
}

/// `f16` counts to 2^11 only.
#[test]
fn integers_that_half_precision_would_round_are_errors() {
    let a = |first: i64| Tensor::new([2, 3], [first, 1, 5, 2, 3, 4]).unwrap();
    let x = Tensor::new([2, 2], [0.5f32, 1.0, 0.25, 1.5]).unwrap();
    let exact = Model::load(file("numbers.pt2"), &Device::cpu()).unwrap().run(&[a(7), x.clone()]).unwrap();
    for device in devices().iter().filter(|device| !device.is_cpu()) {
        for name in ["numbers.pt2", "numbers.core.pt2"] {
            let model = Model::load(file(name), device).unwrap().with_precision(Precision::Half);
            let found = match model.run(&[a(7), x.clone()]) {
                Err(error) if error.kind() == ErrorKind::Unsupported => continue,
                found => found.unwrap(),
            };
            for (found, exact) in found.iter().zip(&exact).filter(|(_, exact)| !exact.dtype().is_float()) {
                assert_eq!(found.to_i64().unwrap(), exact.to_i64().unwrap(), "{name} on {device:?}");
            }
            for (first, words) in [(2049, "integers up to 2^11"), (50, "an integer of 2^11 or more, which f16 rounds")]
            {
                let error = model.run(&[a(first), x.clone()]).unwrap_err().to_string();
                assert!(error.contains(words), "{name} on {device:?}: {error}");
            }
        }
    }
}

#[test]
fn numbers_of_python_keep_their_kind() {
    for name in ["numbers.pt2", "numbers.core.pt2"] {
        let model = Model::load(file(name), &Device::cpu()).unwrap();
        let dtypes: Vec<DType> = model.outputs().iter().rev().take(3).rev().map(|info| info.dtype).collect();
        assert_eq!(dtypes, [DType::Bool, DType::F32, DType::I64]);
        let a = Tensor::new([2, 3], [1i64; 6]).unwrap();
        let found = model.run(&[a, Tensor::new([2, 2], [1f32; 4]).unwrap()]).unwrap();
        assert_eq!(found.iter().rev().take(3).rev().map(Tensor::dtype).collect::<Vec<_>>(), dtypes);
    }
}

#[test]
fn a_size_that_does_not_fit_is_named() {
    let model = Model::load(file("double.pt2"), &Device::cpu()).unwrap();
    let error = model.run(&[common::made_input([5, 2], 1.0), common::made_input([3, 2], 1.0)]).unwrap_err().to_string();
    assert!(error.contains("dimension 0 is 5, expected 2*s") && error.contains("which is 6 here"), "{error}");
    let shown: Vec<String> = model.inputs().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["x: float32 [?, 2]", "y: float32 [2..=9, 2]"]);
}

#[test]
fn indices_out_of_range_and_wrong_names_are_errors() {
    for device in devices() {
        for name in ["tied.pt2", "tied.core.pt2"] {
            let model = Model::load(file(name), device).unwrap();
            let error = model.run(&[Tensor::new([1, 3], [0i64, 5, 2]).unwrap()]).unwrap_err();
            assert!(error.to_string().contains("out of range"), "{error}");
            let error = model.run(&[Tensor::new([1, 3], [0f32, 1.0, 2.0]).unwrap()]).unwrap_err();
            assert!(error.to_string().contains("expected int64, found floats"), "{error}");
        }
    }
    let model = Model::load(file("signature.pt2"), &Device::cpu()).unwrap();
    let error = model.run_named(&[("y", Tensor::new([1], [0f32]).unwrap())]).unwrap_err();
    assert!(error.to_string().contains("no input `y`; it has `x`, `pair.0`, `pair.1`, `scale`"), "{error}");
    let error = model.run_named(&[("x", Tensor::new([1], [0f32]).unwrap())]).unwrap_err();
    assert!(error.to_string().contains("`pair.0` is missing"), "{error}");
}

#[test]
fn programs_are_described() {
    let checkpoint = sconce::load(file("unknown.pt2")).unwrap();
    let [program] = &ProgramInfo::of(&checkpoint).unwrap()[..] else { panic!("one program") };
    let text = program.to_string();
    assert!(
        text.contains("input  x: float32 [2, 2]") && text.contains("aten.special_i0.default  not supported"),
        "{text}"
    );
    assert!(program.ops.iter().any(|op| op.name == "aten.add.Tensor" && op.is_supported));
    let state = sconce::load(file("tied.pt2")).unwrap().state_dict().unwrap();
    let weights = sconce::load(file("tied.2_6.pt2")).unwrap().state_dict().unwrap();
    assert_eq!(state.names().collect::<Vec<_>>(), weights.names().collect::<Vec<_>>());
    let storage = |name: &str| state[name].storage();
    assert!(std::sync::Arc::ptr_eq(storage("embedding.weight"), storage("out.weight")));
    assert!(ProgramInfo::of(&sconce::load(file("tied.pt")).unwrap()).unwrap().is_empty());
}
