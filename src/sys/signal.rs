//! Signals that are read from a descriptor, and reaping of children.

use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// A set of signals, signal(7), as the kernel has it: bit N - 1 is signal N.
///
/// Not the C library's type: musl leaves signal 34 out of a `sigset_t`, because it uses that for
/// itself where threads change their user ID. For other programs it is the first real-time signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(u64);

/// Signals that both C libraries use between their threads (cancellation and timers): a thread that
/// blocked them would be waited for. They are in no set.
const RESERVED: [i32; 2] = [32, 33];

/// Size of the kernel's signal set in bytes.
const SIZE: usize = mem::size_of::<Set>();

/// The set of these signals.
pub fn set(signals: impl IntoIterator<Item = i32>) -> Set {
    let usable = |signal: &i32| (1..=64).contains(signal) && !RESERVED.contains(signal);
    Set(signals.into_iter().filter(usable).fold(0, |bits, signal| bits | 1 << (signal - 1)))
}

impl Set {
    /// Whether signal `number` is in the set.
    pub fn has(self, number: i32) -> bool {
        (1..=64).contains(&number) && self.0 & 1 << (number - 1) != 0
    }
}

/// `rt_sigprocmask(SIG_BLOCK, set)`: blocks `set` in addition, in the calling thread; returns the
/// previous mask.
pub fn block(set: &Set) -> io::Result<Set> {
    change_mask(libc::SIG_BLOCK, set)
}

/// `rt_sigprocmask(SIG_UNBLOCK, set)`: unblocks `set` in the calling thread; returns the previous
/// mask.
pub fn unblock(set: &Set) -> io::Result<Set> {
    change_mask(libc::SIG_UNBLOCK, set)
}

/// `rt_sigprocmask(SIG_SETMASK, set)`: sets the calling thread's mask.
pub fn set_mask(set: &Set) -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, set).map(drop)
}

fn change_mask(how: i32, set: &Set) -> io::Result<Set> {
    let mut before = Set(0);
    // SAFETY: the kernel reads SIZE bytes of `set` and writes as many to `before`: the size of
    // both, which are alive for the call; any bits are valid.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, std::ptr::from_ref(set), &raw mut before, SIZE)
    };
    check(done).map(|_| before)
}

/// Opens a descriptor, close-on-exec and non-blocking, to read the signals of `set` from; they must
/// be blocked. signalfd(2).
pub fn open(set: &Set) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel only reads SIZE bytes of `set`; -1 asks for a new descriptor, which has no
    // other owner.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_signalfd4, -1, std::ptr::from_ref(set), SIZE, flags))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// A signal that was read from a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The signal number.
    pub number: i32,
    /// PID of the sender in this process's PID namespace: 0 for the kernel and for processes
    /// outside. SIGPIPE comes from the process that wrote.
    pub sender: i32,
}

/// The next signal of a descriptor from [`open`]; `None` if none is pending.
pub fn next(fd: BorrowedFd<'_>) -> io::Result<Option<Received>> {
    let mut record = [0; mem::size_of::<libc::signalfd_siginfo>()];
    // signalfd(2): 32 bits each: ssi_signo, ssi_errno, ssi_code, ssi_pid.
    let word = |at: usize| {
        move |record: &[u8]| record.get(at..)?.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
    };
    match rustix::io::read(fd, &mut record) {
        Ok(_) => {
            Ok(word(0)(&record).zip(word(12)(&record)).map(|(number, sender)| Received { number, sender }))
        }
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Whether orphans below this process become its children: it is a subreaper, or its PID
/// namespace's init. `prctl(PR_GET_CHILD_SUBREAPER)`, prctl(2).
pub fn adopts_orphans() -> io::Result<bool> {
    Ok(rustix::process::child_subreaper()?.is_some() || std::process::id() == 1)
}

/// Reaps every ended child except `spared`, whose status is still needed. Never waits. waitid(2).
///
/// Stops at `spared` if that has ended: the kernel reports no child after it, and the process
/// waiting for it is about to end too.
pub fn reap_all_but(spared: i32) -> io::Result<()> {
    while let Some(pid) = ended_child(libc::P_ALL, 0, libc::WNOWAIT)? {
        if pid == spared {
            break;
        }
        ended_child(libc::P_PID, pid.unsigned_abs(), 0)?;
    }
    Ok(())
}

/// Returns an ended child. It is reaped unless `options` has WNOWAIT.
fn ended_child(kind: libc::idtype_t, id: u32, options: i32) -> io::Result<Option<i32>> {
    // SAFETY: siginfo_t is plain old data; zeros are what waitid leaves when no child has ended.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = options | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: the kernel writes one siginfo_t to `info`, which is exclusively ours for the call.
    match check(unsafe { libc::waitid(kind, id, &raw mut info, options) }.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => {
            // SAFETY: waitid succeeded, so the union holds the SIGCHLD members, or zeros.
            let pid = unsafe { info.si_pid() };
            Ok((pid != 0).then_some(pid))
        }
    }
}
