//! The processes of a group, from their start until the last has ended.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use super::print_line;
use super::rules::{Intensity, concerned, wants_restart};
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::group::{Member, ProgramGroup, Restart};
use crate::sys::command;
use crate::sys::process::{self, Exit};
use crate::sys::signal;

/// Signals not forwarded: those caused by our children or our own output, and those that cannot be
/// caught.
const OWN: [i32; 4] = [libc::SIGCHLD, libc::SIGPIPE, libc::SIGKILL, libc::SIGSTOP];

/// Signals of our own faults, with their default action.
const FAULTS: [i32; 6] =
    [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];

/// Runs the group until no process is left, it fails too often, or it is asked to end. Returns the
/// exit status.
pub(super) fn supervise(group: &ProgramGroup) -> Result<u8> {
    let watched = (1..=64).filter(|number| !FAULTS.contains(number));
    let watched = signal::set(watched);
    signal::block(&watched).doing(|| "block signals")?;
    let signals = signal::open(&watched).doing(|| "open a descriptor of signals")?;
    let pids = vec![None; group.members.len()];
    let (intensity, late) = (Intensity::default(), Vec::new());
    let mut life = Life { group, signals, pids, intensity, late, failed: None, stop_requested: false };
    // The first start includes temporary members.
    life.start(0..group.members.len(), |_| true)?;
    life.run()
}

struct Life<'a> {
    group: &'a ProgramGroup,
    signals: OwnedFd,
    /// PIDs of the running members.
    pids: Vec<Option<Pid>>,
    intensity: Intensity,
    /// Members outside the stopped range that ended meanwhile.
    late: Vec<(usize, Exit)>,
    /// Exit status of the first failed member that is not restarted.
    failed: Option<Exit>,
    /// Whether we were asked to end.
    stop_requested: bool,
}

impl Life<'_> {
    fn run(&mut self) -> Result<u8> {
        loop {
            if self.stop_requested {
                std::mem::take(&mut self.late).into_iter().for_each(|(_, exit)| self.note(exit));
                self.stop(0..self.pids.len())?;
                return Ok(self.status());
            }
            let mut ended = std::mem::take(&mut self.late);
            if ended.is_empty() {
                if self.pids.iter().all(Option::is_none) {
                    return Ok(self.status());
                }
                self.wait(None)?;
                ended = self.reap()?;
            }
            for (one, exit) in ended {
                if self.stop_requested {
                    self.note(exit);
                } else if let Some(last) = self.ended(one, exit)? {
                    return Ok(last);
                }
            }
        }
    }

    /// Handles the exit of `one`; returns the exit status if the restart limit is exceeded.
    fn ended(&mut self, one: usize, exit: Exit) -> Result<Option<u8>> {
        let Some(member) = self.group.members.get(one) else { return Ok(None) };
        if !wants_restart(member.restart, exit) {
            self.note(exit);
            return Ok(None);
        }
        // It was already restarted, because another member ended at the same time.
        if self.pids.get(one).is_some_and(Option::is_some) {
            return Ok(None);
        }
        if !self.intensity.allows(self.group, Instant::now()) {
            let ProgramGroup { restarts, seconds, .. } = self.group;
            print_line(&format!(
                "{} {}: more than {restarts} restarts in {seconds} s",
                member.name,
                words(exit)
            ));
            self.stop(0..self.pids.len())?;
            return Ok(Some(status(exit)));
        }
        print_line(&format!("{} {}: started again", member.name, words(exit)));
        let range = concerned(self.group, one);
        self.stop(range.clone())?;
        // When asked to end meanwhile, restart nothing.
        if !self.stop_requested {
            self.start(range, |restart| restart != Restart::Temporary)?;
        }
        Ok(None)
    }

    fn note(&mut self, exit: Exit) {
        if exit != Exit::Code(0) {
            self.failed.get_or_insert(exit);
        }
    }

    fn status(&self) -> u8 {
        self.failed.map_or(0, status)
    }

    /// Starts the members of the range whose restart kind is `wanted`, in order. If one cannot be
    /// started, all are ended.
    fn start(&mut self, range: std::ops::Range<usize>, wanted: impl Fn(Restart) -> bool) -> Result<()> {
        for at in range {
            let (Some(member), Some(pid)) = (self.group.members.get(at), self.pids.get_mut(at)) else {
                continue;
            };
            if !wanted(member.restart) {
                continue;
            }
            match start(member) {
                Ok(child) => *pid = Some(child),
                Err(error) => return Err(error.after_cleaning(self.stop(0..self.pids.len()))),
            }
        }
        Ok(())
    }

    /// Asks the members of the range to end, last first, and kills those that exceed the grace
    /// period, with all their processes.
    fn stop(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        let running: BTreeSet<usize> =
            range.clone().filter(|at| self.pids.get(*at).is_some_and(Option::is_some)).collect();
        for at in running.iter().rev() {
            self.send(*at, self.group.stop_signal);
        }
        let end = Instant::now() + Duration::from_secs(self.group.grace.into());
        let runs = |life: &Self| running.iter().any(|at| life.pids.get(*at).is_some_and(Option::is_some));
        let mut killed = false;
        while runs(self) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && !killed {
                running.iter().for_each(|at| self.send(*at, libc::SIGKILL));
                killed = true;
            }
            // Killed processes end; only the kernel can delay it.
            self.wait((!killed).then_some(left))?;
            for (at, exit) in self.reap()? {
                if self.stop_requested {
                    self.note(exit);
                } else if !range.contains(&at) {
                    self.late.push((at, exit));
                }
            }
        }
        Ok(())
    }

    fn send(&self, at: usize, number: i32) {
        let Some(Some(pid)) = self.pids.get(at) else { return };
        let Some(signal) = Signal::from_named_raw(number) else {
            // Real-time signals have no name here: the pidfd call takes any number.
            if let Ok(pidfd) = process::pidfd_open(pid.as_raw_nonzero().get()) {
                let _ = process::signal(pidfd.as_fd(), number);
            }
            return;
        };
        let _ = match signal {
            Signal::KILL => kill_process_group(*pid, signal),
            _ => kill_process(*pid, signal),
        };
    }

    /// Waits for signals, at most for `patience`, and forwards them.
    fn wait(&mut self, patience: Option<Duration>) -> Result<()> {
        let timeout = patience.and_then(|left| Timespec::try_from(left).ok());
        let mut ready = [PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::from(error).within("wait for signals")),
        }
        while let Some(received) = signal::next(self.signals.as_fd()).doing(|| "read a signal")? {
            let number = received.number;
            match number {
                own if OWN.contains(&own) => {}
                libc::SIGTERM | libc::SIGINT => self.stop_requested = true,
                stop if stop == self.group.stop_signal => self.stop_requested = true,
                other => (0..self.pids.len()).for_each(|at| self.send(at, other)),
            }
        }
        Ok(())
    }

    /// Reaps all that have ended: members, and orphans reparented to us.
    fn reap(&mut self) -> Result<Vec<(usize, Exit)>> {
        let mut ended = Vec::new();
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(found)) => found,
                Ok(None) | Err(Errno::CHILD) => return Ok(ended),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::from(error).within("reap children")),
            };
            let Some(at) = self.pids.iter().position(|own| *own == Some(pid)) else { continue };
            // The next instance must not meet its left processes.
            let _ = kill_process_group(pid, Signal::KILL);
            if let Some(place) = self.pids.get_mut(at) {
                *place = None;
            }
            let exit = status.exit_status().map(Exit::Code);
            let exit = exit.or_else(|| status.terminating_signal().map(Exit::Signal));
            ended.push((at, exit.unwrap_or(Exit::Code(0))));
        }
    }
}

/// Starts a member in its own process group, with default signal handling.
fn start(member: &Member) -> Result<Pid> {
    let doing = || format!("start {}: {}", member.name, member.args.first().map_or("", String::as_str));
    let words = member.args.iter().map(|word| CString::new(word.as_bytes()));
    let words = words.collect::<std::result::Result<_, _>>().map_err(std::io::Error::from).doing(doing)?;
    let child = command::plain(words).process_group(0).spawn().doing(doing)?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| Error::new(Kind::System, "a child has no pid"))
}

fn status(exit: Exit) -> u8 {
    u8::try_from(exit.status()).unwrap_or(u8::MAX)
}

fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal(number) => format!("was ended by signal {number}"),
    }
}
