//! Leaving out what repeats: the layers of a model that are like the one before them, and the middle of long lists.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use sconce::checkpoint::Value;

use super::walk::Content;

/// What is shown of a container.
#[derive(Debug, PartialEq)]
pub(super) enum Row {
    /// The item at this position.
    Item(usize),
    /// `count` groups of items like the one before, `like`, from `first` to `last`: what their names start with.
    Same { like: String, first: String, last: String, count: usize, tensors: usize, lines: usize },
    /// Items that are left out, by their first and last labels.
    More { first: String, last: String, count: usize, tensors: usize },
}

/// A repetition is left out when that saves as many lines.
const WORTH: usize = 6;
/// The items of a list that are shown, when there are more than `LONG`.
const LONG: usize = 12;
const SHOWN: usize = 3;

/// What to show of the items inside the one at `parent`.
pub(super) fn rows(content: &Content<'_>, parent: usize, whole: bool) -> Vec<Row> {
    let children = content.children(parent);
    if whole {
        return children.into_iter().map(Row::Item).collect();
    }
    let fold = Fold { content };
    let mut rows = Vec::new();
    fold.groups(&children, 0, &mut rows);
    let named = children.iter().any(|&at| !content.items[at].label().starts_with(['[', '(']));
    if !named && rows.len() > LONG { fold.shorten(&children) } else { rows }
}

struct Fold<'f, 'a> {
    content: &'f Content<'a>,
}

impl Fold<'_, '_> {
    /// Items whose labels share their segments up to `depth`: those with the same next segment are a group, and groups
    /// that differ by their numbers alone are the same.
    fn groups(&self, items: &[usize], depth: usize, rows: &mut Vec<Row>) {
        let segment = |at: usize| self.content.items[at].label().split('.').nth(depth);
        let groups: Vec<&[usize]> = items.chunk_by(|&a, &b| segment(a).is_some() && segment(a) == segment(b)).collect();
        let marks: Vec<Option<Mark<'_>>> =
            groups.iter().map(|group| self.mark(group, segment(group[0])?, depth)).collect();
        let mut at = 0;
        while at < groups.len() {
            let same = (at + 1..groups.len()).take_while(|&next| follows(&marks[next - 1], &marks[next])).count();
            let lines = self.lines(groups[at]);
            let fold = if same * lines > WORTH { same } else { 0 };
            if groups[at].len() == 1 || segment(groups[at][0]).is_none() {
                rows.extend(groups[at].iter().copied().map(Row::Item));
            } else {
                self.groups(groups[at], depth + 1, rows);
            }
            if fold > 0 {
                let tensors = groups[at + 1..=at + fold].iter().map(|group| self.tensors(group)).sum();
                let prefix = |group: &[usize]| {
                    let label = self.content.items[group[0]].label();
                    let end = label.match_indices('.').nth(depth).map_or(label.len(), |(dot, _)| dot);
                    label[..end].to_owned()
                };
                let (first, last) = (prefix(groups[at + 1]), prefix(groups[at + fold]));
                let like = prefix(groups[at]);
                rows.push(Row::Same { like, first, last, count: fold, tensors, lines: lines * fold });
            }
            at += 1 + fold;
        }
    }

    /// The name of a group and what is in it, when the name has a number.
    fn mark<'m>(&'m self, group: &[usize], segment: &'m str, depth: usize) -> Option<Mark<'m>> {
        let digits = segment.trim_end_matches(']');
        let stem = digits.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = digits[stem.len()..].parse().ok()?;
        let mut hasher = DefaultHasher::new();
        for &at in group {
            let label = self.content.items[at].label();
            label.split('.').skip(depth + 1).for_each(|segment| segment.hash(&mut hasher));
            self.hash(at, &mut hasher);
        }
        Some(Mark { stem, number, content: hasher.finish() })
    }

    /// What an item is, but for its own name and plain values.
    fn hash(&self, at: usize, hasher: &mut DefaultHasher) {
        let from = self.content.items[at].name.len();
        for (i, item) in self.content.items[at..self.content.items[at].end].iter().enumerate() {
            if i > 0 {
                item.name.get(from..).hash(hasher);
            }
            discriminant(item.value).hash(hasher);
            match item.value {
                Value::Tensor(tensor) => {
                    tensor.dtype().hash(hasher);
                    tensor.shape().hash(hasher);
                    tensor.stride().hash(hasher);
                    tensor.requires_grad().hash(hasher);
                    tensor.location().hash(hasher);
                    tensor.layout().hash(hasher);
                }
                Value::Object(object) => object.class().hash(hasher),
                Value::Dict(dict) => dict.kind().hash(hasher),
                _ => {}
            }
        }
    }

    fn lines(&self, group: &[usize]) -> usize {
        group.iter().map(|&at| self.content.items[at].end - at).sum()
    }

    fn tensors(&self, group: &[usize]) -> usize {
        let all = |&at: &usize| &self.content.items[at..self.content.items[at].end];
        group.iter().flat_map(all).filter(|item| item.tensor().is_some()).count()
    }

    /// The first items of a list and the last one.
    fn shorten(&self, children: &[usize]) -> Vec<Row> {
        let (start, rest) = children.split_at(SHOWN);
        let (last, middle) = rest.split_last().expect("more than are shown");
        let label = |at: usize| self.content.items[at].label().to_owned();
        let more = Row::More {
            first: label(middle[0]),
            last: label(middle[middle.len() - 1]),
            count: middle.len(),
            tensors: self.tensors(middle),
        };
        start.iter().copied().map(Row::Item).chain([more, Row::Item(*last)]).collect()
    }
}

/// A group's name, `layer` and 3, and a digest of what is in it.
struct Mark<'m> {
    stem: &'m str,
    number: u64,
    content: u64,
}

fn follows(before: &Option<Mark<'_>>, after: &Option<Mark<'_>>) -> bool {
    match (before, after) {
        (Some(a), Some(b)) => (a.stem, a.number.checked_add(1), a.content) == (b.stem, Some(b.number), b.content),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use sconce::DType;
    use sconce::checkpoint::{Dict, StoredTensor};

    use super::*;

    fn state(names: &[(&str, usize)]) -> Value {
        let tensor = |len| StoredTensor::from_bytes(DType::U8, [len], vec![0; len]).unwrap();
        Value::from(Dict::from_iter(names.iter().map(|&(name, len)| (name, tensor(len)))))
    }

    fn shown(value: &Value) -> Vec<String> {
        let content = Content::of(value);
        let name = |row| match row {
            Row::Item(at) => content.items[at].label().to_owned(),
            Row::Same { first, last, count, tensors, .. } => format!("{first}..{last} {count} {tensors}"),
            Row::More { first, last, count, .. } => format!("{first}..{last} {count}"),
        };
        rows(&content, 0, false).into_iter().map(name).collect()
    }

    #[test]
    fn layers_that_are_the_same_are_shown_once() {
        let layer = |i: usize| [("a", 1), ("b.weight", 2), ("b.bias", 3)].map(|(n, len)| (format!("net.{i}.{n}"), len));
        let names: Vec<_> = (0..5).flat_map(layer).chain([("head".to_owned(), 1)]).collect();
        let names: Vec<(&str, usize)> = names.iter().map(|(name, len)| (name.as_str(), *len)).collect();
        let lines = shown(&state(&names));
        assert_eq!(lines, ["net.0.a", "net.0.b.weight", "net.0.b.bias", "net.1..net.4 4 12", "head"]);
        // One that differs is shown, and so are the few after it.
        let mut names = names;
        names[4].1 = 7;
        let lines = shown(&state(&names));
        assert_eq!(
            lines[3..],
            [
                "net.1.a",
                "net.1.b.weight",
                "net.1.b.bias",
                "net.2.a",
                "net.2.b.weight",
                "net.2.b.bias",
                "net.3.a",
                "net.3.b.weight",
                "net.3.b.bias",
                "net.4.a",
                "net.4.b.weight",
                "net.4.b.bias",
                "head"
            ]
            .map(ToOwned::to_owned)
            .into_iter()
            .take(lines.len() - 3)
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let item = |i: usize| Value::from(Dict::from_iter([(format!("x{i}"), Value::Int(1))]));
        let list = Value::from((0..100).map(item).collect::<Vec<_>>());
        assert_eq!(shown(&list), ["[0]", "[1]", "[2]", "[3]..[98] 96", "[99]"]);
    }
}
