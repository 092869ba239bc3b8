//! Namespaces joined, created and returned to: setns(2), unshare(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::super::check;
use super::super::namespace::{Namespace, NamespaceSet};

/// `setns(fd, kinds)`, setns(2): joins the namespace of a file of /proc/PID/ns, or those of a
/// pidfd. EINVAL: the file is a namespace of another kind.
pub fn setns(fd: BorrowedFd<'_>, kinds: impl Into<NamespaceSet>) -> io::Result<()> {
    // SAFETY: an open descriptor and an integer; the kernel changes only this thread's namespaces.
    check(unsafe { libc::setns(fd.as_raw_fd(), kinds.into().flags()) }.into()).map(drop)
}

/// `unshare(kinds)`, unshare(2).
pub fn unshare(kinds: impl Into<NamespaceSet>) -> io::Result<()> {
    // SAFETY: one integer. No caller uses CLONE_FILES, which could affect owners of descriptors.
    check(unsafe { libc::unshare(kinds.into().flags()) }.into()).map(drop)
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
