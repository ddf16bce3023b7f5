//! Integers that do not fit into 64 bits.

use std::fmt;

/// An integer outside the range of `i64`, exact. Python's integers have any size.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInt {
    /// Little-endian two's complement, as short as possible.
    bytes: Box<[u8]>,
}

/// Python reads and prints no more decimal digits than this, since the time grows with their square.
const MAX_DIGITS: usize = 4300;

impl BigInt {
    /// The integer with these little-endian two's complement bytes, the form in which pickles and [`BigInt::bytes`]
    /// have it.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut len = bytes.len();
        while len > 1 {
            let sign = if bytes[len - 2] & 0x80 == 0 { 0 } else { 0xff };
            if bytes[len - 1] != sign {
                break;
            }
            len -= 1;
        }
        Self { bytes: bytes[..len].into() }
    }

    pub(crate) fn from_decimal(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut bytes = vec![0u8];
        for digit in digits.bytes() {
            let mut carry = u32::from(digit - b'0');
            for byte in &mut bytes {
                carry += u32::from(*byte) * 10;
                *byte = carry as u8;
                carry >>= 8;
            }
            if carry > 0 {
                bytes.push(carry as u8);
            }
        }
        bytes.push(0);
        if negative {
            negate(&mut bytes);
        }
        Some(Self::from_bytes(&bytes))
    }

    /// Little-endian two's complement, as short as possible.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The integer as `i64`, if it fits.
    pub fn to_i64(&self) -> Option<i64> {
        let fill = if self.bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut word = [fill; 8];
        word.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        Some(i64::from_le_bytes(word))
    }
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        (*byte, carry) = (!*byte).overflowing_add(carry.into());
    }
}

impl fmt::Display for BigInt {
    /// In decimal; integers of more than about 4,000 digits in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negative = self.bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut rest = self.bytes.to_vec();
        if negative {
            rest.push(0xff);
            negate(&mut rest);
        }
        if negative {
            f.write_str("-")?;
        }
        if rest.len() > MAX_DIGITS * 10 / 24 {
            f.write_str("0x")?;
            return rest.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"));
        }
        let mut groups = Vec::new();
        while rest.iter().any(|&byte| byte != 0) {
            let mut remainder = 0u32;
            for byte in rest.iter_mut().rev() {
                let value = remainder * 256 + u32::from(*byte);
                *byte = (value / 10_000) as u8;
                remainder = value % 10_000;
            }
            groups.push(remainder);
        }
        write!(f, "{}", groups.pop().unwrap_or(0))?;
        groups.iter().rev().try_for_each(|group| write!(f, "{group:04}"))
    }
}

impl fmt::Debug for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_both_signs() {
        for text in ["119547037146038801333356", "-119547037146038801333356", "18446744073709551616", "-1", "0", "255"]
        {
            assert_eq!(BigInt::from_decimal(text).unwrap().to_string(), text);
        }
        assert_eq!(BigInt::from_decimal("-128").unwrap().bytes(), [0x80]);
        assert_eq!(BigInt::from_decimal("128").unwrap().bytes(), [0x80, 0]);
        assert_eq!(BigInt::from_bytes(&[0xff, 0xff, 0xff]).to_i64(), Some(-1));
        assert_eq!(BigInt::from_bytes(&[]).to_i64(), Some(0));
        assert_eq!(BigInt::from_bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 1]).to_i64(), None);
    }
}
