//! Files in memory: memfd_create(2).

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::{Errno, Result};

/// The seals of a file that can no longer change. No process can remove any of them, fcntl(2).
pub const SEALED: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// What a file in memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Data: no process can execute it.
    Data,
    /// A program.
    Program,
}

/// Creates a close-on-exec file that can be sealed.
pub fn create(name: &CStr, content: Content) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let execution = match content {
        Content::Data => MemfdFlags::NOEXEC_SEAL,
        Content::Program => MemfdFlags::EXEC,
    };
    match memfd_create(name, flags | execution) {
        // Kernels before 6.3 know neither flag, and need none.
        Err(Errno::INVAL) => memfd_create(name, flags),
        created => created,
    }
}
