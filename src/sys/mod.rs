//! Typed wrappers of all kernel calls that need `unsafe` or are missing in rustix, each with its
//! man page; and code that several modules share: parsers of /proc, removal of trees, base64.
//! Independent of containers.

pub mod arena;
pub mod base64;
pub mod bpf;
pub mod clock;
pub mod closing;
pub mod command;
pub mod cred;
pub mod fd;
pub mod handover;
pub mod memfd;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
mod older;
pub mod process;
pub mod pty;
mod raw;
mod region;
pub mod remove;
pub mod report;
pub mod seccomp;
pub mod signal;
pub mod signal_names;
pub mod small_file;
pub mod text;
pub mod verity;

use std::io;

/// `Ok` if the result is 0 or more, errno otherwise.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
