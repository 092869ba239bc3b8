//! Whether there is room for what is to be written.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::Doing;

/// From this size on a file's room is taken at once.
const LARGE: u64 = 1 << 20;

/// Takes the room of a new file that is going to have so many bytes. A wish: not every file system can, and a size that is only claimed may
/// be more than there is.
pub fn reserve(file: &impl AsFd, size: u64) {
    if size >= LARGE {
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, 0, size.min(LARGE << 10));
    }
}

/// Refused with `space` when so many bytes are more than are free in the file system that `folder` is in.
pub fn check_space(folder: &Path, needed: u64) -> Result<()> {
    let system = rustix::fs::statvfs(folder).doing(|| format!("look at {}", folder.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let words = format!("{needed} bytes are needed, {free} are free");
    Err(Fault::refused(Code::Space, folder.display().to_string(), words))
}
