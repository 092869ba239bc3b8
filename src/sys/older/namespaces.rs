//! The namespaces of a process without setns(2) of its pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::super::{process, text::Text};
use super::Procfs;

/// Files of /proc/PID/ns. The user namespace is not among them: it comes between the others.
const FILES: [(&[u8], i32); 7] = [
    (b"cgroup", libc::CLONE_NEWCGROUP),
    (b"ipc", libc::CLONE_NEWIPC),
    (b"uts", libc::CLONE_NEWUTS),
    (b"net", libc::CLONE_NEWNET),
    (b"time", libc::CLONE_NEWTIME),
    (b"pid", libc::CLONE_NEWPID),
    (b"mnt", libc::CLONE_NEWNS),
];

/// Joins the `kinds` (CLONE_NEW…) of namespaces of the process behind `pidfd`, whose number is `pid`. Unlike the new call, it may
/// have joined some when it fails; who calls ends then.
///
/// Before the user namespace those that we have the right to already: they may belong to one further out. Behind it the rest.
pub(in crate::sys) fn enter(pidfd: BorrowedFd<'_>, pid: i32, kinds: i32, proc: Procfs<'_>) -> io::Result<()> {
    let proc = proc.open()?;
    let mut user = None;
    if kinds & libc::CLONE_NEWUSER != 0 {
        user = Some(open(&proc, pid, b"user")?);
    }
    let mut others: [Option<OwnedFd>; FILES.len()] = Default::default();
    for (place, (name, _)) in others.iter_mut().zip(FILES).filter(|(_, (_, kind))| kinds & kind != 0) {
        *place = Some(open(&proc, pid, name)?);
    }
    // While it has not been reaped nobody else can have had its number.
    match process::signal(pidfd, 0) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => return Err(error),
        _ => {}
    }
    if let Some(user) = user {
        for (place, (_, kind)) in others.iter_mut().zip(FILES) {
            match place.as_ref().map(|file| process::setns(file.as_fd(), kind)) {
                Some(Err(error)) if error.raw_os_error() != Some(libc::EPERM) => return Err(error),
                Some(Err(_)) | None => {}
                Some(Ok(())) => *place = None,
            }
        }
        process::setns(user.as_fd(), libc::CLONE_NEWUSER)?;
    }
    for (place, (_, kind)) in others.iter().zip(FILES) {
        if let Some(file) = place {
            process::setns(file.as_fd(), kind)?;
        }
    }
    Ok(())
}

fn open(proc: &OwnedFd, pid: i32, name: &[u8]) -> io::Result<OwnedFd> {
    let mut path = Text::<32>::new(b"")?;
    path.push_number(pid)?;
    path.push(b"/ns/")?;
    path.push(name)?;
    Ok(rustix::fs::openat(proc, path.as_cstr()?, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Cloned;

    /// A process that waits in new namespaces until it is killed; its number and pidfd.
    fn apart(kinds: i32) -> (i32, OwnedFd) {
        // SAFETY: no memory is shared; the child makes system calls only.
        match unsafe { process::clone3(kinds as u64, None) }.unwrap() {
            Cloned::Child => loop {
                // SAFETY: pause(2) takes nothing.
                unsafe { libc::pause() };
            },
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        }
    }

    /// Whether a process of its own can enter and then is in that namespace; or the error number.
    fn enters(pid: i32, pidfd: &OwnedFd, kinds: i32, then: &str) -> i32 {
        let inode = |process: &str| {
            let file = std::ffi::CString::new(format!("/proc/{process}/ns/{then}")).unwrap();
            move || rustix::fs::stat(&file).map_or(0, |found| found.st_ino)
        };
        let (theirs, ours) = (inode(&pid.to_string()), inode("self"));
        // SAFETY: no memory is shared; the child makes system calls only and ends by _exit.
        match unsafe { process::clone3(0, None) }.unwrap() {
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
        const USER: i32 = libc::CLONE_NEWUSER;
        let kinds = USER | libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWNS;
        let (pid, pidfd) = apart(kinds);
        for (kinds, then) in
            [(kinds, "mnt"), (kinds, "user"), (kinds, "net"), (USER | libc::CLONE_NEWUTS, "uts")]
        {
            assert_eq!(enters(pid, &pidfd, kinds, then), 0, "{kinds:#x}, {then}");
        }
        let (other, _) = apart(0);
        process::signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        process::wait(pidfd.as_fd()).unwrap();
        // Somebody else has the number by then.
        assert_eq!(enters(other, &pidfd, libc::CLONE_NEWUTS, "uts"), libc::ESRCH);
        let other = process::pidfd_open(other).unwrap();
        process::signal(other.as_fd(), libc::SIGKILL).unwrap();
        process::wait(other.as_fd()).unwrap();
    }
}
