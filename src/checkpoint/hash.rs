//! A quick hash for names out of files, seeded per process so that a file cannot be made to collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// A [`HashMap`] with the quick hash.
pub(super) type QuickMap<K, V> = HashMap<K, V, Seeded>;

/// Where in a list each key is: the list has the keys, so that an entry here takes four bytes.
#[derive(Clone, Default)]
pub(super) struct Positions {
    seed: Seeded,
    /// One more than a position, 0 where there is none; at least half are 0. The bits above what positions take are the
    /// key's hash, so that other keys are not looked at.
    slots: Vec<u32>,
    len: usize,
}

impl Positions {
    pub(super) fn with_capacity(len: usize) -> Self {
        Self { slots: vec![0; (len * 2).next_power_of_two().max(16)], ..Self::default() }
    }

    pub(super) fn hash(&self, key: &(impl Hash + ?Sized)) -> u64 {
        self.seed.hash_one(key)
    }

    /// The position of the key with this hash; `is_same` says whether the key at a position is it.
    pub(super) fn find(&self, hash: u64, is_same: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.probe(hash, is_same).ok()
    }

    /// The position of the key with this hash if it has one; otherwise it gets position `at`. `rehash` gives the hash of
    /// the key at a position.
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        at: usize,
        is_same: impl Fn(usize) -> bool,
        rehash: impl Fn(&Self, usize) -> u64,
    ) -> Option<usize> {
        // Not every item of a list may be a key.
        let len = at.max(self.len) + 1;
        if self.slots.len() < len * 2 {
            let mask = self.mask();
            let old = std::mem::replace(&mut self.slots, vec![0; (len * 4).next_power_of_two().max(16)]);
            for slot in old.into_iter().filter(|&slot| slot != 0) {
                let at = (slot & mask) as usize - 1;
                let hash = rehash(self, at);
                if let Err(free) = self.probe(hash, |_| false) {
                    self.slots[free] = self.slot(hash, at);
                }
            }
        }
        match self.probe(hash, is_same) {
            Ok(found) => Some(found),
            Err(free) => {
                self.slots[free] = self.slot(hash, at);
                self.len += 1;
                None
            }
        }
    }

    /// The bits of a slot that are a position.
    fn mask(&self) -> u32 {
        u32::try_from(self.slots.len().max(1) - 1).expect("fewer than 2^32 slots")
    }

    fn slot(&self, hash: u64, at: usize) -> u32 {
        (at as u32 + 1) | (hash >> 32) as u32 & !self.mask()
    }

    /// The position of a key, or the free slot for it.
    fn probe(&self, hash: u64, is_same: impl Fn(usize) -> bool) -> Result<usize, usize> {
        let mask = self.mask();
        let mut slot = hash as u32 & mask;
        loop {
            let found = self.slots[slot as usize];
            if found == 0 {
                return Err(slot as usize);
            }
            let at = (found & mask) as usize;
            if (found ^ (hash >> 32) as u32) & !mask == 0 && is_same(at - 1) {
                return Ok(at - 1);
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// Makes hashers with one random seed.
#[derive(Clone, Copy)]
pub(crate) struct Seeded([u64; 2]);

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

pub(crate) struct Quick {
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
    fn positions_are_found_while_the_list_grows() {
        let names: Vec<String> = (0..1000).map(|i| format!("name {}", i % 700)).collect();
        let mut positions = Positions::default();
        let mut list: Vec<&str> = Vec::new();
        for name in &names {
            let hash = positions.hash(&**name);
            let found = positions.find_or_insert(hash, list.len(), |at| list[at] == name, |own, at| own.hash(list[at]));
            match found {
                Some(at) => assert_eq!(list[at], name),
                None => list.push(name),
            }
        }
        assert_eq!(list.len(), 700);
        for (i, name) in list.iter().enumerate() {
            assert_eq!(positions.find(positions.hash(*name), |at| list[at] == *name), Some(i));
        }
        assert_eq!(positions.find(positions.hash("other"), |at| list[at] == "other"), None);
        assert_eq!(Positions::default().find(1, |_| true), None);
    }

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
