//! Processes: created, signalled and waited for; their namespaces; execve.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal};

use super::closing::close_later;
use super::namespace::NamespaceSet;
use super::older::{self, Procfs};
use super::text::Text;
use super::{check, raw};

pub use super::raw::clone::{Cloned, clone, in_child, was_forked};
pub use super::raw::namespaces::{WayBack, setns, unshare};
pub use super::raw::process::{Exit, exit_now, signal, try_wait, wait};

/// `clone3(&{flags | CLONE_PIDFD, exit_signal: SIGCHLD}, …)`, clone(2), with CLONE_INTO_CGROUP if
/// `cgroup` (a cgroup v2 directory) is given. If the kernel (before 5.7) lacks that flag, the new
/// process has been moved there when this returns.
///
/// # Safety
/// `flags` must not share memory (no CLONE_VM). The child must not use the heap or any lock that
/// another thread of the caller may hold, and must end in execve or _exit.
pub unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // SAFETY: the caller's guarantee is the same for both.
    unsafe {
        match raw::clone::clone3(flags, cgroup) {
            Err(error) => older::clone::instead(flags, cgroup, error),
            cloned => cloned,
        }
    }
}

/// The memory of a child until it executes a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// This process's own, the fastest. This thread waits for the execve, even if the child is frozen.
    Shared,
    /// A copy; it does not wait.
    Copied,
}

/// As [`clone3`], for a child that executes a program at once: `child` does that, and otherwise
/// reports why. Returns the PID and the pidfd.
///
/// # Safety
/// `child` must not change memory that this process uses, nor use the heap or any lock.
pub unsafe fn clone_to_execute(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    memory: Memory,
    child: &dyn Fn(),
) -> io::Result<(i32, OwnedFd)> {
    if memory == Memory::Shared {
        // SAFETY: the caller's guarantee.
        if let Ok(cloned) = unsafe { raw::clone::clone3_sharing(flags, cgroup, child) } {
            return Ok(cloned);
        }
    }
    // An error that is no lack of the call occurs again.
    // SAFETY: no memory is shared; `child` uses no heap and no lock, and is followed by _exit.
    match unsafe { clone3(flags, cgroup) }? {
        Cloned::Child => {
            child();
            exit_now(127)
        }
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

/// `pidfd_open(pid, 0)`, pidfd_open(2). ESRCH: there is no such process.
///
/// Linux 6.15 and later return ENOENT if only a thread has the number, and EINVAL if only a session
/// or group has it. Both become ESRCH.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::NOENT | Errno::INVAL) => Err(Errno::SRCH.into()),
        other => Ok(other?),
    }
}

/// Joins the namespaces `kinds` of the process `pidfd`, whose PID in `proc` is `pid`: setns(2),
/// Linux 5.8; before, by its files in /proc.
pub fn enter(pidfd: BorrowedFd<'_>, pid: i32, kinds: NamespaceSet, proc: Procfs<'_>) -> io::Result<()> {
    match setns(pidfd, kinds) {
        // Before 5.8, setns(2) only accepted files of /proc/PID/ns.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            older::namespaces::enter(pidfd, pid, kinds, proc)
        }
        done => done,
    }
}

/// A list of C strings for execve(2): pointers, and null at the end. Borrows nothing: the strings'
/// owner must outlive it.
pub struct Pointers(Vec<*const c_char>);

impl Pointers {
    /// A list of `strings`, with `spare` free places that the child may fill.
    pub fn new<'a>(strings: impl Iterator<Item = &'a CStr>, spare: usize) -> Self {
        let mut list: Vec<_> = strings.map(CStr::as_ptr).collect();
        list.resize(list.len() + spare + 1, std::ptr::null());
        Self(list)
    }

    /// Puts `string` into the first free place; false if there is none. Uses no heap.
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
/// Every string in `argv` and `envp` must still live.
pub unsafe fn execve(path: &CStr, argv: &Pointers, envp: &Pointers) -> io::Error {
    // SAFETY: both lists end in null by construction, and the caller guarantees that their strings
    // live.
    unsafe { libc::execve(path.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    io::Error::last_os_error()
}

/// `execveat(file, "", names, {variable}, AT_EMPTY_PATH)`, execveat(2): executes an open file, with
/// one variable as its environment. Returns only on failure. No heap.
pub fn execute_file<const COUNT: usize>(
    file: BorrowedFd<'_>,
    names: [&CStr; COUNT],
    variable: &CStr,
) -> io::Error {
    let mut argv = [std::ptr::null(); 8];
    argv.iter_mut().take(7).zip(names).for_each(|(place, name)| *place = name.as_ptr());
    let envp = [variable.as_ptr(), std::ptr::null()];
    // SAFETY: both lists end in null, and their strings and the file live across the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) {
        return error;
    }
    // A filter may permit execve(2) only.
    let Ok(path) = link_of(file) else { return error };
    let Ok(path) = path.as_cstr() else { return error };
    // SAFETY: as above, for the path too.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    match io::Error::last_os_error() {
        without_procfs if without_procfs.raw_os_error() == Some(libc::ENOENT) => error,
        other => other,
    }
}

/// `/proc/self/fd/N`
fn link_of(file: BorrowedFd<'_>) -> rustix::io::Result<Text<32>> {
    let mut path = Text::new(b"/proc/self/fd/")?;
    path.push_number(file.as_raw_fd())?;
    Ok(path)
}

/// Whether this process has more rights than its caller, by its program's file: getauxval(3),
/// AT_SECURE.
pub fn has_gained_rights() -> bool {
    // SAFETY: takes a number, and reads one that the kernel has given to this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// `prctl(PR_SET_PDEATHSIG, SIGKILL or 0)`: whether this process is killed when the thread that
/// created it ends.
pub fn die_with_parent(die: bool) -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(die.then_some(Signal::KILL))?)
}

/// `prctl(PR_SET_DUMPABLE, 0)`: no process in the container may trace us or open our /proc files.
/// execve undoes it.
pub fn set_undumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// `prctl(PR_SET_CHILD_SUBREAPER, 1)`: orphans below us become our children.
pub fn set_subreaper() -> io::Result<()> {
    // The kernel only checks whether it is 0.
    Ok(rustix::process::set_child_subreaper(Some(Pid::INIT))?)
}

/// Gives every signal its default action and unblocks all: a program must not inherit ignored or
/// blocked signals of the runtime's caller, nor this process a handler of a program that uses the
/// library.
///
/// Only signals with another action need a call. procfs lists them; if it cannot be read, each
/// signal gets one.
///
/// Calls rt_sigaction(2) directly: the C library's sigaction(3) leaves out two signals, and takes a
/// lock for SIGABRT (glibc 2.41), which another thread may have held at the clone.
pub fn reset_signals(proc: Procfs<'_>) {
    let changed = changed_signals(proc).unwrap_or(u64::MAX);
    for number in (1..=SET * 8).filter(|number| changed >> (number - 1) & 1 == 1) {
        reset_signal(number);
    }
    let empty = [0u64; SET / 8];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads `SET` bytes, the size of `empty`, and writes nothing through null.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, empty.as_ptr(), none, SET) };
}

/// The signals that this process ignores or handles, as bits from SIGHUP on: `SigIgn` and `SigCgt`
/// of /proc/self/status, proc_pid_status(5). `None`: unknown.
fn changed_signals(proc: Procfs<'_>) -> Option<u64> {
    const STATUS: &CStr = c"self/status";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = match proc {
        Procfs::Opened(proc) => openat(proc, STATUS, flags, Mode::empty()),
        Procfs::Here => openat(proc.open().ok()?, STATUS, flags, Mode::empty()),
    };
    // Both lines are among the first, unless there are hundreds of groups.
    let mut room = [0; 4096];
    let file = file.ok()?;
    let length = rustix::io::read(&file, &mut room).ok()?;
    close_later(file);
    let text = room.get(..length)?;
    Some(signal_set(text, b"SigIgn:\t")? | signal_set(text, b"SigCgt:\t")?)
}

/// The value of the line of /proc/PID/status that begins with `name`: 16 hexadecimal digits.
fn signal_set(status: &[u8], name: &[u8]) -> Option<u64> {
    // The kernel escapes newlines in the program's name, so it cannot imitate a line.
    let digits = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2 * SET)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Size of the kernel's signal set in bytes.
const SET: usize = 8;

/// `rt_sigaction(number, SIG_DFL)`.
fn reset_signal(number: usize) {
    // SIG_DFL, no flags, an empty mask: all zeros, so the order of members does not matter; no
    // architecture needs more bytes.
    let default = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads one `struct sigaction`, which fits into `default`, and writes
    // nothing through null. No handler is set, so none of our code is called. It rejects SIGKILL
    // and SIGSTOP, which always have the default action.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), none, SET) };
}

/// Gives SIGCHLD its default action. If the caller ignores it, that is inherited through execve(2);
/// the kernel then reaps every child by itself, and each wait fails with ECHILD. sigaction(2),
/// "NOTES".
pub fn keep_ended_children() {
    reset_signal(libc::SIGCHLD as usize);
}

/// `dup2(from, to)`, dup(2); the copy stays open across execve.
pub fn duplicate_to(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    if from.as_raw_fd() == to {
        return keep_on_exec(to);
    }
    // SAFETY: `from` is open because it is borrowed; `to` is one of the standard descriptors, which
    // no OwnedFd has: std opens those that are closed before main, and never closes them.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into()).map(drop)
}

/// Clears close-on-exec of descriptor `number`. EBADF: it is not open.
pub fn keep_on_exec(number: i32) -> io::Result<()> {
    // SAFETY: fcntl with F_SETFD takes integers and only changes a flag.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Whether descriptor `number` is open since this program began: descriptors that we open are
/// close-on-exec.
pub fn is_inherited(number: i32) -> bool {
    // SAFETY: fcntl with F_GETFD takes integers and changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// PID of the process that created this one, or adopted it. `None`: it is outside of our PID
/// namespace.
pub fn parent_pid() -> Option<i32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get())
}

/// PID of the calling process in its own PID namespace. Not cached, so it is right after clone3.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// `memfd_create(name, MFD_CLOEXEC)` with the content `parts`, positioned at its start,
/// memfd_create(2).
pub fn memory_file(name: &CStr, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_signals_are_read_from_a_whole_line_only() {
        let status =
            b"Name:\tSigIgn:\t1\nSigBlk:\t0000000000000001\nSigIgn:\t8000000000001006\nSigCgt:\t00000";
        assert_eq!(signal_set(status, b"SigIgn:\t"), Some(1 << 63 | 0x1006));
        assert_eq!(signal_set(status, b"SigCgt:\t"), None);
        assert_eq!(signal_set(status, b"SigPnd:\t"), None);
    }

    #[test]
    fn a_handled_and_an_ignored_signal_are_known() {
        let before = changed_signals(Procfs::Here).unwrap();
        let highest = 64; // SIGRTMAX; no other test uses it or SIGRTMAX - 1
        extern "C" fn handler(_: i32) {}
        // SAFETY: the handler does nothing, and no code of this program sends these signals.
        unsafe {
            libc::signal(highest, libc::SIG_IGN);
            libc::signal(highest - 1, handler as extern "C" fn(i32) as libc::sighandler_t);
        }
        assert_eq!(changed_signals(Procfs::Here), Some(before | 1 << 63 | 1 << 62));
        for number in [highest, highest - 1] {
            reset_signal(number as usize);
        }
        assert_eq!(changed_signals(Procfs::Here), Some(before & !(1 << 63 | 1 << 62)));
    }
}
