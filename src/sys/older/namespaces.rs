//! Joins the namespaces of a process without setns(2) of its pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::super::namespace::{Namespace, NamespaceSet};
use super::super::raw::namespaces::setns;
use super::super::raw::process;
use super::super::text::Text;
use super::Procfs;

/// All kinds except the user namespace, which is joined between them.
const OTHERS: [Namespace; 7] = [
    Namespace::Cgroup,
    Namespace::Ipc,
    Namespace::Uts,
    Namespace::Network,
    Namespace::Time,
    Namespace::Pid,
    Namespace::Mount,
];

/// Joins the namespaces `kinds` of the process `pidfd`, whose PID is `pid`. Unlike the new call, it
/// may have joined some of them when it fails; the caller then ends.
///
/// Namespaces for which we have permission already are joined before the user namespace, since an
/// outer one may own them; the rest after it.
pub(in crate::sys) fn enter(
    pidfd: BorrowedFd<'_>,
    pid: i32,
    kinds: NamespaceSet,
    proc: Procfs<'_>,
) -> io::Result<()> {
    let proc = proc.open()?;
    let mut user = None;
    if kinds.has(Namespace::User) {
        user = Some(open(&proc, pid, Namespace::User)?);
    }
    let mut others: [Option<OwnedFd>; OTHERS.len()] = Default::default();
    for (place, kind) in others.iter_mut().zip(OTHERS).filter(|(_, kind)| kinds.has(*kind)) {
        *place = Some(open(&proc, pid, kind)?);
    }
    // As long as the process is not reaped, no other process can have its PID.
    match process::signal(pidfd, 0) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => return Err(error),
        _ => {}
    }
    if let Some(user) = user {
        for (place, kind) in others.iter_mut().zip(OTHERS) {
            match place.as_ref().map(|file| setns(file.as_fd(), kind)) {
                Some(Err(error)) if error.raw_os_error() != Some(libc::EPERM) => return Err(error),
                Some(Err(_)) | None => {}
                Some(Ok(())) => *place = None,
            }
        }
        setns(user.as_fd(), Namespace::User)?;
    }
    for (place, kind) in others.iter().zip(OTHERS) {
        if let Some(file) = place {
            setns(file.as_fd(), kind)?;
        }
    }
    Ok(())
}

fn open(proc: &OwnedFd, pid: i32, kind: Namespace) -> io::Result<OwnedFd> {
    let mut path = Text::<32>::new(b"")?;
    path.push_number(pid)?;
    path.push(b"/ns/")?;
    path.push(kind.file().as_bytes())?;
    Ok(rustix::fs::openat(proc, path.as_cstr()?, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::raw::clone::{Cloned, clone};

    /// A child that waits in new namespaces until it is killed; its PID and pidfd.
    fn child_in_new(kinds: NamespaceSet) -> (i32, OwnedFd) {
        // SAFETY: no memory is shared; the child only makes system calls.
        match unsafe { clone(kinds.flags() as u64) }.unwrap() {
            Cloned::Child => loop {
                // SAFETY: pause(2) takes no argument.
                unsafe { libc::pause() };
            },
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        }
    }

    /// Returns whether a child can enter the namespaces, and whether it is then in the namespace
    /// `then`; or errno.
    fn enters(pid: i32, pidfd: &OwnedFd, kinds: NamespaceSet, then: &str) -> i32 {
        let inode = |process: &str| {
            let file = std::ffi::CString::new(format!("/proc/{process}/ns/{then}")).unwrap();
            move || rustix::fs::stat(&file).map_or(0, |found| found.st_ino)
        };
        let (theirs, ours) = (inode(&pid.to_string()), inode("self"));
        // SAFETY: no memory is shared; the child only makes system calls and ends by _exit.
        match unsafe { clone(0) }.unwrap() {
            Cloned::Child => {
                let want = theirs();
                let entered = enter(pidfd.as_fd(), pid, kinds, Procfs::Here);
                process::exit_now(match entered {
                    Ok(()) if ours() == want => 0,
                    Ok(()) => 255,
                    Err(error) => error.raw_os_error().unwrap_or(254),
                })
            }
            Cloned::Parent { pidfd, .. } => process::wait(pidfd.as_fd()).unwrap().status(),
        }
    }

    #[test]
    fn the_namespaces_of_a_process_as_long_as_it_lives() {
        let some = NamespaceSet::from(Namespace::User).with(Namespace::Uts);
        let kinds = some.with(Namespace::Network).with(Namespace::Mount);
        let (pid, pidfd) = child_in_new(kinds);
        for (kinds, then) in [(kinds, "mnt"), (kinds, "user"), (kinds, "net"), (some, "uts")] {
            assert_eq!(enters(pid, &pidfd, kinds, then), 0, "{kinds:?}, {then}");
        }
        let (other, _) = child_in_new(NamespaceSet::EMPTY);
        process::signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        process::wait(pidfd.as_fd()).unwrap();
        // The PID then belongs to another process.
        assert_eq!(enters(other, &pidfd, Namespace::Uts.into(), "uts"), libc::ESRCH);
        let other = crate::sys::process::pidfd_open(other).unwrap();
        process::signal(other.as_fd(), libc::SIGKILL).unwrap();
        process::wait(other.as_fd()).unwrap();
    }
}
