//! Executes `mounts`: each target is opened inside the root, each mount made on a descriptor. Child
//! side, no heap.
//!
//! A plain new file system is mounted by mount(2) on ".", after fchdir to the target: the fewest
//! calls, and no lookup by name. A mount that needs a descriptor afterwards (propagation, recursive
//! attributes, a late read-only) is created detached.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountFlags};

use super::attributes::{
    MountContext, attach_of_host, attributes, attributes_of, configure, errno, propagate,
};
use super::inroot::{InRoot, LastLink};
use super::path::{self, PathBuffer};
use super::{cgroups, copyup, remount};
use crate::plan::{At, BindSource, MountKind, MountStep, NewFs, Step, StepError};
use crate::sys::closing::close_later;
use crate::sys::mount::{Attributes, Procfs, Reach, attach, clone_mount, open_tree, prepare, set_attributes};
use crate::sys::text::Text;

/// Executes one step. `given` was opened for it before: the detached bind source, if the parent had
/// to open it; the fs context of a procfs for another PID namespace; or the mount whose file system
/// is changed. `kept` gets the descriptor of a mount that is needed later.
pub fn mount(
    step: &MountStep,
    index: usize,
    place: &MountContext<'_>,
    given: Option<&OwnedFd>,
    kept: Option<&mut Option<OwnedFd>>,
) -> Result<(), StepError> {
    match &step.kind {
        MountKind::New(new) => {
            let target = Target::open(step, index, place, FileType::Directory)?;
            let made = new_fs(new, step, &target, given).at(Step::Mount, index);
            let (handle, reach) = match (made, new.shared_instance) {
                (Err(fault), Some(instance)) if fault.errno == libc::EPERM && new.asks_nothing() => {
                    let instance = shared_instance(instance, step, target.file.as_fd(), place.proc);
                    (Some(instance.map_err(|_| fault)?), Reach::Tree)
                }
                (made, _) => (made?, Reach::Mount),
            };
            target.end();
            finish(step, index, handle.as_ref(), reach, place.proc)?;
            if let (true, Some(kept)) = (step.is_kept(), kept) {
                *kept = handle;
            }
            Ok(())
        }
        MountKind::Bind(bound) => bind(step, bound, index, place, given),
        MountKind::Cgroup(cgroup) => {
            let target = Target::open(step, index, place, FileType::Directory)?;
            let handle =
                cgroups::mount(cgroup, step, place, target.file.as_fd()).at(Step::CgroupMount, index)?;
            target.end();
            finish(step, index, handle.as_ref(), Reach::Tree, place.proc)
        }
        MountKind::Remount(change) => remount::change(step, change, index, place, given),
    }
}

/// Makes a late mount read-only.
pub fn make_readonly(mount: impl AsFd, index: usize, proc: Procfs<'_>) -> Result<(), StepError> {
    set_attributes(mount, Attributes::READONLY, Reach::Mount, proc).at(Step::MountReadonly, index)
}

/// The target of a step.
struct Target {
    file: OwnedFd,
    /// Whether it existed before.
    existed: bool,
    /// Whether it is known to be a directory.
    directory: bool,
}

impl Target {
    /// Ends its use.
    fn end(self) {
        // A file that was created is open for writing: while it is, no mount of its file system can
        // become read-only (EBUSY). It is closed at once.
        if self.existed || self.directory {
            close_later(self.file);
        }
    }

    /// Opens the target; if it is missing, creates a directory or a file, as `kind` says.
    fn open(
        step: &MountStep,
        index: usize,
        place: &MountContext<'_>,
        kind: FileType,
    ) -> Result<Self, StepError> {
        let root = place.root;
        if kind == FileType::Directory {
            let last = LastLink::nofollow(step.target_nofollow || step.refuses_link);
            let made = |file, existed| Self { file, existed, directory: true };
            match root.open_directory(&step.target, last) {
                // Another kind of file, or a link.
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(Errno::NOENT) if step.refuses_link => {}
                Err(Errno::NOENT) => {
                    let file = root.make_directory(&step.target).at(Step::MountTarget, index)?;
                    return Ok(made(file, false));
                }
                found => return found.map(|file| made(file, true)).at(Step::MountTarget, index),
            }
        }
        let found =
            match root.open(&step.target, LastLink::nofollow(step.target_nofollow || step.refuses_link)) {
                Err(Errno::NOENT) => {
                    let made = if kind == FileType::Directory {
                        root.directory(&step.target)
                    } else {
                        root.file(&step.target)
                    };
                    // Another process may have created it first, as a link.
                    let made = if step.refuses_link { root.open(&step.target, LastLink::Open) } else { made };
                    made.map(|file| Self { file, existed: false, directory: false })
                }
                found => found.map(|file| Self { file, existed: true, directory: false }),
            };
        let found = found.at(Step::MountTarget, index)?;
        if step.refuses_link && path::kind(&found.file).at(Step::MountTarget, index)? == FileType::Symlink {
            return Err(Errno::LOOP).at(Step::MountOnLink, index);
        }
        Ok(found)
    }

    fn is_directory(&self) -> rustix::io::Result<bool> {
        Ok(self.directory || path::kind(&self.file)? == FileType::Directory)
    }
}

/// Sets attributes and propagation once the mount is in place. `reach`: whether there may be other
/// mounts below it.
fn finish(
    step: &MountStep,
    index: usize,
    handle: Option<&OwnedFd>,
    reach: Reach,
    proc: Procfs<'_>,
) -> Result<(), StepError> {
    let Some(handle) = handle else { return Ok(()) };
    if !step.recursive.is_empty() {
        set_attributes(handle, step.recursive, reach, proc).at(Step::MountAttributes, index)?;
    }
    propagate(step, index, handle, proc)
}

/// Mounts a new file system; returns the mount's descriptor, if one is needed.
fn new_fs(
    new: &NewFs,
    step: &MountStep,
    target: &Target,
    context: Option<&OwnedFd>,
) -> rustix::io::Result<Option<OwnedFd>> {
    let plain = context.is_none()
        && step.recursive.is_empty()
        && step.propagation.is_empty()
        && !step.is_kept()
        && !new.copy_up;
    let mode = if new.mode_of_covered && target.existed {
        Some(rustix::fs::fstat(&target.file)?.st_mode & 0o7777)
    } else {
        None
    };
    if plain && target.is_directory()? {
        rustix::process::fchdir(&target.file)?;
        match mode {
            Some(mode) => mount_here(new, mode)?,
            None => rustix::mount::mount(&new.source, c".", &new.fstype, new.flags, new.data.as_c_str())?,
        }
        return Ok(None);
    }
    let flags = if step.readonly_late { new.flags.difference(MountFlags::RDONLY) } else { new.flags };
    let mount = match context {
        Some(context) => configured(context.as_fd(), new, flags, mode)?,
        None => {
            let context = rustix::mount::fsopen(&new.fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
            let mount = configured(context.as_fd(), new, flags, mode)?;
            close_later(context);
            mount
        }
    };
    // The process that opened the context was in a PID namespace whose members may have manipulated
    // it.
    if context.is_some() && rustix::fs::fstatfs(&mount)?.f_type as u64 != PROC_MAGIC {
        return Err(Errno::STALE);
    }
    // A target that was just created has nothing to copy, neither its owner nor its times.
    if new.copy_up && target.existed {
        copyup::copy(target.file.as_fd(), mount.as_fd(), &new.options)?;
    }
    attach(&mount, &target.file).map_err(errno)?;
    Ok(Some(mount))
}

/// Calls mount(2) on the working directory, with a mode for the new root directory.
#[inline(never)] // its buffers are not part of the caller's frame
fn mount_here(new: &NewFs, mode: u32) -> rustix::io::Result<()> {
    let mut data = PathBuffer::empty();
    data.push(new.data.to_bytes())?;
    data.push(if new.data.is_empty() { b"mode=" } else { b",mode=" })?;
    data.push_octal(mode)?;
    rustix::mount::mount(&new.source, c".", &new.fstype, new.flags, data.as_cstr()?)
}

/// Magic number of procfs, statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

/// Creates a new instance as a detached mount.
fn configured(
    context: BorrowedFd<'_>,
    new: &NewFs,
    flags: MountFlags,
    mode: Option<u32>,
) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount};
    fsconfig_set_string(context, c"source", &new.source)?;
    const OF_THE_FILE_SYSTEM: &[(MountFlags, &CStr)] = &[
        (MountFlags::RDONLY, c"ro"),
        (MountFlags::SYNCHRONOUS, c"sync"),
        (MountFlags::DIRSYNC, c"dirsync"),
        (MountFlags::LAZYTIME, c"lazytime"),
        (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, c"mand"),
        (MountFlags::from_bits_retain(libc::MS_I_VERSION as u32), c"i_version"),
    ];
    for (_, name) in OF_THE_FILE_SYSTEM.iter().filter(|(flag, _)| flags.contains(*flag)) {
        fsconfig_set_flag(context, *name)?;
    }
    if let Some(mode) = mode {
        let mut digits = Text::<12>::new(b"")?;
        digits.push_octal(mode)?;
        fsconfig_set_string(context, c"mode", digits.as_cstr()?)?;
    }
    configure(context, &new.options)?;
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))
}

/// Attaches the host's own mount of the same instance, with the requested options.
fn shared_instance(
    instance: &CStr,
    step: &MountStep,
    target: BorrowedFd<'_>,
    proc: Procfs<'_>,
) -> std::io::Result<OwnedFd> {
    let mount = open_tree(CWD, instance, libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32)?;
    attach_of_host(mount, step, Reach::Tree, target, proc)
}

fn bind(
    step: &MountStep,
    bound: &BindSource,
    index: usize,
    place: &MountContext<'_>,
    source: Option<&OwnedFd>,
) -> Result<(), StepError> {
    if bound.copy_symlink && copy_symlink(bound, step, place, source).at(Step::Mount, index)? {
        return Ok(());
    }
    let opened;
    let mount = match source {
        Some(source) => source,
        None => {
            opened = match &bound.within {
                Some(path) => open_within(bound, path, place.root).at(Step::MountSource, index)?,
                None => open_source(bound).at(Step::MountSource, index)?,
            };
            if bound.idmap.is_some() {
                (place.map_ids)(index, opened.as_fd()).at(Step::MountSource, index)?;
            }
            &opened
        }
    };
    let directory = path::kind(mount).at(Step::MountSource, index)? == FileType::Directory;
    let kind = if directory { FileType::Directory } else { FileType::RegularFile };
    let target = Target::open(step, index, place, kind)?;
    // The kernel would only return EINVAL.
    match (directory, target.is_directory().at(Step::MountTarget, index)?) {
        (true, false) => Err(Errno::NOTDIR),
        (false, true) => Err(Errno::ISDIR),
        _ => Ok(()),
    }
    .at(Step::Mount, index)?;
    // Before it is attached: it is never visible without them.
    for (attributes, reach) in
        [(attributes_of(step, mount, index)?, Reach::Mount), (step.recursive, Reach::Tree)]
    {
        if !attributes.is_empty() {
            prepare(mount, attributes, reach, place.proc).at(Step::MountAttributes, index)?;
        }
    }
    attach(mount, &target.file).at(Step::Mount, index)?;
    target.end();
    propagate(step, index, mount, place.proc)
}

/// Opens the bind source as a detached mount; the parent calls this too, if it must open it.
pub fn open_source(bound: &BindSource) -> std::io::Result<OwnedFd> {
    let reach = bound.reach.flag();
    let nofollow = if bound.nofollow { libc::AT_SYMLINK_NOFOLLOW as u32 } else { 0 };
    open_tree(CWD, &bound.path, libc::OPEN_TREE_CLONE | reach | nofollow)
}

/// Opens a bind source that an earlier mount of the container shows.
fn open_within(bound: &BindSource, path: &CStr, root: InRoot<'_>) -> std::io::Result<OwnedFd> {
    clone_mount(root.open(path, LastLink::nofollow(bound.nofollow))?, bound.reach)
}

/// Copies a source that is a symbolic link to the container; returns whether it is one. `opened`:
/// the source, if the runtime had to open it.
#[inline(never)] // its buffers are not part of the caller's frame
fn copy_symlink(
    bound: &BindSource,
    step: &MountStep,
    place: &MountContext<'_>,
    opened: Option<&OwnedFd>,
) -> rustix::io::Result<bool> {
    let mut room = [std::mem::MaybeUninit::uninit(); 4096];
    let found = match (opened, &bound.within) {
        (Some(opened), _) if path::kind(opened)? != FileType::Symlink => return Ok(false),
        (Some(opened), _) => rustix::fs::readlinkat_raw(opened, c"", &mut room),
        (None, Some(path)) => {
            rustix::fs::readlinkat_raw(place.root.open(path, LastLink::Open)?, c"", &mut room)
        }
        (None, None) => rustix::fs::readlinkat_raw(CWD, &bound.path, &mut room),
    };
    let target: &[u8] = match found {
        Ok((target, _)) => target,
        // Not a link. For a descriptor the error is ENOENT.
        Err(Errno::INVAL) => return Ok(false),
        Err(Errno::NOENT) if bound.within.is_some() => return Ok(false),
        Err(error) => return Err(error),
    };
    let target = PathBuffer::new(target)?;
    let (parent, name) = place.root.parent(&step.target)?;
    match rustix::fs::symlinkat(target.as_cstr()?, &parent, name.as_cstr()?) {
        // The image may already have the same link.
        Err(Errno::EXIST) => {
            let mut room = [std::mem::MaybeUninit::uninit(); 4096];
            let (present, _) = rustix::fs::readlinkat_raw(&parent, name.as_cstr()?, &mut room)?;
            let present: &[u8] = present;
            if present == target.bytes() { Ok(true) } else { Err(Errno::EXIST) }
        }
        other => other.map(|()| true),
    }
}
