//! `create` and the first half of `run`: from the bundle to a process that waits for the start
//! message.
//!
//! At whatever moment this is killed, `delete --force` finds everything: each thing is recorded
//! before it is made. The child ends by itself if the runtime dies before the child waits.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::birth::{clone, consoles, tell_outside};
use super::conversation::{Child, Conversation, Next, Server};
use super::creation::{Creation, recorded};
use super::directory::{Directory, RESULT_FIFO, START_FIFO};
use super::draft::{Draft, Manner, draft};
use super::group::{if_forbidden, join_group, make_groups, unless_forbidden};
use super::open::{self, Given};
use super::open_files::Raised;
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::{Create, Settings};
use super::sd_notify::{self, Manager};
use super::state::Status;
use super::{hold, hooks, idmap, members, report, sources};
use crate::cgroup::{Group, Made};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::{self, Gate, Later, sync};
use crate::net;
use crate::plan::{Plan, StepError};
use crate::spec::Spec;
use crate::sys::namespace::Namespace;
use crate::sys::process;

/// A container that is set up; its process waits.
pub(super) struct Launched {
    /// Its directory.
    pub directory: Directory,
    /// Its record.
    pub record: Record,
    /// The plan, which explains faults.
    pub plan: Plan,
    /// Its process.
    pub child: Child,
    /// Receives the readiness message, if a service manager waits for it.
    pub listener: Option<sd_notify::Listener>,
}

/// `create`.
pub fn create(settings: &Settings, request: &Create) -> Result<()> {
    launch(settings, request, Manner::Later)?.directory.unlock()
}

/// Creates the container and keeps its lock. On error everything is undone.
pub(super) fn launch(settings: &Settings, request: &Create, manner: Manner) -> Result<Launched> {
    let draft = draft(settings, request, manner, Manager::of_environment())?;
    let launch = Launch { settings, request, manner, draft: &draft };
    let (directory, record, (listener, child)) = recorded(settings, request, &draft, |directory, record| {
        Ok((launch.listen(directory)?, launch.set_up(directory, record)?))
    })?;
    Ok(Launched { directory, record, plan: draft.plan, child, listener })
}

/// The request and its validated draft.
struct Launch<'a> {
    settings: &'a Settings,
    request: &'a Create,
    manner: Manner,
    draft: &'a Draft,
}

impl Launch<'_> {
    /// Binds the socket for messages to the service manager. With `create`, `start` listens later.
    fn listen(&self, directory: &Directory) -> Result<Option<sd_notify::Listener>> {
        let Some(manager) = self.draft.manager.as_ref().filter(|_| self.draft.plan.process.is_some()) else {
            return Ok(None);
        };
        sd_notify::make_directory(directory)?;
        let manager = (self.manner != Manner::Later).then(|| manager.clone());
        sd_notify::Listener::bind(directory, manager)
    }

    fn set_up(&self, directory: &Directory, record: &mut Record) -> Result<Child> {
        let made = make_groups(self.settings, self.draft, record)?;
        let child = self.make_process(directory, record, made)?;
        record.phase = Phase::Created;
        directory.write(record)?;
        if self.manner == Manner::Later {
            sync::go(child.sync.as_fd())
                .doing(|| "confirm to the container's process that it is recorded")?;
        }
        hold::stop_at("created");
        let annotated = self.draft.spec.annotations.get("run.oci.pidfd_receiver").map(PathBuf::from);
        let pidfd_socket = self.request.pidfd_socket.as_deref().or(annotated.as_deref());
        tell_outside(pidfd_socket, self.request.pid_file.as_deref(), child.pid, &child.pidfd)?;
        Ok(child)
    }

    /// Clones the container's process and serves it until it waits for the order to start.
    fn make_process(&self, directory: &Directory, record: &mut Record, made: Option<Made>) -> Result<Child> {
        let Draft { plan, spec, bundle, .. } = self.draft;
        let joins_late = record.group.as_ref().is_some_and(Group::is_joined_late);
        let (ours, theirs) = sync::pair().doing(|| "create a socket pair")?;
        let (console, console_end) = consoles(plan, self.request.console_socket.as_deref(), self.manner)?;
        let born_in_group = !joins_late && made.as_ref().is_some_and(|made| made.dir_fd().is_some());
        if born_in_group {
            // From here on the processes in its cgroup identify the container, even while the
            // record has no init.
            directory.write(record)?;
        }
        let raised = Raised::for_plan(plan);
        let given = Given {
            sync: theirs,
            console: console_end,
            gate: self.gate(directory)?,
            joins_group_late: joins_late,
            born_in_group,
            open_files: raised.before(),
        };
        let (mut opened, making) = open::open(spec, plan, bundle, &record.id, given)?;
        let (pid, pidfd) = clone(plan, &mut opened, &making, made.as_ref(), init::run)?;
        let child = Child { pid, pidfd, sync: ours, console };
        let mut conversation = Conversation { plan, child, awaits_successor: opened.has_successor() };
        let mut creator = Creator {
            creation: Creation {
                plan,
                directory,
                record,
                made,
                if_forbidden: if_forbidden(self.settings),
                limited: false,
                group_recorded: born_in_group,
            },
            sources: std::mem::take(&mut opened.sources),
            raised: Some(raised),
            joins_late,
            clones_again: matches!(opened.later, Later::Clone(_)),
        };
        if !opened.asks.map_ids {
            creator.close_sources();
        }
        // Only the child may hold its ends, so that its death closes them.
        drop(opened);
        // Concurrently with the child, as it takes as long as parsing the document did.
        members::warn::<Spec>("config.json", &self.draft.config);
        conversation.hold(&mut creator)?;
        Ok(conversation.child)
    }

    fn gate(&self, directory: &Directory) -> Result<Gate> {
        if self.manner != Manner::Later {
            return Ok(Gate::Sync);
        }
        Ok(Gate::Fifos { start: directory.make_fifo(START_FIFO)?, result: directory.make_fifo(RESULT_FIFO)? })
    }
}

/// Serves the process of a new container.
struct Creator<'a> {
    creation: Creation<'a>,
    /// Bind sources that may still be idmapped to the container.
    sources: Vec<Option<OwnedFd>>,
    /// Restores the limit of open files once the sources are closed.
    raised: Option<Raised>,
    /// Whether the cgroup is joined after the clone.
    joins_late: bool,
    /// Whether the process clones itself again first, inside a user namespace.
    clones_again: bool,
}

impl Creator<'_> {
    fn note(&mut self, child: &Child) -> Result<()> {
        self.creation.note_init(ProcessId::find(child.pid)?)
    }

    fn set_oom_score(&self, child: &Child) -> Result<()> {
        let process = self.creation.plan.process.as_ref();
        match process.and_then(|process| process.oom_score.as_ref()) {
            Some(score) => fs::write(format!("/proc/{}/oom_score_adj", child.pid), score)
                .doing(|| format!("process.oomScoreAdj: set it to {score}")),
            None => Ok(()),
        }
    }
}

impl Server for Creator<'_> {
    const NAME: &'static str = "the container's process";

    fn begin(&mut self, child: &Child) -> Result<()> {
        self.note(child)?;
        // A process that clones itself again ends soon, and its successor inherits nothing set late.
        if !self.clones_again {
            self.set_oom_score(child)?;
        }
        self.creation.guard_devices()
    }

    fn replaced(&mut self, child: &Child) -> Result<()> {
        self.note(child)?;
        if self.clones_again { self.set_oom_score(child) } else { Ok(()) }
    }

    fn map_ids(&mut self, child: &Child) -> Result<()> {
        let plan = self.creation.plan;
        let namespaces = &plan.namespaces;
        if let (true, Some(maps)) = (namespaces.creates(Namespace::User), &namespaces.maps) {
            idmap::write(child.pid, maps, namespaces.maps_by)?;
            report::maps(maps);
            sources::map_to_container(plan, &self.sources, || idmap::of_process(child.pid))?;
        }
        self.close_sources();
        if self.joins_late {
            self.join_group(child)?;
        }
        if plan.net_devices.is_empty() {
            return Ok(());
        }
        let path = format!("/proc/{}/ns/net", child.pid);
        let inside = fs::File::open(&path).doing(|| format!("open {path}"))?;
        net::move_devices(&plan.net_devices, inside.as_fd())
    }

    fn run_hooks(&mut self, child: &Child) -> Result<()> {
        self.limit(child)?;
        self.creation.run_hooks()
    }

    fn map_mount(&mut self, child: &Child, index: u16, mount: &OwnedFd) -> Result<()> {
        sources::map_of_child(self.creation.plan, usize::from(index), mount, child.pid)
    }

    fn set_up(&mut self, child: &Child) -> Result<Next> {
        self.limit(child)?;
        report::affinity(child.pid);
        tracing::debug!("child process in init(): set up; waits for the start command");
        self.hand_over(child)?;
        Ok(Next::Start)
    }

    fn closed(&mut self, child: &Child) -> Result<()> {
        let how = match process::wait(child.pidfd.as_fd()) {
            Ok(process::Exit::Signal(libc::SIGSYS)) => "was killed by linux.seccomp (SIGSYS)".to_owned(),
            Ok(process::Exit::Signal(signal)) => format!("was killed by signal {signal}"),
            Ok(process::Exit::Code(code)) => format!("ended with status {code}"),
            Err(error) => format!("is gone: {error}"),
        };
        Err(Error::new(Kind::System, format!("the container's process {how} while it was set up")))
    }

    fn explain(&self, child: &Child, fault: StepError) -> Error {
        let printed = hooks::printed_inside(fault, child.sync.as_fd());
        Error::new(Kind::System, fault.explain(self.creation.plan) + &printed)
    }

    fn container(&self) -> (&Record, Status) {
        (self.creation.record, Status::Creating)
    }
}

impl Creator<'_> {
    /// Closes the sources; the child has its own copies.
    fn close_sources(&mut self) {
        self.sources = Vec::new();
        self.raised = None;
    }

    /// Moves the waiting process into its cgroup, which becomes the root of its cgroup namespace.
    fn join_group(&mut self, child: &Child) -> Result<()> {
        let Creation { directory, record, plan, .. } = &mut self.creation;
        if let Some(made) = join_group(directory, record, plan, child.pid)? {
            self.creation.made = Some(made);
            self.creation.guard_devices()?;
        }
        Ok(())
    }

    /// Sets the limits at the first call only.
    fn limit(&mut self, child: &Child) -> Result<()> {
        if self.creation.limited {
            return Ok(());
        }
        if let Some(group) = &self.creation.record.rdt {
            group.join(child.pid)?;
        }
        self.creation.set_limits()?;
        self.creation.made.as_ref().map_or(Ok(()), |made| self.check_alive(child, made))
    }

    /// Reports a memory limit that is too low: the kernel kills processes at once if the limit is
    /// below their usage. Ours uses a fraction of a mebibyte by now, but a limit may be lower.
    fn check_alive(&self, child: &Child, made: &Made) -> Result<()> {
        const FIELD: &str = "linux.resources.memory.limit";
        const ENOUGH: u64 = 4 << 20;
        let limit = self.creation.plan.limits.writes.iter().find(|write| write.field == FIELD);
        let low = limit.and_then(|write| write.value.parse::<u64>().ok()).filter(|bytes| *bytes < ENOUGH);
        let Some(bytes) = low.filter(|_| made.has_killed()) else { return Ok(()) };
        let soon = Instant::now() + Duration::from_secs(1);
        if !hooks::poll_until(child.pidfd.as_fd(), Some(soon)).doing(|| "wait for the container's process")? {
            return Ok(());
        }
        let words = format!(
            "{bytes} bytes are too few for the process that waits to be started; the kernel has killed it"
        );
        Err(Error::invalid(FIELD, words))
    }

    /// Delegates the part of the cgroup below the container's limits. The container's cgroup
    /// namespace, if it has one, is rooted above that.
    fn hand_over(&self, child: &Child) -> Result<()> {
        let Some(made) = &self.creation.made else { return Ok(()) };
        made.enter_delegated(child.pid)?;
        let Some(owner) = self.creation.plan.cgroup_owner else { return Ok(()) };
        // A user cannot delegate a cgroup to one of its own sub-IDs.
        unless_forbidden(made.delegate(owner), self.creation.if_forbidden).map(drop)
    }
}
