//! Mount sources that only the runtime may open: bind sources, idmapped ones, the root file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::idmap;
use crate::error::{Doing, Error, Result};
use crate::plan::mount_step::BindSource;
use crate::plan::{MountKind, Plan, Step};
use crate::rootfs::mounts::open_source;
use crate::rootfs::path;
use crate::sys::mount::{Attributes, Procfs, Reach, map_ids, open_tree, prepare};
use crate::sys::namespace::Namespace;

/// Opens the bind sources that the child could not open, by mount index: those with an ID map, and
/// all if the child is in another user namespace. `joined`: that namespace, if an existing one is
/// joined.
///
/// In a joined mount namespace, the child looks sources up among that namespace's mounts.
pub(crate) fn open_all(plan: &Plan, joined: Option<BorrowedFd<'_>>) -> Result<Vec<Option<OwnedFd>>> {
    let other_user = is_other_user(plan);
    let mut room = if other_user { spare_descriptors() } else { 0 };
    let mounts = plan.rootfs.mounts.iter().enumerate();
    let opened = mounts.map(|(index, step)| match &step.kind {
        // Only the child sees a source inside an earlier mount.
        MountKind::Bind(bound) if bound.within.is_some() => Ok(None),
        MountKind::Bind(bound) if bound.copy_symlink && !other_user => Ok(None),
        MountKind::Bind(bound) if bound.copy_symlink => match link(plan, bound, index)? {
            None if bound.idmap.is_none() => by_runtime(plan, bound, index, &mut room),
            None => source(plan, bound, index).map(Some),
            link => Ok(link),
        },
        MountKind::Bind(bound) if bound.idmap.is_some() => source(plan, bound, index).map(Some),
        MountKind::Bind(bound) if other_user => by_runtime(plan, bound, index, &mut room),
        _ => Ok(None),
    });
    let opened: Vec<_> = opened.collect::<Result<_>>()?;
    if let Some(joined) = joined {
        map_to_container(plan, &opened, || joined.try_clone_to_owned().doing(|| "copy a descriptor"))?;
    }
    Ok(opened)
}

/// Whether the child is in another user namespace than the runtime, and not in a joined mount
/// namespace.
fn is_other_user(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    let joins_both = namespaces.joins(Namespace::User) && namespaces.joins(Namespace::Mount);
    namespaces.own(Namespace::User) && !joins_both
}

/// Number of descriptors that may be held, with some left for other uses.
fn spare_descriptors() -> u64 {
    const OTHERS: u64 = 64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHERS))
}

/// Opens a source that the child might also open later. `room`: how many more are opened here
/// before the rest is left to the child.
fn by_runtime(plan: &Plan, bound: &BindSource, index: usize, room: &mut u64) -> Result<Option<OwnedFd>> {
    if *room == 0 {
        return Ok(None);
    }
    *room -= 1;
    match source(plan, bound, index) {
        // An unprivileged user may not; the child, root in its own namespace, may.
        Err(error) if error.errno() == Some(libc::EPERM) => Ok(None),
        other => other.map(Some),
    }
}

/// The source itself, if it is a symbolic link, which is copied instead of mounted.
fn link(plan: &Plan, bound: &BindSource, index: usize) -> Result<Option<OwnedFd>> {
    let words = || plan.describe(Step::MountSource, index);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::open(&bound.path, flags, Mode::empty()) {
        // The child may have the right to enter a directory that only its user namespace grants.
        Err(Errno::ACCESS) => return Ok(None),
        found => found.doing(words)?,
    };
    let kind = path::kind(&found).doing(words)?;
    Ok((kind == rustix::fs::FileType::Symlink).then_some(found))
}

/// A bind source as a detached mount, idmapped if it has its own maps.
pub(crate) fn source(plan: &Plan, bound: &BindSource, index: usize) -> Result<OwnedFd> {
    let words = || plan.describe(Step::MountSource, index);
    let mount = open_source(bound).doing(words)?;
    as_the_childs(plan, &mount).doing(words)?;
    if let Some(maps) = bound.idmap.as_ref().and_then(|idmap| idmap.maps.as_ref()) {
        map_mount(plan, bound, index, &mount, &idmap::namespace(maps)?)?;
    }
    Ok(mount)
}

/// Sets the propagation that a clone from the child's own copy of the mounts would have.
fn as_the_childs(plan: &Plan, mount: &OwnedFd) -> std::io::Result<()> {
    let wanted = Attributes::propagating(plan.rootfs.start_propagation);
    if wanted.propagation == libc::MS_SHARED {
        Ok(())
    } else {
        prepare(mount, wanted, Reach::Tree, Procfs::Here)
    }
}

/// The root file system as a detached mount, for a child that may lack permission to enter the
/// directories above it.
pub(crate) fn root(plan: &Plan) -> Result<Option<OwnedFd>> {
    if !is_other_user(plan) {
        return Ok(None);
    }
    let words = || plan.describe(Step::RootBind, 0);
    match open_tree(CWD, &plan.rootfs.path, libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32) {
        // An unprivileged user may not, and owns the directories that it uses.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
        opened => {
            let root = opened.doing(words)?;
            as_the_childs(plan, &root).doing(words)?;
            Ok(Some(root))
        }
    }
}

/// Makes a detached mount idmapped.
fn map_mount(
    plan: &Plan,
    bound: &BindSource,
    index: usize,
    mount: &OwnedFd,
    namespace: &OwnedFd,
) -> Result<()> {
    let reach = bound.idmap.as_ref().map_or(Reach::Mount, |idmap| idmap.reach);
    map_ids(mount, reach, namespace.as_fd()).map_err(Error::from).map_err(|error| {
        let what = plan.describe(Step::Mount, index);
        let hint = match error.errno() {
            Some(libc::ENOSYS) => "mount_setattr(2) is missing, which Linux has since 5.12",
            _ => "does its file system support that?",
        };
        error.within(format!("{what}: idmap it ({hint})"))
    })
}

/// Makes a mount idmapped that the child has opened. `pid`: a process in the container's user
/// namespace.
pub(crate) fn map_of_child(plan: &Plan, index: usize, mount: &OwnedFd, pid: i32) -> Result<()> {
    let Some(MountKind::Bind(bound)) = plan.rootfs.mounts.get(index).map(|step| &step.kind) else {
        return Err(Error::new(crate::error::Kind::System, format!("mounts[{index}] is not a bind mount")));
    };
    let namespace = match bound.idmap.as_ref().and_then(|idmap| idmap.maps.as_ref()) {
        Some(maps) => idmap::namespace(maps)?,
        None => idmap::of_process(pid)?,
    };
    map_mount(plan, bound, index, mount, &namespace)
}

/// Applies the container's own maps to the mounts that request them, once its user namespace
/// exists.
pub(crate) fn map_to_container(
    plan: &Plan,
    sources: &[Option<OwnedFd>],
    container: impl Fn() -> Result<OwnedFd>,
) -> Result<()> {
    let mut namespace = None;
    for (index, step) in plan.rootfs.mounts.iter().enumerate() {
        let MountKind::Bind(bound) = &step.kind else { continue };
        let own = bound.idmap.as_ref().is_some_and(|idmap| idmap.maps.is_none());
        let (true, Some(Some(mount))) = (own, sources.get(index)) else { continue };
        let namespace = match &mut namespace {
            Some(namespace) => namespace,
            None => namespace.insert(container()?),
        };
        map_mount(plan, bound, index, mount, namespace)?;
    }
    Ok(())
}
