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
    let (mut args, size) = arguments(flags, cgroup, &mut pidfd);
    // SAFETY: `args` and `pidfd` live across the call and the size is not more than that of `args`;
    // without CLONE_VM and with no stack given, the child returns here on its own copy of this
    // stack; the rest is the caller's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    // SAFETY: if the kernel returned a PID, it set `pidfd` to a new descriptor without another
    // owner.
    unsafe { cloned(pid, pidfd) }
}

/// The arguments of clone3(2), and the size of the part that is needed.
fn arguments(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    pidfd: &mut libc::c_int,
) -> (libc::clone_args, usize) {
    // SAFETY: clone_args is plain old data, for which all zeros is valid.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(pidfd) as u64;
    // A child with CLONE_PARENT has its sibling's exit signal, and none may be given.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let size = if cgroup.is_some() { mem::size_of::<libc::clone_args>() } else { FIRST_SIZE };
    (args, size)
}

/// As [`clone3`], but the child shares this process's memory, and this thread waits until it has
/// executed a program or ended (CLONE_VM, CLONE_VFORK): copying the page tables takes longer than
/// all that the child does. The child calls `child`, on this thread's stack below its frames, and
/// ends if that returns. ENOSYS on an architecture without the code for this.
///
/// # Safety
/// `child` must not change memory that this process uses, nor use the heap or any lock.
pub(in crate::sys) unsafe fn clone3_sharing(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: &dyn Fn(),
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let flags = flags | (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    let (mut args, size) = arguments(flags, cgroup, &mut pidfd);
    let data: *const &dyn Fn() = &raw const child;
    // SAFETY: all pointers are valid until the child has executed a program or ended, which this
    // thread waits for; the rest is the caller's contract.
    let pid = unsafe { cloned_below(&raw mut args, size, data) };
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid as i32));
    }
    // SAFETY: the kernel has returned a PID, so `pidfd` is a new descriptor without another owner.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Where the child of [`clone3_sharing`] begins.
///
/// # Safety
/// `data` must be valid.
unsafe extern "C" fn begin(data: *const &dyn Fn()) -> ! {
    // SAFETY: the caller's guarantee.
    unsafe { (*data)() };
    super::process::exit_now(127)
}

/// clone3(2) without a stack in `args`: the child goes on with this thread's stack pointer, as after
/// vfork(2), and calls `begin(data)`. Returns the PID, or the negative errno.
///
/// # Safety
/// The pointers are valid for the call and for the child.
#[cfg(target_arch = "x86_64")]
unsafe fn cloned_below(args: *mut libc::clone_args, size: usize, data: *const &dyn Fn()) -> isize {
    let result: isize;
    // SAFETY: syscall(2) changes rax, rcx and r11 only. The child has the same registers except for
    // rax, which is 0. It writes below the stack pointer, where this thread, which waits for it, has
    // nothing: without the option `nostack` the stack is aligned for a call, and no red zone in use.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") args,
            in("rsi") size,
            in("r12") data,
            in("r13") begin as unsafe extern "C" fn(*const &'static dyn Fn()) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As for the other architecture.
///
/// # Safety
/// The pointers are valid for the call and for the child.
#[cfg(target_arch = "aarch64")]
unsafe fn cloned_below(args: *mut libc::clone_args, size: usize, data: *const &dyn Fn()) -> isize {
    let result: isize;
    // SAFETY: a system call changes x0 only. The child has the same registers except for x0, which
    // is 0. It writes below the stack pointer, where this thread, which waits for it, has nothing:
    // without the option `nostack` the stack is aligned for a call.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size,
            in("x20") data,
            in("x21") begin as unsafe extern "C" fn(*const &'static dyn Fn()) -> !,
        );
    }
    result
}

/// # Safety
/// None: there is no code for this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn cloned_below(_: *mut libc::clone_args, _: usize, _: *const &dyn Fn()) -> isize {
    -libc::ENOSYS as isize
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
