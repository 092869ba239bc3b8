//! The program `emergence-runc`.

use std::process::ExitCode;

use emergence_runc::{cli, supervisor};

fn main() -> ExitCode {
    // Before the command line is parsed: in a container this program can be PID 1.
    if supervisor::is_asked() { supervisor::main() } else { cli::main() }
}
