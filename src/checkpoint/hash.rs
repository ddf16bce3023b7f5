//! A quick hash for names out of files, seeded per process so that a file cannot be made to collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A [`HashMap`] with the quick hash.
pub(super) type QuickMap<K, V> = HashMap<K, V, Seeded>;

/// Makes hashers with one random seed.
#[derive(Clone, Copy)]
pub(super) struct Seeded([u64; 2]);

impl Default for Seeded {
    fn default() -> Self {
        let random = RandomState::new();
        // Odd, so that multiplying by it loses nothing.
        Self([random.hash_one(0u8), random.hash_one(1u8) | 1])
    }
}

impl BuildHasher for Seeded {
    type Hasher = Quick;

    fn build_hasher(&self) -> Quick {
        Quick { state: self.0[0], key: self.0[1] }
    }
}

pub(super) struct Quick {
    state: u64,
    key: u64,
}

impl Quick {
    fn mix(&mut self, word: u64) {
        // The full product, folded: every bit of the input reaches every bit of the result.
        let product = u128::from(self.state ^ word) * u128::from(self.key ^ word.rotate_left(32));
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ self.key;
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_i64(&mut self, word: i64) {
        self.mix(word as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state) * u128::from(self.key);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_spread() {
        let seed = Seeded::default();
        let mut low = vec![0u32; 1 << 10];
        for i in 0..1 << 16 {
            let hash = seed.hash_one(format!("archive/data/{i}"));
            low[(hash & 0x3ff) as usize] += 1;
        }
        // 64 expected in each; a hash that clusters has far more in some.
        assert!(low.iter().all(|&count| count < 140), "{:?}", low.iter().max());
        assert_ne!(seed.hash_one("a"), Seeded::default().hash_one("a"));
    }
}
