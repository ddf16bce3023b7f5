//! The JSON of a program: as `serde_json` reads it, except that Python writes infinities as bare words.

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// Parses a program's text.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is not JSON.
pub(super) fn parse(text: &[u8]) -> Result<Json> {
    serde_json::from_slice(text)
        .or_else(|error| quote_numbers(text).map_or(Err(error), |text| serde_json::from_slice(&text)))
        .map_err(|error| Error::invalid(format!("the program is not JSON: {error}")))
}

/// The text with `Infinity`, `-Infinity` and `NaN` outside of strings in quotes, which is how torch 2.7 and later write
/// them; `None` when there are none.
fn quote_numbers(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let (mut at, mut found) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        let word: Option<&[u8]> =
            [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| rest.starts_with(word));
        let len = match (rest[0], word) {
            (b'"', _) => string_len(rest),
            (_, Some(word)) => {
                found = true;
                out.push(b'"');
                word.len()
            }
            _ => 1,
        };
        out.extend_from_slice(&rest[..len]);
        if rest[0] != b'"' && word.is_some() {
            out.push(b'"');
        }
        at += len;
    }
    found.then_some(out)
}

/// The length of the string that starts here, with its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// A float: a number, or the name of one that JSON has no number for.
pub(super) fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some("NaN") => Some(f64::NAN),
        Some(_) => None,
        None => json.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_infinities_are_numbers_and_strings_stay() {
        let json = parse(br#"{"a": -Infinity, "b": [Infinity, NaN], "c": "say \"Infinity\", NaN", "d": 1.5}"#).unwrap();
        assert_eq!(float(&json["a"]), Some(f64::NEG_INFINITY));
        assert_eq!(float(&json["b"][0]), Some(f64::INFINITY));
        assert!(float(&json["b"][1]).unwrap().is_nan());
        assert_eq!(json["c"], "say \"Infinity\", NaN");
        assert_eq!(float(&json["d"]), Some(1.5));
        assert!(parse(b"{\"a\": Inf}").is_err());
        assert!(parse(b"{\"a\": NaN").is_err());
    }
}
