//! The store: imported objects, each with its proof. Everything under its final name is complete.
//!
//! ```text
//! DIR/version, lock             format version; shared lock for use, exclusive one for deletion
//! DIR/nix/store/DIGEST-NAME     trees
//! DIR/meta/DIGEST.json          records of objects; a tree without one is no object   (meta)
//! DIR/links/HASH[-x]            one inode for each distinct file                      (links)
//! DIR/content/HASH              the objects with this content
//! DIR/automatons, declarations  documents by digest                                   (records)
//! DIR/layers/CHAINID[.tree]/    layers of images, one by one or all in one            (records)
//! DIR/layers/HASH.view/         trees of a closure, linked to the store's files
//! DIR/roots, leases             what must be kept                                     (roots)
//! DIR/bundles/LEASE/            bundles of rootless containers                        (roots)
//! DIR/tmp/RANDOM/               staging directories, locked by their process
//! ```

mod add;
mod check;
mod directory;
mod existing;
mod export;
mod file_creation;
mod freed;
mod gc;
mod layer_blobs;
mod links;
mod lock;
mod meta;
mod records;
mod roots;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::object::{Object, dependencies_first};
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::error::{Doing, Error, Kind};

pub use add::Added;
pub use check::Checked;
pub use export::{Export, Exported, Named};
pub use gc::Collected;
pub use meta::Meta;
pub use roots::{GcRoot, Held, Lease};
pub use target::{StoreLocation, StoreTarget, going_to};
pub use unpack::unpack_to_new_directory;

/// Whether an import is flushed to disk before it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Not flushed: after a power failure, objects may lack content.
    None,
    /// Flushed once, before anything is renamed to its final path.
    #[default]
    Data,
}

/// An open store, locked against deletion of objects.
pub struct Store {
    directory: PathBuf,
    dir: StoreDir,
    sync: Sync,
    /// How long to wait for a lock.
    wait: Duration,
    lock: File,
}

impl Store {
    /// Opens the store in `directory`, creating it if necessary. Waits at most `wait` for a process
    /// that deletes objects (`store.locked`).
    ///
    /// Refused: a directory that has other content, or whose objects Nix manages (`store.exists`);
    /// another version (`store.corrupt`).
    pub fn open(directory: &Path, dir: &StoreDir, wait: Duration) -> Result<Self> {
        directory::refuse_foreign(directory, dir)?;
        std::fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        let lock = directory::lock_file(directory, true)?;
        if !directory::has_version(directory)? {
            lock::exclusive(&lock, directory, wait)?;
            directory::make(directory, dir)?;
        }
        Self::locked(directory, dir, wait, lock)
    }

    /// As [`Store::open`], but `Kind::NotFound` if there is no store: nothing is created.
    pub fn existing(directory: &Path, dir: &StoreDir, wait: Duration) -> Result<Self> {
        directory::refuse_foreign(directory, dir)?;
        if !directory.join("version").exists() || !directory::has_version(directory)? {
            let words = format!("{}: no such store", directory.display());
            return Err(Error::new(Kind::NotFound, words).into());
        }
        Self::locked(directory, dir, wait, directory::lock_file(directory, false)?)
    }

    fn locked(directory: &Path, dir: &StoreDir, wait: Duration, lock: File) -> Result<Self> {
        lock::shared(&lock, directory, wait)?;
        let directory = directory.canonicalize().doing(|| format!("look for {}", directory.display()))?;
        Ok(Self { directory, dir: dir.clone(), sync: Sync::default(), wait, lock })
    }

    /// Sets the flush policy.
    #[must_use]
    pub fn with_sync(self, sync: Sync) -> Self {
        Self { sync, ..self }
    }

    /// Takes the exclusive lock until the store is dropped.
    pub(super) fn lock_others_out(&self) -> Result<()> {
        lock::exclusive(&self.lock, &self.directory, self.wait)
    }

    /// The directory of the store, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The store directory that paths are computed for.
    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// The directory of the trees.
    fn trees(&self) -> PathBuf {
        self.directory.join(self.dir.as_str().trim_start_matches('/'))
    }

    /// The path of an object's tree, which need not exist.
    pub fn tree(&self, object: &StorePath) -> PathBuf {
        self.trees().join(object.to_string())
    }

    /// The record of an object. `None`: the store does not have it, even if there is a tree at its
    /// path.
    pub fn meta(&self, object: &StorePath) -> Result<Option<Meta>> {
        Ok(self.meta_by_digits(&object.digits())?.filter(|meta| meta.object.path == *object))
    }

    /// As [`Store::meta`], for the object with these digits.
    pub fn meta_by_digits(&self, digits: &str) -> Result<Option<Meta>> {
        meta::read(&meta::place(&self.directory, digits), &self.dir)
    }

    /// As [`Store::meta`], but refused with `closure.incomplete` if the store does not have it.
    pub fn needed(&self, object: &StorePath) -> Result<Meta> {
        self.meta(object)?.ok_or_else(|| {
            Fault::refused(Code::ClosureIncomplete, self.dir.path(object), "is not in the store")
        })
    }

    /// The record of an object in the store at `directory`, which need not exist and is neither
    /// created nor locked.
    pub fn proved(directory: &Path, dir: &StoreDir, object: &StorePath) -> Result<Option<Meta>> {
        let meta = meta::read(&meta::place(directory, &object.digits()), dir)?;
        Ok(meta.filter(|meta| meta.object.path == *object))
    }

    /// All objects, sorted by path.
    pub fn objects(&self) -> Result<Vec<StorePath>> {
        let mut found = Vec::new();
        for name in directory::names(&self.directory.join("meta"))? {
            if let Some(digits) = name.strip_suffix(".json")
                && let Some(meta) = self.meta_by_digits(digits)?
            {
                found.push(meta.object.path);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// An object and all its references, dependencies first. Refused with `closure.incomplete`.
    pub fn closure(&self, object: &StorePath) -> Result<Vec<Object>> {
        let metas = self.closure_of(std::slice::from_ref(object))?;
        Ok(metas.into_iter().map(|meta| meta.object).collect())
    }

    /// As [`Store::closure`], for several objects; returns their records.
    pub fn closure_of(&self, objects: &[StorePath]) -> Result<Vec<Meta>> {
        let mut found = std::collections::BTreeMap::new();
        let mut left: Vec<StorePath> = objects.to_vec();
        while let Some(path) = left.pop() {
            if found.contains_key(&path) {
                continue;
            }
            let meta = self.needed(&path)?;
            left.extend(meta.object.references.iter().filter(|path| !found.contains_key(*path)).cloned());
            found.insert(path, meta);
        }
        Ok(dependencies_first(found, |meta| &meta.object.references))
    }
}
