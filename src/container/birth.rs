//! The third stage of a creation, and the first of `exec`: clones the process, passes its terminal
//! on, and reports it to the caller's files and sockets.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::draft::Manner;
use super::foreground::Terminal;
use super::handover::Unborn;
use super::open::Making;
use super::pid_file;
use crate::cgroup::Made;
use crate::error::{Doing, Result};
use crate::init::Opened;
use crate::plan::Plan;
use crate::plan::cause::refusal_of_namespaces;
use crate::sys::fd;
use crate::sys::mount::Procfs;
use crate::sys::namespace::Namespace;
use crate::sys::process;

/// Clones the process. For that moment the runtime enters the namespaces that a child can only
/// inherit. The process continues with `child`.
pub(super) fn clone(
    plan: &Plan,
    opened: &mut Opened,
    making: &Making,
    made: Option<&Made>,
    child: fn(&Plan, &mut Opened) -> !,
) -> Result<(i32, OwnedFd)> {
    opened.list_descriptors();
    // SAFETY: every command calls `handover::begin` before it makes a plan for a process.
    let unborn =
        unsafe { Unborn::prepare(plan, opened, child, |opened| (opened.sync.as_fd(), &opened.numbers)) }?;
    let mut back = Vec::new();
    for join in &making.by_runtime {
        for kind in join.kinds.iter() {
            back.push((kind, own_namespace(kind)?));
        }
        let (step, index) = join.origin.step();
        join.join(Procfs::Opened(unborn.work.proc.as_fd())).doing(|| plan.describe(step, index))?;
    }
    let cloned = unborn.clone(making.new.flags() as u64, made.and_then(Made::dir_fd), making.memory);
    for (kind, own) in back {
        // Remaining in a container's namespace would be worse than any error.
        process::setns(own.as_fd(), kind).doing(|| "return to the runtime's own namespaces")?;
    }
    let errno = cloned.as_ref().err().and_then(std::io::Error::raw_os_error);
    let hint = errno.and_then(refusal_of_namespaces).map_or_else(String::new, |hint| format!(" ({hint})"));
    cloned.doing(|| format!("create the container's process and its namespaces{hint}"))
}

fn own_namespace(kind: Namespace) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{}", kind.file());
    fs::File::open(&path).map(OwnedFd::from).doing(|| format!("open {path}"))
}

/// Reports to the caller: the PID in a file, the pidfd through a socket.
pub(super) fn tell_outside(
    pidfd_socket: Option<&Path>,
    pid_file: Option<&Path>,
    pid: i32,
    pidfd: &OwnedFd,
) -> Result<()> {
    if let Some(path) = pidfd_socket {
        let socket =
            fd::connect_unix(path).doing(|| format!("connect to the pidfd socket {}", path.display()))?;
        fd::send_fd(socket.as_fd(), b"pidfd", pidfd.as_fd())
            .doing(|| format!("send the pidfd to {}", path.display()))?;
    }
    match pid_file {
        Some(file) => pid_file::write(file, &pid.to_string()),
        None => Ok(()),
    }
}

/// The runtime's and the child's ends of the socket for the terminal's master.
pub(super) fn consoles(
    plan: &Plan,
    console_socket: Option<&Path>,
    manner: Manner,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    if plan.process.as_ref().is_none_or(|process| process.terminal.is_none()) {
        return Ok((None, None));
    }
    if manner == Manner::Foreground {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.doing(|| "create a socket pair")?;
        return Ok((Some(ours), Some(theirs)));
    }
    let Some(path) = console_socket else { return Ok((None, None)) };
    let socket =
        fd::connect_unix(path).doing(|| format!("connect to the console socket {}", path.display()))?;
    Ok((None, Some(socket)))
}

/// Receives the terminal's master. Its size is set before the program starts, so that the program
/// reads the right size.
pub(super) fn terminal(console: Option<&OwnedFd>, plan: &Plan) -> Result<Option<Terminal>> {
    let Some(console) = console else { return Ok(None) };
    let mut name = [0; 64];
    let (master, _) = fd::recv_fd(console.as_fd(), &mut name).doing(|| "receive the terminal")?;
    Terminal::of(master, plan).map(Some)
}
