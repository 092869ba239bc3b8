//! Finds references in an object's content, by the digests of store paths.

use std::collections::{BTreeSet, HashMap};

use super::nar::Visitor;
use super::object::Object;
use super::store_path::{DIGITS, StoreDir, StorePath};
use crate::emergence::base::refusal::{Code, Fault, Result};

/// The digits of a digest.
type Digits = [u8; DIGITS];

/// The digests to search for, shared by all scanners.
pub struct Searched {
    digits: HashMap<Digits, StorePath>,
    /// Whether a byte is a digit.
    digit: [bool; 256],
}

impl Searched {
    /// The digests of these objects.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let mut digit = [false; 256];
        for byte in *b"0123456789abcdfghijklmnpqrsvwxyz" {
            if let Some(place) = digit.get_mut(usize::from(byte)) {
                *place = true;
            }
        }
        let digits = paths.into_iter().filter_map(|path| {
            let digits: Digits = path.digits().as_bytes().try_into().ok()?;
            Some((digits, path.clone()))
        });
        Self { digits: digits.collect(), digit }
    }

    fn is_digit(&self, byte: u8) -> bool {
        self.digit.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

/// Searches a stream of bytes, or a tree as a [`Visitor`].
pub struct Scanner<'a> {
    searched: &'a Searched,
    found: BTreeSet<StorePath>,
    /// The end of the input, where a digest may begin.
    tail: Vec<u8>,
}

impl<'a> Scanner<'a> {
    /// A scanner without input.
    pub fn new(searched: &'a Searched) -> Self {
        Self { searched, found: BTreeSet::new(), tail: Vec::with_capacity(2 * DIGITS) }
    }

    /// Searches the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.len() < DIGITS {
            self.tail.extend_from_slice(bytes);
            let tail = std::mem::take(&mut self.tail);
            self.search(&tail);
            self.tail = tail;
        } else {
            // A digest that began before ends within these.
            self.tail.extend_from_slice(bytes.get(..DIGITS - 1).unwrap_or_default());
            let tail = std::mem::take(&mut self.tail);
            self.search(&tail);
            self.search(bytes);
            self.tail = tail;
            self.tail.clear();
            self.tail.extend_from_slice(bytes.get(bytes.len() - (DIGITS - 1)..).unwrap_or_default());
        }
        let surplus = self.tail.len().saturating_sub(DIGITS - 1);
        self.tail.drain(..surplus);
    }

    /// Separates the next bytes from the input so far.
    pub fn part(&mut self) {
        self.tail.clear();
    }

    /// All references found.
    pub fn into_references(self) -> BTreeSet<StorePath> {
        self.found
    }

    /// Checks the last byte of a window first: if it is not a digit, the whole window is skipped.
    fn search(&mut self, bytes: &[u8]) {
        let mut start = 0;
        while let Some(window) = bytes.get(start..start + DIGITS) {
            match window.iter().rposition(|byte| !self.searched.is_digit(*byte)) {
                Some(at) => start += at + 1,
                None => {
                    if let Some(path) =
                        <&Digits>::try_from(window).ok().and_then(|w| self.searched.digits.get(w))
                    {
                        self.found.insert(path.clone());
                    }
                    start += 1;
                }
            }
        }
    }
}

impl Visitor for Scanner<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.part();
        self.feed(name);
        Ok(())
    }

    fn file(&mut self, name: &[u8], _executable: bool, _size: u64) -> Result<()> {
        self.part();
        self.feed(name);
        self.part();
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.feed(bytes);
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.part();
        self.feed(name);
        self.part();
        self.feed(target);
        Ok(())
    }
}

/// Refused with `refs.undeclared` if the object does not declare a reference that was found.
pub fn check_found(object: &Object, found: &BTreeSet<StorePath>, dir: &StoreDir) -> Result<()> {
    match found.iter().find(|path| !object.references.contains(*path)) {
        None => Ok(()),
        Some(path) => {
            let words = format!(
                "contains the digest of {}, but does not declare that it refers to it",
                dir.path(path)
            );
            Err(Fault::refused(Code::RefsUndeclared, dir.path(&object.path), words))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_the_pieces_end() {
        let one = StorePath::parse("7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app.conf").unwrap();
        let other = StorePath::parse("90dxglj74s001104ich7q39a0vkxcd98-greeting").unwrap();
        let absent = StorePath::parse("0hga1xgs6wrsy75659dfs2v65myy1cyr-multi").unwrap();
        let searched = Searched::new([&one, &other, &absent]);
        let text = format!(
            "zz{}{} 0hga1xgs6wrsy75659dfs2v65myy1cy--{}x",
            one.digits(),
            one.digits(),
            other.digits()
        );
        for piece in 1..text.len() + 1 {
            let mut scanner = Scanner::new(&searched);
            text.as_bytes().chunks(piece).for_each(|bytes| scanner.feed(bytes));
            let found: Vec<_> = scanner.into_references().into_iter().collect();
            assert_eq!(found, [one.clone(), other.clone()], "{piece}");
        }
        let mut scanner = Scanner::new(&searched);
        scanner.feed(b"7fnzwr4fvvmdl8b3");
        scanner.part();
        scanner.feed(b"vkrfyjczwiwv6n42");
        assert!(scanner.into_references().is_empty());
    }
}
