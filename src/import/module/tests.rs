//! Small files can say much: a module that is in two places, in one that is in two places, and so on.

use super::StoredModule;
use crate::checkpoint::{Dict, Object, Value};

fn module(class: &str, children: Vec<(&str, Value)>) -> Value {
    let state = Dict::from_iter([
        ("_parameters", Value::from(Dict::from_iter(Vec::<(&str, Value)>::new()))),
        ("_buffers", Value::from(Dict::from_iter(Vec::<(&str, Value)>::new()))),
        ("_modules", Value::from(Dict::from_iter(children))),
    ]);
    Value::from(Object {
        callee: Value::Global(class.into()),
        args: Vec::new(),
        kwargs: None,
        items: Vec::new(),
        entries: Vec::new(),
        state: Some(state.into()),
        bare: false,
    })
}

#[test]
fn modules_that_double_end() {
    let mut value = module("torch.nn.modules.linear.Identity", Vec::new());
    for _ in 0..60 {
        value = module("torch.nn.modules.container.Sequential", vec![("a", value.clone()), ("b", value)]);
    }
    let module = StoredModule::try_from(&value).unwrap();
    assert_eq!(module.named_modules().len(), 61);
    assert!(module.to_string().lines().count() < 200_000);
    let error = module.to_module().err().unwrap().to_string();
    assert!(error.contains("a model of more than 50000 modules does not run"), "{error}");
    assert!(module.state_dict().is_err());
}

#[test]
fn what_lacks_or_is_of_another_kind_is_named() {
    let value = module("torch.nn.modules.linear.Linear", Vec::new());
    let error = StoredModule::try_from(&value).unwrap().to_module().err().unwrap().to_string();
    assert!(error.contains("`torch.nn.modules.linear.Linear`: `in_features` is missing"), "{error}");
    let value = module("torch.nn.modules.transformer.TransformerEncoder", Vec::new());
    let error = StoredModule::try_from(&value).unwrap().to_module().err().unwrap().to_string();
    assert!(error.contains("it has no `layers`"), "{error}");
    assert!(StoredModule::try_from(&Value::Int(1)).is_err());
}
