//! A clone into a cgroup without CLONE_INTO_CGROUP, and a clone without clone3.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use super::super::namespace::Namespace;
use super::super::raw::clone::{Cloned, clone, clone3};
use super::super::raw::namespaces::unshare;
use super::super::raw::process;
use super::super::text::Text;
use super::is_missing;

const NEW_CGROUP: u64 = Namespace::Cgroup.flag() as u64;

/// Replaces a `clone3(flags, cgroup)` that failed with `error`; returns `error` if there is no
/// replacement.
///
/// # Safety
/// As for [`process::clone3`](super::super::process::clone3).
pub(in crate::sys) unsafe fn instead(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    error: io::Error,
) -> io::Result<Cloned> {
    match cgroup {
        // E2BIG: clone_args had no member for it before 5.7. EINVAL: the flag did not exist either.
        Some(cgroup) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::EINVAL | libc::ENOSYS)) => {
            // SAFETY: the caller's guarantee is the same.
            unsafe { into_cgroup(flags, cgroup) }
        }
        // SAFETY: the caller's guarantee is the same.
        None if is_missing(&error) => unsafe { clone(flags) },
        _ => Err(error),
    }
}

/// The new process waits until it is in the cgroup, and only then creates its cgroup namespace,
/// whose root is that cgroup. If either fails, the process is ended, and the error is that of
/// clone3.
///
/// # Safety
/// As for [`process::clone3`](super::super::process::clone3).
unsafe fn into_cgroup(flags: u64, cgroup: BorrowedFd<'_>) -> io::Result<Cloned> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the caller's guarantee is the same.
    match unsafe { clone_outside(flags & !NEW_CGROUP) }? {
        Cloned::Child => {
            // If the runtime dies, no copy of its end may stay open.
            drop(ours);
            if !joins_cgroup(&theirs, flags) {
                process::exit_now(1);
            }
            Ok(Cloned::Child)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            match add(cgroup, pid).and_then(|()| hear(&ours)) {
                Ok(()) => Ok(Cloned::Parent { pid, pidfd }),
                Err(error) => {
                    drop(ours); // which ends the child
                    process::wait(pidfd.as_fd())?;
                    Err(error)
                }
            }
        }
    }
}

/// A clone3 without a cgroup; if it is missing too, clone(2).
///
/// # Safety
/// As for [`process::clone3`](super::super::process::clone3).
unsafe fn clone_outside(flags: u64) -> io::Result<Cloned> {
    // SAFETY: the caller's guarantee is the same for both.
    unsafe {
        match clone3(flags, None) {
            Err(error) if is_missing(&error) => clone(flags),
            cloned => cloned,
        }
    }
}

/// The child's part: waits until it is in the cgroup, and creates the cgroup namespace if `flags`
/// has it. Returns whether both succeeded.
fn joins_cgroup(socket: &OwnedFd, flags: u64) -> bool {
    let mut word = [0u8; 1];
    let length = loop {
        match rustix::io::read(socket, &mut word) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read,
        }
    };
    if length != Ok(1) {
        return false;
    }
    let made = if flags & NEW_CGROUP != 0 { unshare(Namespace::Cgroup) } else { Ok(()) };
    let errno = made.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    rustix::net::send(socket, &errno.to_ne_bytes(), SendFlags::NOSIGNAL).is_ok() && errno == 0
}

/// The runtime's part, once the process is in the cgroup.
fn hear(socket: &OwnedFd) -> io::Result<()> {
    rustix::net::send(socket, b"!", SendFlags::NOSIGNAL)?;
    let mut word = [0u8; 4];
    let length = loop {
        match rustix::io::read(socket, &mut word) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read?,
        }
    };
    match (length, i32::from_ne_bytes(word)) {
        (4, 0) => Ok(()),
        (4, errno) => Err(io::Error::from_raw_os_error(errno)),
        // The child was killed.
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

fn add(cgroup: BorrowedFd<'_>, pid: i32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let list = rustix::fs::openat(cgroup, c"cgroup.procs", flags, Mode::empty())?;
    let mut number = Text::<16>::new(b"")?;
    number.push_number(pid)?;
    rustix::io::write(&list, number.bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_without_clone3() {
        // SAFETY: no memory is shared, and the child only calls _exit.
        match unsafe { clone(0) }.unwrap() {
            Cloned::Child => process::exit_now(7),
            Cloned::Parent { pidfd, .. } => {
                assert!(rustix::io::fcntl_getfd(&pidfd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                assert_eq!(process::wait(pidfd.as_fd()).unwrap(), process::Exit::Code(7));
            }
        }
    }

    #[test]
    fn what_cannot_be_moved_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let no_group = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        // SAFETY: no memory is shared, and the child only calls _exit.
        match unsafe { into_cgroup(0, no_group.as_fd()) } {
            Ok(Cloned::Child) => process::exit_now(0),
            Ok(Cloned::Parent { .. }) => panic!("there is no such cgroup"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT)),
        }
    }
}
