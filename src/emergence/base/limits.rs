//! Limits on what an artifact may make this program read or write.

use super::compress::Memory;

/// Default maximum depth of a tree: nodes on the path from its root to any node, both included.
pub const DEEPEST: usize = 64;

/// Limits on what an artifact may make this program read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum uncompressed size of one blob, in bytes.
    pub size: u64,
    /// Maximum number of entries in all trees of an artifact.
    pub entries: u64,
    /// Maximum number of objects in a closure.
    pub objects: usize,
    /// Maximum number of layers of an image.
    pub layers: usize,
    /// Maximum size of a document, in bytes.
    pub document: u64,
    /// Maximum size of a narinfo, in bytes.
    pub narinfo: u64,
    /// Memory limits of decompression.
    pub memory: Memory,
    /// Maximum depth of a tree: nodes on the path from its root to any node, both included.
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
