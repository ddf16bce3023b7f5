//! Safetensors files that contradict themselves.

use sconce::{Checkpoint, ErrorKind};

/// Checks the start of the error.
#[track_caller]
fn refused(name: &str, bytes: &[u8], expected: &str) {
    let error = match Checkpoint::from_bytes("file", bytes) {
        Ok(checkpoint) => panic!("{name}: loaded as {checkpoint:?}"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(text.starts_with(&format!("`file`: {expected}")), "{name}: {text}, not {expected}");
    let kind = if expected.starts_with("invalid") { ErrorKind::Invalid } else { ErrorKind::Unsupported };
    assert_eq!(error.kind(), kind, "{name}");
    assert!(text.lines().count() <= 2, "{name}: {text}");
}

fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

/// A header of one tensor called `a`.
fn one(info: &str) -> String {
    format!("{{\"a\":{{{info}}}}}")
}

#[test]
fn headers_that_contradict_the_data() {
    let whole = one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#);
    Checkpoint::from_bytes("whole", file(&whole, 8)).unwrap();
    Checkpoint::from_bytes("spaces", file(&format!("{whole}   \n"), 8)).unwrap();
    Checkpoint::from_bytes("empty", file("{}", 0)).unwrap();
    let pair = |first: &str, second: &str| {
        let info = |offsets: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, info(first), info(second))
    };
    for (header, data, expected) in [
        (whole.clone(), 7, "the safetensors file is cut short: 8 bytes of data expected, 7 found"),
        (whole.clone(), 9, "the safetensors file has 1 bytes after its tensors"),
        ("{}".into(), 1, "the safetensors file has 1 bytes after its tensors"),
        (
            pair("[0,4]", "[3,7]"),
            7,
            "`b` starts at byte 3 of the data and overlaps the tensor before it, which ends at byte 4",
        ),
        (
            pair("[5,9]", "[0,4]"),
            9,
            "`a` starts at byte 5 of the data and leaves a gap before it, which ends at byte 4",
        ),
        (pair("[0,4]", "[0,4]"), 4, "`b` starts at byte 0 of the data and overlaps the tensor before it"),
        (
            one(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#),
            8,
            "`a` is a float32 tensor of shape [3] and takes 8 bytes",
        ),
        (
            one(r#""dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]"#),
            8,
            "`a` is a float32 tensor of shape",
        ),
        (
            one(r#""dtype":"F32","shape":[0,99999999999999],"data_offsets":[0,8]"#),
            8,
            "`a` is a float32 tensor of shape",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#),
            8,
            "`a`: it starts at byte 8 of the data and ends at byte 0",
        ),
        (one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#), 8, "`a`: its `data_offsets` are not two numbers"),
        (one(r#""dtype":"F32","shape":[2]"#), 8, "`a`: it has no `data_offsets`"),
        (one(r#""dtype":"F32","dtype":"I8","shape":[2],"data_offsets":[0,8]"#), 8, "`a`: `dtype` is there twice"),
        (
            one(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#),
            8,
            "`a`: a list of sizes expected at byte 28, found `[`",
        ),
        (one(r#""dtype":"F32","shape":[2.5],"data_offsets":[0,8]"#), 8, "`a`: a list of sizes expected"),
        (one(r#""dtype":3,"shape":[2],"data_offsets":[0,8]"#), 8, "`a`: a string expected"),
        (format!("{},{}", &whole[..whole.len() - 1], &whole[1..]), 8, "the name `a` is there twice"),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, "a string expected at byte 21, found `1`"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), 0, "the name `__metadata__` is there twice"),
        (format!("{whole}x"), 8, "its end expected"),
        (format!("{} ", &whole[..whole.len() - 1]), 8, "`}` expected"),
        (r#"{"a" 3}"#.into(), 0, "`:` expected at byte 5, found `3`"),
        (r#"{"a":3}"#.into(), 0, "`a`: `{` expected at byte 5, found `3`"),
        (format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0, "`a`: `{` expected"),
        (one(&format!(r#""x":{}"#, "[".repeat(100_000))), 0, "`a`: a value expected"),
    ] {
        // What is wrong within the header, or with the header and the data.
        let place = if expected.starts_with("the safetensors file")
            || expected.contains(" tensor ")
            || expected.contains("leaves a gap")
        {
            ""
        } else {
            "the safetensors header: "
        };
        let expected = format!("invalid checkpoint: {place}{expected}");
        refused(&header[..header.len().min(99)], &file(&header, data), &expected);
    }
    let odd = one(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#);
    refused(
        &odd,
        &file(&odd, 2),
        "unsupported checkpoint: the safetensors header: `a`: its rows have an odd number of 4-bit elements",
    );
    let unknown = one(r#""dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]"#);
    refused(
        &unknown,
        &file(&unknown, 3),
        "unsupported checkpoint: the safetensors header: `a`: PyTorch has no dtype for `F6_E2M3`",
    );
}

#[test]
fn headers_that_are_not_there() {
    let whole = file(&one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#), 8);
    for len in 10..whole.len() {
        refused(&format!("{len} bytes"), &whole[..len], "invalid checkpoint: the safetensors file is cut short");
    }
    let large = [&200_000_000u64.to_le_bytes()[..], b"{\"a\":", &[b' '; 100]].concat();
    refused(
        "large",
        &large,
        "invalid checkpoint: a safetensors header of 200000000 bytes; at most 100000000 are allowed",
    );
}
