//! NAR, Nix's archive: one file tree as bytes, each tree in exactly one way. No owner, no time, and of the mode only whether the
//! owner may execute a file. Source: the Nix manual, "Nix Archive format".

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

/// What each begins with.
const MAGIC: &[u8] = b"nix-archive-1";

/// Most that a caller may allow: each open folder costs a descriptor and a frame of the stack.
pub const DEEPEST_EVER: usize = 256;

/// Longest name of an entry, in bytes.
const LONGEST_NAME: u64 = 255;

/// Longest target of a link, in bytes.
const LONGEST_TARGET: u64 = 4095;

/// How many zeros follow a string of `length` bytes.
fn padding(length: u64) -> usize {
    (8 - (length % 8) as usize) % 8
}
