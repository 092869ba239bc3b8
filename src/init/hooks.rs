//! Hooks that run in the container's namespaces: children of the container's own process, which
//! waits for each. No heap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Opened, sync};
use crate::plan::{At, ContainerHook, HookEnvironment, Plan, Step, StepError};
use crate::sys::process::{self, Cloned, Exit};
use crate::sys::text::decimal;

/// createContainer: before pivot_root, so the paths are the host's. The working directory is the
/// root file system, as with runc.
pub(crate) fn create_container(
    plan: &Plan,
    root: BorrowedFd<'_>,
    opened: &mut Opened,
) -> Result<(), StepError> {
    for (index, hook) in plan.hooks.create_container.iter().enumerate() {
        let state = state(&opened.hook_state.creating, index, opened)?;
        run(&HookStart { hook, index, state, directory: Some(root) }, opened)?;
    }
    Ok(())
}

/// startContainer: before the program, so the paths are the container's. The working directory is
/// the program's.
pub(crate) fn start_container(plan: &Plan, opened: &mut Opened) -> Result<(), StepError> {
    if plan.hooks.start_container.is_empty() {
        return Ok(());
    }
    let before = plan.hooks.create_container.len();
    for (at, hook) in plan.hooks.start_container.iter().enumerate() {
        let index = before + at;
        let state = state(&opened.hook_state.created, index, opened)?;
        run(&HookStart { hook, index, state, directory: None }, opened)?;
    }
    // Without this message, `start` could not distinguish our death up to here from an execve.
    sync::say_plainly(opened.result(), sync::Message::Hooked).at(Step::Sync, 0)
}

/// The state document as a file; it begins with `head`.
fn state(head: &[u8], index: usize, opened: &Opened) -> Result<OwnedFd, StepError> {
    let mut digits = [0; 12];
    let pid = decimal(process::own_pid(), &mut digits);
    process::memory_file(c"state", &[head, pid, &opened.hook_state.rest]).at(Step::HookSpawn, index)
}

/// One hook that is ready to start.
struct HookStart<'a> {
    hook: &'a ContainerHook,
    /// Its number among the hooks of the container, for faults.
    index: usize,
    /// The state document, its standard input.
    state: OwnedFd,
    /// Its working directory; `None`: this process's.
    directory: Option<BorrowedFd<'a>>,
}

fn run(start: &HookStart<'_>, opened: &mut Opened) -> Result<(), StepError> {
    let (hook, index) = (start.hook, start.index);
    // A file, not a pipe: processes that the hook leaves running may keep it open as long as they
    // like. The container's filter may forbid creating one; the output then goes to the container's
    // output.
    opened.hook_said = process::memory_file(c"hook", &[]).ok();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at(Step::HookSpawn, index)?;
    let parent = process::own_pid();
    // SAFETY: no memory is shared, and the new process only changes descriptors and its working
    // directory before execve or _exit.
    let pidfd = match unsafe { process::clone3(0, None) }.at(Step::HookSpawn, index)? {
        Cloned::Child => {
            end_with(parent);
            become_hook(start, writer.as_fd(), opened)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(writer);
    // End of file means that execve has closed the other end.
    if let Some(fault) = sync::hear_fault(&reader).at(Step::HookSpawn, index)? {
        let _ = process::wait(pidfd.as_fd());
        return Err(fault);
    }
    if !ends_within(&pidfd, hook.timeout).at(Step::HookSpawn, index)? {
        let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(pidfd.as_fd());
        return Err(StepError::new(Step::HookTimeout, index, libc::ETIMEDOUT));
    }
    match process::wait(pidfd.as_fd()).at(Step::HookSpawn, index)? {
        Exit::Code(0) => {
            // Before `Opened::close_others` closes its descriptor.
            opened.hook_said = None;
            Ok(())
        }
        Exit::Code(code) => Err(StepError::new(Step::HookExit, index, code)),
        Exit::Signal(signal) => Err(StepError::new(Step::HookSignal, index, signal)),
    }
}

/// Ends the hook with the process that waits for it. Otherwise the hook would keep running during
/// the container's removal, without its timeout.
fn end_with(parent: i32) {
    if process::die_with_parent(true).is_err() || process::parent_pid() != Some(parent) {
        process::exit_now(127);
    }
}

fn become_hook(start: &HookStart<'_>, tell: BorrowedFd<'_>, opened: &Opened) -> ! {
    let HookStart { hook, index, state, directory } = start;
    let [output, errors] = &opened.hook_output;
    let said = opened.hook_said.as_ref();
    let streams = [(Some(state), 0), (output.as_ref().or(said), 1), (errors.as_ref().or(said), 2)];
    let redirected = streams.into_iter().try_for_each(|(file, number)| match file {
        Some(file) => process::duplicate_to(file.as_fd(), number),
        None => Ok(()),
    });
    let limited = opened.limit_open_files().map_err(std::io::Error::from);
    let entered =
        directory.map_or(Ok(()), |directory| rustix::process::fchdir(directory).map_err(Into::into));
    let environment = match &hook.environment {
        HookEnvironment::Listed(listed) => listed,
        HookEnvironment::OfProcess => &opened.envp,
    };
    let error = match redirected.and(entered).and(limited) {
        // SAFETY: the strings of both lists belong to the plan (HOME to `opened`), which outlive
        // the call.
        Ok(()) => unsafe { process::execve(&hook.path, &hook.argv, environment) },
        Err(error) => error,
    };
    sync::tell_fault(tell, StepError::of(Step::HookSpawn, *index, &error));
    process::exit_now(127)
}

/// Waits up to `milliseconds` (-1: no limit) for the process to end.
fn ends_within(pidfd: &OwnedFd, milliseconds: i32) -> rustix::io::Result<bool> {
    let limit = i64::from(milliseconds);
    let timeout = Timespec { tv_sec: limit / 1000, tv_nsec: limit % 1000 * 1_000_000 };
    loop {
        let mut ends = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut ends, (milliseconds >= 0).then_some(&timeout)) {
            Err(Errno::INTR) => {}
            other => return other.map(|count| count > 0),
        }
    }
}
