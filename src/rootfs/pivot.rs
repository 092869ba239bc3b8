//! Makes the root file system `/`, and the host's root unreachable. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::path::PathBuffer;
use crate::plan::{At, Rootfs, Step, StepError};
use crate::sys::mount::{Mounted, each_mount, path_of};

/// Changes the root. `proc` is the host's procfs.
pub fn pivot(rootfs: &Rootfs, root: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> Result<(), StepError> {
    rustix::process::fchdir(root).at(Step::ChangeToRoot, 0)?;
    if !rootfs.own_mounts {
        return rustix::process::chroot(c".").at(Step::ChangeToRoot, 0);
    }
    if rootfs.no_pivot {
        // The host's mounts stay below the moved root, where the kernel finds them: a process that
        // creates a user and a mount namespace inside may mount a procfs without masks, if a whole
        // one already exists.
        remove_kernel_directories(root, proc).at(Step::HideKernelDirectories, 0)?;
        rustix::mount::mount_move(c".", c"/").at(Step::MoveRoot, 0)?;
        rustix::process::chroot(c".").at(Step::MoveRoot, 0)?;
        return rustix::process::chdir(c"/").at(Step::MoveRoot, 0);
    }
    let shared = rootfs.start_propagation == libc::MS_SHARED;
    let old = if shared { Some(open_here(c"/").at(Step::Pivot, 0)?) } else { None };
    // Both are the same directory: the old root ends up mounted over the new one, and unmounting
    // `.` removes it; pivot_root(2).
    rustix::process::pivot_root(c".", c".").at(Step::Pivot, 0)?;
    if let Some(old) = old {
        // Otherwise the unmount would propagate to the host.
        rustix::process::fchdir(&old).at(Step::Pivot, 0)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c".", flags).at(Step::Pivot, 0)?;
    }
    detach_current_directory().at(Step::Pivot, 0)?;
    rustix::process::chdir(c"/").at(Step::ChangeToRoot, 0)
}

/// Unmounts the mount on the working directory, with all below it: after a pivot_root, this is the
/// old root.
pub fn detach_current_directory() -> rustix::io::Result<()> {
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
}

fn open_here(path: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Removes every whole procfs and sysfs mount outside `root` in this mount namespace, or covers it
/// if a user namespace forbids to unmount it: a covered one does not permit new mounts in user
/// namespaces below.
#[cold]
#[inline(never)] // its buffers are not part of the caller's frame
fn remove_kernel_directories(root: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> std::io::Result<()> {
    let root = path_of(root, proc)?;
    separate_from_host(&root, proc)?;
    let mut last = i32::MAX;
    while let Some((id, place)) = newest_before(last, &root, proc)? {
        last = id;
        remove(id, place.as_cstr()?, &root, proc)?;
    }
    Ok(())
}

/// Whether a mount is outside the container's root.
fn is_outside(mounted: &Mounted<'_>, root: &PathBuffer) -> rustix::io::Result<bool> {
    let place = mounted.path()?;
    let below = place.bytes().strip_prefix(root.bytes());
    Ok(below.is_none_or(|rest| !rest.is_empty() && !rest.starts_with(b"/")))
}

/// Stops propagation to the host: unmounting and moving here must not affect it.
fn separate_from_host(root: &PathBuffer, proc: BorrowedFd<'_>) -> std::io::Result<()> {
    each_mount(proc, |mounted| {
        if mounted.is_shared() && is_outside(&mounted, root)? {
            rustix::mount::mount_change(mounted.path()?.as_cstr()?, MountPropagationFlags::DOWNSTREAM)?;
        }
        Ok(())
    })
}

/// The procfs or sysfs with the highest mount ID below `bound`, and its mount point. Of two at one
/// mount point, the upper one is newer.
fn newest_before(
    bound: i32,
    root: &PathBuffer,
    proc: BorrowedFd<'_>,
) -> std::io::Result<Option<(i32, PathBuffer)>> {
    let mut newest: Option<(i32, PathBuffer)> = None;
    each_mount(proc, |mounted| {
        let is_newer = mounted.id < bound && newest.as_ref().is_none_or(|(id, _)| mounted.id > *id);
        let is_whole = mounted.root == b"/" && matches!(mounted.fstype, b"proc" | b"sysfs");
        if is_newer && is_whole && is_outside(&mounted, root)? {
            newest = Some((mounted.id, mounted.path()?));
        }
        Ok(())
    })?;
    Ok(newest)
}

fn remove(id: i32, place: &CStr, root: &PathBuffer, proc: BorrowedFd<'_>) -> std::io::Result<()> {
    // Mounts that cover it are removed first.
    while newest_before(id.saturating_add(1), root, proc)?.is_some_and(|(found, _)| found == id) {
        // Mounts below it are unmounted too. A covered one (autofs) has no path of its own, and may
        // still be shared with the host.
        let alone = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        let unmount = || rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        match rustix::mount::mount_change(place, alone).and_then(|()| unmount()) {
            Ok(()) => {}
            // Locked: mount_namespaces(7).
            Err(Errno::INVAL | Errno::PERM) => return Ok(cover(place)?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Covers the file system visible at `place`, unless a mount of the host, which is locked too,
/// already covers it.
fn cover(place: &CStr) -> rustix::io::Result<()> {
    const KERNEL_DIRECTORIES: [u64; 2] = [0x9fa0, 0x6265_6572];
    let seen = open_here(place)?;
    if !KERNEL_DIRECTORIES.contains(&(rustix::fs::fstatfs(&seen)?.f_type as u64)) {
        return Ok(());
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"tmpfs", place, c"tmpfs", flags, c"size=0k")
}
