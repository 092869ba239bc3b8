//! Masks paths and makes paths read-only, by mounts on them. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::attributes::{configure, errno};
use super::inroot::{InRoot, LastLink};
use super::path;
use crate::plan::mount_step::FsOption;
use crate::sys::closing::close_later;
use crate::sys::mount::{Attributes, Procfs, Reach, attach, clone_mount, clone_with};

/// Mounts that hide files.
pub(super) struct Masks<'a> {
    /// The host's /dev/null.
    null: OwnedFd,
    /// Options of the file system that hides directories.
    options: &'a [FsOption],
    /// That file system, once it is mounted somewhere. All directories share it: it is empty and
    /// read-only, and a new one costs more than all other calls for a mask.
    empty: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    /// `null` is the host's /dev/null; `options` are those of the file system on directories.
    pub(super) fn new(null: OwnedFd, options: &'a [FsOption]) -> Self {
        Self { null, options, empty: None }
    }

    /// Masks `path`: a directory by an empty read-only tmpfs, any other file by /dev/null. A
    /// missing path needs no mask.
    pub(super) fn cover(&mut self, path: &CStr, root: InRoot<'_>) -> rustix::io::Result<()> {
        let Some(target) = find(path, root)? else { return Ok(()) };
        let directory = path::kind(&target)? == FileType::Directory;
        match (directory, &self.empty) {
            (true, None) => {
                let empty = empty_directory(self.options)?;
                attach(&empty, &target).map_err(errno)?;
                self.empty = Some(empty);
            }
            // Cloned from the attached mount: kernels before 6.15 clone no other.
            (true, Some(empty)) => attach_clone(empty.as_fd(), target.as_fd())?,
            (false, _) => attach_clone(self.null.as_fd(), target.as_fd())?,
        }
        close_later(target);
        Ok(())
    }

    /// Ends its use.
    pub(super) fn end(self) {
        close_later(self.null);
        close_later(self.empty);
    }
}

fn attach_clone(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let clone = clone_mount(mount, Reach::Mount).map_err(errno)?;
    attach(&clone, target).map_err(errno)?;
    close_later(clone);
    Ok(())
}

/// Creates an empty file system, read-only in itself, as a detached mount.
fn empty_directory(options: &[FsOption]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_flag(&context, c"ro")?;
    configure(context.as_fd(), options)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    close_later(context);
    Ok(mount)
}

/// Makes `path` and all below it read-only, by a bind mount of it onto itself.
pub(super) fn make_readonly(path: &CStr, root: InRoot<'_>, proc: Procfs<'_>) -> std::io::Result<()> {
    let Some(target) = find(path, root)? else { return Ok(()) };
    let mount = clone_with(&target, c"", Attributes::READONLY, Reach::Tree, proc)?;
    attach(&mount, &target)?;
    close_later(mount);
    close_later(target);
    Ok(())
}

/// Opens `path`; `None` if it is missing.
fn find(path: &CStr, root: InRoot<'_>) -> rustix::io::Result<Option<OwnedFd>> {
    match root.open(path, LastLink::Follow) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => found.map(Some),
    }
}
