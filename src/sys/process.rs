//! Processes: clone3, pidfds, waiting, namespaces, execve.

use std::ffi::{CStr, c_char};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::check;
use super::namespace::{Namespace, NamespaceSet};
use super::older::{self, Procfs};

/// clone(2); libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

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
        match clone3_once(flags, cgroup) {
            Err(error) => older::clone::instead(flags, cgroup, error),
            cloned => cloned,
        }
    }
}

/// Size of clone_args in Linux 5.3; later members are only needed for CLONE_INTO_CGROUP.
const FIRST_SIZE: usize = 64;

/// The call itself.
///
/// # Safety
/// As for [`clone3`].
unsafe fn clone3_once(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
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
/// As for [`clone3`].
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

/// `setns(fd, kinds)`, setns(2): joins the namespace of a file of /proc/PID/ns, or those of a
/// pidfd. EINVAL: the file is a namespace of another kind.
pub fn setns(fd: BorrowedFd<'_>, kinds: impl Into<NamespaceSet>) -> io::Result<()> {
    // SAFETY: an open descriptor and an integer; the kernel changes only this thread's namespaces.
    check(unsafe { libc::setns(fd.as_raw_fd(), kinds.into().flags()) }.into()).map(drop)
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

/// The mount namespace, the root and the working directory of this process, to return to. setns(2)
/// alone would lead to the namespace's own root, and ours may differ, as after chroot(1).
pub struct WayBack {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl WayBack {
    /// Saves the current ones; `proc` is the top directory of procfs.
    pub fn open(proc: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, Mode::empty())?;
        Ok(Self {
            namespace: openat(proc, c"self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            // A process in a new user namespace may lack permission for its working directory.
            directory: match rustix::fs::open(c".", flags, Mode::empty()) {
                Err(Errno::ACCESS) => rustix::io::fcntl_dupfd_cloexec(&root, 3)?,
                other => other?,
            },
            root,
        })
    }

    /// Returns. If nothing was left yet, this has no effect; it fails if the process lacks
    /// permission.
    pub fn take(&self) -> io::Result<()> {
        setns(self.namespace.as_fd(), Namespace::Mount)?;
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(c".")?;
        Ok(rustix::process::fchdir(&self.directory)?)
    }
}

/// `unshare(kinds)`, unshare(2).
pub fn unshare(kinds: impl Into<NamespaceSet>) -> io::Result<()> {
    // SAFETY: one integer. No caller uses CLONE_FILES, which could affect owners of descriptors.
    check(unsafe { libc::unshare(kinds.into().flags()) }.into()).map(drop)
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

/// `_exit(status)`, _exit(2): ends the process without running code of the C library.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(status) }
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
/// blocked signals of the runtime's caller.
///
/// Calls rt_sigaction(2) directly: the C library's sigaction(3) leaves out two signals, and takes a
/// lock for SIGABRT (glibc 2.41), which another thread may have held at the clone.
pub fn reset_signals() {
    for number in 1..=SET * 8 {
        reset_signal(number);
    }
    let empty = [0u64; SET / 8];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads `SET` bytes, the size of `empty`, and writes nothing through null.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, empty.as_ptr(), none, SET) };
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
