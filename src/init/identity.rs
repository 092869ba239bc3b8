//! The program's credentials and attributes: keyring, scheduling, limits, labels, capabilities,
//! IDs, seccomp. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::FileType;

use super::sync::{self, Answer, Message};
use super::{Moment, Opened, namespaces, program, write_file};
use crate::plan::{At, CapSets, Plan, ProcessPlan, Step, StepError};
use crate::sys::{cred, process, report, seccomp};

/// Joins a session keyring of the container's own.
pub(crate) fn join_keyring(name: &CStr, opened: &Opened) -> Result<(), StepError> {
    match cred::join_session_keyring(name) {
        // Many containers have the same user outside; the quota is 200 keys.
        Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => opened.ask(Message::KeyringStays, true),
        // A kernel without keyrings has none to hide from the container.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.at(Step::Keyring, 0),
    }
}

/// Resets the CPU affinity: that of the runtime does not apply to the container, whose cgroup
/// limits its CPUs.
pub(crate) fn any_processor() {
    // It needs no privilege. If it fails, fewer CPUs are used than possible.
    let _ = cred::set_affinity(&[u64::MAX; 128]);
}

/// Sets scheduler, I/O priority, memory policy and personality.
pub(crate) fn schedule(plan: &Plan, process: &ProcessPlan) -> Result<(), StepError> {
    if let Some(attr) = &process.scheduler {
        cred::set_scheduler(attr).at(Step::Scheduler, 0)?;
    }
    if let Some(value) = process.io_priority {
        cred::set_io_priority(value).at(Step::IoPriority, 0)?;
    }
    if let Some(policy) = &plan.memory_policy {
        cred::set_memory_policy(policy.mode, &policy.nodes).at(Step::MemoryPolicy, 0)?;
    }
    if let Some(value) = plan.personality {
        cred::set_personality(value).at(Step::Personality, 0)?;
    }
    Ok(())
}

/// Sets the umask, and the resource limits unless the runtime has set them.
pub(crate) fn limit(process: &ProcessPlan, done_by_runtime: bool) -> Result<(), StepError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask));
    if done_by_runtime {
        return Ok(());
    }
    for (index, (resource, soft, hard)) in process.rlimits.iter().enumerate() {
        cred::set_limit(0, *resource, *soft, *hard).at(Step::Rlimit, index)?;
    }
    Ok(())
}

/// Sets the labels that the next execve applies. `proc` is the host's procfs.
pub(crate) fn label(process: &ProcessPlan, proc: BorrowedFd<'_>) -> Result<(), StepError> {
    if !process.selinux.is_empty() {
        write_file(proc, c"self/attr/exec", &process.selinux).at(Step::Selinux, 0)?;
    }
    if !process.apparmor.is_empty() {
        apparmor(proc, &process.apparmor)?;
    }
    Ok(())
}

/// Changes from the runtime's root to the program's user.
pub(crate) fn become_user(plan: &Plan, process: &ProcessPlan, opened: &mut Opened) -> Result<(), StepError> {
    own_standard_io(process.uid);
    // As root first, for a directory that only root may enter; after the change of user, for
    // network file systems with root squashing.
    let entered = program::enter_cwd(process);
    let sets = &process.capabilities;
    cred::limit_bounding_set(sets.bounding).at(Step::BoundingSet, 0)?; // needs CAP_SETPCAP, dropped below
    let changes_user = process.uid != 0; // user 0 keeps them
    if changes_user {
        cred::keep_capabilities(true).at(Step::KeepCapabilities, 0)?; // across the change of user
    }
    if let Some(groups) = process.groups.as_ref().filter(|_| !opened.groups_stay) {
        cred::set_groups(groups).at(Step::Groups, 0)?; // groups before IDs: not permitted afterwards
    }
    cred::set_gid(process.gid).at(Step::Gid, 0)?;
    cred::set_uid(process.uid).at(Step::Uid, 0)?;
    if changes_user {
        cred::keep_capabilities(false).at(Step::KeepCapabilities, 0)?;
    }
    if entered.is_err() {
        program::enter_cwd(process)?;
    }
    program::check_cwd()?;
    keep_descriptors(process)?;
    if process.no_new_privileges {
        cred::set_no_new_privs().at(Step::NoNewPrivileges, 0)?;
    }
    if plan.seccomp.is_some() && !process.no_new_privileges {
        // Without no_new_privs, loading a filter needs CAP_SYS_ADMIN, so it is kept until then.
        let (effective, permitted) = (sets.effective | LOADS_FILTERS, sets.permitted | LOADS_FILTERS);
        cred::set_capabilities(effective, permitted, sets.inheritable).at(Step::Capabilities, 0)?;
        opened.program = program::look_up(process, opened.succession.is_some())?;
        namespaces::succeed_at(Moment::BeforeFilter, plan, opened)?;
        filter(plan, opened)?;
        drop_capabilities(sets)?;
        return namespaces::succeed_at(Moment::Last, plan, opened);
    }
    drop_capabilities(sets)?;
    opened.program = program::look_up(process, opened.succession.is_some())?;
    namespaces::succeed_at(Moment::BeforeFilter, plan, opened)?;
    namespaces::succeed_at(Moment::Last, plan, opened)?;
    filter(plan, opened) // last: it may forbid any of the above
}

/// CAP_SYS_ADMIN.
const LOADS_FILTERS: cred::CapMask = 1 << 21;

fn drop_capabilities(sets: &CapSets) -> Result<(), StepError> {
    cred::set_capabilities(sets.effective, sets.permitted, sets.inheritable).at(Step::Capabilities, 0)?;
    if sets.ambient == 0 && sets.inheritable == 0 {
        return Ok(()); // the kernel lets no capability be ambient that is not inheritable
    }
    cred::set_ambient(sets.ambient).map_err(|(number, error)| StepError::of(Step::AmbientSet, number, &error))
}

/// Loads the system call filter.
fn filter(plan: &Plan, opened: &Opened) -> Result<(), StepError> {
    let Some(filter) = &plan.seccomp else { return Ok(()) };
    report::end(); // the filter may forbid reports
    match filter.listener {
        None => seccomp::load(&filter.program, filter.flags).map(drop).at(Step::Seccomp, 0),
        Some(_) => filter_with_listener(&filter.program, filter.flags, opened.sync.as_fd()),
    }
}

/// Loads a filter whose listener the runtime hands on. Once it is loaded, any system call here may
/// block until the listener's owner answers. The runtime therefore takes the descriptor without our
/// help, if it may.
fn filter_with_listener(
    program: &[seccomp::SockFilter],
    flags: u32,
    runtime: BorrowedFd<'_>,
) -> Result<(), StepError> {
    // The lowest free number, which the kernel assigns next: no other thread opens anything here.
    let number = rustix::io::dup(runtime).at(Step::SeccompListener, 0)?.as_raw_fd();
    sync::say(runtime, Message::Listener(number)).at(Step::SeccompListener, 0)?;
    let answer = sync::wait_answer(runtime).at(Step::SeccompListener, 0)?;
    let listener = seccomp::load(program, flags).at(Step::Seccomp, 0)?;
    if let (Answer::Send, Some(listener)) = (answer, &listener) {
        sync::say_with(runtime, Message::Notify, listener.as_fd()).at(Step::SeccompListener, 0)?;
    }
    let handed_on = sync::wait_go(runtime).at(Step::SeccompListener, 0);
    // The listener's owner has it now. With our copy open, our calls would block forever once the
    // owner is gone.
    drop(listener);
    handed_on
}

fn apparmor(proc: BorrowedFd<'_>, text: &[u8]) -> Result<(), StepError> {
    // Kernels since 5.1 have a directory for each LSM; the shared file may belong to another LSM.
    match write_file(proc, c"self/attr/apparmor/exec", text) {
        Err(rustix::io::Errno::NOENT) => write_file(proc, c"self/attr/exec", text).at(Step::Apparmor, 0),
        other => other.at(Step::Apparmor, 0),
    }
}

/// Gives pipes, sockets and terminals to the program's user, as the program may open /dev/stdout by
/// name. Files of the host keep their owner.
fn own_standard_io(uid: u32) {
    if uid == 0 {
        return;
    }
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let terminal = kind == FileType::CharacterDevice && rustix::termios::isatty(stream);
        if terminal || matches!(kind, FileType::Fifo | FileType::Socket) {
            // In a user namespace the stream's owner may be unmapped: it then stays as it is.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// Clears close-on-exec, which every other descriptor has, for those that the caller passes on.
fn keep_descriptors(plan: &ProcessPlan) -> Result<(), StepError> {
    for (at, number) in plan.kept_descriptors.iter().enumerate() {
        process::keep_on_exec(*number as i32).at(Step::Descriptors, at)?;
    }
    Ok(())
}
