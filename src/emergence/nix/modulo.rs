//! The hash of an object that may refer to itself: its own digest is replaced by zeros, and the
//! positions of the digest are hashed at the end. Without self-references it is the hash of the
//! NAR. Nix computes `fixed:r:` addresses the same way.

use std::io;

use memchr::memmem;

use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::stream::Drain;

/// Hashes a stream with `digits` replaced by zeros.
pub struct ModuloHasher {
    digits: Vec<u8>,
    /// The end of the input, where the digits may begin; occurrences are already zeroed.
    tail: Vec<u8>,
    /// Offset of the tail in the stream.
    offset: u64,
    found: Vec<u64>,
    hasher: Hasher,
}

impl ModuloHasher {
    /// A hasher without input.
    pub fn new(algorithm: Algorithm, digits: &[u8]) -> Self {
        let hasher = Hasher::new(algorithm);
        Self { digits: digits.to_vec(), tail: Vec::new(), offset: 0, found: Vec::new(), hasher }
    }

    /// The hash of the whole input.
    pub fn finish(mut self) -> Hash {
        self.hasher.update(&self.tail);
        for place in &self.found {
            self.hasher.update(format!("|{place}").as_bytes());
        }
        self.hasher.finish()
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let finder = memmem::Finder::new(&self.digits);
        let mut from = 0;
        while let Some(at) = finder.find(self.tail.get(from..).unwrap_or_default()) {
            let at = from + at;
            from = at + self.digits.len();
            self.found.push(self.offset + at as u64);
            self.tail.get_mut(at..from).unwrap_or_default().fill(0);
        }
        let done = self.tail.len().saturating_sub(self.digits.len().saturating_sub(1));
        self.hasher.update(self.tail.get(..done).unwrap_or_default());
        self.tail.drain(..done);
        self.offset += done as u64;
    }
}

impl Drain for ModuloHasher {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.update(&full);
        Ok(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_wherever_the_pieces_end() {
        let text = b"abcd xx abcd abcabcd";
        let mut want = b"\0\0\0\0 xx \0\0\0\0 abc\0\0\0\0".to_vec();
        want.extend(b"|0|8|16");
        for piece in 1..text.len() + 1 {
            let mut hasher = ModuloHasher::new(Algorithm::Sha256, b"abcd");
            text.chunks(piece).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), Hash::sha256(&want), "{piece}");
        }
        let mut hasher = ModuloHasher::new(Algorithm::Sha256, b"abcd");
        hasher.update(b"none of it");
        assert_eq!(hasher.finish(), Hash::sha256(b"none of it"));
    }
}
