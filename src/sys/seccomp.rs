//! Loading a system call filter into the calling process, seccomp(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub use libc::sock_filter as SockFilter;

const SET_MODE_FILTER: libc::c_ulong = 1;
/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process get the filter.
pub const TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: a descriptor to answer calls with `SECCOMP_RET_USER_NOTIF`.
/// Linux 5.0.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: only with [`NEW_LISTENER`]. Linux 5.19.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct FilterProgram {
    length: libc::c_ushort,
    filter: *const SockFilter,
}

/// Installs `program` as a filter of all later system calls of this thread (with [`TSYNC`], of
/// every thread); it is kept across execve(2).
///
/// Uses no heap, so it may be called between clone and exec. With [`NEW_LISTENER`] in `flags` it
/// returns the listener's descriptor, close-on-exec.
///
/// `EACCES`: neither `no_new_privs` is set nor `CAP_SYS_ADMIN` held in the user namespace.
/// `EINVAL`: a flag the kernel does not know, or an invalid program. `EBUSY`: a listener exists
/// already. `ESRCH`: a thread could not be synchronized. `ENOMEM`: all filters of the process
/// together exceed 32768 instructions.
pub fn load(program: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    let length =
        libc::c_ushort::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = FilterProgram { length, filter: program.as_ptr() };
    // SAFETY: the kernel reads one `sock_fprog` and the `length` instructions that it points to
    // during the call; both are borrowed for as long. libc has no wrapper for seccomp(2).
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const program)
    };
    match i32::try_from(result) {
        Ok(..0) | Err(_) => Err(io::Error::last_os_error()),
        Ok(fd) if flags & NEW_LISTENER != 0 => {
            // SAFETY: with this flag a result that is not negative is a new descriptor without
            // another owner.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        Ok(0) => Ok(None),
        // With only TSYNC the result is a thread that has a filter of its own.
        Ok(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// The `flags` that this kernel supports. Loads nothing: a program at address 0 is rejected after
/// the flags are checked.
pub fn supported_flags(flags: u32) -> u32 {
    let known = |flag: u32| {
        let tested = if flag == WAIT_KILLABLE_RECV { flag | NEW_LISTENER } else { flag };
        let nothing = std::ptr::null::<FilterProgram>();
        // SAFETY: a null program makes the kernel fail with EFAULT before anything is changed.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(tested), nothing)
        };
        result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
    };
    (0..u32::BITS).map(|bit| 1 << bit).filter(|flag| flags & flag != 0 && known(*flag)).sum()
}
