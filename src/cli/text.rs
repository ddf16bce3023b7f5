//! Words for people: sizes, counts, and text from files.

use std::borrow::Cow;

/// A size in bytes with three digits or so: `46.8 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..10_000 => format!("{} bytes", number(bytes)),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A number with commas: `25,557,032`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn count(count: usize, what: &str) -> String {
    format!("{} {what}{}", number(count as u64), if count == 1 { "" } else { "s" })
}

/// Text from a file without what a terminal would act on.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(acts) {
        false => Cow::Borrowed(text),
        true => text
            .chars()
            .flat_map(|c| match acts(c) {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            })
            .collect::<String>()
            .into(),
    }
}

/// A printed value in one line of bounded length.
pub(crate) fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Trailing commas belong to the form with one entry per line.
    let line = line.replace("{ ", "{").replace(", }", "}").replace(" }", "}").replace("[ ", "[").replace(" ]", "]");
    match line.char_indices().nth(most) {
        Some((end, _)) => clean(&format!("{}...", &line[..end])).into_owned(),
        None => clean(&line).into_owned(),
    }
}

/// The first of some names in backticks, and how many more there are.
pub(crate) fn names<'n>(names: impl ExactSizeIterator<Item = &'n str>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let first: Vec<String> = names.take(most).map(|name| format!("`{}`", clean(name))).collect();
    first.join(", ") + &if more > 0 { format!(" and {} more", number(more as u64)) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lines_are_short() {
        assert_eq!(
            (bytes(1), bytes(9_999), bytes(46_827_520)),
            ("1 byte".into(), "9,999 bytes".into(), "46.8 MB".into())
        );
        assert_eq!(
            (number(0), number(999), number(1_000), number(25_557_032)),
            ("0".into(), "999".into(), "1,000".into(), "25,557,032".into())
        );
        assert_eq!(short("{\n  'a': 1,\n}", 80), "{'a': 1}");
        assert_eq!(short(&"é".repeat(200), 80).chars().count(), 83);
        assert_eq!(count(1, "tensor") + &count(2, " tensor"), "1 tensor2  tensors");
    }

    #[test]
    fn files_cannot_speak_to_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
        assert_eq!(clean("layer.é.重み"), "layer.é.重み");
    }
}
