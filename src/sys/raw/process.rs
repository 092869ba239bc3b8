//! The end of a process: signal, wait, _exit.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::{WaitId, WaitIdOptions};

use super::super::check;

/// Sends `signal` to the process `pidfd`; unlike kill(2) it cannot hit a process that has since
/// taken the same PID.
///
/// ESRCH means that the process has already been reaped. Linux 5.1, pidfd_send_signal(2).
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: `pidfd` is open for the whole call because it is borrowed; a null `info` is not read;
    // flags must be 0.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(done).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By exit(3), with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The exit status as in a shell: the status, or 128 + the signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// `waitid(P_PIDFD, …, WEXITED)`: waits for a child and reaps it. ECHILD: not our child, or already
/// reaped.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    wait_with(pidfd, WaitIdOptions::empty()).map(|exit| exit.unwrap_or(Exit::Code(0)))
}

/// As [`wait`], but returns `None` at once if the child still lives.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    wait_with(pidfd, WaitIdOptions::NOHANG)
}

fn wait_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<Exit>> {
    // Includes a child with CLONE_PARENT, whose end sends no SIGCHLD.
    let any = WaitIdOptions::from_bits_retain(libc::__WALL as u32);
    let ended = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | options | any)
    })?;
    Ok(ended.and_then(|ended| {
        let signal = || ended.terminating_signal().map(Exit::Signal);
        ended.exit_status().map(Exit::Code).or_else(signal)
    }))
}

/// `_exit(status)`, _exit(2): ends the process without running code of the C library.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(status) }
}
