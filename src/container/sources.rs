//! What the container's process mounts and only the runtime may open: bind sources, idmapped ones, the root file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::idmap;
use crate::error::{Doing, Error, Result};
use crate::plan::mount_step::BindSource;
use crate::plan::{MountKind, Plan, Step};
use crate::rootfs::mounts::open_source;
use crate::rootfs::path;
use crate::sys::mount::{Attributes, Procfs, map_ids, open_tree, prepare};
use crate::sys::namespace::Namespace;

/// Bind sources that the child could not open, by index of the mount: those that get a mapping, and all when it is in another user
/// namespace. `joined`: that namespace, if it is one that exists.
///
/// A joined mount namespace has mounts of its own, in which the child looks sources up.
pub fn open_all(plan: &Plan, joined: Option<BorrowedFd<'_>>) -> Result<Vec<Option<OwnedFd>>> {
    let other_user = is_other_user(plan);
    let mut room = spare_descriptors();
    let mounts = plan.rootfs.mounts.iter().enumerate();
    let opened = mounts.map(|(index, step)| match &step.kind {
        // What an earlier mount shows is seen by the child alone.
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

/// Whether the child is in another user namespace than the runtime, and in no mount namespace that exists.
fn is_other_user(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    let joins_both = namespaces.joins(Namespace::User) && namespaces.joins(Namespace::Mount);
    namespaces.own(Namespace::User) && !joins_both
}

/// How many descriptors may be held and leave some for everything else.
fn spare_descriptors() -> u64 {
    const OTHERS: u64 = 64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHERS))
}

/// Opens one that the child might also open, later. `room`: how many more are opened before that is left to it.
fn by_runtime(plan: &Plan, bound: &BindSource, index: usize, room: &mut u64) -> Result<Option<OwnedFd>> {
    if *room == 0 {
        return Ok(None);
    }
    *room -= 1;
    match source(plan, bound, index) {
        // An ordinary user cannot; the child, root in its own namespace, may.
        Err(error) if error.errno() == Some(libc::EPERM) => Ok(None),
        other => other.map(Some),
    }
}

/// The source itself, if it is a symbolic link, which is copied and not mounted.
fn link(plan: &Plan, bound: &BindSource, index: usize) -> Result<Option<OwnedFd>> {
    let words = || plan.describe(Step::MountSource, index);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::open(&bound.path, flags, Mode::empty()) {
        // The child may enter folders of ids that only its namespace may give rights to.
        Err(Errno::ACCESS) => return Ok(None),
        found => found.doing(words)?,
    };
    let kind = path::kind(&found).doing(words)?;
    Ok((kind == rustix::fs::FileType::Symlink).then_some(found))
}

/// A bind source as a detached mount, with the mapping of its own if it has one.
pub fn source(plan: &Plan, bound: &BindSource, index: usize) -> Result<OwnedFd> {
    let words = || plan.describe(Step::MountSource, index);
    let mount = open_source(bound).doing(words)?;
    as_the_childs(plan, &mount).doing(words)?;
    if let Some(maps) = bound.idmap.as_ref().and_then(|idmap| idmap.maps.as_ref()) {
        map_mount(plan, bound, index, &mount, &idmap::namespace(maps)?)?;
    }
    Ok(mount)
}

/// Has it propagate as if the child had cloned it from its own copy of the mounts.
fn as_the_childs(plan: &Plan, mount: &OwnedFd) -> std::io::Result<()> {
    let wanted = Attributes::propagating(plan.rootfs.start_propagation);
    if wanted.propagation == libc::MS_SHARED { Ok(()) } else { prepare(mount, wanted, true, Procfs::Here) }
}

/// The root file system as a detached mount, for a child that may not be allowed to enter the folders above it.
pub fn root(plan: &Plan) -> Result<Option<OwnedFd>> {
    if !is_other_user(plan) {
        return Ok(None);
    }
    let words = || plan.describe(Step::RootBind, 0);
    match open_tree(CWD, &plan.rootfs.path, libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32) {
        // An ordinary user cannot, and owns what he uses.
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
    let recursive = bound.idmap.as_ref().is_some_and(|idmap| idmap.recursive);
    map_ids(mount, recursive, namespace.as_fd()).map_err(Error::from).map_err(|error| {
        let what = plan.describe(Step::Mount, index);
        let hint = match error.errno() {
            Some(libc::ENOSYS) => "mount_setattr(2) is missing, which Linux has since 5.12",
            _ => "does its file system support that?",
        };
        error.within(format!("{what}: make it idmapped ({hint})"))
    })
}

/// Makes a mount idmapped that the child has opened. `pid`: a process of the container's user namespace.
pub fn map_of_child(plan: &Plan, index: usize, mount: &OwnedFd, pid: i32) -> Result<()> {
    let Some(MountKind::Bind(bound)) = plan.rootfs.mounts.get(index).map(|step| &step.kind) else {
        return Err(Error::new(crate::error::Kind::System, format!("mounts[{index}] is no bind mount")));
    };
    let namespace = match bound.idmap.as_ref().and_then(|idmap| idmap.maps.as_ref()) {
        Some(maps) => idmap::namespace(maps)?,
        None => idmap::of_process(pid)?,
    };
    map_mount(plan, bound, index, mount, &namespace)
}

/// Gives the container's own mapping to the mounts that asked for it, once that namespace exists.
pub fn map_to_container(
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
