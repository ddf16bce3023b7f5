//! The JSON of a program. Texts stay where they are in the file, of which they are the larger part, and infinities may be
//! bare words, as Python and torch 2.6 write them.

use std::borrow::Cow;
use std::ops::Index;

use crate::error::{Error, Result};

/// A value. Objects are short, or read from the first entry to the last: they need no index.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'t> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Json<'t>>),
    Object(Vec<(Cow<'t, str>, Json<'t>)>),
}

/// How deep lists and objects may be in each other.
const MAX_DEPTH: usize = 128;

impl<'t> Json<'t> {
    /// Parses a program's text.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is not JSON.
    pub(super) fn parse(text: &'t [u8]) -> Result<Self> {
        let invalid = |at: usize| Error::invalid(format!("the program is not JSON: byte {at} is unexpected"));
        let text = std::str::from_utf8(text).map_err(|error| invalid(error.valid_up_to()))?;
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0).ok_or_else(|| invalid(parser.at))?;
        parser.space();
        if parser.at < text.len() { Err(invalid(parser.at)) } else { Ok(value) }
    }

    pub(super) fn get(&self, field: &str) -> Option<&Self> {
        self.as_object()?.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    pub(super) fn as_object(&self) -> Option<&[(Cow<'t, str>, Self)]> {
        if let Json::Object(entries) = self { Some(entries) } else { None }
    }

    /// The entry of an object that has one kind of content, such as `{"as_int": 3}`: its name and value.
    pub(super) fn entry(&self) -> Option<(&str, &Self)> {
        self.as_object()?.first().map(|(name, value)| (&**name, value))
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        if let Json::List(items) = self { Some(items) } else { None }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        if let Json::Int(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(value) = self { Some(*value) } else { None }
    }

    /// A float: a number, or the name of one that JSON has no number for.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Int(value) => Some(*value as f64),
            Json::Float(value) => Some(*value),
            Json::Text(text) => word(text),
            _ => None,
        }
    }
}

fn word(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => None,
    }
}

/// A field, null where there is none.
impl<'t> Index<&str> for Json<'t> {
    type Output = Json<'t>;

    fn index(&self, field: &str) -> &Self {
        self.get(field).unwrap_or(const { &Json::Null })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes past `byte` if it is next, after space.
    fn accept(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// The next value, or `None` where the text is damaged.
    fn value(&mut self, depth: usize) -> Option<Json<'t>> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.space();
        Some(match self.peek()? {
            b'"' => Json::Text(self.text()?),
            b'[' => {
                let mut items = Vec::new();
                self.items(b']', |parser| {
                    items.push(parser.value(depth + 1)?);
                    Some(())
                })?;
                Json::List(items)
            }
            b'{' => {
                let mut entries = Vec::new();
                self.items(b'}', |parser| {
                    parser.space();
                    let name = parser.text()?;
                    if !parser.accept(b':') {
                        return None;
                    }
                    entries.push((name, parser.value(depth + 1)?));
                    Some(())
                })?;
                Json::Object(entries)
            }
            _ => self.scalar()?,
        })
    }

    /// What is between brackets, separated by commas.
    fn items(&mut self, end: u8, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        if self.accept(end) {
            return Some(());
        }
        loop {
            each(self)?;
            if self.accept(end) {
                return Some(());
            }
            if !self.accept(b',') {
                return None;
            }
        }
    }

    /// A number, or a word.
    fn scalar(&mut self) -> Option<Json<'t>> {
        let rest = &self.text[self.at..];
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let scalar = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let value = match scalar {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => match word(scalar) {
                Some(value) => Json::Float(value),
                // Rust's numbers may have a sign in front, and be words.
                None if scalar.starts_with('+') || !scalar.contains(|c: char| c.is_ascii_digit()) => return None,
                None => match scalar.parse() {
                    Ok(value) => Json::Int(value),
                    Err(_) => Json::Float(scalar.parse().ok()?),
                },
            },
        };
        self.at += scalar.len();
        Some(value)
    }

    /// A text in quotes: as it is in the file, unless something in it is escaped.
    fn text(&mut self) -> Option<Cow<'t, str>> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let (start, bytes) = (self.at + 1, self.text.as_bytes());
        let len = bytes[start..].iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
        self.at = start + len;
        let mut text = Cow::Borrowed(&self.text[start..self.at]);
        while self.peek()? != b'"' {
            let escaped = self.escape()?;
            let from = self.at;
            self.at += bytes[from..].iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
            let text = text.to_mut();
            text.push(escaped);
            text.push_str(&self.text[from..self.at]);
        }
        self.at += 1;
        Some(text)
    }

    /// The character that is escaped here.
    fn escape(&mut self) -> Option<char> {
        let byte = *self.text.as_bytes().get(self.at + 1)?;
        self.at += 2;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high);
                }
                self.at += if self.text[self.at..].starts_with("\\u") { 2 } else { return None };
                let low = self.hex()?.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| !digits.starts_with('+'))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_infinities_are_numbers_and_strings_stay() {
        let text = br#"{"a": -Infinity, "b": [Infinity, NaN], "c": "say \"Infinity\", NaN", "d": 1.5, "e": "NaN"}"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json["a"].as_f64(), Some(f64::NEG_INFINITY));
        assert_eq!(json["b"].as_list().unwrap()[0].as_f64(), Some(f64::INFINITY));
        assert!(json["b"].as_list().unwrap()[1].as_f64().unwrap().is_nan());
        assert_eq!(json["c"].as_str(), Some("say \"Infinity\", NaN"));
        assert_eq!(json["d"].as_f64(), Some(1.5));
        assert!(json["e"].as_f64().unwrap().is_nan() && json["f"] == Json::Null);
    }

    /// These are read as `serde_json` reads them, or refused as it refuses them.
    #[test]
    fn json_is_read_as_serde_json_reads_it() {
        fn same(own: &Json<'_>, other: &serde_json::Value) -> bool {
            match (own, other) {
                (Json::Null, other) => other.is_null(),
                (Json::Bool(own), other) => other.as_bool() == Some(*own),
                (Json::Int(own), other) => other.as_i64() == Some(*own),
                (Json::Float(own), other) => other.as_f64() == Some(*own),
                (Json::Text(own), other) => other.as_str() == Some(own),
                (Json::List(own), other) => other
                    .as_array()
                    .is_some_and(|other| own.len() == other.len() && own.iter().zip(other).all(|(a, b)| same(a, b))),
                (Json::Object(own), other) => other.as_object().is_some_and(|other| {
                    own.len() == other.len() && own.iter().zip(other).all(|((k, a), (l, b))| k == l && same(a, b))
                }),
            }
        }
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        let texts: [&[u8]; 32] = [
            br#" {"a" : [ 1 , -2.5e3, 0.5E-2, 1e300 ] , "b":{}, "c": [] } "#,
            br#""\u00e9 \ud83d\ude00 \n\t\"\\\/\b\f\r""#,
            "\"ünï\"".as_bytes(),
            b"9223372036854775807",
            b"-9223372036854775808",
            b"18446744073709551615",
            b"true",
            b"null",
            b"",
            b"{",
            b"[1,]",
            b"[,1]",
            b"{\"a\" 1}",
            b"{\"a\":1,}",
            b"{a: 1}",
            b"\"\\x\"",
            b"\"\\u12\"",
            b"\"\\u+123\"",
            b"\"\\ud800\"",
            b"\"\\ud800\\u0041\"",
            b"\"open",
            b"+1",
            b"inf",
            b"nan",
            b"-",
            b"1 2",
            b"[1 2]",
            b"tru",
            b"\xff",
            b"\"\\",
            &deep(100),
            &deep(1000),
        ];
        for text in texts {
            match (Json::parse(text), serde_json::from_slice(text)) {
                (Ok(own), Ok(other)) => assert!(same(&own, &other), "{own:?} {other:?}"),
                (Err(_), Err(_)) => {}
                (own, other) => panic!("{}: {own:?} {other:?}", String::from_utf8_lossy(text)),
            }
        }
    }
}
