//! Carries out `mounts`: each target opened inside the root, each mount made on a descriptor. Child side, no heap.
//!
//! A plain new file system goes by mount(2) on ".", after fchdir to the target: the fewest calls, and nothing is looked up
//! by name. What needs a handle afterwards (propagation, recursive attributes, a late read-only) is made detached first.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags};

use super::copyup;
use super::inroot::{self, InRoot, PathBuffer};
use crate::plan::mounts::LegacyHierarchy;
use crate::plan::{At, BindSource, CgroupMount, CgroupView, Fault, MountKind, MountStep, NewFs, Step};
use crate::sys::mount::{Attributes, Procfs, attach, clone_mount, open_tree, prepare, set_attributes};

/// What mounting may use beside the plan.
pub struct Place<'a> {
    /// The container's root.
    pub root: InRoot<'a>,
    /// The host's procfs.
    pub proc: Procfs<'a>,
    /// The container has a cgroup namespace other than the runtime's.
    pub own_cgroup_namespace: bool,
}

/// Carries out one step. `source` is the detached bind source that the parent opened, if it had to, or the context of a procfs
/// that is another pid namespace's; `late` keeps the
/// handle of a mount that is made read-only at the end, or that nodes are made in.
pub fn mount(
    step: &MountStep,
    index: usize,
    place: &Place<'_>,
    source: Option<&OwnedFd>,
    late: Option<&mut Option<OwnedFd>>,
) -> Result<(), Fault> {
    match &step.kind {
        MountKind::New(new) => {
            let target = target_folder(step, index, place)?;
            let made = new_fs(new, step, target.as_fd(), source).at(Step::Mount, index);
            let handle = match (made, new.shared_instance) {
                (Err(fault), Some(instance)) if fault.errno == libc::EPERM => {
                    Some(shared_instance(instance, new, target.as_fd(), place.proc).map_err(|_| fault)?)
                }
                (made, _) => made?,
            };
            finish(step, index, handle.as_ref(), false, place.proc)?;
            if let (true, Some(late)) = (step.readonly_late || step.holds_nodes, late) {
                *late = handle;
            }
            Ok(())
        }
        MountKind::Bind(bound) => bind(step, bound, index, place, source),
        MountKind::Cgroup(cgroup) => {
            let target = target_folder(step, index, place)?;
            let handle = cgroup_mount(cgroup, step, place, target.as_fd()).at(Step::CgroupMount, index)?;
            finish(step, index, handle.as_ref(), true, place.proc)
        }
        MountKind::Remount { flags, data } => {
            let target = place.root.open(&step.target, step.target_nofollow).at(Step::MountTarget, index)?;
            remount(target.as_fd(), *flags, data).at(Step::Mount, index)
        }
    }
}

/// Makes a late mount read-only.
pub fn make_readonly(mount: impl AsFd, index: usize, proc: Procfs<'_>) -> Result<(), Fault> {
    set_attributes(mount, Attributes::READONLY, false, proc).at(Step::MountReadonly, index)
}

fn target_folder(step: &MountStep, index: usize, place: &Place<'_>) -> Result<OwnedFd, Fault> {
    let target = if step.target_nofollow {
        place.root.open(&step.target, true)
    } else {
        place.root.folder(&step.target)
    };
    target.at(Step::MountTarget, index)
}

/// Attributes and propagation that come once the mount is in its place. `tree`: there may be others below it.
fn finish(
    step: &MountStep,
    index: usize,
    handle: Option<&OwnedFd>,
    tree: bool,
    proc: Procfs<'_>,
) -> Result<(), Fault> {
    let Some(handle) = handle else { return Ok(()) };
    if !step.recursive.is_empty() {
        set_attributes(handle, step.recursive, tree, proc).at(Step::MountAttributes, index)?;
    }
    propagate(step, index, handle, proc)
}

fn propagate(step: &MountStep, index: usize, mount: &OwnedFd, proc: Procfs<'_>) -> Result<(), Fault> {
    for (propagation, recursive) in &step.propagation {
        let wanted = Attributes::propagating(*propagation);
        set_attributes(mount, wanted, *recursive, proc).at(Step::MountPropagation, index)?;
    }
    Ok(())
}

/// The new mount's handle, when one was needed.
fn new_fs(
    new: &NewFs,
    step: &MountStep,
    target: BorrowedFd<'_>,
    context: Option<&OwnedFd>,
) -> rustix::io::Result<Option<OwnedFd>> {
    let plain = context.is_none()
        && step.recursive.is_empty()
        && step.propagation.is_empty()
        && !step.readonly_late
        && !step.holds_nodes
        && !new.copy_up;
    if plain && inroot::kind(target)? == FileType::Directory {
        rustix::process::fchdir(target)?;
        rustix::mount::mount(&new.source, c".", &new.fstype, new.flags, new.data.as_c_str())?;
        return Ok(None);
    }
    let flags = if step.readonly_late { new.flags.difference(MountFlags::RDONLY) } else { new.flags };
    let mount = match context {
        Some(context) => configured(context.as_fd(), new, flags)?,
        None => {
            let context = rustix::mount::fsopen(&new.fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
            configured(context.as_fd(), new, flags)?
        }
    };
    // Who opened the context stood among processes that may have had a hand in it.
    if context.is_some() && rustix::fs::fstatfs(&mount)?.f_type as u64 != PROC_MAGIC {
        return Err(Errno::STALE);
    }
    if new.copy_up {
        copyup::copy(target, mount.as_fd())?;
    }
    attach(&mount, target).map_err(errno)?;
    Ok(Some(mount))
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

/// procfs, statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

/// A new instance that is mounted nowhere yet.
fn configured(context: BorrowedFd<'_>, new: &NewFs, flags: MountFlags) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount};
    fsconfig_set_string(context, c"source", &new.source)?;
    const OF_THE_FILE_SYSTEM: &[(MountFlags, &CStr)] = &[
        (MountFlags::RDONLY, c"ro"),
        (MountFlags::SYNCHRONOUS, c"sync"),
        (MountFlags::DIRSYNC, c"dirsync"),
        (MountFlags::LAZYTIME, c"lazytime"),
        (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, c"mand"),
    ];
    for (_, name) in OF_THE_FILE_SYSTEM.iter().filter(|(flag, _)| flags.contains(*flag)) {
        fsconfig_set_flag(context, *name)?;
    }
    for (key, value) in &new.options {
        match value {
            Some(value) => fsconfig_set_string(context, key, value)?,
            None => fsconfig_set_flag(context, key)?,
        }
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))
}

/// The attributes of a mount that mount(2) would have set by these flags.
fn attributes(flags: MountFlags) -> MountAttrFlags {
    const SAME: &[(MountFlags, MountAttrFlags)] = &[
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let same = SAME.iter().filter(|(flag, _)| flags.contains(*flag));
    let set = same.fold(MountAttrFlags::empty(), |set, (_, attribute)| set | *attribute);
    // The access times are one field: the last of these wins, as in mount(2).
    if flags.contains(MountFlags::STRICTATIME) {
        set | MountAttrFlags::MOUNT_ATTR_STRICTATIME
    } else if flags.contains(MountFlags::NOATIME) {
        set | MountAttrFlags::MOUNT_ATTR_NOATIME
    } else {
        set
    }
}

/// The host's own mount of the same instance, with the flags that were asked for.
fn shared_instance(
    instance: &CStr,
    new: &NewFs,
    target: BorrowedFd<'_>,
    proc: Procfs<'_>,
) -> std::io::Result<OwnedFd> {
    let mount = open_tree(CWD, instance, libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32)?;
    attach_of_host(mount, new.flags, true, target, proc)
}

/// Attaches a clone of a mount of the host's in place of a new file system, with the flags that were asked for.
fn attach_of_host(
    mount: OwnedFd,
    flags: MountFlags,
    recursive: bool,
    target: BorrowedFd<'_>,
    proc: Procfs<'_>,
) -> std::io::Result<OwnedFd> {
    // Times are left as they are: the kernel locks them in a user namespace.
    let wanted = Attributes::setting(u64::from(attributes(flags).bits()) & !libc::MOUNT_ATTR__ATIME);
    if !wanted.is_empty() {
        prepare(&mount, wanted, recursive, proc)?;
    }
    attach(&mount, target)?;
    Ok(mount)
}

fn bind(
    step: &MountStep,
    bound: &BindSource,
    index: usize,
    place: &Place<'_>,
    source: Option<&OwnedFd>,
) -> Result<(), Fault> {
    if bound.copy_symlink && copy_symlink(bound, step, place).at(Step::Mount, index)? {
        return Ok(());
    }
    let opened;
    let mount = match source {
        Some(source) => source,
        None => {
            opened = open_source(bound).at(Step::MountSource, index)?;
            &opened
        }
    };
    let folder = inroot::kind(mount).at(Step::MountSource, index)? == FileType::Directory;
    let target = if step.target_nofollow {
        place.root.open(&step.target, true)
    } else if folder {
        place.root.folder(&step.target)
    } else {
        place.root.file(&step.target)
    };
    let target = target.at(Step::MountTarget, index)?;
    // The kernel would only say that an argument is invalid.
    match (folder, inroot::kind(&target).at(Step::MountTarget, index)? == FileType::Directory) {
        (true, false) => Err(Errno::NOTDIR),
        (false, true) => Err(Errno::ISDIR),
        _ => Ok(()),
    }
    .at(Step::Mount, index)?;
    // Before it is in its place: nobody has it for a moment without them.
    for (attributes, recursive) in [(step.attributes, false), (step.recursive, true)] {
        if !attributes.is_empty() {
            prepare(mount, attributes, recursive, place.proc).at(Step::MountAttributes, index)?;
        }
    }
    attach(mount, &target).at(Step::Mount, index)?;
    propagate(step, index, mount, place.proc)
}

/// The bind source as a detached mount; used by the parent too, when it must open it.
pub fn open_source(bound: &BindSource) -> std::io::Result<OwnedFd> {
    let recursive = if bound.recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let nofollow = if bound.nofollow { libc::AT_SYMLINK_NOFOLLOW as u32 } else { 0 };
    open_tree(CWD, &bound.path, libc::OPEN_TREE_CLONE | recursive | nofollow)
}

/// Whether the source is a link, which then stands in the container as the same link.
fn copy_symlink(bound: &BindSource, step: &MountStep, place: &Place<'_>) -> rustix::io::Result<bool> {
    let mut room = [std::mem::MaybeUninit::uninit(); 4096];
    let target: &[u8] = match rustix::fs::readlinkat_raw(CWD, &bound.path, &mut room) {
        Ok((target, _)) => target,
        Err(Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error),
    };
    let target = PathBuffer::new(target)?;
    let (parent, name) = place.root.parent(&step.target)?;
    match rustix::fs::symlinkat(target.as_cstr()?, &parent, name.as_cstr()?) {
        // The image may have the very same link already.
        Err(Errno::EXIST) => {
            let mut room = [std::mem::MaybeUninit::uninit(); 4096];
            let (there, _) = rustix::fs::readlinkat_raw(&parent, name.as_cstr()?, &mut room)?;
            let there: &[u8] = there;
            if there == target.bytes() { Ok(true) } else { Err(Errno::EXIST) }
        }
        other => other.map(|()| true),
    }
}

fn remount(target: BorrowedFd<'_>, flags: MountFlags, data: &CStr) -> rustix::io::Result<()> {
    rustix::process::fchdir(target)?;
    rustix::mount::mount_remount(c".", flags, data)
}

fn cgroup_mount(
    cgroup: &CgroupMount,
    step: &MountStep,
    place: &Place<'_>,
    target: BorrowedFd<'_>,
) -> rustix::io::Result<Option<OwnedFd>> {
    match &cgroup.view {
        CgroupView::Unified(own) => unified(own, cgroup.flags, step, target, place.proc),
        CgroupView::Legacy(hierarchies) => legacy(hierarchies, cgroup.flags, place, target),
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
        // Without a cgroup namespace of its own a user namespace may not mount it: the folder of the host is bound.
        Err(Errno::PERM | Errno::BUSY | Errno::NODEV) => {
            let how = libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
            let mount = match open_tree(CWD, own, how).map_err(errno) {
                // An ordinary user's container has no group of its own.
                Err(Errno::NOENT) => open_tree(CWD, c"/sys/fs/cgroup", how).map_err(errno)?,
                other => other?,
            };
            attach_of_host(mount, flags, true, target, proc).map(Some).map_err(errno)
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

/// A tmpfs with a folder for each hierarchy, and a link for each of several controllers of one.
fn legacy(
    hierarchies: &[LegacyHierarchy],
    flags: MountFlags,
    place: &Place<'_>,
    target: BorrowedFd<'_>,
) -> rustix::io::Result<Option<OwnedFd>> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let writable = flags.difference(MountFlags::RDONLY);
    let folder = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(writable))?;
    attach(&folder, target).map_err(errno)?;
    for hierarchy in hierarchies {
        rustix::fs::mkdirat(&folder, &hierarchy.name, rustix::fs::Mode::from_raw_mode(0o755))?;
        let below = rustix::fs::openat(
            &folder,
            &hierarchy.name,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        )?;
        one_hierarchy(hierarchy, flags, place, below.as_fd())?;
        for link in &hierarchy.links {
            rustix::fs::symlinkat(&hierarchy.name, &folder, link)?;
        }
    }
    if flags.contains(MountFlags::RDONLY) {
        set_attributes(&folder, Attributes::READONLY, false, place.proc).map_err(errno)?;
    }
    Ok(Some(folder))
}

fn one_hierarchy(
    hierarchy: &LegacyHierarchy,
    flags: MountFlags,
    place: &Place<'_>,
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
    attach_of_host(mount, flags, false, target, place.proc).map(drop).map_err(errno)
}

/// Hides what is at `path`: a folder below an empty read-only tmpfs, anything else behind the host's /dev/null.
/// What is missing needs no hiding.
pub fn mask(path: &CStr, data: &CStr, null: BorrowedFd<'_>, root: InRoot<'_>) -> rustix::io::Result<()> {
    let target = match root.open(path, false) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    if inroot::kind(&target)? == FileType::Directory {
        rustix::process::fchdir(&target)?;
        return rustix::mount::mount(c"tmpfs", c".", c"tmpfs", MountFlags::RDONLY, data);
    }
    let mount = clone_mount(null, false).map_err(errno)?;
    attach(&mount, &target).map_err(errno)
}

/// Makes `path` and all below it read-only, by a bind of it onto itself.
pub fn make_path_readonly(path: &CStr, root: InRoot<'_>, proc: Procfs<'_>) -> std::io::Result<()> {
    let target = match root.open(path, false) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let mount = clone_mount(&target, true)?;
    prepare(&mount, Attributes::READONLY, true, proc)?;
    attach(&mount, &target)
}

/// Takes the old root away: `.` is where it is mounted, below or above the new one.
pub fn detach_current_folder() -> rustix::io::Result<()> {
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
}
