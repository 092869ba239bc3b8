//! Store layers: tars of store objects in a canonical form, which can be converted back to NARs in
//! one pass.
//!
//! ```text
//! layer   = directory of each component of the store's path, object…, 1024 zeros
//! object  = the entries of its tree, in the order of its NAR; objects by path
//! entry   = [pax] header [contents, padded to 512]
//! ```
//! Directories have mode 0555 and a trailing slash in their name, files 0444 or 0555, links 0777,
//! the store's own directories 0755. The owner is 0 without a name, the time 1. A pax header is
//! present if a name or a target is longer than 100 bytes or not UTF-8, or if a size has more than
//! 11 octal digits. Source: emergence's contract, 4.4.

mod header;
mod read;
mod write;

pub use read::LayerReader;
pub use write::{LayerWriter, ObjectWriter};

use crate::emergence::nix::store_path::StoreDir;

/// Block size in bytes.
const BLOCK: usize = 512;

/// The end of a layer.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The names of the directories above the objects, outermost first: `nix/`, `nix/store/`.
fn directories(dir: &StoreDir) -> Vec<String> {
    let mut directories = Vec::new();
    let mut name = String::new();
    for part in dir.as_str().split('/').filter(|part| !part.is_empty()) {
        name.push_str(part);
        name.push('/');
        directories.push(name.clone());
    }
    directories
}
