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
