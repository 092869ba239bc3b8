//! Commands for `std::process`: started like a container's program, or killed with their parent.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::older::Procfs;
use super::process::{die_with_parent, own_pid, parent_pid, reset_signals};

/// A command that executes `argv` by execv(3) after [`reset_signals`]. std keeps signals blocked
/// that its parent has blocked, and calls execvp(3), which runs a file with a shell if the kernel
/// does not know its format. Only for a single-threaded process.
pub fn plain(argv: Vec<CString>) -> Command {
    let mut command =
        Command::new(OsStr::from_bytes(argv.first().map(CString::as_bytes).unwrap_or_default()));
    let become_it = move || {
        reset_signals(Procfs::Here);
        let program = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
        let words: Vec<_> = argv.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        // SAFETY: `words` ends in null, and its strings and `program` live in `argv`. It returns
        // only on failure.
        unsafe { libc::execv(program.as_ptr(), words.as_ptr()) };
        Err(io::Error::last_os_error())
    };
    // SAFETY: with a single thread before the fork, no lock is held after it, and the heap is
    // consistent.
    unsafe { command.pre_exec(become_it) };
    command
}

/// Has `command` killed when the calling thread ends, even before the program starts.
pub fn end_with_parent(command: &mut Command) {
    let parent = own_pid();
    let prepare = move || {
        die_with_parent(true)?;
        // A parent that ended before the call sends no signal.
        if parent_pid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: after the fork `prepare` makes two system calls, and uses no heap and no lock.
    unsafe { command.pre_exec(prepare) };
}
