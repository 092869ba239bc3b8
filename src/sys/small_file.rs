//! Reads whole small files with few calls: no status, no growing pieces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::retry_on_intr;
use rustix::path::Arg;

/// More than any file that is usually read here. A longer file takes more reads.
const USUAL: usize = 4096;

/// Reads the file `name` in `directory`.
pub fn read_at(directory: BorrowedFd<'_>, name: impl Arg) -> io::Result<Vec<u8>> {
    read_until(directory, name, |read| read == 0)
}

/// Reads a file of procfs whose content is a single record (`stat`, `status`, `cgroup`: seq_file.h,
/// `single_open`): the kernel makes it at once, so a read that does not fill the buffer is the
/// last.
pub fn read_record(path: impl Arg) -> io::Result<Vec<u8>> {
    read_until(CWD, path, |read| read < USUAL)
}

fn read_until(
    directory: BorrowedFd<'_>,
    name: impl Arg,
    is_last: impl Fn(usize) -> bool,
) -> io::Result<Vec<u8>> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    let mut piece = [0; USUAL];
    loop {
        let read = retry_on_intr(|| rustix::io::read(file.as_fd(), &mut piece))?;
        content.extend_from_slice(piece.get(..read).unwrap_or_default());
        if is_last(read) {
            return Ok(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, USUAL - 1, USUAL, USUAL + 1, 3 * USUAL] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            std::fs::write(&path, &content).unwrap();
            assert_eq!(read_at(CWD, &path).unwrap(), content);
            assert_eq!(read_record(&path).unwrap(), content);
        }
        let missing = read_at(CWD, directory.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn records_are_those_that_std_reads() {
        assert_eq!(read_record("/proc/self/cgroup").unwrap(), std::fs::read("/proc/self/cgroup").unwrap());
        let name = |stat: Vec<u8>| stat.split(|byte| *byte == b')').next().map(<[u8]>::to_vec);
        assert_eq!(name(read_record("/proc/1/stat").unwrap()), name(std::fs::read("/proc/1/stat").unwrap()));
    }
}
