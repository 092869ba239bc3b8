//! A running group: its processes, freezing, killing, and its end.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, openat, seek, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::file::{open_dir, read_at, read_to_end, write_at};
use super::systemd::{Ended, Scope};
use super::{Directory, Group, tree};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::clock;

/// How long the kernel may take to freeze or to empty a group. A killed process can be in the middle of a slow call.
const PATIENCE: Duration = Duration::from_secs(2);

/// v1 gives no notice; between two looks.
const LEGACY_PAUSE: Duration = Duration::from_millis(5);

impl Group {
    /// The processes in the group and in all below it, by number. None when the group is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match self.main() {
            Some(dir) => pids(&dir.path()),
            None => Ok(Vec::new()),
        }
    }

    /// Stops every process, those of groups below too, and returns once they are stopped.
    ///
    /// Errors when they are not after two seconds; they then go on.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether every process stands still: by [`Group::freeze`], or because somebody else froze this group or one above it.
    /// False when it is gone. One small read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some((dir, file, _)) = self.freezer() else { return Ok(false) };
        // What v2's own switch says is a wish; the events tell what came of it, wherever it was asked for.
        let (file, lines): (_, &[&str]) = match file {
            "cgroup.freeze" => ("cgroup.events", &["frozen 1"]),
            file => (file, &["FROZEN", "FREEZING"]),
        };
        let path = dir.path().join(file);
        match read_at(CWD, &path) {
            Ok(text) => Ok(text.lines().any(|line| lines.contains(&line))),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(error) => Err(error).doing(|| format!("read {}", path.display())),
        }
    }

    /// What tells this group from any other that will ever be at its path: the inode number of its first directory, which the
    /// kernel does not use twice. None when it is gone.
    pub fn identity(&self) -> Result<Option<u64>> {
        let Some(path) = self.main().map(Directory::path) else { return Ok(None) };
        match statat(CWD, &path, AtFlags::empty()) {
            Ok(found) => Ok(Some(found.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing(|| format!("look at cgroup {}", path.display())),
        }
    }

    /// Lets killed processes end: version 1's freezer holds even SIGKILL back until the group is thawed. Nothing happens in version
    /// 2, and when the group is not frozen or gone.
    pub fn let_killed_end(&self) -> Result<()> {
        if self.legacy_dir("freezer").is_some() && self.is_frozen()? { self.thaw_or_gone() } else { Ok(()) }
    }

    fn thaw_or_gone(&self) -> Result<()> {
        match self.thaw() {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
            thawed => thawed,
        }
    }

    /// Sends SIGKILL to every process of the group and of all below it. Nothing happens when the group is gone.
    ///
    /// One write where the kernel has cgroup.kill (Linux 5.14); else as [`Group::signal`].
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
    /// They are frozen meanwhile, so that none forks away and no number is given to another process. Then the group is as frozen as it was
    /// before; but after SIGKILL it is thawed, as v1 kills no frozen process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let was_frozen = self.is_frozen()?;
        // A group that can't be frozen (no freezer, not ours) gets its signals all the same.
        let frozen = was_frozen || self.freeze().is_ok();
        let sent = self.signal_each(signal);
        if frozen && (!was_frozen || signal == Signal::KILL) {
            return sent.and(self.thaw_or_gone());
        }
        sent
    }

    /// Removes the group and all below it; what is still in it is killed. Fine when it is gone.
    ///
    /// Errors when processes are left after two seconds, and names them. Directories above the group stay, even those that
    /// [`Group::create`] made: another container may have come to use them.
    pub fn remove(&self) -> Result<()> {
        let Some(scope) = &self.scope else {
            return self.dirs().try_for_each(|dir| self.remove_dir(dir));
        };
        match scope.stop() {
            // Its cgroup has gone with it; and one that is there now is a new unit's.
            Ok(Ended::Now | Ended::Replaced) => Ok(()),
            Ok(Ended::Before) => self.remove_dir(&scope.dir),
            Err(error) => {
                // Without systemd (a user's has gone, its socket is lost) nobody else takes the cgroup away.
                tracing::warn!("{error}; the cgroup is removed without systemd");
                self.remove_dir(&scope.dir)
            }
        }
    }

    /// As [`Group::remove`], but kills nothing: what still runs after two seconds is another container's, and the group with it.
    pub fn remove_if_unused(&self) -> Result<()> {
        if self.scope.is_some() {
            return self.remove();
        }
        let until = Instant::now() + PATIENCE;
        self.dirs()
            .try_for_each(|dir| if wait_empty(&dir.path(), until)? { self.remove_dir(dir) } else { Ok(()) })
    }

    /// Whether the group is in truth another container's, that has the same unit: then nothing in it is ours to kill.
    ///
    /// Without systemd (a user's has gone, its socket is lost) it is taken for ours.
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
                // On a read-only file system the kernel refuses before it looks.
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
            // Processes that exit are counted a moment longer than they are listed.
            std::thread::sleep(LEGACY_PAUSE);
        }
    }

    fn signal_each(&self, signal: Signal) -> Result<()> {
        let ourselves = std::process::id() as i32;
        for number in self.pids()? {
            // 0 is a process outside of our pid namespace.
            let Some(pid) = Pid::from_raw(number).filter(|_| number > 0 && number != ourselves) else {
                continue;
            };
            let sent =
                pidfd_open(pid, PidfdFlags::empty()).and_then(|pidfd| pidfd_send_signal(&pidfd, signal));
            match sent {
                // It has ended; after the look at its number, only a thread, session or group may have that.
                Ok(()) | Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => {}
                Err(error) => {
                    return Err(error)
                        .doing(|| format!("send signal {} to process {number}", signal.as_raw()));
                }
            }
        }
        Ok(())
    }

    /// The directory that lists the processes: v2's alone, else the first of v1, for what v2 shows in hybrid may not be all.
    fn main(&self) -> Option<&Directory> {
        let by_name = ["freezer", "pids", "memory", "devices"].iter().find_map(|name| self.legacy_dir(name));
        by_name.or_else(|| self.dirs().next())
    }

    /// Where freezing is done, by which file, in which words.
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
            // Below a frozen cgroup nothing thaws; that is not for us to wait for.
            if frozen { wait_event(&path, line, Instant::now() + PATIENCE)? } else { true }
        } else {
            let mut asked = Ok(());
            let done = wait_legacy(|| match legacy_state(&path) {
                Ok(Some(state)) if state == word => true,
                // A process that was forking can hold it up until it is asked again.
                Ok(Some(_)) => write(word).is_err(),
                Ok(None) => true,
                Err(error) => {
                    asked = Err(error);
                    true
                }
            });
            asked.map(|()| done)?
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

/// The processes in a cgroup and below, each once.
pub(super) fn pids(path: &Path) -> Result<Vec<i32>> {
    let mut found = BTreeSet::new();
    tree::each(path, |dir| match read_at(dir, "cgroup.procs") {
        Ok(text) => {
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            Ok(())
        }
        // Gone meanwhile; or threaded, and its processes are listed above.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    })
    .doing(|| format!("list the processes of cgroup {}", path.display()))?;
    Ok(found.into_iter().collect())
}

/// What freezer.state of a v1 cgroup says, where there is one.
pub(super) fn legacy_state(path: &Path) -> Result<Option<String>> {
    match open_dir(path).and_then(|dir| read_at(dir.as_fd(), "freezer.state")) {
        Ok(state) => Ok(Some(state)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}/freezer.state", path.display())),
    }
}

/// Waits until nothing runs in the cgroup or below it, or until the time is over.
fn wait_empty(path: &Path, until: Instant) -> Result<bool> {
    match open_dir(path).and_then(|dir| open_events(dir.as_fd())) {
        Ok(_) => return wait_event(path, "populated 0", until),
        // Version 1 has no such file; and a cgroup that is gone has no processes.
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

/// Waits for a line of cgroup.events without asking again and again: the kernel tells of each change. False: the time is over.
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
        // A cgroup that is gone holds nothing.
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
        0 => "though no process is in it".to_owned(),
        count if count > SHOWN => format!("with {count} processes in it, such as {}", some.join(" ")),
        _ => format!("with these processes in it: {}", some.join(" ")),
    };
    let error: Error = Errno::BUSY.into();
    error.within(format!("remove cgroup {} after waiting 2 s, {who}", path.display()))
}
