//! What the caller asks of every artifact: whom he trusts, how much may come out, who watches.

use std::sync::Arc;

use super::compress::Memory;
use super::store_path::StoreDir;
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 64 << 30,
            entries: 16 << 20,
            objects: 100_000,
            layers: 1000,
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
}
