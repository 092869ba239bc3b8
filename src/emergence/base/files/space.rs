//! Free space checks before files are written.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::Doing;

/// Minimum size, in bytes, of files whose space is reserved in advance.
const LARGE: u64 = 1 << 20;

/// Reserves space for a new file of `size` bytes. Errors are ignored: some file systems cannot do
/// it, and a declared size may exceed the free space.
pub(crate) fn reserve(file: &impl AsFd, size: u64) {
    if size >= LARGE {
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, 0, size.min(LARGE << 10));
    }
}

/// Refused with `space` if the file system of `directory` has less than `needed` bytes free.
pub(crate) fn check_space(directory: &Path, needed: u64) -> Result<()> {
    let system = rustix::fs::statvfs(directory).doing(|| format!("statvfs {}", directory.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let words = format!("{needed} bytes are needed, {free} are free");
    Err(Fault::refused(Code::Space, directory.display().to_string(), words))
}
