//! `exec`: an additional process in a container. A failing `exec` never affects the container.
//!
//! If the container has its own user namespace, the runtime enters the pid namespace, clones
//! directly into the container's cgroup, and returns; so the process is our child and has a PID
//! here. Otherwise, and without the right to enter (an unprivileged user), a second clone inside
//! achieves that.

mod requested;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::control::kind_of;
use super::conversation::{Child, Conversation, Next, Server};
use super::draft::Manner;
use super::existing::Existing;
use super::foreground::{Foreground, Program, Terminal};
use super::open::{self, Making};
use super::passed::passed;
use super::pid::ProcessId;
use super::record::Record;
use super::request::{Exec, Settings};
use super::state::Status;
use super::succession::pid_namespace;
use super::{birth, draft, facts, handover, pid_file, report};
use crate::cgroup::{Group, Made};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::{self, Join, Later, Opened, Origin, Succession, sync};
use crate::plan::{Ask, Passed, Plan, StepError};
use crate::spec::Spec;
use crate::sys::cred;
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::Memory;
use requested::RequestedProcess;

/// `exec`. In the foreground, returns the program's exit status, or 128 plus its signal; detached,
/// 0.
pub fn exec(settings: &Settings, request: &Exec) -> Result<i32> {
    let passed = passed(request.preserve_fds)?;
    request.pid_file.as_deref().map_or(Ok(()), pid_file::check)?;
    let container = Existing::open(settings, &request.id)?;
    let target = Running::of(&container, request)?;
    let spec = container.directory.config()?;
    let plan = plan(&container, request, &spec, &passed)?;
    let manner = if request.detach { Manner::Detached } else { Manner::Foreground };
    draft::check_console(&plan, request.console_socket.as_deref(), manner)?;
    draft::log(&plan);
    report::program(&plan);
    let foreground =
        if request.detach { None } else { Some(Foreground::prepare().doing(|| "take over signals")?) };
    // In a frozen cgroup the process cannot execute the program, for which the runtime would wait.
    let memory = if request.ignore_paused { Memory::Copied } else { Memory::Shared };
    let entry = Entry { settings, container: &container, target: &target, plan: &plan, memory };
    let begun = entry.begin(request.console_socket.as_deref(), manner);
    let (mut conversation, mut entering) = begun.map_err(|error| target.init.explain(error))?;
    let begun = conversation.hold(&mut entering);
    let Conversation { child, .. } = conversation;
    let pidfd_socket = request.pidfd_socket.as_deref();
    let begun = begun.and_then(|()| {
        birth::tell_outside(pidfd_socket, request.pid_file.as_deref(), child.pid, &child.pidfd)
    });
    if let Err(error) = begun {
        return Err(child.kill(target.init.explain(error)));
    }
    match foreground {
        Some(foreground) => {
            let terminal = entering.terminal;
            foreground.wait(Program { pid: child.pid, pidfd: child.pidfd.as_fd(), terminal, listener: None })
        }
        None => Ok(0),
    }
}

/// The container's current state.
struct Running {
    init: ProcessId,
    pidfd: OwnedFd,
    group: Option<Group>,
}

impl Running {
    fn of(container: &Existing, request: &Exec) -> Result<Self> {
        let (init, pidfd) = container.init_with_pidfd().map_err(|error| match container.status() {
            Ok(Status::Stopped) => {
                Error::new(Kind::State, "cannot exec in a stopped container: container not running")
            }
            _ => error,
        })?;
        let group = &container.record.group;
        if let Some(group) = group.as_ref().filter(|_| !request.ignore_paused)
            && group.is_frozen()?
        {
            let words = "cannot exec in a paused container (use --ignore-paused to override: the process then waits until the container is resumed)";
            return Err(Error::new(Kind::State, words));
        }
        let mut group = group.as_ref().map(Group::of_processes);
        // Use the cgroup that another process has moved the container to.
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

fn plan(container: &Existing, request: &Exec, spec: &Spec, passed: &Passed) -> Result<Plan> {
    let RequestedProcess { process, words, document } = requested::process(request, spec)?;
    let ask = Ask { new_keyring: container.record.new_keyring, passed, ..container.ask() };
    handover::begin();
    let host = facts::caller(Some(&process), None)?;
    Plan::enter(spec, &process, &words, &ask, &host).map_err(|faults| draft::refuse(&document, &faults))
}

/// All data prepared before the process is cloned.
struct Entry<'a> {
    settings: &'a Settings,
    container: &'a Existing,
    target: &'a Running,
    plan: &'a Plan,
    /// The process's memory until it executes the program.
    memory: Memory,
}

impl<'a> Entry<'a> {
    /// Clones the process.
    fn begin(
        &self,
        console_socket: Option<&Path>,
        manner: Manner,
    ) -> Result<(Conversation<'a>, Entering<'a>)> {
        let plan = self.plan;
        let (ours, theirs) = sync::pair().doing(|| "create a socket pair")?;
        let (console, console_end) = birth::consoles(plan, console_socket, manner)?;
        let joins = self.target.group.clone().filter(|group| !group.is_unified());
        let (mut opened, making) = self.open(theirs, console_end)?;
        opened.asks.map_ids = joins.is_some();
        opened.asks.ready = console.is_some() || report::enabled();
        if let Some(cpus) = plan.process.as_ref().and_then(|process| process.exec_affinity.initial.as_ref()) {
            cred::set_affinity(cpus)
                .doing(|| "set process.execCPUAffinity.initial (does this machine have these CPUs?)")?;
        }
        let (pid, pidfd) = self.clone_into_group(&mut opened, &making)?;
        let child = Child { pid, pidfd, sync: ours, console };
        let conversation = Conversation { plan, child, awaits_successor: opened.has_successor() };
        Ok((conversation, Entering { plan, record: &self.container.record, joins, terminal: None }))
    }

    fn open(&self, sync: OwnedFd, console: Option<OwnedFd>) -> Result<(Opened, Making)> {
        let kinds = self.plan.namespaces.entered;
        let origin = Origin::Container(self.target.init.pid);
        let join = |kinds: NamespaceSet| -> Result<Vec<Join>> {
            if kinds.is_empty() {
                return Ok(Vec::new());
            }
            let file = self.target.pidfd.try_clone().doing(|| "copy a descriptor")?;
            Ok(vec![Join { kinds, file, origin }])
        };
        let (mut by_runtime, mut by_child) = (NamespaceSet::EMPTY, kinds);
        let mut succession = None;
        // Only children enter a pid namespace.
        if kinds.has(Namespace::Pid) && kinds.has(Namespace::User) && open::may_return() {
            by_runtime = Namespace::Pid.into();
            by_child = kinds.without(Namespace::Pid);
        }
        // A process with CAP_SYS_PTRACE in our own user namespace can trace and control any process
        // that it sees. So a process for such a container becomes visible last.
        if kinds.has(Namespace::Pid) && !kinds.has(Namespace::User) {
            by_child = kinds.without(Namespace::Pid);
            succession = Some(Succession::into(
                pid_namespace(&self.target.init, &self.target.pidfd)?,
                origin,
                self.plan,
            )?);
        }
        let opened = Opened {
            joined: join(by_child)?,
            root: root(self.container, kinds)?,
            later: if by_child.has(Namespace::Pid) { Later::Clone(NamespaceSet::EMPTY) } else { Later::None },
            succession,
            ..open::begin(self.plan, sync, console)?
        };
        Ok((opened, Making { by_runtime: join(by_runtime)?, new: NamespaceSet::EMPTY, memory: self.memory }))
    }

    /// Clones into the container's cgroup. If that may hold no processes, because it has child
    /// cgroups with controllers, clones into the cgroup of the container's init.
    fn clone_into_group(&self, opened: &mut Opened, making: &Making) -> Result<(i32, OwnedFd)> {
        let mut make = |made: Option<&Made>| birth::clone(self.plan, opened, making, made, init::enter);
        let Some(group) = self.target.group.as_ref().filter(|group| group.is_unified()) else {
            return make(None);
        };
        let made = group.open()?;
        match make(Some(&made)) {
            Err(error) if error.errno() == Some(libc::EBUSY) => {
                match group.of_member(self.target.init.pid)? {
                    Some(moved) => make(Some(&moved.open()?)),
                    None => Err(error),
                }
            }
            Err(error)
                if self.settings.rootless && matches!(error.errno(), Some(libc::EACCES | libc::EPERM)) =>
            {
                let made = make(None)?;
                tracing::warn!("the process stays outside of the container's cgroup: {error}");
                Ok(made)
            }
            done => done.map_err(|error| match made.why_not_joinable() {
                Some(words) if error.errno() == Some(libc::EOPNOTSUPP) => {
                    Error::new(Kind::Unsupported, words)
                }
                _ => error,
            }),
        }
    }
}

/// The directory that is `/`, for a container without its own mount namespace.
fn root(container: &Existing, kinds: NamespaceSet) -> Result<Option<OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    if kinds.has(Namespace::Mount) {
        return Ok(None);
    }
    let path = &container.record.rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(Some).doing(|| format!("open {}", path.display()))
}

/// Serves a process on its way into the container.
struct Entering<'a> {
    plan: &'a Plan,
    record: &'a Record,
    /// The cgroup, if it is joined after the clone.
    joins: Option<Group>,
    /// The terminal, once the process has sent it.
    terminal: Option<Terminal>,
}

impl Server for Entering<'_> {
    const NAME: &'static str = "the process that enters the container";

    fn begin(&mut self, child: &Child) -> Result<()> {
        self.replaced(child)
    }

    /// Joins the container's resctrl group: shared caches and memory bandwidth.
    fn replaced(&mut self, child: &Child) -> Result<()> {
        self.record.rdt.as_ref().map_or(Ok(()), |group| group.join(child.pid))
    }

    fn map_ids(&mut self, child: &Child) -> Result<()> {
        self.joins.as_ref().map_or(Ok(()), |group| group.join(child.pid))
    }

    fn set_up(&mut self, child: &Child) -> Result<Next> {
        self.terminal = birth::terminal(child.console.as_ref(), self.plan)?;
        report::affinity(child.pid);
        tracing::debug!("nsexec[{}]: setns_init: about to exec", child.pid);
        Ok(Next::Answer)
    }

    /// The program runs.
    fn closed(&mut self, _child: &Child) -> Result<()> {
        Ok(())
    }

    fn explain(&self, _child: &Child, fault: StepError) -> Error {
        Error::new(kind_of(fault), fault.explain(self.plan))
    }

    fn container(&self) -> (&Record, Status) {
        (self.record, Status::Running)
    }
}
