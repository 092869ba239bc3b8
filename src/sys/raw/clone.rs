//! clone3(2) and clone(2), and whether this process came from them.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::check;

/// clone(2); libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Size of clone_args in Linux 5.3; later members are only needed for CLONE_INTO_CGROUP.
const FIRST_SIZE: usize = 64;

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process was created by [`clone3`] (or called [`was_forked`]) and has not called
/// execve yet.
pub fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// Declares that this process was created by fork(2), as by std, or clone(2): heap use is then
/// checked as after [`clone3`].
pub fn was_forked() {
    IN_CHILD.store(true, Ordering::Relaxed);
}

/// The two returns of [`clone3`].
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// PID of the child in this process's PID namespace.
        pid: i32,
        /// Refers to the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// `clone3(&{flags | CLONE_PIDFD, exit_signal: SIGCHLD}, …)`, clone(2), with CLONE_INTO_CGROUP
/// (Linux 5.7) if `cgroup`, a cgroup v2 directory, is given.
///
/// # Safety
/// As for [`process::clone3`](super::super::process::clone3).
pub(in crate::sys) unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain old data, for which all zeros is valid.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // A child with CLONE_PARENT has its sibling's exit signal, and none may be given.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let size = if cgroup.is_some() { mem::size_of::<libc::clone_args>() } else { FIRST_SIZE };
    // SAFETY: `args` and `pidfd` live across the call and the size is not more than that of `args`;
    // without CLONE_VM and with no stack given, the child returns here on its own copy of this
    // stack; the rest is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    // SAFETY: if the kernel returned a PID, it set `pidfd` to a new descriptor without another
    // owner.
    unsafe { cloned(pid, pidfd) }
}

/// `clone(flags | CLONE_PIDFD, …)`, clone(2), with SIGCHLD unless CLONE_PARENT is among `flags`.
/// For processes with a system call filter, which cannot see the flags of [`clone3`] and often
/// forbids it, or does not know it.
///
/// # Safety
/// As for [`process::clone3`](super::super::process::clone3).
pub unsafe fn clone(flags: u64) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // A child with CLONE_PARENT has its sibling's exit signal.
    let signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    let flags = flags | libc::CLONE_PIDFD as u64 | signal;
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: the kernel writes one descriptor to `pidfd`, which lives across the call; without
    // CLONE_VM and with no stack given, the child returns here on its own copy of this stack; the
    // last arguments are for flags that are not set; the rest is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0usize, 0usize) };
    // SAFETY: if the kernel returned a PID, it set `pidfd` to a new descriptor without another
    // owner.
    unsafe { cloned(pid, pidfd) }
}

/// Distinguishes the two returns.
///
/// # Safety
/// If `pid` is positive, `pidfd` must be a descriptor without another owner.
unsafe fn cloned(pid: libc::c_long, pidfd: libc::c_int) -> io::Result<Cloned> {
    match check(pid)? {
        0 => {
            was_forked();
            Ok(Cloned::Child)
        }
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: the caller's guarantee.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}
