//! Access lists that new entries inherit from the directory that they are created in: they are not
//! the image's.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, fremovexattr, lremovexattr};
use rustix::io::{Errno, Result};

use super::acl;

/// Whether new entries of the directory inherit an access list. After an unexpected error they may.
pub(super) fn has_default(directory: impl AsFd) -> bool {
    let mut value = [0u8; 256];
    let found = fgetxattr(directory, acl::DEFAULT_NAME, &mut value[..]);
    !matches!(found, Err(Errno::NODATA | Errno::NOTSUP))
}

/// Removes the lists from a new file or directory.
pub(super) fn disinherit(new: impl AsFd) -> Result<()> {
    absent(fremovexattr(&new, acl::ACCESS_NAME))?;
    absent(fremovexattr(&new, acl::DEFAULT_NAME))
}

/// Removes the list from a new node, which no descriptor for attributes leads to.
pub(super) fn disinherit_node(path: &CStr) -> Result<()> {
    absent(lremovexattr(path, acl::ACCESS_NAME))
}

fn absent(removed: Result<()>) -> Result<()> {
    match removed {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}
