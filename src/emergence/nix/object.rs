//! An object of a store as somebody declares it, and the file that its NAR is in. Nothing of either is proved.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Signature;
use super::store_path::{ContentAddress, References, StoreDir, StorePath};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::Hash;

/// What is declared of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What the object is called.
    pub path: StorePath,
    /// Hash of the NAR, by SHA-256.
    pub nar_hash: Hash,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// What it refers to; itself among them, if it does.
    pub references: BTreeSet<StorePath>,
    /// The recipe that it was built by, as far as that is known.
    pub deriver: Option<StorePath>,
    /// Signatures of [`Object::fingerprint`].
    pub signatures: Vec<Signature>,
    /// How its content proves its path.
    pub ca: Option<ContentAddress>,
}

/// The file, or blob, that a NAR is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What messages call it; in a binary cache, where it is below the folder.
    pub name: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Hash of the file, compressed as it is.
    pub hash: Option<Hash>,
    /// Bytes of the file, compressed as it is.
    pub size: Option<u64>,
}

impl Object {
    /// What is signed: path, hash and size of the NAR, references.
    pub fn fingerprint(&self, dir: &StoreDir) -> String {
        let references: Vec<String> = self.references.iter().map(|path| dir.path(path)).collect();
        let (path, hash) = (dir.path(&self.path), self.nar_hash.nix32());
        format!("1;{path};sha256:{hash};{};{}", self.nar_size, references.join(","))
    }

    /// References, with the one to itself apart.
    pub fn split_references(&self) -> References {
        let mut others = self.references.clone();
        let itself = others.remove(&self.path);
        References { others, itself }
    }
}

/// Bytes that these objects may take.
pub(crate) fn bytes_of<'a>(objects: impl Iterator<Item = &'a Object>) -> u64 {
    objects.fold(0, |sum: u64, object| sum.saturating_add(object.nar_size))
}

/// Each behind what it refers to, as far as there are no circles; otherwise by path. No recursion: a chain may be long.
pub(crate) fn dependencies_first<T>(
    found: BTreeMap<StorePath, T>,
    references: impl Fn(&T) -> &BTreeSet<StorePath>,
) -> Vec<T> {
    let mut order: Vec<StorePath> = Vec::with_capacity(found.len());
    let mut seen: BTreeSet<StorePath> = BTreeSet::new();
    for start in found.keys() {
        let mut stack = vec![(start.clone(), false)];
        while let Some((path, entered)) = stack.pop() {
            if entered {
                order.push(path);
                continue;
            }
            if !seen.insert(path.clone()) {
                continue;
            }
            let others = found.get(&path).into_iter().flat_map(|one| references(one).iter()).cloned();
            let others: Vec<_> = others.filter(|other| !seen.contains(other)).collect();
            stack.push((path, true));
            stack.extend(others.into_iter().map(|other| (other, false)));
        }
    }
    let mut found = found;
    order.iter().filter_map(|path| found.remove(path)).collect()
}
