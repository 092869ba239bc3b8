//! Whether there is room for what is to be written.

use std::path::Path;

use crate::emergence::refusal::{Code, Fault, Result};
use crate::error::Doing;

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
