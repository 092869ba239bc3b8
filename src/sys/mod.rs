//! Every kernel call that needs `unsafe` or is missing in rustix, typed, each with its man page; and what several rooms
//! do: texts of /proc, trees taken away, base64. Knows nothing of containers.

pub mod base64;
pub mod bpf;
pub mod clock;
pub mod command;
pub mod cred;
pub mod fd;
#[cfg(debug_assertions)]
pub mod guard;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
mod older;
pub mod process;
pub mod pty;
pub mod remove;
pub mod report;
pub mod seccomp;
pub mod signal;
pub mod signal_names;
pub mod text;
pub mod verity;

use std::io;

/// `Ok` for 0 or more, the error number else.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
