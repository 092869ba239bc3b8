//! The program `emergence-runc`.

use std::process::ExitCode;

fn main() -> ExitCode {
    emergence_runc::cli::main()
}
