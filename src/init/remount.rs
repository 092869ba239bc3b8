//! `mounts`: the process that enters an existing container, and mounts or unmounts in it.
//!
//! As for the container's own process: no heap, no panic; a failure is sent as eight bytes to the
//! runtime. The container's processes are hostile and watch: targets are opened inside its root,
//! and mounted and unmounted by descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::{Beginning, namespaces, parent, procfs, sync};
use crate::plan::{At, MountKind, MountStep, Plan, Step, StepError};
use crate::rootfs::attributes::MountContext;
use crate::rootfs::inroot::{InRoot, LastLink};
use crate::rootfs::mounts::{make_readonly, mount, open_source};
use crate::rootfs::path::PathBuffer;
use crate::sys::mount::{Procfs, is_mount_root, mount_id};
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process;

/// Everything opened for the process before the clone.
pub struct Remount {
    /// Its end of the conversation.
    pub sync: OwnedFd,
    /// The host's procfs, verified to be one.
    pub proc: OwnedFd,
    /// A pidfd of the container's process, whose namespaces are entered.
    pub container: OwnedFd,
    /// Its PID, as seen by `proc`.
    pub pid: i32,
    /// The namespaces to enter. The pid namespace is not entered: processes in it could trace this
    /// one.
    pub kinds: NamespaceSet,
    /// Inputs for opening a procfs of the container's pid namespace.
    pub procfs: Option<procfs::Opener>,
    /// The container's root, as its process sees it.
    pub root: OwnedFd,
    /// The work to do in the container.
    pub work: Work,
    /// The numbers of all descriptors above; set just before the clone.
    pub numbers: Vec<u32>,
    /// How the process begins.
    pub beginning: Beginning,
}

/// The work to do, for [`Remount::work`].
pub enum Work {
    /// Makes all mounts of the plan, or none.
    Add {
        /// Bind sources, by mount index; `None` where the runtime may not open one.
        sources: Vec<Option<OwnedFd>>,
        /// A slot for each mount that is made.
        made: Vec<Option<OwnedFd>>,
    },
    /// Unmounts the top mount at each of the plan's targets, last first.
    Remove,
}

/// Does the work and exits, with 0 on success.
pub fn run(plan: &Plan, remount: &mut Remount) -> ! {
    let done = enter(plan, remount).and_then(|()| {
        let place = MountContext {
            root: InRoot(remount.root.as_fd()),
            proc: Procfs::Opened(remount.proc.as_fd()),
            own_cgroup_namespace: false,
            map_ids: &|_, _| Err(Errno::OPNOTSUPP.into()), // refused before
        };
        match &mut remount.work {
            Work::Add { sources, made } => add(plan, &place, sources, made, remount.proc.as_fd()),
            Work::Remove => remove(plan, &place, remount.proc.as_fd()),
        }
    });
    if let Err(fault) = done {
        sync::tell_fault(remount.sync.as_fd(), fault);
        process::exit_now(1)
    }
    process::exit_now(0)
}

fn enter(plan: &Plan, remount: &mut Remount) -> Result<(), StepError> {
    let (sync, proc) = (remount.sync.as_fd(), Procfs::Opened(remount.proc.as_fd()));
    // SAFETY: all that this process uses and drops is in `numbers`; the runtime's other descriptors
    // belong to functions that it never returns to.
    unsafe { parent::begin(remount.beginning, sync, [&remount.numbers, &[]], proc) }?;
    hide(sync)?;
    process::reset_signals(proc);
    let mut kinds = remount.kinds;
    let join = |kinds: NamespaceSet| {
        let (container, proc) = (remount.container.as_fd(), Procfs::Opened(remount.proc.as_fd()));
        process::enter(container, remount.pid, kinds, proc).at(Step::EnterContainer, 0)
    };
    if let (Work::Add { sources, .. }, true) = (&mut remount.work, kinds.has(Namespace::User))
        && open_missing(plan, sources, &join)?
    {
        kinds = kinds.without(Namespace::User); // the kernel refuses to enter it twice
    }
    join(kinds.without(Namespace::Pid))?;
    if remount.kinds.has(Namespace::User) {
        namespaces::become_root(plan, remount.proc.as_fd())?;
    }
    hide(remount.sync.as_fd())?; // a change of credentials clears it
    rustix::process::umask(Mode::empty());
    match (&mut remount.work, &remount.procfs) {
        (Work::Add { sources, .. }, Some(opener)) => {
            let proc = Procfs::Opened(remount.proc.as_fd());
            procfs::open_all(plan, sources, opener.namespace.as_fd(), &opener.filter, proc)
        }
        _ => Ok(()),
    }
}

/// Opens the bind sources that only the container's root may clone, from a copy of the host's
/// mounts, as the container does not have them. Returns whether there were any; the user namespace
/// is entered then.
fn open_missing(
    plan: &Plan,
    sources: &mut [Option<OwnedFd>],
    join: &dyn Fn(NamespaceSet) -> Result<(), StepError>,
) -> Result<bool, StepError> {
    let mut entered = false;
    for (index, (step, source)) in plan.rootfs.mounts.iter().zip(sources).enumerate() {
        let (MountKind::Bind(bound), None) = (&step.kind, &source) else { continue };
        if bound.within.is_some() {
            continue;
        }
        if !entered {
            join(Namespace::User.into())?;
            process::unshare(Namespace::Mount).at(Step::EnterContainer, 0)?;
            entered = true;
        }
        *source = Some(open_source(bound).at(Step::MountSource, index)?);
    }
    Ok(entered)
}

/// Hides this process from the container's processes, as it has descriptors of the host, and ends
/// it with its runtime.
fn hide(sync: BorrowedFd<'_>) -> Result<(), StepError> {
    process::set_undumpable().at(Step::EnterContainer, 0)?;
    parent::end_with_runtime(sync)
}

fn add(
    plan: &Plan,
    place: &MountContext<'_>,
    sources: &[Option<OwnedFd>],
    made: &mut [Option<OwnedFd>],
    proc: BorrowedFd<'_>,
) -> Result<(), StepError> {
    for (index, step) in plan.rootfs.mounts.iter().enumerate() {
        let before = top(step, place).map(|(_, id)| id);
        let source = sources.get(index).and_then(Option::as_ref);
        let mut late = None;
        let done = mount(step, index, place, source, Some(&mut late)).and_then(|()| {
            match late.as_ref().filter(|_| step.readonly_late) {
                Some(mount) => make_readonly(mount, index, place.proc),
                None => Ok(()),
            }
        });
        // A step may also fail after the mount is attached.
        if let (Some((mount, id)), Some(slot)) = (top(step, place), made.get_mut(index))
            && before != Some(id)
        {
            *slot = Some(mount);
        }
        if let Err(fault) = done {
            for mount in made.iter().rev().flatten() {
                // Only the first failure is reported.
                let _ = detach(mount, proc);
            }
            return Err(fault);
        }
    }
    Ok(())
}

fn remove(plan: &Plan, place: &MountContext<'_>, proc: BorrowedFd<'_>) -> Result<(), StepError> {
    let open = |index: usize, step: &MountStep| {
        let target = place
            .root
            .open(&step.target, LastLink::nofollow(step.target_nofollow))
            .at(Step::Unmount, index)?;
        if is_mount_root(&target, Procfs::Opened(proc)).at(Step::Unmount, index)? {
            Ok(target)
        } else {
            Err(Errno::INVAL).at(Step::Unmount, index)
        }
    };
    let steps = || plan.rootfs.mounts.iter().enumerate();
    // Check all targets first: unmount all or nothing, if possible.
    steps().try_for_each(|(index, step)| open(index, step).map(drop))?;
    steps().rev().try_for_each(|(index, step)| detach(&open(index, step)?, proc).at(Step::Unmount, index))
}

/// The top mount at a step's target, and its mount ID.
fn top(step: &MountStep, place: &MountContext<'_>) -> Option<(OwnedFd, u64)> {
    let target = place.root.open(&step.target, LastLink::nofollow(step.target_nofollow)).ok()?;
    let id = mount_id(&target, place.proc).ok()??;
    Some((target, id))
}

/// `umount2(mount, MNT_DETACH)`, by descriptor: umount2(2) takes only a path, and this path is the
/// kernel's own for the descriptor.
fn detach(mount: &OwnedFd, proc: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut path = PathBuffer::new(b"self/fd/")?;
    path.push_number(mount.as_raw_fd())?;
    rustix::process::fchdir(proc)?;
    rustix::mount::unmount(path.as_cstr()?, UnmountFlags::DETACH)
}
