//! The declaration of a store object, and the file that contains its NAR. Both are unverified.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Signature;
use super::store_path::{ContentAddress, References, StoreDir, StorePath};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::Hash;

/// The declaration of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its store path.
    pub path: StorePath,
    /// SHA-256 of the NAR.
    pub nar_hash: Hash,
    /// Size of the NAR, in bytes.
    pub nar_size: u64,
    /// The objects that it refers to, including itself if it does.
    pub references: BTreeSet<StorePath>,
    /// The derivation that built it, if known.
    pub deriver: Option<StorePath>,
    /// Signatures of [`Object::fingerprint`].
    pub signatures: Vec<Signature>,
    /// Its content address, if it has one.
    pub ca: Option<ContentAddress>,
}

/// The file or blob that contains a NAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name in messages; in a binary cache, its path below the directory.
    pub name: String,
    /// Its compression.
    pub compression: Compression,
    /// Hash of the file as stored.
    pub hash: Option<Hash>,
    /// Size of the file as stored, in bytes.
    pub size: Option<u64>,
}

impl Object {
    /// The text that is signed: path, hash and size of the NAR, references.
    pub fn fingerprint(&self, dir: &StoreDir) -> String {
        let references: Vec<String> = self.references.iter().map(|path| dir.path(path)).collect();
        let (path, hash) = (dir.path(&self.path), self.nar_hash.nix32());
        format!("1;{path};sha256:{hash};{};{}", self.nar_size, references.join(","))
    }

    /// The references, with a self-reference separated.
    pub fn split_references(&self) -> References {
        let mut others = self.references.clone();
        let itself = others.remove(&self.path);
        References { others, itself }
    }
}

/// Total NAR size of these objects, in bytes.
pub(crate) fn bytes_of<'a>(objects: impl Iterator<Item = &'a Object>) -> u64 {
    objects.fold(0, |sum: u64, object| sum.saturating_add(object.nar_size))
}

/// Sorts objects with dependencies first, otherwise by path. References may be cyclic. No
/// recursion, because chains may be long.
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
