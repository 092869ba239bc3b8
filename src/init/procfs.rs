//! The procfs of a pid namespace that this process does not enter: a helper opens it, which
//! processes in that namespace may trace. No heap.
//!
//! A procfs shows the pid namespace of the process that calls fsopen(2). The helper has an empty
//! root, no descriptor except our socket, and a system call filter that permits only this. We make
//! the mount of the context that it opens.
//!
//! ```text
//! this process ── clone ──► outer: closes all, empty root, setns(pid), filter ── clone ──► inner: fsopen("proc")
//!              ◄──────────────────────────────── the context, over the socket ───────────
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::sync;
use crate::plan::{At, MountKind, Plan, Step, StepError};
use crate::sys::mount::Procfs;
use crate::sys::namespace::Namespace;
use crate::sys::process::{self, Cloned, Exit};
use crate::sys::seccomp::{self, SockFilter};
use crate::sys::{cred, fd};

/// The system calls of the helper after its filter is loaded (fcntl: a debug build checks what it
/// closes).
pub const CALLS: [&str; 7] = ["clone", "fsopen", "sendmsg", "waitid", "close", "fcntl", "exit_group"];

/// CAP_SYS_ADMIN, which fsopen(2) requires.
const OPENS: cred::CapMask = 1 << 21;

/// Inputs for opening a procfs.
pub struct Opener {
    /// The pid namespace's file.
    pub namespace: OwnedFd,
    /// The helper's filter, which permits [`CALLS`].
    pub filter: Vec<SockFilter>,
}

/// Opens a context for each procfs of the plan, into `contexts`, by mount index. `namespace`: the
/// pid namespace's file.
pub fn open_all(
    plan: &Plan,
    contexts: &mut [Option<OwnedFd>],
    namespace: BorrowedFd<'_>,
    filter: &[SockFilter],
    proc: Procfs<'_>,
) -> Result<(), StepError> {
    for (index, (step, context)) in plan.rootfs.mounts.iter().zip(contexts).enumerate() {
        if matches!(&step.kind, MountKind::New(new) if new.fstype.as_c_str() == c"proc") {
            *context = Some(open(namespace, filter, proc).at(Step::Mount, index)?);
        }
    }
    Ok(())
}

fn open(namespace: BorrowedFd<'_>, filter: &[SockFilter], proc: Procfs<'_>) -> io::Result<OwnedFd> {
    let (ours, theirs) = sync::pair()?;
    // SAFETY: no memory is shared, and the new process follows this module's rules until _exit.
    match unsafe { process::clone3(0, None) }? {
        Cloned::Child => end(outer(namespace, theirs.as_fd(), filter, proc)),
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let context = fd::recv_fd(ours.as_fd(), &mut [0; 8]);
            match process::wait(pidfd.as_fd())? {
                Exit::Code(0) => Ok(context?.0),
                Exit::Code(errno) => Err(io::Error::from_raw_os_error(errno)),
                Exit::Signal(_) => Err(rustix::io::Errno::SRCH.into()),
            }
        }
    }
}

/// Exits with the errno as the status.
fn end(done: io::Result<()>) -> ! {
    process::exit_now(done.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0))
}

fn outer(
    namespace: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    filter: &[SockFilter],
    proc: Procfs<'_>,
) -> io::Result<()> {
    process::die_with_parent(true)?;
    process::set_undumpable()?;
    process::setns(namespace, Namespace::Pid)?;
    let number = socket.as_raw_fd() as u32;
    // SAFETY: this process only ends by _exit and uses no descriptor except the socket and those it
    // opens itself.
    unsafe { fd::close_others(0, [&[number], &[]], proc) }?;
    empty_root()?;
    cred::set_no_new_privs()?;
    cred::set_capabilities(OPENS, OPENS, 0)?;
    seccomp::load(filter, 0)?;
    // SAFETY: as in `open`.
    match unsafe { process::clone(0) }? {
        Cloned::Child => end(inner(socket)),
        Cloned::Parent { pidfd, .. } => match process::wait(pidfd.as_fd())? {
            Exit::Code(0) => Ok(()),
            Exit::Code(errno) => Err(io::Error::from_raw_os_error(errno)),
            Exit::Signal(_) => Err(rustix::io::Errno::SRCH.into()),
        },
    }
}

/// Makes an empty directory the root, with nothing above it.
fn empty_root() -> rustix::io::Result<()> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(c".")
}

fn inner(socket: BorrowedFd<'_>) -> io::Result<()> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fd::send_fd(socket, b"procfs", context.as_fd())
}
