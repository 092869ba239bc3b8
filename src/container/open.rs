//! Opens all host resources that the container's process needs, before it exists.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::Rlimit;

use super::hooks::Output;
use super::state::OCI_VERSION;
use super::{handover, hold, nodes, report, sources};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::{Asks, Beginning, Gate, HookState, Join, Later, Nodes, Opened, Origin, Succession};
use crate::plan::Plan;
use crate::plan::namespaces::Joined;
use crate::rootfs::path::PathBuffer;
use crate::spec::Spec;
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::{self, Memory, Pointers};
use crate::sys::text::Text;

/// The type of procfs, statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

/// The plan for namespaces: those that the runtime joins, and those that the clone creates.
pub(crate) struct Making {
    /// Joined by the runtime for the clone, and left again.
    pub by_runtime: Vec<Join>,
    /// Created by the first clone.
    pub new: NamespaceSet,
    /// Its memory until it executes the program.
    pub memory: Memory,
}

/// The child's resources that the caller supplies.
pub(crate) struct Given {
    /// The child's end of the conversation.
    pub sync: OwnedFd,
    /// The socket that the terminal's master is sent to.
    pub console: Option<OwnedFd>,
    /// Where the start message comes from.
    pub gate: Gate,
    /// Whether the runtime joins the cgroup after the clone (v1), so that a cgroup namespace must
    /// wait.
    pub joins_group_late: bool,
    /// Whether the clone puts the child into its cgroup.
    pub born_in_group: bool,
    /// The program's limit of open files, if the runtime raised its own.
    pub open_files: Option<Rlimit>,
}

/// Opens everything that the plan needs.
pub(crate) fn open(
    spec: &Spec,
    plan: &Plan,
    bundle: &Path,
    id: &str,
    given: Given,
) -> Result<(Opened, Making)> {
    let mut joined = Vec::new();
    for namespace in &plan.namespaces.joined {
        joined.push(Join {
            kinds: namespace.kind.into(),
            file: open_namespace(namespace)?,
            origin: Origin::Listed(namespace.at),
        });
    }
    let enters_user = plan.namespaces.joins(Namespace::User);
    let new_user = plan.namespaces.creates(Namespace::User);
    let succession = match joined.iter().position(|join| join.kinds.has(Namespace::Pid)) {
        // Without its own user namespace, processes in that pid namespace may trace it during its
        // set-up.
        Some(place) if !enters_user && !new_user && plan.process.is_some() => {
            let Join { file, origin, .. } = joined.remove(place);
            Some(Succession::into(file, origin, plan)?)
        }
        _ => None,
    };
    // A process that enters first and then clones again needs no right to return.
    let joins_pid = plan.namespaces.joins(Namespace::Pid) && succession.is_none();
    // An execve in a new user namespace, before user IDs are mapped, would lose all capabilities.
    let executes_first = new_user && handover::beginning() == Beginning::Executed;
    // Only children enter a new pid namespace. (As PID 1 of the caller's, after unshare(2) without a
    // fork, the process could not clone a sibling.)
    let unshares = executes_first && !joins_pid && !plan.namespaces.creates(Namespace::Pid);
    let clones_twice = enters_user || executes_first && !unshares || joins_pid && !may_return();
    // Once the child is in a new user namespace it has no right to enter the host's namespaces.
    // Only children enter a pid namespace, so the parent joins it.
    let runtime_joins = |kinds: NamespaceSet| {
        !(clones_twice || unshares) && (kinds.has(Namespace::Pid) || new_user && !kinds.has(Namespace::Mount))
    };
    let (by_runtime, by_child): (Vec<_>, Vec<_>) =
        joined.into_iter().partition(|join| runtime_joins(join.kinds));
    let mut new = plan.namespaces.new.without(Namespace::Time);
    let mut unshare = NamespaceSet::EMPTY;
    if given.joins_group_late && new.has(Namespace::Cgroup) {
        new = new.without(Namespace::Cgroup);
        unshare = Namespace::Cgroup.into();
    }
    let (new, later) = match (clones_twice, unshares) {
        (true, _) => (NamespaceSet::EMPTY, Later::Clone(new)),
        (false, true) => (NamespaceSet::EMPTY, Later::Unshare(new)),
        (false, false) => (new, Later::None),
    };
    let user = by_child.iter().find(|join| join.kinds.has(Namespace::User));
    let user = user.map(|join| join.file.as_fd());
    let nodes = nodes::prepare(plan, user)?;
    let (sources, root_tree) = (sources::open_all(plan, user)?, sources::root(plan)?);
    let begun = begin(plan, given.sync, given.console)?;
    let opened = Opened {
        joined: by_child,
        sources,
        root_tree,
        nodes,
        late: plan.rootfs.mounts.iter().map(|_| None).collect(),
        gate: given.gate,
        hook_state: hook_state(spec, bundle, id)?,
        hook_output: Output::open(&spec.annotations)?.into_descriptors(),
        asks: Asks {
            // A child that is not created in its cgroup waits until it is recorded.
            map_ids: new_user || !given.born_in_group || !plan.net_devices.is_empty(),
            hooks: !plan.hooks.create_runtime.is_empty(),
            ..begun.asks
        },
        unshare,
        later,
        succession,
        open_files: given.open_files,
        ..begun
    };
    Ok((opened, Making { by_runtime, new, memory: Memory::Shared }))
}

/// The resources of every process that is created for a plan. It enters no namespace, and starts by
/// a message on `sync`.
pub(super) fn begin(plan: &Plan, sync: OwnedFd, console: Option<OwnedFd>) -> Result<Opened> {
    let process = plan.process.as_ref();
    let limited = process.is_some_and(|process| !process.rlimits.is_empty());
    let none = || Pointers::new(std::iter::empty(), 1);
    Ok(Opened {
        proc: open_proc()?,
        sync,
        joined: Vec::new(),
        sources: Vec::new(),
        root_tree: None,
        open_files: None,
        groups_stay: false,
        nodes: Nodes::default(),
        late: Vec::new(),
        console,
        gate: Gate::Sync,
        argv: process.map_or_else(none, |process| process.argv()),
        envp: process.map_or_else(none, |process| process.envp()),
        hook_state: HookState::default(),
        hook_output: [None, None],
        hook_said: None,
        asks: Asks {
            map_ids: false,
            hooks: false,
            limits: plan.namespaces.own(Namespace::User) && limited,
            ready: true,
            reports: report::enabled(),
        },
        unshare: NamespaceSet::EMPTY,
        root: None,
        later: Later::None,
        succession: None,
        hold: hold::in_child(),
        home: PathBuffer::new(b"").doing(|| "allocate HOME")?,
        listen_pid: Text::new(b"").doing(|| "allocate LISTEN_PID")?,
        started: false,
        program: 0,
        numbers: Vec::new(),
        beginning: handover::beginning(),
    })
}

/// Whether the runtime may return to its own pid namespace, which often belongs to another user
/// namespace (as in rootless podman). Re-entering its own namespace is a no-op, used as a probe.
pub(super) fn may_return() -> bool {
    let own = File::open("/proc/self/ns/pid");
    own.is_ok_and(|own| process::setns(own.as_fd(), Namespace::Pid).is_ok())
}

/// Opens a namespace file and checks its kind: ioctl_ns(2), NS_GET_NSTYPE.
pub(super) fn open_namespace(joined: &Joined) -> Result<OwnedFd> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    let place = || format!("linux.namespaces[{}].path", joined.at);
    let file = File::open(&joined.path).doing(|| format!("{}: {}", place(), joined.path.display()))?;
    // SAFETY: this ioctl takes no argument and returns a number; on any other file it fails.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind == joined.kind.flag() {
        return Ok(file.into());
    }
    let words = format!(
        "{} is a {} namespace, not a {} namespace",
        joined.path.display(),
        Namespace::of_flag(kind).map_or("no", Namespace::name),
        joined.kind.name()
    );
    Err(Error::invalid(&place(), words))
}

/// Opens the host's procfs, verified to be one.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).doing(|| "open /proc")?;
    let found = rustix::fs::fstatfs(&proc).doing(|| "statfs /proc")?;
    if found.f_type as u64 != PROC_MAGIC {
        return Err(Error::new(Kind::System, "/proc is not a proc file system; mount one"));
    }
    Ok(proc)
}

/// The state document for hooks in the container, split at the PID.
fn hook_state(spec: &Spec, bundle: &Path, id: &str) -> Result<HookState> {
    if spec
        .hooks
        .as_ref()
        .is_none_or(|hooks| hooks.create_container.is_empty() && hooks.start_container.is_empty())
    {
        return Ok(HookState { creating: Vec::new(), created: Vec::new(), rest: Vec::new() });
    }
    let head = |status: &str| {
        let id = serde_json::Value::from(id);
        format!(r#"{{"ociVersion":"{OCI_VERSION}","id":{id},"status":"{status}","pid":"#).into_bytes()
    };
    let bundle = serde_json::Value::from(bundle.to_string_lossy());
    let annotations = serde_json::json!(spec.annotations);
    let rest = format!(r#","bundle":{bundle},"annotations":{annotations}}}"#);
    Ok(HookState { creating: head("creating"), created: head("created"), rest: rest.into_bytes() })
}
