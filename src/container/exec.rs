//! `exec`: one more process in a container, which is not harmed whatever becomes of it.
//!
//! With a user namespace of the container's own, the runtime enters the pid namespace, clones straight into the container's
//! cgroup, and returns; so the process is our child and has a number here. Otherwise, and where it has not the right to that (an
//! ordinary user), a second clone inside gives that.

mod wanted;

use std::os::fd::{AsFd, OwnedFd};

use super::control::kind_of;
use super::conversation::{set_limits, succeed, warn_of_keyring};
use super::draft::Manner;
use super::existing::Existing;
use super::foreground::Foreground;
use super::open::{self, Making};
use super::passed::passed;
use super::pid::ProcessId;
use super::request::{Exec, Settings};
use super::state::Status;
use super::succession::pid_namespace;
use super::{birth, draft, facts, notify, pid_file, report};
use crate::cgroup::{Group, Made, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::sync::{self, Message};
use crate::init::{self, Asks, Opened, Succession};
use crate::plan::{Ask, Passed, Plan};
use crate::spec::Spec;
use crate::sys::{cred, process};
use wanted::Wanted;

/// `exec`. In the foreground, the program's exit status, or 128 and its signal; detached, 0.
pub fn exec(settings: &Settings, request: &Exec) -> Result<i32> {
    let passed = passed(request.preserve_fds)?;
    request.pid_file.as_deref().map_or(Ok(()), pid_file::check)?;
    let there = Existing::open(settings, &request.id)?;
    let target = Target::of(&there, request)?;
    let spec = there.folder.config()?;
    let plan = plan(&there, request, &spec, &passed)?;
    let manner = if request.detach { Manner::Detached } else { Manner::Foreground };
    draft::check_console(&plan, request.console_socket.as_deref(), manner)?;
    draft::log(&plan);
    report::program(&plan);
    let foreground = match request.detach {
        true => None,
        false => Some(Foreground::prepare().doing(|| "take over signals")?),
    };
    let entering = Entering::begin(settings, &there, &target, request, &plan, manner);
    let mut entering = entering.map_err(|error| target.init.explain(error))?;
    let begun = entering.until_running(&there, request);
    let terminal = match begun {
        Ok(terminal) => terminal,
        Err(error) => return Err(entering.end(target.init.explain(error))),
    };
    match foreground {
        Some(foreground) => foreground.wait(entering.pidfd.as_fd(), entering.pid, terminal, None),
        None => Ok(0),
    }
}

/// What the container is, at this moment.
struct Target {
    init: ProcessId,
    pidfd: OwnedFd,
    group: Option<Group>,
}

impl Target {
    fn of(there: &Existing, request: &Exec) -> Result<Self> {
        let init = there.init().map_err(|error| match there.status() {
            Ok(Status::Stopped) => {
                Error::new(Kind::State, "cannot exec in a stopped container: container not running")
            }
            _ => error,
        })?;
        let gone = || Error::new(Kind::State, "container not running");
        let pidfd = init.pidfd()?.ok_or_else(gone)?;
        let group = &there.record.group;
        if let Some(group) = group.as_ref().filter(|_| !request.ignore_paused)
            && group.is_frozen()?
        {
            let words = "cannot exec in a paused container (use --ignore-paused to override: the process then waits until the container is resumed)";
            return Err(Error::new(Kind::State, words));
        }
        let mut group = group.as_ref().map(Group::of_processes);
        // The container lives on where somebody has moved it to.
        if let Some(recorded) = group.as_ref().filter(|_| request.cgroups.is_empty())
            && recorded.is_gone()?
        {
            group = recorded.of_process(init.pid)?;
        }
        for wish in &request.cgroups {
            let own = group.take().ok_or_else(|| {
                Error::new(
                    Kind::Usage,
                    format!("--cgroup {}: the container has no cgroup of its own", wish.path),
                )
            })?;
            group = Some(own.below(&wish.controllers, &wish.path)?);
        }
        Ok(Self { init, pidfd, group })
    }
}

fn plan(there: &Existing, request: &Exec, spec: &Spec, passed: &Passed) -> Result<Plan> {
    let Wanted { process, words, document } = wanted::process(request, spec)?;
    let ask = Ask { new_keyring: there.record.new_keyring, passed, ..there.ask() };
    let host = facts::caller(Some(&process), None)?;
    Plan::enter(spec, &process, &words, &ask, &host).map_err(|faults| draft::refuse(&document, &faults))
}

/// A process on its way into the container.
struct Entering<'a> {
    plan: &'a Plan,
    sync: OwnedFd,
    console: Option<OwnedFd>,
    pid: i32,
    pidfd: OwnedFd,
    /// Whether it has yet to go on as another one; see the conversation of `create`.
    awaits_successor: bool,
    /// The cgroup, when it is joined after the clone.
    joins: Option<Group>,
    /// Its shares of caches and memory bandwidth.
    shares: Option<ResctrlGroup>,
}

impl<'a> Entering<'a> {
    /// Makes it.
    fn begin(
        settings: &Settings,
        there: &Existing,
        target: &Target,
        request: &Exec,
        plan: &'a Plan,
        manner: Manner,
    ) -> Result<Self> {
        let (ours, theirs) = sync::pair().doing(|| "make a socket pair")?;
        let (console, console_end) = birth::consoles(plan, request.console_socket.as_deref(), manner)?;
        let joins = target.group.clone().filter(|group| !group.is_unified());
        let ready = console.is_some() || report::wanted();
        let (mut opened, making) = opened(there, target, plan, theirs, console_end, joins.is_some(), ready)?;
        if let Some(cpus) = plan.process.as_ref().and_then(|process| process.exec_affinity.initial.as_ref()) {
            cred::set_affinity(cpus)
                .doing(|| "set process.execCPUAffinity.initial (has this machine these processors?)")?;
        }
        let (pid, pidfd) = clone(settings, target, plan, &mut opened, &making)?;
        let awaits_successor = opened.has_successor();
        report::cloned(pid, plan);
        Ok(Self {
            plan,
            sync: ours,
            console,
            pid,
            pidfd,
            awaits_successor,
            joins,
            shares: there.record.rdt.clone(),
        })
    }

    /// Answers it until its program runs, and tells the caller's files and sockets about it.
    fn until_running(
        &mut self,
        there: &Existing,
        request: &Exec,
    ) -> Result<Option<super::foreground::Terminal>> {
        let mut terminal = None;
        self.share()?;
        loop {
            match sync::hear(self.sync.as_fd()).doing(|| "listen to the process that enters the container")? {
                // Closed by execve.
                None => break,
                Some((Message::Done(done), _)) if report::wanted() => {
                    report::done(self.pid, self.plan, done);
                    continue;
                }
                Some((Message::MapIds, _)) => {
                    if let Some(group) = &self.joins {
                        group.join(self.pid)?;
                    }
                }
                Some((Message::Limits, _)) => set_limits(self.plan, self.pid)?,
                Some((Message::KeyringStays, _)) => warn_of_keyring(),
                Some((Message::Successor, Some(pidfd))) if std::mem::take(&mut self.awaits_successor) => {
                    (self.pid, self.pidfd) = succeed(&self.pidfd, pidfd)?;
                    self.share()?;
                }
                Some((Message::Listener(number), _)) => {
                    match notify::take(self.plan, number, self.pidfd.as_fd(), self.sync.as_fd())? {
                        Some(listener) => self.hand_on(there, &listener)?,
                        None => continue,
                    }
                }
                Some((Message::Notify, Some(listener))) => self.hand_on(there, &listener)?,
                Some((Message::Waiting, _)) => {
                    terminal = birth::terminal(self.console.as_ref(), self.plan)?;
                    report::affinity(self.pid);
                    tracing::debug!("nsexec[{}]: setns_init: about to exec", self.pid);
                }
                Some((Message::Fault(fault), _)) => {
                    return Err(Error::new(kind_of(fault), fault.explain(self.plan)));
                }
                Some(_) => {
                    return Err(Error::new(
                        Kind::System,
                        "the process that enters said something unexpected",
                    ));
                }
            }
            match sync::go(self.sync.as_fd()) {
                // It has ended; what it said last is heard next.
                Err(rustix::io::Errno::PIPE) => {}
                answered => answered.doing(|| "answer the process that enters the container")?,
            }
        }
        birth::tell_outside(
            request.pidfd_socket.as_deref(),
            request.pid_file.as_deref(),
            self.pid,
            &self.pidfd,
        )?;
        Ok(terminal)
    }

    fn hand_on(&self, there: &Existing, listener: &OwnedFd) -> Result<()> {
        notify::hand_on(&there.record, self.plan, self.pid, Status::Running, listener)
    }

    fn share(&self) -> Result<()> {
        self.shares.as_ref().map_or(Ok(()), |shares| shares.join(self.pid))
    }

    /// Ends it after an error, and reaps it.
    fn end(self, error: Error) -> Error {
        let ended = match process::signal(self.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => process::wait(self.pidfd.as_fd()).map(drop),
        };
        error.after_cleaning(ended.doing(|| format!("end process {}", self.pid)))
    }
}

fn opened(
    there: &Existing,
    target: &Target,
    plan: &Plan,
    sync: OwnedFd,
    console: Option<OwnedFd>,
    joins_group_late: bool,
    ready: bool,
) -> Result<(Opened, Making)> {
    let kinds = plan.namespaces.entered;
    let again = || target.pidfd.try_clone().doing(|| "copy a descriptor");
    // A pid namespace is entered only by children.
    let by_runtime = match kinds & libc::CLONE_NEWPID {
        // Whoever has CAP_SYS_PTRACE in our own user namespace looks into any process that he sees, and makes it do what he
        // likes. So a process for such a container is seen last of all.
        pid if pid != 0 && kinds & libc::CLONE_NEWUSER != 0 && open::may_return() => {
            vec![(pid, usize::MAX, again()?)]
        }
        _ => Vec::new(),
    };
    let mut by_child = by_runtime.iter().fold(kinds, |kinds, (kind, ..)| kinds & !kind);
    let succession = if by_child & libc::CLONE_NEWPID != 0 && kinds & libc::CLONE_NEWUSER == 0 {
        by_child &= !libc::CLONE_NEWPID;
        Some(Succession::into(pid_namespace(&target.init)?, usize::MAX, plan)?)
    } else {
        None
    };
    let joined = if by_child == 0 { Vec::new() } else { vec![(by_child, usize::MAX, again()?)] };
    let begun = open::begin(plan, sync, console)?;
    let opened = Opened {
        joined,
        asks: Asks { map_ids: joins_group_late, ready, ..begun.asks },
        root: root(there, kinds)?,
        entered: target.init.pid,
        clone_again: (by_child & libc::CLONE_NEWPID != 0).then_some(0),
        succession,
        ..begun
    };
    Ok((opened, Making { by_runtime, flags: 0 }))
}

/// Where `/` is, for a container that has no mount namespace of its own.
fn root(there: &Existing, kinds: i32) -> Result<Option<OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    if kinds & libc::CLONE_NEWNS != 0 {
        return Ok(None);
    }
    let path = &there.record.rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(Some).doing(|| format!("open {}", path.display()))
}

/// Clones into the container's cgroup. When that may hold no processes, because it has cgroups with controllers below, into
/// the one in which the container's init is.
fn clone(
    settings: &Settings,
    target: &Target,
    plan: &Plan,
    opened: &mut Opened,
    making: &Making,
) -> Result<(i32, OwnedFd)> {
    let mut make = |made: Option<&Made>| birth::clone(plan, opened, making, made, init::enter);
    let Some(group) = target.group.as_ref().filter(|group| group.is_unified()) else { return make(None) };
    let made = group.open()?;
    match make(Some(&made)) {
        Err(error) if error.errno() == Some(libc::EBUSY) => match group.of_member(target.init.pid)? {
            Some(moved) => make(Some(&moved.open()?)),
            None => Err(error),
        },
        Err(error) if settings.rootless && matches!(error.errno(), Some(libc::EACCES | libc::EPERM)) => {
            let made = make(None)?;
            tracing::warn!("the process stays outside of the container's cgroup: {error}");
            Ok(made)
        }
        done => done.map_err(|error| match made.why_not_joinable() {
            Some(words) if error.errno() == Some(libc::EOPNOTSUPP) => Error::new(Kind::Unsupported, words),
            _ => error,
        }),
    }
}
