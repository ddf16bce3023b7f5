//! A few bytes that recall a large value, again and again, each time for a call that copies it.

use super::build::{checkpoint, storage, text};
use super::files::committed;
use super::load;
use super::memory::measured;

const LARGE: usize = 4000;
const CALLS: usize = 2000;

/// A large value, remembered as 0, a function as 1, and a list of what the calls give.
fn bomb(value: &[u8], function: &str, call: &[u8]) -> Vec<u8> {
    let function = format!("c{function}\nq\x01](");
    checkpoint(&[value, b"q\x00", function.as_bytes(), &call.repeat(CALLS), b"e"].concat())
}

#[test]
fn copies_are_bounded() {
    let tuple = [b"(".to_vec(), b"K\x01".repeat(LARGE), b"t".to_vec()].concat();
    let list = [b"](".to_vec(), b"K\x01".repeat(LARGE), b"e".to_vec()].concat();
    let dict = [b"}(".to_vec(), b"K\x01N".repeat(LARGE), b"u".to_vec()].concat();
    let long = text(&"x".repeat(LARGE));
    let calls = b"h\x01h\x00\x85R";
    let tensors = [b"h\x01(h\x02K\x00".as_slice(), b"h\x00h\x00\x89NtR"].concat();
    let tensor = [tuple.clone(), b"q\x00".to_vec(), storage("0", "FloatStorage", 4), b"q\x020h\x00".to_vec()].concat();
    let cases = [
        ("dicts", bomb(&dict, "collections\nOrderedDict", calls)),
        ("sets", bomb(&list, "builtins\nset", calls)),
        ("sizes", bomb(&tuple, "torch\nSize", calls)),
        ("texts", bomb(&long, "_codecs\nencode", b"h\x01h\x00X\x06\0\0\0latin1\x86R")),
        ("arguments", bomb(&tuple, "a\nB", b"h\x01h\x00R")),
        ("tensors", bomb(&tensor, "torch._utils\n_rebuild_tensor_v2", &tensors)),
    ];
    for (name, bytes) in cases {
        committed(&format!("copied-{name}.pt"), &bytes);
        let (error, memory) = measured(|| load(&bytes).unwrap_err().to_string());
        assert!(error.ends_with("calls are given the same large values again and again"), "{name}: {error}");
        assert!(memory < 8 << 20, "{name}: {memory}");
    }
}
