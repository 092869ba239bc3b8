//! A command line, a word each line: what is no command line is refused in one line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use emergence_runc::cli;

use super::one_line;

pub fn check(bytes: &[u8]) {
    let words = bytes.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    if let Err(error) = cli::understand(words) {
        one_line(&error.to_string());
    }
}
