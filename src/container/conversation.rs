//! The runtime's half of the conversation with a cloned process, `init::sync`. `create` and `exec`
//! share it; each serves its own requests as a [`Server`].

use std::mem::Discriminant;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::record::Record;
use super::state::Status;
use super::{notify, report};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::sync::{self, Message};
use crate::plan::{Plan, StepError};
use crate::sys::{cred, process, small_file};

/// A process that was cloned for a plan, and the runtime's ends of its sockets.
pub(super) struct Child {
    /// Its PID; changes when a successor takes over.
    pub pid: i32,
    /// Its pidfd; changes with `pid`.
    pub pidfd: OwnedFd,
    /// The socket of the conversation.
    pub sync: OwnedFd,
    /// The socket for the terminal's master, if the runtime receives it.
    pub console: Option<OwnedFd>,
}

impl Child {
    /// Kills and reaps it after an error.
    pub(crate) fn kill(self, error: Error) -> Error {
        let ended = match process::signal(self.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => process::wait(self.pidfd.as_fd()).map(drop),
        };
        error.after_cleaning(ended.doing(|| format!("end process {}", self.pid)))
    }
}

/// The message that the process waits for once it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The answer, sent now.
    Answer,
    /// The start message, sent later: the conversation pauses here.
    Start,
}

/// The requests that depend on the command. On error the process is killed.
pub(super) trait Server {
    /// The process's name in messages.
    const NAME: &'static str;

    /// Called right after the clone, while the process works too.
    fn begin(&mut self, child: &Child) -> Result<()>;

    /// Called when a successor has taken over: `child` has a new PID.
    fn replaced(&mut self, child: &Child) -> Result<()>;

    /// Serves [`Message::MapIds`].
    fn map_ids(&mut self, child: &Child) -> Result<()>;

    /// Serves [`Message::Hooks`].
    fn run_hooks(&mut self, _child: &Child) -> Result<()> {
        Err(unexpected(Self::NAME))
    }

    /// Serves [`Message::MapMount`].
    fn map_mount(&mut self, _child: &Child, _index: u16, _mount: &OwnedFd) -> Result<()> {
        Err(unexpected(Self::NAME))
    }

    /// Serves [`Message::Waiting`]: the process is set up.
    fn set_up(&mut self, child: &Child) -> Result<Next>;

    /// Called when the process has closed its end without a fault: by execve, or because it was
    /// killed.
    fn closed(&mut self, child: &Child) -> Result<()>;

    /// The error for a fault that the process has sent.
    fn explain(&self, child: &Child, fault: StepError) -> Error;

    /// The container, and its status for a seccomp agent.
    fn container(&self) -> (&Record, Status);
}

/// The conversation with one process.
pub(super) struct Conversation<'a> {
    pub plan: &'a Plan,
    pub child: Child,
    /// Whether a successor is still to take over. Only the first such message is accepted: a tracer
    /// may control the successor, and could pass off any other process as the next one.
    pub awaits_successor: bool,
}

impl Conversation<'_> {
    /// Answers the process until it waits for the start message or has closed its end.
    pub(crate) fn hold<S: Server>(&mut self, server: &mut S) -> Result<()> {
        report::cloned(self.child.pid, self.plan);
        server.begin(&self.child).map_err(|error| self.last_fault(server).unwrap_or(error))?;
        let mut requests = Requests::default();
        loop {
            let heard = sync::hear(self.child.sync.as_fd()).doing(|| format!("listen to {}", S::NAME))?;
            let Some((message, attached)) = heard else { return server.closed(&self.child) };
            if !requests.admit(message) {
                return Err(unexpected(S::NAME));
            }
            match (message, attached) {
                (Message::Done(done), _) if report::enabled() => {
                    report::done(self.child.pid, self.plan, done);
                    continue;
                }
                (Message::MapIds, _) => server.map_ids(&self.child)?,
                (Message::Hooks, _) => server.run_hooks(&self.child)?,
                (Message::MapMount(index), Some(mount)) => server.map_mount(&self.child, index, &mount)?,
                (Message::Limits, _) => set_limits(self.plan, self.child.pid)?,
                (Message::KeyringStays, _) => warn_of_keyring(),
                (Message::Successor, Some(pidfd)) if std::mem::take(&mut self.awaits_successor) => {
                    self.replace_child(pidfd)?;
                    server.replaced(&self.child)?;
                }
                (Message::Listener(number), _) => match self.take_listener(number)? {
                    Some(listener) => self.hand_on(server, &listener)?,
                    None => continue,
                },
                (Message::Notify, Some(listener)) => self.hand_on(server, &listener)?,
                (Message::Waiting, _) => match server.set_up(&self.child)? {
                    Next::Answer => {}
                    Next::Start => return Ok(()),
                },
                (Message::Fault(fault), _) => return Err(server.explain(&self.child, fault)),
                (
                    Message::Notify
                    | Message::Successor
                    | Message::MapMount(_)
                    | Message::Hooked
                    | Message::Done(_),
                    _,
                ) => return Err(unexpected(S::NAME)),
            }
            match sync::go(self.child.sync.as_fd()) {
                // It has ended; its fault is read next.
                Err(rustix::io::Errno::PIPE) => {}
                answered => answered.doing(|| format!("answer {}", S::NAME))?,
            }
        }
    }

    /// The fault of a process that has ended. It explains more than the runtime's failure to reach
    /// the process.
    fn last_fault(&self, server: &impl Server) -> Option<Error> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let sync = &self.child.sync;
        let sent = poll(&mut [PollFd::new(sync, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0);
        if !sent {
            return None;
        }
        loop {
            match sync::hear(sync.as_fd()) {
                Ok(Some((Message::Done(done), _))) if report::enabled() => {
                    report::done(self.child.pid, self.plan, done);
                }
                Ok(Some((Message::Fault(fault), _))) => return Some(server.explain(&self.child, fault)),
                _ => return None,
            }
        }
    }

    /// Waits for the first process, which has ended, and replaces it with its successor inside the
    /// joined namespaces.
    fn replace_child(&mut self, successor: OwnedFd) -> Result<()> {
        process::wait(self.child.pidfd.as_fd()).doing(|| "wait for the first process")?;
        self.child.pid = pid_of(&successor)?;
        self.child.pidfd = successor;
        Ok(())
    }

    fn take_listener(&self, number: i32) -> Result<Option<OwnedFd>> {
        notify::take(self.plan, number, self.child.pidfd.as_fd(), self.child.sync.as_fd())
    }

    fn hand_on(&self, server: &impl Server, listener: &OwnedFd) -> Result<()> {
        let (record, status) = server.container();
        notify::hand_on(record, self.plan, self.child.pid, status, listener)
    }
}

/// The requests received so far. A tracer may control the successor and repeat requests with
/// effects outside the container, such as hooks.
#[derive(Default)]
struct Requests(Vec<Discriminant<Message>>);

impl Requests {
    /// Whether the message is permitted now: most requests may come once.
    fn admit(&mut self, message: Message) -> bool {
        match message {
            Message::MapMount(_) | Message::Done(_) | Message::Fault(_) => return true,
            Message::MapIds
            | Message::Hooks
            | Message::Limits
            | Message::Listener(_)
            | Message::Notify
            | Message::Successor
            | Message::KeyringStays
            | Message::Waiting
            | Message::Hooked => {}
        }
        let kind = std::mem::discriminant(&message);
        let is_first = !self.0.contains(&kind);
        if is_first {
            self.0.push(kind);
        }
        is_first
    }
}

fn unexpected(name: &str) -> Error {
    Error::new(Kind::System, format!("{name} sent an unexpected message"))
}

/// Only a warning: the process starts, as with crun.
fn warn_of_keyring() {
    tracing::warn!(
        "the process keeps the session keyring of the runtime's caller: the key quota of its user is exhausted (see /proc/key-users and kernel.keys.maxkeys)"
    );
}

/// Sets the limits that the process may not raise itself.
fn set_limits(plan: &Plan, pid: i32) -> Result<()> {
    let limits = plan.process.as_ref().map_or(&[][..], |process| &process.rlimits);
    limits.iter().enumerate().try_for_each(|(at, (resource, soft, hard))| {
        cred::set_limit(pid, *resource, *soft, *hard).doing(|| plan.describe_limit(at))
    })
}

/// The PID of a pidfd, from its fdinfo: proc_pid_fdinfo(5).
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = small_file::read_record(&path).doing(|| format!("read {path}"))?;
    let text = String::from_utf8_lossy(&text);
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new(Kind::System, "the container's process has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_with_effects_are_made_once() {
        let mut requests = Requests::default();
        for message in
            [Message::MapIds, Message::Hooks, Message::Limits, Message::Waiting, Message::Listener(3)]
        {
            assert!(requests.admit(message), "{message:?}");
            assert!(!requests.admit(message), "{message:?} again");
        }
        assert!(!requests.admit(Message::Listener(4)));
        for index in [0, 1, 1] {
            assert!(requests.admit(Message::MapMount(index)));
        }
    }
}
