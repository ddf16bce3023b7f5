//! Text in pickles: Python 2 and 3 strings, escapes, decimal numbers, module names.

use std::borrow::Cow;
use std::sync::Arc;

use super::node::Node;
use crate::checkpoint::value::BigInt;
use crate::error::{Error, Result};

/// Python 3's name for a module that Python 2, or an older torch, called otherwise.
pub(super) fn python3_module(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        "UserDict" | "UserList" | "UserString" => "collections",
        "cPickle" => "pickle",
        "torch.tensor" => "torch._tensor",
        other => other,
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid("a string is not UTF-8"))
}

/// Whether bytes would be UTF-8 were surrogates allowed in it, as Python has them in strings that stand for file names.
pub(super) fn has_surrogates(bytes: &[u8]) -> bool {
    let mut text = bytes.to_vec();
    let mut at = 0;
    while at + 3 <= text.len() {
        if matches!(text[at..at + 3], [0xed, 0xa0..=0xbf, 0x80..=0xbf]) {
            text[at..at + 3].fill(b'?');
        }
        at += 1;
    }
    std::str::from_utf8(&text).is_ok()
}

/// The text as `latin1` encodes it, if it does.
pub(super) fn latin1(text: &str) -> Option<Arc<[u8]>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// An integer in decimal, as protocols 0 and 1 write it.
pub(super) fn integer(line: &[u8]) -> Result<Node> {
    let text = utf8(line)?.trim();
    if let Ok(int) = text.parse::<i64>() {
        return Ok(Node::Int(int));
    }
    let big = BigInt::from_decimal(text).ok_or_else(|| Error::invalid("a decimal integer was expected"))?;
    Ok(Node::BigInt(Box::new(big)))
}

pub(super) fn float(line: &[u8]) -> Result<f64> {
    utf8(line)?.trim().parse().map_err(|_| Error::invalid("a decimal number was expected"))
}

/// The bytes of a quoted Python 2 string with its escapes.
pub(super) fn quoted(line: &[u8]) -> Result<Cow<'_, [u8]>> {
    let line = line.trim_ascii();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(Error::invalid("a quoted string was expected")),
    };
    if !inner.contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let [escape, tail @ ..] = rest else { return Err(Error::invalid("a string ends inside an escape")) };
        rest = tail;
        match escape {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'\\' | b'\'' | b'"' => out.push(*escape),
            b'x' => out.push(digits(&mut rest, 2, 16)? as u8),
            b'0'..=b'7' => {
                let len = 1 + rest.iter().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let mut octal = &inner[inner.len() - rest.len() - 1..];
                out.push(digits(&mut octal, len, 8)? as u8);
                rest = octal;
            }
            _ => out.extend([b'\\', *escape]),
        }
    }
    Ok(Cow::Owned(out))
}

/// Latin-1 text with `\uXXXX` and `\UXXXXXXXX` escapes, as protocol 0 writes strings, as UTF-8. Surrogates, which are no
/// characters, become the three bytes that they would have in it, as in the later protocols.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Result<Cow<'_, [u8]>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return Ok(Cow::Borrowed(line));
    }
    let mut out = Vec::with_capacity(line.len());
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    let mut rest = line;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let len = match (byte, rest.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                push(&mut out, char::from(*byte));
                continue;
            }
        };
        rest = &rest[1..];
        match digits(&mut rest, len, 16)? {
            code @ 0xd800..=0xdfff => out.extend([0xed, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8]),
            code => {
                let no_character = || Error::invalid("a string has an escape that is no character");
                push(&mut out, char::from_u32(code).ok_or_else(no_character)?);
            }
        }
    }
    Ok(Cow::Owned(out))
}

fn digits(rest: &mut &[u8], len: usize, radix: u32) -> Result<u32> {
    let (number, tail) = rest.split_at_checked(len).ok_or_else(|| Error::invalid("a string ends inside an escape"))?;
    *rest = tail;
    std::str::from_utf8(number)
        .ok()
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|number| u32::from_str_radix(number, radix).ok())
        .ok_or_else(|| Error::invalid("a string has an escape without digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes() {
        assert_eq!(&*quoted(br"'a\n\x41\101\'\q'").unwrap(), b"a\nAA'\\q");
        assert_eq!(&*quoted(b"\"plain\"").unwrap(), b"plain");
        assert!(quoted(b"'").is_err() && quoted(br"'\x4'").is_err() && quoted(br"'\x+4'").is_err());
        let text = raw_unicode_escape(b"caf\xe9 \\u00e9 \\U0001f600 \\n").unwrap();
        assert_eq!(*text, *"caf\u{e9} \u{e9} \u{1f600} \\n".as_bytes());
        assert_eq!(*raw_unicode_escape(br"\ud83d\ude00").unwrap(), *b"\xed\xa0\xbd\xed\xb8\x80");
        assert!(raw_unicode_escape(br"\U00110000").is_err());
    }

    #[test]
    fn reads_decimal_integers_of_any_size() {
        assert!(matches!(integer(b"-12").unwrap(), Node::Int(-12)));
        let Node::BigInt(big) = integer(b"119547037146038801333356").unwrap() else { panic!("a big integer") };
        assert_eq!(big.to_string(), "119547037146038801333356");
        assert!(integer(b"12a").is_err() && integer(b"").is_err());
    }
}
