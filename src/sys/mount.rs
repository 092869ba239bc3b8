//! Attributes of mounts, on any kernel that we support.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::older::{self, is_missing};
use super::raw::mount::{mount_setattr, open_tree_attr};

pub use super::older::Procfs;
pub use super::older::mounted::{Mounted, each as each_mount, path_of};
pub use super::raw::mount::{Attributes, Reach, attach, clone_mount, open_tree};

/// Changes a mount in this process's mount namespace: `mount_setattr(mount, "", AT_EMPTY_PATH [|
/// AT_RECURSIVE], …)`, mount_setattr(2), Linux 5.12; before, mount(2). ENOSYS: recursive
/// attributes, which mount(2) does not support.
pub fn set_attributes(
    mount: impl AsFd,
    wanted: Attributes,
    reach: Reach,
    proc: Procfs<'_>,
) -> io::Result<()> {
    let mount = mount.as_fd();
    match mount_setattr(mount, wanted, reach, None) {
        Err(error) if is_missing(&error) => older::mounts::change(mount, wanted, reach, proc),
        done => done,
    }
}

/// As [`set_attributes`], for a detached mount. ENOSYS: recursive attributes before Linux 5.12, if
/// one mount hides another.
pub fn prepare(mount: impl AsFd, wanted: Attributes, reach: Reach, proc: Procfs<'_>) -> io::Result<()> {
    let mount = mount.as_fd();
    match mount_setattr(mount, wanted, reach, None) {
        Err(error) if is_missing(&error) => older::mounts::prepare(mount, wanted, reach, proc),
        done => done,
    }
}

/// The access time policy of a mount: MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME or
/// MOUNT_ATTR_STRICTATIME. statfs(2).
pub fn access_times(mount: impl AsFd) -> io::Result<u64> {
    let flags = rustix::fs::fstatfs(mount)?.f_flags as u64;
    Ok(if flags & older::mounts::ST_NOATIME != 0 {
        libc::MOUNT_ATTR_NOATIME
    } else if flags & older::mounts::ST_RELATIME != 0 {
        libc::MOUNT_ATTR_RELATIME
    } else {
        libc::MOUNT_ATTR_STRICTATIME
    })
}

/// Makes a detached mount, or its tree, idmapped with the mapping of the user namespace `mapping`.
/// mount_setattr(2), MOUNT_ATTR_IDMAP. ENOSYS: Linux before 5.12.
pub fn map_ids(mount: impl AsFd, reach: Reach, mapping: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = Attributes::setting(libc::MOUNT_ATTR_IDMAP);
    mount_setattr(mount.as_fd(), wanted, reach, Some(mapping))
}

/// Whether open_tree_attr(2) has failed in this process.
static NO_OPEN_TREE_ATTR: AtomicBool = AtomicBool::new(false);

/// Clones the mount at `path`, or its tree, as a detached mount with these attributes:
/// open_tree_attr(2), Linux 6.15; before, [`open_tree`] and [`prepare`]. An empty path stands for
/// `dir`.
pub fn clone_with(
    dir: impl AsFd,
    path: &CStr,
    wanted: Attributes,
    reach: Reach,
    proc: Procfs<'_>,
) -> io::Result<OwnedFd> {
    let dir = dir.as_fd();
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH as u32 } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | empty | reach.flag();
    if !NO_OPEN_TREE_ATTR.load(Ordering::Relaxed) {
        match open_tree_attr(dir, path, flags, wanted) {
            Ok(tree) => return Ok(tree),
            // Unknown to the kernel or to a filter. Any other error recurs.
            Err(_) => NO_OPEN_TREE_ATTR.store(true, Ordering::Relaxed),
        }
    }
    let tree = open_tree(dir, path, flags)?;
    prepare(&tree, wanted, reach, proc)?;
    Ok(tree)
}

/// The ID of the mount with the file `fd`; before Linux 5.8 only if the file is the root of that
/// mount, otherwise `None`. statx(2), STATX_MNT_ID.
pub fn mount_id(fd: impl AsFd, proc: Procfs<'_>) -> io::Result<Option<u64>> {
    let fd = fd.as_fd();
    match statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
        Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(Some(found.stx_mnt_id)),
        Err(error) if error != Errno::NOSYS => Err(error.into()),
        _ => Ok(older::mounted::uppermost(fd, proc)?.map(|id| id as u64)),
    }
}

/// Whether the file `fd` is the root of a mount. statx(2), STATX_ATTR_MOUNT_ROOT, Linux 5.8.
pub fn is_mount_root(fd: impl AsFd, proc: Procfs<'_>) -> io::Result<bool> {
    let fd = fd.as_fd();
    match statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Err(error) if error != Errno::NOSYS => Err(error.into()),
        _ => Ok(older::mounted::uppermost(fd, proc)?.is_some()),
    }
}
