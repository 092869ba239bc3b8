//! Words in, words out: flags as data, one short function per command.

use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
