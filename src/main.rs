//! The program `emergence-runc`.

use std::process::ExitCode;

use emergence_runc::sys::arena::Arena;
use emergence_runc::{cli, container, supervisor};

#[global_allocator]
static ARENA: Arena = Arena;

/// Called before `main`: a container's process has no use for what std prepares.
#[used]
// SAFETY: the C library calls the functions of this section without arguments, once it is
// initialized.
#[unsafe(link_section = ".init_array")]
static CONTINUE: extern "C" fn() = {
    extern "C" fn begin() {
        container::continue_if_executed();
    }
    begin
};

fn main() -> ExitCode {
    // Before the command line is parsed: in a container this program can be PID 1.
    if supervisor::is_asked() { supervisor::main() } else { cli::main() }
}
