//! Enters what clone3 has not created: joined namespaces, the user inside, time offsets, the
//! loopback device.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::{Later, Moment, Opened, Succession, parent, procfs, program, sync, write_file};
use crate::plan::ids::IdMaps;
use crate::plan::{At, Plan, Step, StepError};
use crate::sys::closing::close_later;
use crate::sys::mount::Procfs;
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::{self, Cloned};
use crate::sys::{cred, net, pty};
use sync::Message;

/// Enters all of it, ordered by privilege: the user namespace grants the rights for the rest.
pub(crate) fn enter(plan: &Plan, opened: &mut Opened) -> Result<(), StepError> {
    let early = join_early(opened)?;
    for join in opened.joined.iter().filter(|join| !early.overlaps(join.kinds)) {
        let (step, index) = join.origin.step();
        join.join(opened.proc()).at(step, index)?;
        if join.kinds.has(Namespace::User) {
            become_root(plan, opened.proc.as_fd())?;
        }
    }
    match opened.later {
        Later::None => {}
        Later::Clone(new) => continue_in_new_process(opened, new)?,
        Later::Unshare(new) => {
            process::unshare(new).at(Step::UnshareNamespace, 0)?;
            parent::end_with_runtime(opened.sync.as_fd())?;
        }
    }
    if opened.asks.map_ids {
        sync::ask(opened.sync.as_fd(), Message::MapIds).at(Step::Sync, 0)?;
    }
    if !opened.unshare.is_empty() {
        process::unshare(opened.unshare).at(Step::UnshareNamespace, 0)?;
    }
    if plan.namespaces.creates(Namespace::Time) {
        new_time(plan, opened)?; // before the user changes: the kernel then makes root own our /proc files
    }
    if plan.namespaces.creates(Namespace::User) {
        become_root(plan, opened.proc.as_fd())?;
    }
    let groups = plan.process.as_ref().and_then(|process| process.groups.as_ref());
    if groups.is_some_and(|groups| groups.is_empty()) {
        opened.groups_stay = groups_are_fixed(opened.proc.as_fd()).at(Step::Groups, 0)?;
    }
    // From here on no process with the container's rights may trace this process.
    process::set_undumpable().at(Step::EnterUser, 0)?;
    if plan.namespaces.own(Namespace::User) {
        parent::end_with_runtime(opened.sync.as_fd())?; // the change of user has cleared it
    }
    if plan.namespaces.creates(Namespace::Network) {
        net::loopback_up().at(Step::Loopback, 0)?;
    }
    match &opened.succession {
        Some(Succession { namespace: Some(namespace), filter, .. }) => {
            let proc = Procfs::Opened(opened.proc.as_fd());
            procfs::open_all(plan, &mut opened.sources, namespace.as_fd(), filter, proc)
        }
        _ => Ok(()),
    }
}

/// Continues as a second process, cloned inside the joined user namespace, with the runtime as its
/// parent.
fn continue_in_new_process(opened: &Opened, new: NamespaceSet) -> Result<(), StepError> {
    // SAFETY: no memory is shared, and both processes follow this module's rules until execve or
    // _exit.
    match unsafe { process::clone3((new.flags() | libc::CLONE_PARENT) as u64, None) }
        .at(Step::UnshareNamespace, 0)?
    {
        Cloned::Child => {
            parent::end_with_runtime(opened.sync.as_fd())?;
            // Our first message must not precede the other process's last.
            sync::wait_go(opened.sync.as_fd()).at(Step::Sync, 0)
        }
        Cloned::Parent { pidfd, .. } => {
            let sent = sync::say_with(opened.sync.as_fd(), Message::Successor, pidfd.as_fd());
            process::exit_now(i32::from(sent.is_err()))
        }
    }
}

/// Makes the other pid namespace that of the successor, if there will be one.
pub(super) fn choose_last(opened: &mut Opened) -> Result<(), StepError> {
    let Some(succession) = &mut opened.succession else { return Ok(()) };
    match succession.namespace.take() {
        Some(namespace) => {
            let (step, index) = succession.origin.step();
            process::setns(namespace.as_fd(), Namespace::Pid).at(step, index)
        }
        None => Ok(()),
    }
}

/// System calls of `succeed_at` when all but the program is set up; the program's filter must
/// permit them.
pub fn calls_of_successor() -> [(i64, [u64; 2]); 5] {
    let mut flags = [(libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64, 0];
    if cfg!(target_arch = "s390x") {
        flags.reverse(); // clone(2)
    }
    [
        (libc::SYS_clone, flags),
        (libc::SYS_sendmsg, [0, 0]),
        (libc::SYS_setsid, [0, 0]),
        (libc::SYS_ioctl, [0, u64::from(libc::TIOCSCTTY as u32)]),
        (libc::SYS_exit_group, [0, 0]),
    ]
}

/// Continues as the successor, if this is its moment.
pub(super) fn succeed_at(moment: Moment, plan: &Plan, opened: &mut Opened) -> Result<(), StepError> {
    let Some(succession) = opened.succession.as_mut().filter(|found| found.moment == moment) else {
        return Ok(());
    };
    succession.moment = Moment::Past;
    let (step, index) = succession.origin.step();
    // SAFETY: no memory is shared, and both processes follow this module's rules until execve or
    // _exit.
    match unsafe { process::clone(libc::CLONE_PARENT as u64) }.at(step, index)? {
        Cloned::Child => {
            // Our first message must not precede the other process's last.
            sync::wait_go(opened.sync.as_fd()).at(Step::Sync, 0)?;
            rustix::process::setsid().map(drop).at(Step::Session, 0)?;
            if let Some(process) = &plan.process {
                program::name_listener(process, opened);
            }
            match plan.process.as_ref().and_then(|process| process.terminal) {
                Some(_) => pty::make_controlling(rustix::stdio::stdin()).at(Step::ConsoleAttach, 0),
                None => Ok(()),
            }
        }
        Cloned::Parent { pidfd, .. } => {
            let sent = sync::say_with(opened.sync.as_fd(), Message::Successor, pidfd.as_fd());
            process::exit_now(i32::from(sent.is_err()))
        }
    }
}

/// Joins the namespaces that our rights outside of the user namespace permit, before that one: it
/// may not own them, for example a pod's network namespace. Returns the joined ones.
fn join_early(opened: &Opened) -> Result<NamespaceSet, StepError> {
    let user = NamespaceSet::from(Namespace::User);
    if !opened.joined.iter().any(|join| join.kinds == user) {
        return Ok(NamespaceSet::EMPTY);
    }
    let mut early = NamespaceSet::EMPTY;
    for join in opened.joined.iter().filter(|join| join.kinds != user) {
        match join.join(opened.proc()) {
            Ok(()) => early = early.with(join.kinds),
            // The user namespace may grant the right.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            Err(error) => {
                let (step, index) = join.origin.step();
                return Err(error).at(step, index);
            }
        }
    }
    Ok(early)
}

/// Whether setgroups(2) is denied in this process's user namespace, user_namespaces(7).
fn groups_are_fixed(proc: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let file = rustix::fs::openat(proc, c"self/setgroups", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0; 4];
    let length = rustix::io::read(&file, &mut text)?;
    close_later(file);
    Ok(text.get(..length) == Some(b"deny"))
}

/// Becomes user and group 0 of the user namespace, if they are mapped. `proc`: the host's procfs.
pub(super) fn become_root(plan: &Plan, proc: BorrowedFd<'_>) -> Result<(), StepError> {
    let maps = plan.namespaces.maps.as_ref();
    let has_root = |maps: Option<&[_]>| maps.is_none_or(|maps| IdMaps::outside(maps, 0).is_some());
    // An annotation keeps the caller's groups (run.oci.keep_original_groups).
    let keeps_groups = plan.process.as_ref().is_some_and(|process| process.groups.is_none());
    match if keeps_groups { Ok(()) } else { cred::set_groups(&[]) } {
        Err(error)
            if error.raw_os_error() == Some(libc::EPERM)
                && groups_are_fixed(proc).at(Step::EnterUser, 0)? => {}
        done => done.at(Step::EnterUser, 0)?,
    }
    if has_root(maps.map(|maps| maps.gid.as_slice())) {
        cred::set_gid(0).at(Step::EnterUser, 0)?;
    }
    if has_root(maps.map(|maps| maps.uid.as_slice())) {
        cred::set_uid(0).at(Step::EnterUser, 0)?;
    }
    Ok(())
}

/// Enters a new time namespace. A process created in one by clone3 could no longer set its offsets.
/// So unshare (which applies to children), set the offsets, and enter; time_namespaces(7).
fn new_time(plan: &Plan, opened: &Opened) -> Result<(), StepError> {
    process::unshare(Namespace::Time).at(Step::TimeOffsets, 0)?;
    let proc = opened.proc.as_fd();
    if !plan.namespaces.time_offsets.is_empty() {
        write_file(proc, c"self/timens_offsets", plan.namespaces.time_offsets.as_bytes())
            .at(Step::TimeOffsets, 0)?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, c"self/ns/time_for_children", flags, Mode::empty())
        .at(Step::TimeOffsets, 0)?;
    process::setns(file.as_fd(), Namespace::Time).at(Step::TimeOffsets, 0)
}
