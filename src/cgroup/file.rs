//! Reads and writes small files of a cgroup, relative to its directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::{Errno, Result, read, retry_on_intr, write};

/// Opens the directory as a base for openat(2); also suitable for CLONE_INTO_CGROUP and for bpf(2).
pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The text of `name`, without surrounding white space.
pub(super) fn read_at(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<String> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let bytes = read_to_end(file.as_fd())?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// As [`read_at`], for a file whose content is a single record: all but `cgroup.procs` and
/// `cgroup.threads`. One read, unless it is very long.
pub(super) fn read_record_at(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<String> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut room = [0; 1024];
    let count = retry_on_intr(|| read(&file, &mut room))?;
    let mut bytes = room.get(..count).unwrap_or_default().to_vec();
    if count == room.len() {
        bytes.extend(read_to_end(file.as_fd())?);
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Reads from the file's present position to its end.
pub(super) fn read_to_end(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = retry_on_intr(|| read(file, &mut piece))?;
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 {
            return Ok(bytes);
        }
    }
}

/// Writes `value` to `name` in a single write: the kernel treats each write as one command.
pub(super) fn write_at(dir: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    let file = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let count = retry_on_intr(|| write(&file, value.as_bytes()))?;
    if count == value.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Whether the error is a shortage of descriptors or memory, or an I/O error: it says nothing about
/// the requested object.
pub(super) fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::IO)
}
