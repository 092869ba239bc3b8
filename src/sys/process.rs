//! Processes: clone3, pidfds, waiting, namespaces, execve.

use std::ffi::{CStr, c_char};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;

/// clone(2); libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process was made by [`clone3`] and has not called execve yet.
pub fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// The two returns of [`clone3`].
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// The child, as this process's pid namespace numbers it.
        pid: i32,
        /// Refers to the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// `clone3(&{flags | CLONE_PIDFD, exit_signal: SIGCHLD}, …)`, clone(2), with CLONE_INTO_CGROUP when `cgroup` (a cgroup v2 directory) is given.
///
/// # Safety
/// `flags` must not share memory (no CLONE_VM). The child must not use the heap or any lock that another thread of the
/// caller may hold, and must end in execve or _exit.
pub unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain old data for which all zeros means "nothing asked".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // A child of CLONE_PARENT inherits its sibling's signal and may name none.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` live across the call and the size is that of `args`; without CLONE_VM and with no stack
    // given, the child returns here on its own copy of this stack; the rest is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>()) };
    // SAFETY: the kernel has filled `pidfd` when it gives a number, with a new descriptor that nobody else owns.
    unsafe { cloned(pid, pidfd) }
}

/// `clone(flags | CLONE_PIDFD | SIGCHLD, …)`, clone(2): for who has a system call filter, which cannot see what [`clone3`] is
/// asked for, and often forbids it.
///
/// # Safety
/// As for [`clone3`].
pub unsafe fn clone(flags: i32) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = (flags | libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: the kernel writes one descriptor to `pidfd`, which lives across the call; without CLONE_VM and with no stack given,
    // the child returns here on its own copy of this stack; the rest is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0, 0) };
    // SAFETY: the kernel has filled `pidfd` when it gives a number, with a new descriptor that nobody else owns.
    unsafe { cloned(pid, pidfd) }
}

/// Which of the two returns this is.
///
/// # Safety
/// When `pid` is positive, `pidfd` must be a descriptor that nobody else owns.
unsafe fn cloned(pid: libc::c_long, pidfd: libc::c_int) -> io::Result<Cloned> {
    match check(pid)? {
        0 => {
            IN_CHILD.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: the caller's promise.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// `pidfd_open(pid, 0)`, pidfd_open(2). ESRCH: there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers; the kernel gives a new close-on-exec descriptor that nobody else owns.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Sends `signal` to the process behind `pidfd`; unlike kill(2) it cannot hit a process that has since taken the same number.
///
/// ESRCH means that the process has already been reaped. Linux 5.1, pidfd_send_signal(2).
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: `pidfd` is open for the whole call because it is borrowed; a null `info` is not read; flags must be 0.
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
    /// As a shell counts: the status, or 128 + the signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// `waitid(P_PIDFD, …, WEXITED)`: waits for a child of ours and reaps it. ECHILD: not ours, or reaped before.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    wait_with(pidfd, 0).map(|exit| exit.unwrap_or(Exit::Code(0)))
}

/// As [`wait`], but `None` at once when the child still lives.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    wait_with(pidfd, libc::WNOHANG)
}

fn wait_with(pidfd: BorrowedFd<'_>, options: i32) -> io::Result<Option<Exit>> {
    loop {
        // SAFETY: siginfo_t is plain old data; zeros are what waitid leaves when no child changed.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: `info` is ours for the call, and `pidfd` is open because it is borrowed.
        let done = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd() as u32,
                &raw mut info,
                libc::WEXITED | options | libc::__WALL,
            )
        };
        if done < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // SAFETY: waitid succeeded, so the SIGCHLD members of the union are those that it filled (or all are zero).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok(match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
            _ => Some(Exit::Signal(status)),
        });
    }
}

/// `setns(fd, kind)`, setns(2): joins the namespace behind a file of /proc/PID/ns, or those of a pidfd. `kind` 0 takes any.
/// EINVAL: the file is a namespace of another kind.
pub fn setns(fd: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: an open descriptor and an integer; the kernel changes only this thread's namespaces.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }.into()).map(drop)
}

/// `unshare(flags)`, unshare(2).
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: one integer. CLONE_FILES, which could surprise descriptors' owners, is not used by any caller.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// A list of C strings as execve(2) wants it: pointers, and null at the end. Borrows nothing: the strings' owner must live on.
pub struct Pointers(Vec<*const c_char>);

impl Pointers {
    /// Room for `strings`, and `spare` more that the child may fill.
    pub fn new<'a>(strings: impl Iterator<Item = &'a CStr>, spare: usize) -> Self {
        let mut list: Vec<_> = strings.map(CStr::as_ptr).collect();
        list.resize(list.len() + spare + 1, std::ptr::null());
        Self(list)
    }

    /// Puts `string` into the first free place; false when there is none. Uses no heap.
    pub fn push(&mut self, string: &CStr) -> bool {
        let end = self.0.len().saturating_sub(1);
        match self.0.iter_mut().take(end).find(|place| place.is_null()) {
            Some(place) => {
                *place = string.as_ptr();
                true
            }
            None => false,
        }
    }
}

/// `execve(path, argv, envp)`, execve(2). Returns only on failure.
///
/// # Safety
/// Every string that was put into `argv` and `envp` must still live.
pub unsafe fn execve(path: &CStr, argv: &Pointers, envp: &Pointers) -> io::Error {
    // SAFETY: both lists end in null by construction, and their strings live by the caller's contract.
    unsafe { libc::execve(path.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    io::Error::last_os_error()
}

/// `_exit(status)`, _exit(2): ends the process without running anything of the C library.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// `prctl(PR_SET_PDEATHSIG, signal)`: the signal this process gets when the thread that made it ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    // SAFETY: prctl with this option reads one integer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into()).map(drop)
}

/// `prctl(PR_SET_DUMPABLE, 0)`: nobody in the container may trace us or open our /proc files. execve undoes it.
pub fn set_undumpable() -> io::Result<()> {
    // SAFETY: prctl with this option reads one integer.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }.into()).map(drop)
}

/// `prctl(PR_SET_CHILD_SUBREAPER, 1)`: orphans below us become our children.
pub fn set_subreaper() -> io::Result<()> {
    // SAFETY: prctl with this option reads one integer.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }.into()).map(drop)
}

/// Gives every signal its default action and unblocks all: a program must not inherit what its runtime's caller ignored.
pub fn reset_signals() {
    // SAFETY: sigaction(2) with SIG_DFL and a null old action only reads `action`; failures (SIGKILL, SIGSTOP) change nothing.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for number in 1..=libc::SIGRTMAX() {
            libc::sigaction(number, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// `dup2(from, to)`, dup(2); the copy stays open across execve.
pub fn duplicate_to(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    if from.as_raw_fd() == to {
        return keep_on_exec(to);
    }
    // SAFETY: `from` is open because it is borrowed; `to` is one of the standard numbers, which no OwnedFd of ours holds.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into()).map(drop)
}

/// Clears close-on-exec of descriptor `number`. EBADF: it is not open.
pub fn keep_on_exec(number: i32) -> io::Result<()> {
    // SAFETY: fcntl with F_SETFD takes integers and changes a flag only.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Whether descriptor `number` is open and was so when this program began: what it opens itself is close-on-exec.
pub fn is_inherited(number: i32) -> bool {
    // SAFETY: fcntl with F_GETFD takes integers and changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// `close_range(first, ~0, CLOSE_RANGE_CLOEXEC)`, close_range(2): nothing from `first` on survives execve.
/// Falls back to a loop where the kernel (before 5.11) lacks it.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: they are marked only and stay open, so no owner is surprised.
    if unsafe { super::fd::close_range(first, u32::MAX, true) }.is_err() {
        for number in first..65536 {
            // SAFETY: fcntl with F_SETFD takes integers and fails harmlessly on closed numbers.
            unsafe { libc::fcntl(number as i32, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// The calling process's pid in its own pid namespace. Not cached, so it is right after clone3.
pub fn own_pid() -> i32 {
    // SAFETY: takes and touches nothing.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// `memfd_create(name, MFD_CLOEXEC)` filled with `parts` and read from its start again, memfd_create(2).
pub fn memory_file(name: &CStr, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    // SAFETY: `name` ends in NUL; the kernel gives a new descriptor that nobody else owns.
    let file = unsafe {
        let fd = check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC).into())?;
        OwnedFd::from_raw_fd(fd as i32)
    };
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}
