//! What the caller asks of every artifact: whom he trusts, how much may come out, who watches.

use std::path::PathBuf;
use std::sync::Arc;

use super::compress::Memory;
use super::files::check_space;
use super::hash::Hash;
use super::nar::DEEPEST;
use super::object::{Object, bytes_of};
use super::refusal::Result;
use super::store::{Meta, Store};
use super::store_path::{StoreDir, StorePath};
use super::trust::Trust;

/// Bounds on what an artifact may make us read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may come out of one blob.
    pub size: u64,
    /// Entries of all trees of an artifact.
    pub entries: u64,
    /// Objects of a closure.
    pub objects: usize,
    /// Layers of an image.
    pub layers: usize,
    /// Bytes of a document.
    pub document: u64,
    /// Bytes of a narinfo.
    pub narinfo: u64,
    /// What decompression may take.
    pub memory: Memory,
    /// Nodes on the way from the root of a tree to any node of it, itself included.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 64 << 30,
            entries: 16 << 20,
            objects: 100_000,
            layers: 1000,
            depth: DEEPEST,
            document: 4 << 20,
            narinfo: 1 << 20,
            memory: Memory::default(),
        }
    }
}

/// Told how far long work has come, from several threads.
pub trait Watch: Send + Sync {
    /// So many bytes more are to be done, of `what`.
    fn expect(&self, what: &str, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody looks.
pub struct Unwatched;

impl Watch for Unwatched {
    fn expect(&self, _what: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// See above.
#[derive(Clone)]
pub struct Terms {
    /// Goes into the digests of store paths.
    pub dir: StoreDir,
    /// Whom and what to trust.
    pub trust: Trust,
    /// See [`Limits`].
    pub limits: Limits,
    /// Search objects for references that are not declared.
    pub scan: bool,
    /// Blobs that are worked on at once, at least 1.
    pub jobs: usize,
    /// See [`Watch`].
    pub watch: Arc<dyn Watch>,
    /// Where what is verified is going to be written, if it is.
    pub destination: Option<Destination>,
}

/// Where artifacts go once they are verified.
#[derive(Clone)]
pub struct Destination {
    /// In the file system that needs room for them.
    pub folder: PathBuf,
    /// What it has already need not come out of a blob again.
    pub store: Option<Arc<Store>>,
}

impl Terms {
    /// The store that what is verified is going to, if it is one.
    pub fn store(&self) -> Option<&Arc<Store>> {
        self.destination.as_ref()?.store.as_ref()
    }

    /// What makes it needless to read the blob of this digest for an object: the destination has the same NAR, and knows that it came
    /// out of such a blob, or there is no such blob (`missing`). Where objects are searched, all are read.
    pub fn known(&self, object: &Object, blob: Option<&Hash>, missing: bool) -> Result<Option<Meta>> {
        let Some(store) = self.store().filter(|_| !self.scan) else { return Ok(None) };
        store.twin(object, &|meta| missing || blob.is_some_and(|blob| meta.blobs.contains(blob)))
    }

    /// Whether the destination has this object.
    pub fn has(&self, object: &StorePath) -> Result<bool> {
        Ok(self.store().map(|store| store.meta(object)).transpose()?.flatten().is_some())
    }

    /// Refused with `space` when the destination has no room for what it lacks of these objects.
    pub fn check_space<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> Result<()> {
        let Some(Destination { folder, store }) = &self.destination else { return Ok(()) };
        let mut lacking = Vec::new();
        for object in objects {
            if store.as_ref().map(|store| store.twin(object, &|_| true)).transpose()?.flatten().is_none() {
                lacking.push(object);
            }
        }
        check_space(folder, bytes_of(lacking.into_iter()))
    }
}
