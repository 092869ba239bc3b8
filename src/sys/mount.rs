//! The calls of the mount API that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::check;
use super::older::{self, is_missing};

pub use super::older::Procfs;
pub use super::older::mounted::{Mounted, each as each_mount, path_of};

/// A change of mount attributes for [`set_attributes`] and [`prepare`], mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_…` to set.
    pub set: u64,
    /// `MOUNT_ATTR_…` to clear.
    pub clear: u64,
    /// One of MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE, or 0.
    pub propagation: u64,
}

impl Attributes {
    /// Read-only.
    pub const READONLY: Self = Self::setting(libc::MOUNT_ATTR_RDONLY);

    /// Sets these `MOUNT_ATTR_…` and changes nothing else.
    pub const fn setting(set: u64) -> Self {
        Self { set, clear: 0, propagation: 0 }
    }

    /// Sets this propagation (MS_…) and changes nothing else.
    pub const fn propagating(propagation: u64) -> Self {
        Self { set: 0, clear: 0, propagation }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes a mount in this process's mount namespace: `mount_setattr(mount, "", AT_EMPTY_PATH [|
/// AT_RECURSIVE], …)`, mount_setattr(2), Linux 5.12; before, mount(2). ENOSYS: recursive
/// attributes, which mount(2) does not support.
pub fn set_attributes(
    mount: impl AsFd,
    wanted: Attributes,
    recursive: bool,
    proc: Procfs<'_>,
) -> io::Result<()> {
    let mount = mount.as_fd();
    match mount_setattr(mount, wanted, recursive, None) {
        Err(error) if is_missing(&error) => older::mounts::change(mount, wanted, recursive, proc),
        done => done,
    }
}

/// As [`set_attributes`], for a detached mount. ENOSYS: recursive attributes before Linux 5.12, if
/// one mount hides another.
pub fn prepare(mount: impl AsFd, wanted: Attributes, recursive: bool, proc: Procfs<'_>) -> io::Result<()> {
    let mount = mount.as_fd();
    match mount_setattr(mount, wanted, recursive, None) {
        Err(error) if is_missing(&error) => older::mounts::prepare(mount, wanted, recursive, proc),
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

/// Makes a detached mount idmapped with the mapping of the user namespace `mapping`; with all
/// mounts below it if `recursive`. mount_setattr(2), MOUNT_ATTR_IDMAP. ENOSYS: Linux before 5.12.
pub fn map_ids(mount: impl AsFd, recursive: bool, mapping: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = Attributes::setting(libc::MOUNT_ATTR_IDMAP);
    mount_setattr(mount.as_fd(), wanted, recursive, Some(mapping))
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    recursive: bool,
    mapping: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: wanted.set,
        attr_clr: wanted.clear,
        propagation: wanted.propagation,
        userns_fd: mapping.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the size is that of `attr`, which lives across the
    // call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    check(done).map(drop)
}

/// `open_tree(dir, path, flags | OPEN_TREE_CLOEXEC)`, open_tree(2); rustix's flags lack
/// AT_SYMLINK_NOFOLLOW.
pub fn open_tree(dir: impl AsFd, path: &CStr, flags: u32) -> io::Result<OwnedFd> {
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` ends in NUL; the kernel returns a new descriptor without another owner.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Clones the mount that `fd` refers to as a detached mount; with all mounts below it if
/// `recursive`.
pub fn clone_mount(fd: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let recursive = if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    open_tree(fd, c"", libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32 | recursive)
}

/// Attaches the detached mount `from` to the file or directory `on`, move_mount(2).
pub fn attach(from: impl AsFd, on: impl AsFd) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(from, c"", on, c"", flags)?)
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
