//! Fallbacks for system calls that kernels from 5.4 on may lack, or that the seccomp filter of an
//! engine around us does not know.
//!
//! The new call is always made first, so none of this costs anything if the call exists. Nothing
//! here uses the heap or a lock: most of it may run between clone and exec. Paths below the
//! container's root are looked up by `rootfs::walk`.
//!
//! | call | Linux | instead |
//! |---|---|---|
//! | clone3 with CLONE_INTO_CGROUP | 5.7 | [`clone`]: the process waits until it is moved there |
//! | clone3, unknown to a filter | 5.3 | [`clone`]: clone(2) |
//! | setns of a pidfd | 5.8 | [`namespaces`]: the files of /proc/PID/ns |
//! | statx: which mount | 5.8 | [`mounted`] |
//! | close_range | 5.9, 5.11 | [`descriptors`]: /proc/self/fd |
//! | mount_setattr | 5.12 | [`mounts`]: mount(2); a detached mount in its own mount namespace |
//!
//! There is no fallback for time namespaces (5.6), idmapped mounts (5.12), and recursive attributes
//! where mounts hide others: the error states the required version.

pub(super) mod clone;
pub(super) mod descriptors;
pub(super) mod mounted;
pub(super) mod mounts;
pub(super) mod namespaces;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::text::Text;

/// Where a fallback finds procfs.
#[derive(Clone, Copy)]
pub enum Procfs<'a> {
    /// The host's procfs, opened and checked before.
    Opened(BorrowedFd<'a>),
    /// /proc, for the runtime in its own namespaces. It is opened only if a call is missing.
    Here,
}

/// `PROC_SUPER_MAGIC`, statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

impl Procfs<'_> {
    /// Opens its top directory.
    pub(super) fn open(self) -> io::Result<OwnedFd> {
        let proc = match self {
            Procfs::Opened(proc) => return Ok(rustix::io::fcntl_dupfd_cloexec(proc, 3)?),
            Procfs::Here => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(c"/proc", flags, Mode::empty())?
            }
        };
        if rustix::fs::fstatfs(&proc)?.f_type as u64 == PROC_MAGIC {
            Ok(proc)
        } else {
            Err(io::Error::from_raw_os_error(libc::ENODEV))
        }
    }
}

/// `self/KIND/N`, the path in procfs for a descriptor.
fn of_descriptor(kind: &[u8], fd: BorrowedFd<'_>) -> io::Result<Text<32>> {
    let mut path = Text::new(b"self/")?;
    path.push(kind)?;
    path.push(b"/")?;
    path.push_number(fd.as_raw_fd())?;
    Ok(path)
}

/// Whether the kernel or a filter does not know the call.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSYS)
}
