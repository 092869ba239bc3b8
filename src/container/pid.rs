//! A process, identified by PID and start time: a reused PID is never mistaken for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::{process, small_file};

/// Identifies one process until the next boot.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessId {
    /// Its PID in the runtime's pid namespace.
    pub pid: i32,
    /// Its start time in clock ticks since boot, proc_pid_stat(5), field 22.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this PID now. An error if it has ended.
    pub fn of(pid: i32) -> Result<Self> {
        Self::find(pid)?.ok_or_else(|| Error::new(Kind::System, format!("process {pid} has ended")))
    }

    /// As [`ProcessId::of`], but `None` if it has ended.
    pub fn find(pid: i32) -> Result<Option<Self>> {
        let found = stat(pid).doing(|| format!("read /proc/{pid}/stat"))?;
        Ok(found.map(|Stat { start_time, .. }| Self { pid, start_time }))
    }

    /// This process.
    pub fn own() -> Result<Self> {
        Self::of(process::own_pid())
    }

    /// Whether it runs: not ended, and no zombie. If it cannot be checked, for lack of descriptors
    /// or memory, it counts as alive: a running container must not be taken for a stopped one.
    pub fn is_alive(&self) -> bool {
        match stat(self.pid) {
            Ok(Some(found)) => found.start_time == self.start_time && !matches!(found.state, b'Z' | b'X'),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Whether it is an ancestor of this process.
    pub fn is_ancestor_of_caller(&self) -> Result<bool> {
        let mut pid = process::own_pid();
        // Process 1, and a process whose parent is in another pid namespace, have parent PID 0.
        while pid > 0 {
            let Some(found) = stat(pid).doing(|| format!("read /proc/{pid}/stat"))? else { return Ok(false) };
            if (pid, found.start_time) == (self.pid, self.start_time) {
                return Ok(true);
            }
            pid = found.parent;
        }
        Ok(false)
    }

    /// A pidfd of the process; `None` if it has ended.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        match process::pidfd_open(self.pid) {
            // The PID is checked after the pidfd has pinned the process.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error).doing(|| format!("open process {}", self.pid)),
        }
    }

    /// Adds the message that engines recognize to an error, if the end of this container's process
    /// is the cause: then many things fail in many ways.
    pub fn explain(&self, error: Error) -> Error {
        if self.is_alive() { error } else { error.within("container not running") }
    }

    /// Sends a signal; false if the process has ended.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        let Some(pidfd) = self.pidfd()? else { return Ok(false) };
        self.signal_through(&pidfd, signal)
    }

    /// As [`ProcessId::signal`], for a caller that has the pidfd.
    pub fn signal_through(&self, pidfd: &OwnedFd, signal: i32) -> Result<bool> {
        match process::signal(pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error).doing(|| format!("send signal {signal} to process {}", self.pid)),
        }
    }
}

/// Fields of /proc/PID/stat, proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: i32,
    start_time: u64,
}

/// Reads /proc/PID/stat. `None`: there is no such process.
fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match small_file::read_record(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse(&text)),
        // ESRCH: it ended between open and read.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses the fields after the second, the program's name in parentheses, which may contain
/// anything, including spaces and parentheses.
fn parse(text: &[u8]) -> Option<Stat> {
    let behind = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(behind + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { state, parent, start_time: fields.nth(17)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_mislead() {
        let text = b"42 (a) S 1 (b) R 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        assert_eq!(parse(text), Some(Stat { state: b'R', parent: 1, start_time: 777 }));
        assert_eq!(parse(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not_it() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive());
        assert!(own.is_ancestor_of_caller().unwrap());
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert!(ProcessId::of(parent).unwrap().is_ancestor_of_caller().unwrap());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_ancestor_of_caller().unwrap());
    }
}
