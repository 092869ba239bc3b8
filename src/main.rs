//! The program `emergence-runc`.

use std::process::ExitCode;

use emergence_runc::{cli, supervisor};

fn main() -> ExitCode {
    // Before anything looks at the command line: in a container this program can be pid 1.
    if supervisor::is_asked() { supervisor::main() } else { cli::main() }
}
