//! Extended attributes of an image's files.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::acl::{ACCESS, DEFAULT};
use super::inside::c_string;

/// Extended attributes an image may set: capabilities, access lists, and user.*. Others belong to the
/// system, such as labels and those of overlayfs.
pub(super) fn is_settable(name: &[u8]) -> bool {
    [b"security.capability", ACCESS, DEFAULT].contains(&name) || name.starts_with(b"user.")
}

/// Removes extended attributes that the entry of a lower layer has set.
pub(super) fn forget_xattrs(directory: &OwnedFd) -> rustix::io::Result<()> {
    kept_xattrs(directory)?.iter().try_for_each(|name| rustix::fs::fremovexattr(directory, name))
}

/// The names of extended attributes that an image has set.
pub(super) fn kept_xattrs(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = vec![0u8; 64 * 1024];
    let count = match rustix::fs::flistxattr(directory, &mut names) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = names.get(..count).unwrap_or_default().split(|byte| *byte == 0);
    names.filter(|name| is_settable(name)).map(c_string).collect()
}
