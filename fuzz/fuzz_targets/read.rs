//! Loads a file and uses all that is in it, as a program would.

use sconce::Checkpoint;
use sconce::checkpoint::Value;

/// Values that are looked at, and elements of a tensor that is read: an expanded one may have any number.
const VALUES: usize = 10_000;
const ELEMENTS: usize = 1 << 20;

pub fn read(bytes: Vec<u8>) {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", bytes) else { return };
    let mut budget = VALUES;
    for save in checkpoint.saves() {
        let _ = save.to_string();
        visit(save, &mut budget);
    }
    if let Ok(state) = checkpoint.state_dict() {
        for (name, tensor) in state.iter().take(VALUES) {
            std::hint::black_box((name, tensor.shape()));
        }
    }
    if let Ok(module) = checkpoint.module() {
        let _ = module.to_string();
    }
}

fn visit(value: &Value, budget: &mut usize) {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return;
    }
    match value {
        Value::Tensor(tensor) if tensor.shape().numel() < ELEMENTS => {
            let _ = tensor.contiguous_bytes();
        }
        Value::Dict(dict) => dict.iter().for_each(|(key, value)| {
            visit(key, budget);
            visit(value, budget);
        }),
        Value::Object(object) => {
            let parts = object.args().iter().chain(object.kwargs()).chain(object.items()).chain(object.state());
            parts.for_each(|part| visit(part, budget));
        }
        other => other.as_list().into_iter().flatten().for_each(|item| visit(item, budget)),
    }
}
