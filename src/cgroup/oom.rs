//! Notification of out-of-memory kills in a group, without polling at intervals.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Access, AtFlags, Mode, OFlags, SeekFrom, accessat, openat, seek};
use rustix::io::{Errno, read};

use super::Group;
use super::file::{open_dir, read_to_end, write_at};
use crate::error::{Doing, Result};

/// Becomes ready when processes are killed; see [`OomWatch::fd`].
#[derive(Debug)]
pub struct OomWatch(KillCounter);

#[derive(Debug)]
enum KillCounter {
    /// memory.events, and the number of kills already reported. Kernel: cgroup-v2.rst, "Memory
    /// Interface Files".
    Events(OwnedFd, u64),
    /// An eventfd that counts kills, and its group. Kernel: cgroup-v1/memory.rst, "OOM Control".
    Counter { counter: OwnedFd, group: OwnedFd },
}

impl Group {
    /// Starts to watch. `None`: the group has no memory controller, or no longer exists.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let v2 = self.unified.as_ref().filter(|_| self.is_unified());
        let Some(dir) = v2.or_else(|| self.legacy_dir("memory")) else { return Ok(None) };
        let path = dir.path();
        let watch = || -> rustix::io::Result<OomWatch> {
            let group = open_dir(&path)?;
            let open = |name| openat(&group, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            if v2.is_some() {
                let events = open("memory.events")?;
                let kills = kills_now(events.as_fd())?;
                return Ok(OomWatch(KillCounter::Events(events, kills)));
            }
            let control = open("memory.oom_control")?;
            let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let wish = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
            write_at(group.as_fd(), "cgroup.event_control", &wish)?;
            Ok(OomWatch(KillCounter::Counter { counter, group }))
        };
        match watch() {
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            watch => {
                watch.map(Some).doing(|| format!("watch for out of memory in cgroup {}", path.display()))
            }
        }
    }
}

impl OomWatch {
    /// The descriptor to poll, and the events to poll for.
    pub fn fd(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.0 {
            KillCounter::Events(events, _) => (events.as_fd(), PollFlags::PRI),
            KillCounter::Counter { counter, .. } => (counter.as_fd(), PollFlags::IN),
        }
    }

    /// Whether there were kills since the last call. `None`: the group no longer exists, and no
    /// more events will come.
    pub fn happened(&mut self) -> Option<bool> {
        match &mut self.0 {
            KillCounter::Events(events, told) => {
                let kills = kills_now(events.as_fd()).ok()?;
                let more = kills > *told;
                *told = kills;
                Some(more)
            }
            KillCounter::Counter { counter, group } => {
                let count = match read(counter, &mut [0u8; 8]) {
                    Err(Errno::AGAIN) => return Some(false),
                    count => count.ok()?,
                };
                // The counter also counts the removal of the group.
                let access = accessat(group, "memory.oom_control", Access::EXISTS, AtFlags::empty());
                access.ok().map(|()| count > 0)
            }
        }
    }
}

/// The number of killed processes of the group and of all below, from memory.events.
fn kills_now(events: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    seek(events, SeekFrom::Start(0))?;
    Ok(kills(&String::from_utf8_lossy(&read_to_end(events)?)))
}

/// The number of killed processes, from the text of memory.events.
pub(super) fn kills(events: &str) -> u64 {
    let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    kills.unwrap_or(0)
}
