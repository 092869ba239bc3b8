//! A running group: lists, freezes and kills its processes, and removes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, openat, seek, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::{Directory, pids};
use super::file::{open_dir, read_at, read_record_at, read_to_end, write_at};
use super::systemd::{Ended, Scope};
use super::{Group, tree};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::clock;

/// How long the kernel may take to freeze or to empty a group. A killed process can be in the
/// middle of a slow system call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Poll interval for v1, which has no notification.
const LEGACY_PAUSE: Duration = Duration::from_millis(5);

impl Group {
    /// The PIDs in the group and all groups below it. Empty if the group no longer exists.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match self.main() {
            Some(dir) => pids(&dir.path()),
            None => Ok(Vec::new()),
        }
    }

    /// Stops every process of the group and of those below, and returns once they are stopped.
    ///
    /// Errors, and lets them continue, if they are not stopped after two seconds.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets every process continue.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether every process is stopped: by [`Group::freeze`], or because another process froze
    /// this group or one above it. False if the group no longer exists. One small read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some((dir, file, _)) = self.freezer() else { return Ok(false) };
        // In v2, cgroup.freeze is only the requested state; cgroup.events has the real one,
        // including a freeze from above.
        let (file, lines): (_, &[&str]) = match file {
            "cgroup.freeze" => ("cgroup.events", &["frozen 1"]),
            file => (file, &["FROZEN", "FREEZING"]),
        };
        let path = dir.path().join(file);
        match read_record_at(CWD, &path) {
            Ok(text) => Ok(text.lines().any(|line| lines.contains(&line))),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(error) => Err(error).doing(|| format!("read {}", path.display())),
        }
    }

    /// A unique identity of this group among all that will ever have its path: the inode number of
    /// its first directory, which the kernel does not reuse. `None` if the group no longer exists.
    pub fn identity(&self) -> Result<Option<u64>> {
        let Some(path) = self.main().map(Directory::path) else { return Ok(None) };
        match statat(CWD, &path, AtFlags::empty()) {
            Ok(found) => Ok(Some(found.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing(|| format!("stat cgroup {}", path.display())),
        }
    }

    /// Lets killed processes end: the v1 freezer delays even SIGKILL until the group is thawed.
    /// Does nothing in v2, or if the group is not frozen or no longer exists.
    pub fn let_killed_end(&self) -> Result<()> {
        if self.legacy_dir("freezer").is_some() && self.is_frozen()? {
            self.thaw_if_it_exists()
        } else {
            Ok(())
        }
    }

    fn thaw_if_it_exists(&self) -> Result<()> {
        match self.thaw() {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
            thawed => thawed,
        }
    }

    /// Sends SIGKILL to every process of the group and of all below it. Does nothing if the group
    /// no longer exists.
    ///
    /// One write if the kernel has cgroup.kill (Linux 5.14); otherwise as [`Group::signal`].
    pub fn kill(&self) -> Result<()> {
        if let (Some(dir), true) = (&self.unified, self.legacy.is_empty()) {
            let path = dir.path();
            let opened = match open_dir(&path) {
                Err(Errno::NOENT) => return Ok(()),
                opened => opened.doing(|| format!("open cgroup {}", path.display()))?,
            };
            match write_at(opened.as_fd(), "cgroup.kill", "1") {
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(Errno::NODEV) => return Ok(()),
                done => return done.doing(|| format!("write \"1\" to {}/cgroup.kill", path.display())),
            }
        }
        self.signal(Signal::KILL)
    }

    /// Sends a signal to every process of the group and of all below it.
    ///
    /// The group is frozen meanwhile, so that no process escapes by fork and no PID is reused. Then
    /// the former state is restored, except that the group is thawed after SIGKILL, because v1
    /// kills no frozen process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let was_frozen = self.is_frozen()?;
        // A group that can't be frozen (no freezer, not ours) is signalled anyway.
        let frozen = was_frozen || self.freeze().is_ok();
        let sent = self.signal_each(signal);
        if frozen && (!was_frozen || signal == Signal::KILL) {
            return sent.and(self.thaw_if_it_exists());
        }
        sent
    }

    /// Removes the group and all below it, and kills the processes in it. No error if it no longer
    /// exists.
    ///
    /// Errors if processes are left after two seconds, and names them. Directories above the group
    /// stay, even those that [`Group::create`] created: another container may use them by now.
    pub fn remove(&self) -> Result<()> {
        let Some(scope) = &self.scope else {
            return self.dirs().try_for_each(|dir| self.remove_dir(dir));
        };
        match scope.stop() {
            // The unit's cgroup was removed with it; a cgroup that exists now belongs to a new
            // unit.
            Ok(Ended::Now | Ended::Replaced) => Ok(()),
            Ok(Ended::Before) => self.remove_dir(&scope.dir),
            Err(error) => {
                // Without systemd (the user's instance has ended, its socket is lost) nothing else
                // removes the cgroup.
                tracing::warn!("{error}; the cgroup is removed without systemd");
                self.remove_dir(&scope.dir)
            }
        }
    }

    /// As [`Group::remove`], but kills nothing: if processes still run after two seconds, the group
    /// is another container's.
    pub fn remove_if_unused(&self) -> Result<()> {
        if self.scope.is_some() {
            return self.remove();
        }
        let until = Instant::now() + PATIENCE;
        self.dirs()
            .try_for_each(|dir| if wait_empty(&dir.path(), until)? { self.remove_dir(dir) } else { Ok(()) })
    }

    /// Whether another container owns the unit by now: then no process in the group may be killed.
    ///
    /// Without systemd (the user's instance has ended, its socket is lost) the group is assumed to
    /// be ours.
    pub fn is_another_s(&self) -> Result<bool> {
        self.scope.as_ref().map_or(Ok(false), Scope::is_another_s)
    }

    fn remove_dir(&self, dir: &Directory) -> Result<()> {
        let path = dir.path();
        let until = Instant::now() + PATIENCE;
        loop {
            match unlinkat(CWD, &path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY | Errno::NOTEMPTY) => {}
                // On a read-only file system the kernel returns EROFS even if the directory does
                // not exist.
                Err(Errno::ROFS) if matches!(statat(CWD, &path, AtFlags::empty()), Err(Errno::NOENT)) => {
                    return Ok(());
                }
                Err(error) => return Err(error).doing(|| format!("remove cgroup {}", path.display())),
            }
            let left = pids(&path)?;
            if !left.is_empty() {
                self.kill()?;
                wait_empty(&path, until)?;
            }
            tree::remove_below(&path).doing(|| format!("remove the cgroups below {}", path.display()))?;
            if unlinkat(CWD, &path, AtFlags::REMOVEDIR).is_ok() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(still_busy(&path));
            }
            // Exiting processes are counted a moment longer than they are listed.
            std::thread::sleep(LEGACY_PAUSE);
        }
    }

    fn signal_each(&self, signal: Signal) -> Result<()> {
        let ourselves = std::process::id() as i32;
        for number in self.pids()? {
            // 0 is a process outside our PID namespace.
            let Some(pid) = Pid::from_raw(number).filter(|_| number > 0 && number != ourselves) else {
                continue;
            };
            let sent =
                pidfd_open(pid, PidfdFlags::empty()).and_then(|pidfd| pidfd_send_signal(&pidfd, signal));
            match sent {
                // It has ended; since the list was read, only a thread, session or group may have
                // its number.
                Ok(()) | Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => {}
                Err(error) => {
                    return Err(error)
                        .doing(|| format!("send signal {} to process {number}", signal.as_raw()));
                }
            }
        }
        Ok(())
    }

    /// The directory that lists the processes: v2's if it is the only one, else the first of v1,
    /// because a hybrid v2 may not list all.
    fn main(&self) -> Option<&Directory> {
        let by_name = ["freezer", "pids", "memory", "devices"].iter().find_map(|name| self.legacy_dir(name));
        by_name.or_else(|| self.dirs().next())
    }

    /// The directory, file and values for freezing.
    fn freezer(&self) -> Option<(&Directory, &'static str, Words)> {
        match (self.legacy_dir("freezer"), &self.unified) {
            (Some(dir), _) => Some((dir, "freezer.state", Words { frozen: "FROZEN", thawed: "THAWED" })),
            (None, Some(dir)) => Some((dir, "cgroup.freeze", Words { frozen: "1", thawed: "0" })),
            (None, None) => None,
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let Some((dir, file, words)) = self.freezer() else {
            return Err(Error::new(Kind::Unsupported, "no cgroup of this container can be frozen"));
        };
        let path = dir.path();
        let word = if frozen { words.frozen } else { words.thawed };
        let write = |word: &str| {
            let doing = || format!("write {word:?} to {}/{file}", path.display());
            open_dir(&path).and_then(|dir| write_at(dir.as_fd(), file, word)).doing(doing)
        };
        write(word)?;
        let done = if file == "cgroup.freeze" {
            let line = if frozen { "frozen 1" } else { "frozen 0" };
            // Below a frozen cgroup nothing thaws, so we do not wait for it.
            if frozen { wait_event(&path, line, Instant::now() + PATIENCE)? } else { true }
        } else {
            let mut read = Ok(());
            let done = wait_legacy(|| match legacy_state(&path) {
                Ok(Some(state)) if state == word => true,
                // A forking process can delay the freeze until it is requested again.
                Ok(Some(_)) => write(word).is_err(),
                Ok(None) => true,
                Err(error) => {
                    read = Err(error);
                    true
                }
            });
            read.map(|()| done)?
        };
        if done {
            return Ok(());
        }
        let error =
            Error::new(Kind::System, format!("cgroup {} does not become {word} in 2 s", path.display()));
        Err(if frozen { error.after_cleaning(write(words.thawed)) } else { error })
    }
}

struct Words {
    frozen: &'static str,
    thawed: &'static str,
}

/// The value of freezer.state of a v1 cgroup, if it exists.
pub(super) fn legacy_state(path: &Path) -> Result<Option<String>> {
    match open_dir(path).and_then(|dir| read_at(dir.as_fd(), "freezer.state")) {
        Ok(state) => Ok(Some(state)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}/freezer.state", path.display())),
    }
}

/// Waits until the cgroup and those below have no processes, or until the deadline.
fn wait_empty(path: &Path, until: Instant) -> Result<bool> {
    match open_dir(path).and_then(|dir| open_events(dir.as_fd())) {
        Ok(_) => return wait_event(path, "populated 0", until),
        // v1 has no such file; and a cgroup that no longer exists has no processes.
        Err(Errno::NOENT | Errno::NODEV) => {}
        Err(error) => return Err(error).doing(|| format!("open {}/cgroup.events", path.display())),
    }
    let mut listed = Ok(());
    let empty = wait_legacy(|| match pids(path) {
        Ok(left) => left.is_empty(),
        Err(error) => {
            listed = Err(error);
            true
        }
    });
    listed.map(|()| empty)
}

/// Waits for a line of cgroup.events without polling at intervals: the kernel notifies each change.
/// False: timed out.
fn wait_event(path: &Path, line: &str, until: Instant) -> Result<bool> {
    let wait = || {
        let dir = open_dir(path)?;
        let events = open_events(dir.as_fd())?;
        loop {
            seek(&events, SeekFrom::Start(0))?;
            let text = read_to_end(events.as_fd())?;
            if String::from_utf8_lossy(&text).lines().any(|found| found == line) {
                return Ok(true);
            }
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&clock::left(until))) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    };
    match wait() {
        // A cgroup that no longer exists has no processes.
        Err(Errno::NOENT | Errno::NODEV) => Ok(true),
        waited => waited.doing(|| format!("wait for {line:?} in {}/cgroup.events", path.display())),
    }
}

fn open_events(dir: BorrowedFd<'_>) -> rustix::io::Result<std::os::fd::OwnedFd> {
    openat(dir, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn wait_legacy(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LEGACY_PAUSE);
    }
}

fn still_busy(path: &Path) -> Error {
    const SHOWN: usize = 5;
    let left = pids(path).unwrap_or_default();
    let some: Vec<String> = left.iter().take(SHOWN).map(ToString::to_string).collect();
    let who = match left.len() {
        0 => "although it has no processes".to_owned(),
        count if count > SHOWN => format!("with {count} processes in it, such as {}", some.join(" ")),
        _ => format!("with these processes in it: {}", some.join(" ")),
    };
    let error: Error = Errno::BUSY.into();
    error.within(format!("remove cgroup {} after waiting 2 s, {who}", path.display()))
}
