//! The calls of the mount API that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::super::check;

/// A change of mount attributes, mount_setattr(2).
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

/// Which mounts a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One mount.
    Mount,
    /// A mount and all mounts below it.
    Tree,
}

impl Reach {
    /// `AT_RECURSIVE` or 0.
    pub const fn flag(self) -> u32 {
        match self {
            Self::Mount => 0,
            Self::Tree => libc::AT_RECURSIVE as u32,
        }
    }
}

/// `mount_setattr(mount, "", AT_EMPTY_PATH [| AT_RECURSIVE], …)`, Linux 5.12; `mapping`: the user
/// namespace for MOUNT_ATTR_IDMAP.
pub(in crate::sys) fn mount_setattr(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    reach: Reach,
    mapping: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: wanted.set,
        attr_clr: wanted.clear,
        propagation: wanted.propagation,
        userns_fd: mapping.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH as u32 | reach.flag();
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

/// Number of open_tree_attr(2), the same on all architectures; libc lacks it.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// `open_tree_attr(dir, path, flags | OPEN_TREE_CLOEXEC, &{wanted})`, open_tree_attr(2), Linux
/// 6.15: [`open_tree`] of a clone, whose attributes are changed, with AT_RECURSIVE those of the
/// whole tree.
pub(in crate::sys) fn open_tree_attr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: u32,
    wanted: Attributes,
) -> io::Result<OwnedFd> {
    let attr = libc::mount_attr {
        attr_set: wanted.set,
        attr_clr: wanted.clear,
        propagation: wanted.propagation,
        userns_fd: 0,
    };
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` ends in NUL, and the size is that of `attr`; both live across the call. The
    // kernel returns a new descriptor without another owner.
    unsafe {
        let size = mem::size_of::<libc::mount_attr>();
        let (dir, path) = (dir.as_raw_fd(), path.as_ptr());
        let fd = check(libc::syscall(SYS_OPEN_TREE_ATTR, dir, path, flags, &raw const attr, size))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Clones the mount that `fd` refers to, or its tree, as a detached mount.
pub fn clone_mount(fd: impl AsFd, reach: Reach) -> io::Result<OwnedFd> {
    open_tree(fd, c"", libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32 | reach.flag())
}

/// Attaches the detached mount `from` to the file or directory `on`, move_mount(2).
pub fn attach(from: impl AsFd, on: impl AsFd) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(from, c"", on, c"", flags)?)
}
