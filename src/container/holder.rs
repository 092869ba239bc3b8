//! Finds the process that holds a container's lock. Source: proc_locks(5).

use std::fs;

use rustix::fs::Stat;

use super::directory::Directory;
use super::pid::ProcessId;
use crate::error::{Doing, Result};

/// The holder of the lock. `None`: no process visible from here; or one with only a copy, made by a
/// clone, of a dead process's lock.
pub(crate) fn of(directory: &Directory) -> Result<Option<ProcessId>> {
    const FILE: &str = "/proc/locks";
    let locked = directory.stat()?;
    let text = fs::read_to_string(FILE).doing(|| format!("read {FILE}"))?;
    for pid in candidates(&text, locked.st_ino) {
        // First the process, then its open files: the PID may be reused meanwhile.
        if let Some(process) = ProcessId::find(pid)?
            && has_open(pid, locked)?
        {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Processes that hold a flock(2) on a file with this inode number, on any device: some file
/// systems report another device number there than stat(2). The line of a waiter has an arrow after
/// the number.
fn candidates(locks: &str, inode: u64) -> impl Iterator<Item = i32> {
    let inode = format!(":{inode}");
    locks.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid = fields.nth(2)?.parse().ok()?;
        fields.next()?.ends_with(&inode).then_some(pid)
    })
}

fn has_open(pid: i32, wanted: &Stat) -> Result<bool> {
    let path = format!("/proc/{pid}/fd");
    let entries = match fs::read_dir(&path) {
        Err(error) if is_gone(error.raw_os_error()) => return Ok(false),
        entries => entries.doing(|| format!("read {path}"))?,
    };
    for entry in entries {
        let file = match entry {
            Err(error) if is_gone(error.raw_os_error()) => return Ok(false),
            entry => entry.doing(|| format!("read {path}"))?.path(),
        };
        match rustix::fs::stat(&file) {
            Ok(found) if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) => return Ok(true),
            Ok(_) => {}
            Err(error) if is_gone(Some(error.raw_os_error())) => {}
            Err(error) => return Err(error).doing(|| format!("stat {}", file.display())),
        }
    }
    Ok(false)
}

/// Whether the errno means that a process has ended or belongs to another user.
fn is_gone(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_holders() {
        let text = "1: FLOCK  ADVISORY  WRITE 11 00:1b:77 0 EOF
1: -> FLOCK  ADVISORY  WRITE 12 00:1b:77 0 EOF
2: POSIX  ADVISORY  WRITE 13 00:1b:77 0 EOF
3: FLOCK  ADVISORY  WRITE 14 00:1b:177 0 EOF
4: FLOCK  ADVISORY  WRITE 15 00:2c:77 0 EOF
broken
";
        assert_eq!(candidates(text, 77).collect::<Vec<_>>(), [11, 15]);
    }
}
