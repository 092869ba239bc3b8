//! Limits on what an artifact may make this program read or write.

use super::compress::Memory;

/// Default maximum depth of a tree: nodes on the path from its root to any node, both included.
pub const DEEPEST: usize = 64;

/// Limits on what an artifact may make this program read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Uncompressed bytes of one blob.
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
    /// Memory for decompression.
    pub memory: Memory,
    /// Nodes on the path from the root of a tree to any node, both included.
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
