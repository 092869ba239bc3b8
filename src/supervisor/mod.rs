//! Pid 1 of a container with several programs: starts them, reaps all, forwards signals, starts again what ends, as Erlang's supervisors do.
//!
//! ```text
//! rules   which are started again, and when enough is enough: pure
//! group   the processes
//! ```
//! It is this program under another name, which is that of no command; what it starts stands in a file beside it, which the container
//! cannot write to. Its exit status is that of the program that failed, or 0.

#![forbid(unsafe_code)]

mod group;
mod rules;

use std::ffi::OsStr;
use std::process::ExitCode;

use crate::error::{Doing, Error, Kind, Result};
use crate::spec::group::{DOCUMENT, Group, PROGRAM};

/// What it ends with when it cannot do its work; as a shell does for what it cannot run.
const FAILED: u8 = 127;

/// Whether this process is a supervisor: the whole of its command line is a name that only the bundles of automatons give it.
pub fn is_asked() -> bool {
    std::env::args_os().eq([OsStr::new(PROGRAM)])
}

/// Supervises, and ends with the status of what failed.
pub fn main() -> ExitCode {
    match document().and_then(|group| group::supervise(&group)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tell(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn document() -> Result<Group> {
    let bytes = std::fs::read(DOCUMENT).doing(|| format!("read {DOCUMENT}"))?;
    let group: Group = serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Kind::Invalid, format!("{DOCUMENT}: {error}")))?;
    match group.members.iter().find(|member| member.args.is_empty()) {
        Some(member) => Err(Error::new(Kind::Invalid, format!("{DOCUMENT}: {} has no program", member.name))),
        None => Ok(group),
    }
}

/// One line for people. Where nobody reads, nothing is to be done.
fn tell(words: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("emergence init: {words}\n").as_bytes());
}
