//! The runtime's half of the conversation with the container's process, `init::sync`: what only it can do for the child.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::group::{self, guard_devices};
use super::open_files::Raised;
use super::pid::ProcessId;
use super::record::Record;
use super::state::{State, Status};
use super::{hold, hooks, idmap, notify, report, sources};
use crate::cgroup::Made;
use crate::error::{Doing, Error, Kind, Result};
use crate::init::sync::{self, Message};
use crate::net;
use crate::plan::{Fault, Plan};
use crate::sys::{cred, process};

/// What the child needs of us while it carries out the plan.
pub struct Conversation<'a> {
    pub plan: &'a Plan,
    pub folder: &'a Folder,
    pub record: &'a mut Record,
    /// Our end.
    pub sync: OwnedFd,
    /// The child, which may come to be another process.
    pub pid: i32,
    /// See `pid`.
    pub pidfd: OwnedFd,
    /// Whether it has yet to. Only the first word of that is believed: the successor may be in a tracer's hands.
    pub awaits_successor: bool,
    /// Bind sources that may still get the container's mapping.
    pub sources: Vec<Option<OwnedFd>>,
    /// Set back once they are closed.
    pub raised: Option<Raised>,
    /// Whether the cgroup is joined after the clone.
    pub joins_late: bool,
    /// The cgroup.
    pub made: Option<Made>,
    /// Whether the limits are set.
    pub limited: bool,
    /// Whether what an ordinary user cannot do is left out.
    pub tolerant: bool,
}

impl Conversation<'_> {
    /// Work beside the child's.
    pub fn begin(&mut self) -> Result<()> {
        report::cloned(self.pid, self.plan);
        self.note_init()?;
        let process = self.plan.process.as_ref();
        if let Some(score) = process.and_then(|process| process.oom_score.as_ref()) {
            fs::write(format!("/proc/{}/oom_score_adj", self.pid), score)
                .doing(|| format!("process.oomScoreAdj: set it to {score}"))?;
        }
        self.guard_devices()
    }

    fn guard_devices(&self) -> Result<()> {
        self.made.as_ref().map_or(Ok(()), |made| guard_devices(made, self.plan, self.tolerant))
    }

    /// As late as may be: the container is made by processes in its group, which should not be what the limit is for.
    fn limit(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.limited, true) {
            return Ok(());
        }
        if let Some(group) = &self.record.rdt {
            group.join(self.pid)?;
        }
        let Some(made) = &self.made else { return Ok(()) };
        made.apply(&self.plan.limits)?;
        self.check_alive(made)
    }

    /// The kernel kills a group's processes at once when its memory limit is less than they have. Ours has a fraction of a
    /// mebibyte by now, but a limit may be lower.
    fn check_alive(&self, made: &Made) -> Result<()> {
        const FIELD: &str = "linux.resources.memory.limit";
        const ENOUGH: u64 = 4 << 20;
        let limit = self.plan.limits.writes.iter().find(|write| write.field == FIELD);
        let low = limit.and_then(|write| write.value.parse::<u64>().ok()).filter(|bytes| *bytes < ENOUGH);
        let Some(bytes) = low.filter(|_| made.has_killed()) else { return Ok(()) };
        let soon = Instant::now() + Duration::from_secs(1);
        if !hooks::poll_until(self.pidfd.as_fd(), Some(soon)).doing(|| "wait for the container's process")? {
            return Ok(());
        }
        let words = format!(
            "{bytes} bytes are too few for the process that waits to be started; the kernel has killed it"
        );
        Err(Error::invalid(FIELD, words))
    }

    fn note_init(&mut self) -> Result<()> {
        // A child that has failed already will say so; its number is then of no use.
        if let Some(init) = ProcessId::find(self.pid)? {
            self.record.init = Some(init);
            self.folder.write(self.record)?;
        }
        hold::here("cloned");
        Ok(())
    }

    /// The fault of a child that is dead by now, which tells more than our own failure to reach it.
    pub fn last_words(&self) -> Option<Error> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let said =
            poll(&mut [PollFd::new(&self.sync, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0);
        if !said {
            return None;
        }
        loop {
            match sync::hear(self.sync.as_fd()) {
                Ok(Some((Message::Done(done), _))) if report::wanted() => {
                    report::done(self.pid, self.plan, done);
                }
                Ok(Some((Message::Fault(fault), _))) => {
                    return Some(self.explain(fault));
                }
                _ => return None,
            }
        }
    }

    /// The words for a fault that was just heard.
    fn explain(&self, fault: Fault) -> Error {
        let printed = hooks::printed_inside(fault, self.sync.as_fd());
        Error::new(Kind::System, fault.explain(self.plan) + &printed)
    }

    pub fn until_waiting(&mut self) -> Result<()> {
        loop {
            match sync::hear(self.sync.as_fd()).doing(|| "listen to the container's process")? {
                Some((Message::Done(done), _)) if report::wanted() => {
                    report::done(self.pid, self.plan, done);
                    continue;
                }
                Some((Message::MapIds, _)) => self.give_ids()?,
                Some((Message::Hooks, _)) => self.run_hooks()?,
                Some((Message::Limits, _)) => set_limits(self.plan, self.pid)?,
                Some((Message::MapMount(index), Some(mount))) => {
                    sources::map_of_child(self.plan, usize::from(index), &mount, self.pid)?;
                }
                Some((Message::KeyringStays, _)) => warn_of_keyring(),
                Some((Message::Successor, Some(pidfd))) if std::mem::take(&mut self.awaits_successor) => {
                    (self.pid, self.pidfd) = succeed(&self.pidfd, pidfd)?;
                    self.note_init()?;
                }
                Some((Message::Listener(number), _)) => {
                    match notify::take(self.plan, number, self.pidfd.as_fd(), self.sync.as_fd())? {
                        Some(listener) => self.hand_on(&listener)?,
                        None => continue,
                    }
                }
                Some((Message::Notify, Some(listener))) => self.hand_on(&listener)?,
                Some((Message::Waiting, _)) => {
                    self.limit()?;
                    report::affinity(self.pid);
                    tracing::debug!("child process in init(): set up; waits for the word to start");
                    return self.hand_over();
                }
                Some((Message::Fault(fault), _)) => {
                    return Err(self.explain(fault));
                }
                Some((
                    Message::Notify
                    | Message::Successor
                    | Message::MapMount(_)
                    | Message::Hooked
                    | Message::Done(_),
                    _,
                )) => {
                    return Err(Error::new(
                        Kind::System,
                        "the container's process said something unexpected",
                    ));
                }
                None => return Err(self.died()),
            }
            match sync::go(self.sync.as_fd()) {
                Err(rustix::io::Errno::PIPE) => return Err(self.last_words().unwrap_or_else(|| self.died())),
                answered => answered.doing(|| "answer the container's process")?,
            }
        }
    }

    fn hand_on(&self, listener: &OwnedFd) -> Result<()> {
        notify::hand_on(self.record, self.plan, self.pid, Status::Creating, listener)
    }

    fn died(&self) -> Error {
        let how = match process::wait(self.pidfd.as_fd()) {
            Ok(process::Exit::Signal(libc::SIGSYS)) => "was killed by linux.seccomp (SIGSYS)".to_owned(),
            Ok(process::Exit::Signal(signal)) => format!("was killed by signal {signal}"),
            Ok(process::Exit::Code(code)) => format!("ended with status {code}"),
            Err(error) => format!("is gone: {error}"),
        };
        Error::new(Kind::System, format!("the container's process {how} while it was set up"))
    }

    fn give_ids(&mut self) -> Result<()> {
        let namespaces = &self.plan.namespaces;
        if let (true, Some(maps)) = (namespaces.creates(libc::CLONE_NEWUSER), &namespaces.maps) {
            idmap::write(self.pid, maps, namespaces.maps_by)?;
            report::maps(maps);
            let pid = self.pid;
            sources::map_to_container(self.plan, &self.sources, || idmap::of_process(pid))?;
        }
        self.close_sources();
        if self.joins_late {
            self.join_group()?;
        }
        let devices = &self.plan.net_devices;
        if devices.is_empty() {
            return Ok(());
        }
        let path = format!("/proc/{}/ns/net", self.pid);
        let inside = fs::File::open(&path).doing(|| format!("open {path}"))?;
        net::move_devices(devices, inside.as_fd())
    }

    /// The child has its own copies.
    pub fn close_sources(&mut self) {
        self.sources = Vec::new();
        self.raised = None;
    }

    /// The process waits meanwhile, so that its cgroup namespace begins where it is now moved to.
    fn join_group(&mut self) -> Result<()> {
        if let Some(made) = group::join_group(self.folder, self.record, self.plan, self.pid)? {
            self.made = Some(made);
            self.guard_devices()?;
        }
        Ok(())
    }

    /// What the container may arrange below its limits. Its cgroup namespace, if it has its own, has begun above.
    fn hand_over(&self) -> Result<()> {
        let Some(made) = &self.made else { return Ok(()) };
        made.enter_delegated(self.pid)?;
        let Some(owner) = self.plan.cgroup_owner else { return Ok(()) };
        match made.delegate(owner) {
            // A user cannot give to another one, a sub-id of his.
            Err(error) if self.tolerant && error.errno() == Some(libc::EPERM) => Ok(()),
            other => other,
        }
    }

    fn run_hooks(&mut self) -> Result<()> {
        self.limit()?;
        let state = State::of(self.record, Status::Creating);
        hooks::run(&self.plan.hooks.create_runtime, &state)?;
        hold::here("hooks");
        Ok(())
    }
}

/// The container starts all the same, as with crun.
pub fn warn_of_keyring() {
    tracing::warn!(
        "the process keeps the session keyring of the runtime's caller: the key quota of its user is exhausted (see /proc/key-users and kernel.keys.maxkeys)"
    );
}

/// Limits that the process itself may not raise.
pub fn set_limits(plan: &Plan, pid: i32) -> Result<()> {
    let limits = plan.process.as_ref().map_or(&[][..], |process| &process.rlimits);
    limits.iter().enumerate().try_for_each(|(at, (resource, soft, hard))| {
        cred::set_limit(pid, *resource, *soft, *hard).doing(|| plan.describe_limit(at))
    })
}

/// The first process has ended in favour of one that it made inside the joined user namespace.
pub fn succeed(first: &OwnedFd, successor: OwnedFd) -> Result<(i32, OwnedFd)> {
    process::wait(first.as_fd()).doing(|| "wait for the first process")?;
    Ok((pid_of(&successor)?, successor))
}

/// The number behind a pidfd, from its fdinfo: proc_pid_fdinfo(5).
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new(Kind::System, "the container's process has ended"))
}
