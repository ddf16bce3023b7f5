//! The rooms of the house and the arrows between them: each room uses only rooms to its left, only the rooms that own
//! the GPU name wgpu, and no file is too long to read. `docs/architecture.md` says what the rooms are for.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from left to right. Those of one step may use each other.
const ROOMS: &[&[&str]] = &[
    &["error", "dtype", "shape"],
    &["checkpoint"],
    &["device", "tensor", "npy"],
    &["state_dict"],
    &["graph"],
    &["nn"],
    &["models", "import"],
    &["backend"],
    &["model"],
];
const MAX_LINES: usize = 600;

fn step_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|step| step.contains(&room))
}

/// A piece of Rust source: an identifier, `::`, or one other character. Comments, strings and lifetimes are left out.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Colons,
    Other(char),
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == 'r' && (starts(at, "r\"") || starts(at, "r#\"")) {
            let hashes = if starts(at, "r#") { "#" } else { "" };
            at += 2 + hashes.len();
            while at < chars.len() && !starts(at, &format!("\"{hashes}")) {
                at += 1;
            }
            at += 1 + hashes.len();
        } else if c == '\'' {
            // A character is closed by a quote, a lifetime is not.
            let len = if chars.get(at + 1) == Some(&'\\') {
                chars[at + 3..].iter().position(|&c| c == '\'').map(|len| len + 4)
            } else {
                (chars.get(at + 2) == Some(&'\'')).then_some(3)
            };
            at += len.unwrap_or(1);
        } else if c.is_alphanumeric() || c == '_' {
            let len = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            tokens.push(Token::Name(chars[at..at + len].iter().collect()));
            at += len;
        } else if starts(at, "::") {
            tokens.push(Token::Colons);
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Other(c));
            }
            at += 1;
        }
    }
    tokens
}

/// The tokens without the modules that are compiled for tests only: `#[cfg(test)] mod tests { .. }`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    let expected = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() > expected.len()
        && tokens.iter().zip(expected).all(|(token, text)| match token {
            Token::Name(name) => name == text,
            Token::Other(c) => text.chars().eq([*c]),
            Token::Colons => false,
        })
}

/// Past the `;` or the closing brace of the item that starts here.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at] {
            Token::Other('{') => depth += 1,
            Token::Other('}') => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(tokens[at - 1], Token::Other('}' | ';')) {
            break;
        }
    }
    at
}

/// Where paths of the crate lead, each as its names after `crate`. `module` is the path of the file's own module.
fn paths(tokens: &[Token], module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Name(name) = &tokens[at] else {
            at += 1;
            continue;
        };
        let continues = tokens.get(at + 1) == Some(&Token::Colons);
        let inside = at > 0 && tokens[at - 1] == Token::Colons;
        let base = match name.as_str() {
            "crate" if continues => Some(Vec::new()),
            "super" if continues && !inside => Some(module[..module.len().saturating_sub(1)].to_vec()),
            _ => None,
        };
        at += 1;
        if let Some(base) = base {
            at = follow(tokens, at + 1, base, &mut found);
        }
    }
    found
}

/// Adds the paths that go on here, behind a `::`: a name, `super`, or a list in braces.
fn follow(tokens: &[Token], mut at: usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at) {
            Some(Token::Name(name)) if name == "super" => {
                path.pop();
            }
            Some(Token::Name(name)) => path.push(name.clone()),
            Some(Token::Other('{')) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(Token::Other('}'))) {
                    at = match tokens[at] {
                        Token::Other(',') => at + 1,
                        _ => follow(tokens, at, path.clone(), found),
                    };
                }
                return at + 1;
            }
            _ => {
                found.push(path);
                return at + 1;
            }
        }
        at += 1;
        if tokens.get(at) != Some(&Token::Colons) {
            // `use a as b`: the new name is no path.
            if tokens.get(at) == Some(&Token::Name("as".to_owned())) {
                at += 2;
            }
            found.push(path);
            return at;
        }
        at += 1;
    }
}

/// Which room a name of the crate's root comes from: `Tensor` from `tensor`, by the `pub use` lines of `lib.rs`.
fn exports(lib: &str) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let tokens = tokens(lib);
    for at in 0..tokens.len() {
        if tokens[at] == Token::Name("use".to_owned()) {
            let mut found = Vec::new();
            follow(&tokens, at + 1, Vec::new(), &mut found);
            for path in found {
                if let (Some(room), Some(name)) = (path.first(), path.last()) {
                    names.insert(name.clone(), room.clone());
                }
            }
        }
    }
    names
}

/// What is wrong with one file of `src/`, whose path is relative to there.
fn problems(path: &str, source: &str, exports: &HashMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{path} has {lines} lines, at most {MAX_LINES} are allowed"));
    }
    if !path.ends_with(".rs") {
        return problems;
    }
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    module.retain(|name| name != "mod" && name != "lib");
    let tokens = tokens(source);
    let owns_gpu = path.starts_with("device/") || path.starts_with("backend/gpu/");
    if !owns_gpu && tokens.contains(&Token::Name("wgpu".to_owned())) {
        problems.push(format!("{path} names wgpu, which only device/ and backend/gpu/ do"));
    }
    let Some(own) = module.first() else { return problems };
    let Some(own_step) = step_of(own) else {
        if own != "main" && own != "cli" {
            problems.push(format!("{path} is in no room"));
        }
        return problems;
    };
    if path.ends_with("tests.rs") {
        return problems;
    }
    for target in paths(&without_tests(&tokens), &module) {
        let Some(first) = target.first() else { continue };
        let room = exports.get(first).unwrap_or(first);
        let used = target.join("::");
        match step_of(room) {
            Some(step) if step > own_step => {
                problems.push(format!("{path} uses crate::{used}: `{room}` is to the right of `{own}`"));
            }
            None if room == "cli" => problems.push(format!("{path} uses crate::{used}: `cli` is the last room")),
            _ => {}
        }
        let backend = |path: &[String]| match path {
            [first, second, ..] if first == "backend" => Some(second.clone()),
            _ => None,
        };
        if let (Some(own), Some(other)) = (backend(&module), backend(&target))
            && own != other
            && [&own, &other].iter().all(|name| ["cpu", "gpu"].contains(&name.as_str()))
        {
            problems.push(format!("{path} uses crate::{used}: the backends do not know each other"));
        }
    }
    problems
}

fn files_under(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files_under(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "wgsl") {
            files.push(path);
        }
    }
}

#[test]
fn arrows_between_rooms_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exports = exports(&fs::read_to_string(root.join("lib.rs")).expect("lib.rs"));
    assert_eq!(exports.get("Tensor").map(String::as_str), Some("tensor"), "lib.rs is read");
    let mut files = Vec::new();
    files_under(&root, &mut files);
    assert!(files.len() > 10, "src/ is found");
    let problems: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(&root).expect("under src").to_string_lossy().replace('\\', "/");
            problems(&path, &fs::read_to_string(file).expect("a source file"), &exports)
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let mut files = Vec::new();
    for folder in ["shaders", "tests", "examples", "benches"] {
        files_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    for file in files {
        let lines = fs::read_to_string(&file).expect("a source file").lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, at most {MAX_LINES} are allowed", file.display());
    }
}

mod the_checker {
    use super::*;

    fn check(path: &str, source: &str) -> Vec<String> {
        problems(path, source, &exports("pub use tensor::{Element, Tensor};\npub use model::Model;"))
    }

    #[test]
    fn finds_violations() {
        for (path, source, words) in [
            ("graph/op.rs", "use crate::nn::Module;", "`nn` is to the right of `graph`"),
            ("graph/ops/conv.rs", "use crate::{shape::Shape, nn::Module};", "`nn` is to the right"),
            ("graph/op.rs", "use crate::{error::{Error, Result}, backend::{cpu, gpu}};", "crate::backend::cpu"),
            ("graph/op.rs", "fn f() { crate::model::Model::new() }", "`model` is to the right"),
            ("graph/op.rs", "use super::super::nn::Module;", "`nn` is to the right"),
            ("graph/mod.rs", "use super::nn::{Module};", "`nn` is to the right"),
            ("graph/op.rs", "pub(crate) use crate::Model;", "`model` is to the right of `graph`"),
            ("checkpoint/mod.rs", "use crate::Tensor;", "`tensor` is to the right of `checkpoint`"),
            ("tensor.rs", "use crate::graph::Graph as G;", "`graph` is to the right of `tensor`"),
            ("model.rs", "use crate::cli::Args;", "`cli` is the last room"),
            ("backend/cpu/conv.rs", "use super::super::gpu::Plan;", "do not know each other"),
            ("backend/gpu/mod.rs", "use crate::backend::cpu::Plan;", "do not know each other"),
            ("graph/op.rs", "fn f(b: &wgpu::Buffer) {}", "names wgpu"),
            ("backend/cpu/mod.rs", "use wgpu::Device;", "names wgpu"),
            ("graph/tests.rs", "use wgpu::Device;", "names wgpu"),
            ("attic/mod.rs", "", "is in no room"),
            (
                "graph/op.rs",
                "#[cfg(test)]\nmod tests { use crate::nn; }\nuse crate::model::X;",
                "`model` is to the right",
            ),
            ("graph/op.rs", &"\n".repeat(MAX_LINES + 1), "601 lines"),
        ] {
            let found = check(path, source);
            assert_eq!(found.len().min(1), 1, "{path}: {source}");
            assert!(found[0].contains(words), "`{}` should contain `{words}`", found[0]);
        }
    }

    #[test]
    fn allows_what_is_allowed() {
        for (path, source) in [
            ("nn/linear.rs", "use crate::graph::{Graph, Var};\nuse crate::{Tensor, shape};"),
            ("dtype.rs", "use crate::error::Error;"),
            ("device/gpu.rs", "use wgpu::Device;"),
            ("backend/gpu/plan.rs", "use super::super::Plan; use super::kernels; use wgpu as w;"),
            (
                "graph/op.rs",
                "// use crate::nn::Module;\n/// [`crate::Model`]\n/* crate::nn::X */ const A: char = '\"';",
            ),
            ("graph/op.rs", "const A: &str = \"crate::nn::X wgpu \\\" \"; const B: &str = r#\"wgpu\"#;"),
            ("graph/op.rs", "fn f<'a>(x: &'a str) {} #[cfg(test)]\nmod tests { use crate::nn; fn f() { {} } }"),
            ("graph/op.rs", "#[cfg(test)]\nuse crate::nn::X;\nuse crate::shape::Shape;"),
            ("graph/mod.rs", "use op::Op; pub(crate) fn f() { self::op::g() }"),
            ("graph/tests.rs", "use crate::backend::naive;"),
            ("cli/run.rs", "use super::labels;"),
            ("lib.rs", "pub use model::Model;"),
            ("graph/op.rs", &"\n".repeat(MAX_LINES)),
        ] {
            assert_eq!(check(path, source), [""; 0], "{path}: {source}");
        }
    }
}
