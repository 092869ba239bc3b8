//! Reads the files of /proc and /sys that the facts come from.

use std::fs;
use std::path::Path;

/// The content of a file without leading and trailing white space; empty if it cannot be read.
pub(super) fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}
