//! The store: objects that were imported, each with what was proved of it. What is in it by its final name is whole.
//!
//! ```text
//! DIR/version, lock                 what it is; shared while it is used, exclusive while something is taken away
//! DIR/nix/store/DIGEST-NAME         trees
//! DIR/meta/DIGEST.json              what was proved of each; an object without it is none      (meta)
//! DIR/links/HASH[-x]                one inode for each distinct file                            (links)
//! DIR/content/HASH                  which objects have this content
//! DIR/automatons, declarations      documents by digest                                         (shelf)
//! DIR/layers/CHAINID[.tree]/        layers of images, each alone or all in one                  (shelf)
//! DIR/layers/HASH.view/             the trees of a closure, their files the store's own
//! DIR/roots, leases                 what must be kept                                           (held)
//! DIR/bundles/LEASE/                bundles of containers that an ordinary user runs            (held)
//! DIR/tmp/RANDOM/                   what is being made, locked by who makes it
//! ```

mod add;
mod apart;
mod check;
mod export;
mod folder;
mod gc;
mod held;
mod links;
mod lock;
mod meta;
mod shelf;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod twin;
mod ways;
mod weigh;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::object::{Object, dependencies_first};
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::error::{Doing, Error, Kind};

pub use add::Added;
pub use apart::unpack_apart;
pub use check::Checked;
pub use export::{Export, Exported, Named};
pub use gc::Collected;
pub use held::{Held, Lease, Root};
pub use meta::Meta;
pub use target::{Place, Target, going_to};

/// Whether what was written is on the disk before it gets its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Left to the kernel: after a power failure objects may lack content.
    None,
    /// Written out once, before anything has its name.
    #[default]
    Data,
}

/// A store that is open, and locked against who would take something away.
pub struct Store {
    folder: PathBuf,
    dir: StoreDir,
    sync: Sync,
    /// How long to wait for a lock.
    wait: Duration,
    lock: File,
}

impl Store {
    /// The store in `folder`, made when nothing is there. Waits at most `wait` for whoever takes something away (`store.locked`).
    ///
    /// Refused: a folder that has something else in it, or whose objects Nix manages (`store.exists`); another version
    /// (`store.corrupt`).
    pub fn open(folder: &Path, dir: &StoreDir, wait: Duration) -> Result<Self> {
        folder::refuse_foreign(folder, dir)?;
        std::fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
        let lock = folder::lock_file(folder, true)?;
        if !folder::has_version(folder)? {
            lock::exclusive(&lock, folder, wait)?;
            folder::make(folder, dir)?;
        }
        Self::locked(folder, dir, wait, lock)
    }

    /// The same, but `Kind::NotFound` when no store is there: nothing is made.
    pub fn existing(folder: &Path, dir: &StoreDir, wait: Duration) -> Result<Self> {
        folder::refuse_foreign(folder, dir)?;
        if !folder.join("version").exists() || !folder::has_version(folder)? {
            let words = format!("{}: there is no store", folder.display());
            return Err(Error::new(Kind::NotFound, words).into());
        }
        Self::locked(folder, dir, wait, folder::lock_file(folder, false)?)
    }

    fn locked(folder: &Path, dir: &StoreDir, wait: Duration, lock: File) -> Result<Self> {
        lock::shared(&lock, folder, wait)?;
        let folder = folder.canonicalize().doing(|| format!("look for {}", folder.display()))?;
        Ok(Self { folder, dir: dir.clone(), sync: Sync::default(), wait, lock })
    }

    /// The same store with another policy.
    #[must_use]
    pub fn with_sync(self, sync: Sync) -> Self {
        Self { sync, ..self }
    }

    /// Lets nobody else use the store from now on, until this is dropped.
    pub(super) fn lock_others_out(&self) -> Result<()> {
        lock::exclusive(&self.lock, &self.folder, self.wait)
    }

    /// Its folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder whose name goes into its paths.
    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// Where trees are.
    fn trees(&self) -> PathBuf {
        self.folder.join(self.dir.as_str().trim_start_matches('/'))
    }

    /// Where the tree of an object is, or would be.
    pub fn tree(&self, object: &StorePath) -> PathBuf {
        self.trees().join(object.to_string())
    }

    /// What was proved of an object. `None`: the store does not have it, whatever lies in its place.
    pub fn meta(&self, object: &StorePath) -> Result<Option<Meta>> {
        Ok(self.meta_by_digits(&object.digits())?.filter(|meta| meta.object.path == *object))
    }

    /// The same for whichever object has these digits.
    pub fn meta_by_digits(&self, digits: &str) -> Result<Option<Meta>> {
        meta::read(&meta::place(&self.folder, digits), &self.dir)
    }

    /// The same; refused with `closure.incomplete` when the store does not have it.
    pub fn needed(&self, object: &StorePath) -> Result<Meta> {
        self.meta(object)?.ok_or_else(|| {
            Fault::refused(Code::ClosureIncomplete, self.dir.path(object), "is not in the store")
        })
    }

    /// What was proved of an object in the store at `folder`, which need not be there, and is neither made nor locked.
    pub fn proved(folder: &Path, dir: &StoreDir, object: &StorePath) -> Result<Option<Meta>> {
        let meta = meta::read(&meta::place(folder, &object.digits()), dir)?;
        Ok(meta.filter(|meta| meta.object.path == *object))
    }

    /// All objects, in the order of their paths.
    pub fn objects(&self) -> Result<Vec<StorePath>> {
        let mut found = Vec::new();
        for name in folder::names(&self.folder.join("meta"))? {
            if let Some(digits) = name.strip_suffix(".json")
                && let Some(meta) = self.meta_by_digits(digits)?
            {
                found.push(meta.object.path);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// An object and all that it refers to, each behind what it refers to. Refused with `closure.incomplete`.
    pub fn closure(&self, object: &StorePath) -> Result<Vec<Object>> {
        let metas = self.closure_of(std::slice::from_ref(object))?;
        Ok(metas.into_iter().map(|meta| meta.object).collect())
    }

    /// The same for several objects, with what was proved of each.
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
