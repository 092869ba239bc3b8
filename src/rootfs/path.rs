//! Paths and file types, for code that runs between clone and exec: no heap.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Result;

use crate::sys::text::Text;

/// The kernel's maximum length of a path, with its NUL.
pub const PATH_MAX: usize = 4096;

/// A path in a buffer on the stack.
pub type PathBuffer = Text<PATH_MAX>;

/// The name of a file, up to NAME_MAX bytes, in a buffer on the stack.
pub type NameBuffer = Text<256>;

/// The directory part and the last name of a path without trailing slashes.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// The type of the file that a descriptor is open on.
pub fn kind(fd: impl AsFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}
