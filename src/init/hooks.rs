//! Hooks that run in the container's namespaces: made by the container's own process, which waits for each. No heap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Opened, sync};
use crate::plan::{At, ContainerHook, Fault, Plan, Step};
use crate::sys::process::{self, Cloned, Exit};
use crate::sys::text::decimal;

/// createContainer: before pivot_root, so the paths are the host's.
pub fn create_container(plan: &Plan, opened: &Opened) -> Result<(), Fault> {
    run_all(&plan.hooks.create_container, 0, &opened.hook_state.creating, opened)
}

/// startContainer: before the program, so the paths are the container's.
pub fn start_container(plan: &Plan, opened: &Opened) -> Result<(), Fault> {
    if plan.hooks.start_container.is_empty() {
        return Ok(());
    }
    let before = plan.hooks.create_container.len();
    run_all(&plan.hooks.start_container, before, &opened.hook_state.created, opened)?;
    // Who waits for the start could not tell our death up to here from an execve.
    sync::say_plainly(opened.result(), sync::Message::Hooked).at(Step::Sync, 0)
}

fn run_all(hooks: &[ContainerHook], first: usize, head: &[u8], opened: &Opened) -> Result<(), Fault> {
    for (at, hook) in hooks.iter().enumerate() {
        let index = first + at;
        let mut digits = [0; 12];
        let pid = decimal(process::own_pid(), &mut digits);
        let state = process::memory_file(c"state", &[head, pid, &opened.hook_state.rest])
            .at(Step::HookSpawn, index)?;
        run(hook, index, &state, opened)?;
    }
    Ok(())
}

fn run(hook: &ContainerHook, index: usize, state: &OwnedFd, opened: &Opened) -> Result<(), Fault> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at(Step::HookSpawn, index)?;
    let parent = process::own_pid();
    // SAFETY: no memory is shared, and the new process only changes descriptors before execve or _exit.
    let pidfd = match unsafe { process::clone3(0, None) }.at(Step::HookSpawn, index)? {
        Cloned::Child => {
            end_with(parent);
            become_hook(hook, index, state, writer.as_fd(), opened)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(writer);
    // The end of the file means that execve has closed the other end.
    if let Some(fault) = sync::hear_fault(&reader).at(Step::HookSpawn, index)? {
        let _ = process::wait(pidfd.as_fd());
        return Err(fault);
    }
    if !ends_within(&pidfd, hook.timeout).at(Step::HookSpawn, index)? {
        let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(pidfd.as_fd());
        return Err(Fault { step: Step::HookTimeout, index: index as u16, errno: libc::ETIMEDOUT });
    }
    match process::wait(pidfd.as_fd()).at(Step::HookSpawn, index)? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(Fault { step: Step::HookExit, index: index as u16, errno: code }),
        Exit::Signal(signal) => Err(Fault { step: Step::HookSignal, index: index as u16, errno: signal }),
    }
}

/// A hook without the process that waits for it would run on beside the container's removal, without its timeout.
fn end_with(parent: i32) {
    if process::die_with_parent(true).is_err() || process::parent_pid() != Some(parent) {
        process::exit_now(127);
    }
}

fn become_hook(
    hook: &ContainerHook,
    index: usize,
    state: &OwnedFd,
    tell: BorrowedFd<'_>,
    opened: &Opened,
) -> ! {
    let ready = process::duplicate_to(state.as_fd(), 0);
    let [output, errors] = &opened.hook_output;
    let redirected = [(output, 1), (errors, 2)].into_iter().try_for_each(|(file, number)| match file {
        Some(file) => process::duplicate_to(file.as_fd(), number),
        None => Ok(()),
    });
    let limited = opened.limit_open_files().map_err(std::io::Error::from);
    let error = match ready.and(redirected).and(limited) {
        // SAFETY: the strings of both lists belong to the plan, which lives on.
        Ok(()) => unsafe { process::execve(&hook.path, &hook.argv, &hook.envp) },
        Err(error) => error,
    };
    sync::tell_fault(tell, Fault::of(Step::HookSpawn, index, &error));
    process::exit_now(127)
}

/// Waits up to `milliseconds` (-1: for ever) for the process to end.
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
