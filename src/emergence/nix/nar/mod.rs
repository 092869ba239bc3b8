//! NAR, Nix's archive format: a file tree as bytes, with exactly one encoding for each tree. No
//! owners, no times, and only the owner's execute bit of a file's mode. Source: the Nix manual,
//! "Nix Archive format".

mod dump;
mod encode;
mod list;
mod read;
mod restore;
mod tree;
mod write;

pub use self::tree::TreeReader;
pub use crate::emergence::base::limits::DEEPEST;
pub use dump::{dump, hash_modulo, hash_tree};
pub use encode::{Both, Encoder};
pub use list::{Entry, EntryKind, List, cat};
pub use read::{Nothing, Visitor, read};
pub use restore::{restore, restore_by};
pub use write::Writer;

/// The first string of every NAR.
const MAGIC: &[u8] = b"nix-archive-1";

/// Highest depth limit that a caller may set: each open directory costs a file descriptor and a
/// stack frame.
pub const DEEPEST_EVER: usize = 256;

/// Maximum length of an entry's name, in bytes.
const LONGEST_NAME: u64 = 255;

/// Maximum length of a link's target, in bytes.
const LONGEST_TARGET: u64 = 4095;

/// Number of zero bytes after a string of `length` bytes.
fn padding(length: u64) -> usize {
    (8 - (length % 8) as usize) % 8
}
