//! Store layers: tars of store objects that can be written in one way only, so that they turn back into NARs in one pass.
//!
//! ```text
//! layer   = folder of each part of the store's path, object…, 1024 zeros
//! object  = the entries of its tree, in the order of its NAR; objects by path
//! entry   = [pax] header [contents, padded to 512]
//! ```
//! Folders 0555 with a slash at the end of their name, files 0444 or 0555, links 0777, the store's own folders 0755; owner 0 without a
//! name, time 1. A pax header stands where a name or a target is longer than 100 bytes or not UTF-8, or a size has more than 11
//! octal digits. Source: emergence's contract, 4.4.

mod header;
mod read;
mod write;

pub use read::LayerReader;
pub use write::{LayerWriter, ObjectWriter};

use crate::emergence::nix::store_path::StoreDir;

/// Bytes of a block.
const BLOCK: usize = 512;

/// What stands behind the last entry.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The names of the folders above the objects, outermost first: `nix/`, `nix/store/`.
fn folders(dir: &StoreDir) -> Vec<String> {
    let mut folders = Vec::new();
    let mut name = String::new();
    for part in dir.as_str().split('/').filter(|part| !part.is_empty()) {
        name.push_str(part);
        name.push('/');
        folders.push(name.clone());
    }
    folders
}
