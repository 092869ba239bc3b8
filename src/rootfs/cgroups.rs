//! Mounts of type cgroup and cgroup2, in the layout of this host. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountFlags};

use super::attributes::{MountContext, attach_of_host, attributes, errno};
use crate::plan::mount_step::LegacyHierarchy;
use crate::plan::{CgroupMount, CgroupView, MountStep};
use crate::sys::mount::{Attributes, Procfs, Reach, attach, open_tree, set_attributes};

/// Mounts it on `target`. Returns the mount's descriptor, if one was needed.
pub(crate) fn mount(
    cgroup: &CgroupMount,
    step: &MountStep,
    place: &MountContext<'_>,
    target: BorrowedFd<'_>,
) -> rustix::io::Result<Option<OwnedFd>> {
    match &cgroup.view {
        CgroupView::Unified(own) => unified(own, cgroup.flags, step, target, place.proc),
        CgroupView::Legacy(hierarchies) => legacy(hierarchies, cgroup.flags, step, place, target),
    }
}

fn unified(
    own: &CStr,
    flags: MountFlags,
    step: &MountStep,
    target: BorrowedFd<'_>,
    proc: Procfs<'_>,
) -> rustix::io::Result<Option<OwnedFd>> {
    let plain = step.recursive.is_empty() && step.propagation.is_empty();
    let mounted = if plain {
        rustix::process::fchdir(target)?;
        rustix::mount::mount(c"cgroup", c".", c"cgroup2", flags, c"").map(|()| None)
    } else {
        detached_cgroup(flags).and_then(|mount| attach(&mount, target).map_err(errno).map(|()| Some(mount)))
    };
    match mounted {
        // A user namespace without its own cgroup namespace may not mount it: the host's directory
        // is bound instead.
        Err(Errno::PERM | Errno::BUSY | Errno::NODEV) => {
            let how = libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
            let mount = match open_tree(CWD, own, how).map_err(errno) {
                // A rootless container has no cgroup of its own.
                Err(Errno::NOENT) => open_tree(CWD, c"/sys/fs/cgroup", how).map_err(errno)?,
                other => other?,
            };
            attach_of_host(mount, step, Reach::Tree, target, proc).map(Some).map_err(errno)
        }
        other => other,
    }
}

fn detached_cgroup(flags: MountFlags) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen(c"cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"cgroup")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))
}

/// Mounts a tmpfs with a directory for each hierarchy, and links for hierarchies with several
/// controllers.
fn legacy(
    hierarchies: &[LegacyHierarchy],
    flags: MountFlags,
    step: &MountStep,
    place: &MountContext<'_>,
    target: BorrowedFd<'_>,
) -> rustix::io::Result<Option<OwnedFd>> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let writable = flags.difference(MountFlags::RDONLY);
    let directory = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(writable))?;
    attach(&directory, target).map_err(errno)?;
    for hierarchy in hierarchies {
        rustix::fs::mkdirat(&directory, &hierarchy.name, rustix::fs::Mode::from_raw_mode(0o755))?;
        let below = rustix::fs::openat(
            &directory,
            &hierarchy.name,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        )?;
        one_hierarchy(hierarchy, flags, step, place, below.as_fd())?;
        for link in &hierarchy.links {
            rustix::fs::symlinkat(&hierarchy.name, &directory, link)?;
        }
    }
    if flags.contains(MountFlags::RDONLY) {
        set_attributes(&directory, Attributes::READONLY, Reach::Mount, place.proc).map_err(errno)?;
    }
    Ok(Some(directory))
}

fn one_hierarchy(
    hierarchy: &LegacyHierarchy,
    flags: MountFlags,
    step: &MountStep,
    place: &MountContext<'_>,
    target: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    if place.own_cgroup_namespace {
        rustix::process::fchdir(target)?;
        let fstype = if hierarchy.data.is_empty() { c"cgroup2" } else { c"cgroup" };
        let mounted = rustix::mount::mount(c"cgroup", c".", fstype, flags, hierarchy.data.as_c_str());
        if !matches!(mounted, Err(Errno::PERM | Errno::BUSY)) {
            return mounted;
        }
    }
    let mount = open_tree(CWD, &hierarchy.own, libc::OPEN_TREE_CLONE).map_err(errno)?;
    attach_of_host(mount, step, Reach::Mount, target, place.proc).map(drop).map_err(errno)
}
