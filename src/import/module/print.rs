//! The tree as PyTorch's `print` shows it.

use std::fmt;

use super::StoredModule;
use super::extra_repr::extra_repr;

/// Modules that are printed at most: a small file can share a module in so many places that it never ends.
const MOST: usize = 50_000;

/// A line and how deep it is indented.
struct Line {
    depth: usize,
    text: String,
}

impl fmt::Display for StoredModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut budget = MOST;
        for (i, Line { depth, text }) in lines(self, &mut budget).into_iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{:1$}{text}", "", depth * 2)?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoredModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn lines(module: &StoredModule, budget: &mut usize) -> Vec<Line> {
    let line = |depth: usize, text: String| Line { depth, text };
    let class = module.class_name();
    if *budget == 0 {
        return vec![line(0, format!("{class}(...)"))];
    }
    *budget -= 1;
    let extra = extra_repr(module);
    let mut children: Vec<(String, Vec<Line>)> = Vec::new();
    for (name, child) in module.entries() {
        let child = child.map_or_else(|| vec![line(0, "None".into())], |child| lines(&child, budget));
        children.push((name.to_owned(), child));
        if *budget == 0 {
            break;
        }
    }
    if module.class() == "torch.nn.modules.container.ModuleList" {
        children = collapse(children);
    }
    if children.is_empty() && !extra.contains('\n') {
        return vec![line(0, format!("{class}({extra})"))];
    }
    let mut all = vec![line(0, format!("{class}("))];
    if !extra.is_empty() {
        all.extend(extra.split('\n').map(|extra| line(1, extra.into())));
    }
    for (name, mut child) in children {
        child[0].text.insert_str(0, &format!("({name}): "));
        all.extend(child.into_iter().map(|Line { depth, text }| line(depth + 1, text)));
    }
    all.push(line(0, ")".into()));
    all
}

/// Joins equal neighbours into one, `(0-3): 4 x Block(...)`. Positions are printed, not names.
fn collapse(children: Vec<(String, Vec<Line>)>) -> Vec<(String, Vec<Line>)> {
    let mut runs: Vec<(usize, usize, Vec<Line>)> = Vec::new();
    for (i, (_, child)) in children.into_iter().enumerate() {
        match runs.last_mut() {
            Some((_, last, first)) if same(first, &child) => *last = i,
            _ => runs.push((i, i, child)),
        }
    }
    let joined = runs.into_iter().map(|(first, last, mut child)| {
        if first == last {
            return (first.to_string(), child);
        }
        child[0].text.insert_str(0, &format!("{} x ", last - first + 1));
        (format!("{first}-{last}"), child)
    });
    joined.collect()
}

fn same(a: &[Line], b: &[Line]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.depth == b.depth && a.text == b.text)
}
