//! PID 1 of a container with several programs: starts them, reaps all processes, forwards signals,
//! and restarts programs as Erlang's supervisors do.
//!
//! ```text
//! rules   which programs are restarted, and the restart limit: pure functions
//! group   the processes
//! ```
//! It is this binary under a name that is no command. A file next to it lists the programs; the
//! container cannot write to that file. Its exit status is that of the program that failed, or 0.

#![forbid(unsafe_code)]

mod group;
mod rules;

use std::ffi::OsStr;
use std::process::ExitCode;

use crate::error::{Doing, Error, Kind, Result};
use crate::spec::group::{DOCUMENT, PROGRAM, ProgramGroup};

/// Exit status if it cannot do its work, as a shell's for a program that it cannot run.
const FAILED: u8 = 127;

/// Whether this process is a supervisor: its whole command line is a name that only bundles of
/// automata use.
pub fn is_asked() -> bool {
    std::env::args_os().eq([OsStr::new(PROGRAM)])
}

/// Supervises, and exits with the status of the failed program.
pub fn main() -> ExitCode {
    match document().and_then(|group| group::supervise(&group)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            print_line(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn document() -> Result<ProgramGroup> {
    let bytes = std::fs::read(DOCUMENT).doing(|| format!("read {DOCUMENT}"))?;
    let group: ProgramGroup = serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Kind::Invalid, format!("{DOCUMENT}: {error}")))?;
    match group.members.iter().find(|member| member.args.is_empty()) {
        Some(member) => Err(Error::new(Kind::Invalid, format!("{DOCUMENT}: {} has no program", member.name))),
        None => Ok(group),
    }
}

/// Prints one line to standard error. A failure to print is ignored.
fn print_line(words: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("emergence init: {words}\n").as_bytes());
}
