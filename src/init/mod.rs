//! The container's process from clone3 to execve: a flat list of stages that carries out a
//! [`Plan`].
//!
//! No heap, no panic, no lock: another thread of an embedding program may have held any lock at the
//! clone. A failure is sent as eight bytes to the runtime, which makes the message.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod console;
mod enter;
mod hooks;
mod identity;
mod namespaces;
mod parent;
pub mod procfs;
mod program;
pub mod remount;
pub mod sync;

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

pub use program::read_home;

use crate::plan::{At, Plan, Step, StepError};
use crate::rootfs;
use crate::sys::mount::Procfs;
use crate::sys::namespace::{Namespace, NamespaceSet};
use crate::sys::process::{self, Pointers};
use crate::sys::report;
use crate::sys::seccomp::SockFilter;
use crate::sys::text::Text;
use crate::sys::{closing, fd};
pub use namespaces::calls_of_successor;
use sync::Message;

/// Everything opened or prepared for the child before the clone.
pub struct Opened {
    /// The host's procfs, verified to be one.
    pub proc: OwnedFd,
    /// The child's end of the conversation.
    pub sync: OwnedFd,
    /// Namespaces to join, in order.
    pub joined: Vec<Join>,
    /// Bind sources that only the runtime may open, by mount index.
    pub sources: Vec<Option<OwnedFd>>,
    /// The root file system as a detached mount, for when this process may lack permission to enter
    /// the directories above it.
    pub root_tree: Option<OwnedFd>,
    /// The program's limit of open files, if the runtime raised its own for the mounts.
    pub open_files: Option<Rlimit>,
    /// Whether the process keeps its groups: the kernel denies setgroups(2), and no group is
    /// requested.
    pub groups_stay: bool,
    /// Device nodes, which cannot be created in a user namespace.
    pub nodes: Nodes,
    /// A slot for each mount that is made read-only late.
    pub late: Vec<Option<OwnedFd>>,
    /// The socket that the terminal's master is sent to.
    pub console: Option<OwnedFd>,
    /// Where the start message comes from and a failing execve is reported: fifos after `create`,
    /// `sync` for `run`.
    pub gate: Gate,
    /// The program's arguments.
    pub argv: Pointers,
    /// The program's environment, with a spare entry for HOME.
    pub envp: Pointers,
    /// The state document that hooks read.
    pub hook_state: HookState,
    /// Standard output and error of hooks, when they are redirected.
    pub hook_output: [Option<OwnedFd>; 2],
    /// Output of the last hook in the container, if it is not redirected.
    pub hook_said: Option<OwnedFd>,
    /// The steps that wait for the runtime's answer.
    pub asks: Asks,
    /// Namespaces that this process unshares itself, because clone3 could not create them in the
    /// right order.
    pub unshare: NamespaceSet,
    /// The root directory to enter, for a process that enters a container without its own mount
    /// namespace.
    pub root: Option<OwnedFd>,
    /// How it gets namespaces that the first clone could not create.
    pub later: Later,
    /// Set when the joined pid namespace contains processes that may trace this one.
    pub succession: Option<Succession>,
    /// The moment at which a test holds the child.
    pub hold: Option<Hold>,
    /// Buffer for the entry HOME=… that the child determines.
    pub home: rootfs::path::PathBuffer,
    /// Buffer for the entry LISTEN_PID=… of the environment; empty until the child has written it.
    pub listen_pid: Text<24>,
    /// Whether the start message has arrived; after `create` nothing reads `sync` any more.
    pub started: bool,
    /// The index of the program among its candidates, once it is looked up.
    pub program: usize,
    /// The numbers of all descriptors above; set just before the clone.
    pub numbers: Vec<u32>,
    /// How the process begins; set by the runtime.
    pub beginning: Beginning,
}

/// How a process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// As a copy of the runtime, with all its descriptors.
    Cloned,
    /// By an execve of the runtime's protected program, which kept the listed descriptors only.
    Executed,
}

/// How a process gets namespaces that the first clone could not create, because a joined user
/// namespace shall own them, or an execve precedes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// There are none.
    None,
    /// It clones again, with these new namespaces. Joined pid namespaces hold only for children too.
    Clone(NamespaceSet),
    /// It unshares these.
    Unshare(NamespaceSet),
}

/// Device nodes for [`Opened::nodes`].
#[derive(Default)]
pub struct Nodes {
    /// The host's nodes as detached mounts, by device index; `None` where the runtime may not open
    /// one.
    pub hosts: Vec<Option<OwnedFd>>,
    /// A detached file system with new nodes, named by device index.
    pub made: Option<OwnedFd>,
}

/// Namespaces to join.
pub struct Join {
    /// Their kinds; exactly one, except with a pidfd.
    pub kinds: NamespaceSet,
    /// A file of /proc/PID/ns, or a pidfd.
    pub file: OwnedFd,
    /// Their origin.
    pub origin: Origin,
}

/// The origin of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The path at this index of `linux.namespaces`.
    Listed(usize),
    /// The container's process; its PID as seen by the host's procfs.
    Container(i32),
}

impl Origin {
    /// The step that joins it, and that step's index.
    pub fn step(self) -> (Step, usize) {
        match self {
            Self::Listed(at) => (Step::JoinNamespace, at),
            Self::Container(_) => (Step::JoinContainer, 0),
        }
    }
}

impl Join {
    /// Joins them. `proc`: the host's procfs.
    pub fn join(&self, proc: Procfs<'_>) -> std::io::Result<()> {
        match self.origin {
            Origin::Listed(_) => process::setns(self.file.as_fd(), self.kinds),
            Origin::Container(pid) => process::enter(self.file.as_fd(), pid, self.kinds, proc),
        }
    }
}

/// How a process gets into a pid namespace whose processes may trace it. The process that does the
/// work stays outside. A successor continues inside once an attacker can gain nothing from it: no
/// descriptor, no directory, no right of the host.
pub struct Succession {
    /// The pid namespace.
    pub namespace: Option<OwnedFd>,
    /// Its origin.
    pub origin: Origin,
    /// When the successor takes over.
    pub moment: Moment,
    /// The system call filter of the helper that opens a procfs in there.
    pub filter: Vec<SockFilter>,
}

/// When the successor takes over, for [`Succession::moment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before scheduling and limits, which would prevent the clone or would not be inherited.
    BeforeLimits,
    /// With the program's rights, plus one capability if the filter that is loaded next needs it.
    BeforeFilter,
    /// After all privileges are dropped.
    Last,
    /// The successor has taken over.
    Past,
}

/// Where the start message comes from, for [`Opened::gate`].
pub enum Gate {
    /// `run`: the conversation continues.
    Sync,
    /// `create` returns; `start` comes later.
    Fifos {
        /// Delivers the start message.
        start: OwnedFd,
        /// Receives the fault.
        result: OwnedFd,
    },
}

/// The state document in parts: the PID that a hook in the container sees is known only there.
#[derive(Default)]
pub struct HookState {
    /// Up to the PID, with status `creating`.
    pub creating: Vec<u8>,
    /// Up to the PID, with status `created`.
    pub created: Vec<u8>,
    /// After the PID.
    pub rest: Vec<u8>,
}

/// The requests to the runtime that the plan needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asks {
    /// Whether [`Message::MapIds`] is sent.
    pub map_ids: bool,
    /// Whether [`Message::Hooks`] is sent.
    pub hooks: bool,
    /// Whether [`Message::Limits`] is sent.
    pub limits: bool,
    /// Whether [`Message::Waiting`] is sent by a process of `exec`; `create` and `run` always send
    /// it.
    pub ready: bool,
    /// Whether [`Message::Done`] is sent.
    pub reports: bool,
}

/// Moments at which a test may hold the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Right after the clone.
    Cloned,
    /// Before the mounts.
    Mounts,
    /// Before pivot_root.
    Pivot,
    /// Before the child reports that it is set up.
    Waiting,
}

/// Carries out the plan in the process that clone3 created, and becomes the program.
pub fn run(plan: &Plan, opened: &mut Opened) -> ! {
    opened.begin_reports();
    match stages(plan, opened) {
        Ok(never) => match never {},
        Err(fault) => {
            sync::tell_fault(opened.result(), fault);
            if let (true, Some(said)) = (fault.step.is_failed_hook(), &opened.hook_said) {
                sync::tell_output(opened.result(), said);
            }
            process::exit_now(1)
        }
    }
}

/// As [`run`], but enters an existing container.
pub fn enter(plan: &Plan, opened: &mut Opened) -> ! {
    opened.begin_reports();
    match enter::stages(plan, opened) {
        Ok(never) => match never {},
        Err(fault) => {
            sync::tell_fault(opened.sync.as_fd(), fault);
            process::exit_now(1)
        }
    }
}

/// Uninhabited: the function returns only on error.
enum Never {}

fn stages(plan: &Plan, opened: &mut Opened) -> Result<Never, StepError> {
    opened.begin(plan)?; // closes the runtime's descriptors, above all its end of the conversation
    closing::leave_some_open(); // `identify` closes them
    process::reset_signals(opened.proc());
    opened.hold_at(Hold::Cloned);
    namespaces::enter(plan, opened)?; // IDs first: later steps need to be root inside
    rustix::process::umask(Mode::empty()); // modes below apply as written
    if let Some(name) = &plan.keyring {
        identity::join_keyring(name, opened)?; // before the container can see the old one
    }
    // Without its own session, a container could push characters into the runtime's terminal.
    opened.own_session()?;
    identity::any_processor();
    name_host(plan)?;
    opened.hold_at(Hold::Mounts);

    let root = rootfs::enter(&plan.rootfs, opened.root_tree.take(), opened.proc())?;
    // Not dropped when a stage fails: freeing memory uses the heap too.
    let mut late = ManuallyDrop::new(std::mem::take(&mut opened.late));
    let sources = rootfs::Sources {
        proc: opened.proc.as_fd(),
        binds: &opened.sources,
        nodes: rootfs::devices::ProvidedNodes {
            hosts: &opened.nodes.hosts,
            made: opened.nodes.made.as_ref().map(AsFd::as_fd),
        },
        own_cgroup_namespace: plan.namespaces.own(Namespace::Cgroup),
        map_ids: &|index, mount| {
            sync::say_with(
                opened.sync.as_fd(),
                Message::MapMount(u16::try_from(index).map_err(|_| Errno::OVERFLOW)?),
                mount,
            )?;
            Ok(sync::wait_go(opened.sync.as_fd())?)
        },
    };
    rootfs::assemble(&plan.rootfs, root.as_fd(), &sources, &mut late)?;
    opened.sources.iter_mut().for_each(|source| *source = None); // possibly as many as may be open
    let terminal = console::open(plan, root.as_fd(), opened)?; // /dev/pts has only just been mounted
    opened.ask(Message::Hooks, opened.asks.hooks)?; // the runtime's namespaces, our mounts done
    hooks::create_container(plan, root.as_fd(), opened)?; // the container's namespaces, the host's paths
    rootfs::protect(&plan.rootfs, root.as_fd(), opened.proc())?; // needs the host's /dev/null, so before the pivot
    opened.hold_at(Hold::Pivot);
    rootfs::pivot::pivot(&plan.rootfs, root.as_fd(), opened.proc.as_fd())?;
    program::make_cwd(plan)?; // before / is read-only
    sysctls(plan, opened.proc.as_fd())?; // through the host's procfs, which no image can have replaced
    rootfs::finish(&plan.rootfs, root.as_fd(), &late, opened.proc())?; // read-only: nothing below may write
    opened.limit_open_files().at(Step::Descriptors, 0)?; // the program's limit, unless process.rlimits has another
    closing::close_later(root);

    identify(plan, opened, terminal)?;
    opened.hold_at(Hold::Waiting);
    report::end(); // after `create`, the runtime reads no report from here on
    sync::say_plainly(opened.sync.as_fd(), Message::Waiting).at(Step::Sync, 0)?;
    if let Gate::Fifos { .. } = opened.gate {
        // Wait until our PID is recorded. Otherwise, if the runtime was killed just now, no command
        // would find us and the fifo would never end.
        sync::wait_go(opened.sync.as_fd()).at(Step::Sync, 0)?;
    }
    opened.wait_for_start()?;
    hooks::start_container(plan, opened)?;
    program::exec(plan, opened)
}

/// Changes from the runtime's user to the program's, with no file of the host left open.
fn identify(plan: &Plan, opened: &mut Opened, terminal: Option<OwnedFd>) -> Result<(), StepError> {
    // Here, as the filter may forbid it later. From then on, the end of the conversation shows that
    // the runtime is gone.
    let outlive_runtime = || process::die_with_parent(false).at(Step::Sync, 0);
    let Some(process) = &plan.process else {
        opened.close_others(&[], terminal.as_ref())?;
        console::attach_standard(terminal, true)?;
        return outlive_runtime();
    };
    identity::label(process, opened.proc.as_fd())?; // the last to need the host's procfs
    opened.close_others(&process.kept_descriptors, terminal.as_ref())?; // before names of the image are used
    console::attach_standard(terminal, opened.succession.is_none())?;
    namespaces::choose_last(opened)?; // while we are permitted to
    namespaces::succeed_at(Moment::BeforeLimits, plan, opened)?;
    identity::schedule(plan, process)?; // while we may still raise priorities
    opened.ask(Message::Limits, opened.asks.limits)?;
    identity::limit(process, opened.asks.limits)?; // late: a small limit would make the steps above fail
    program::find_home(process, opened)?;
    program::name_listener(process, opened); // a successor does it again
    outlive_runtime()?;
    identity::become_user(plan, process, opened) // capabilities, IDs, filter: the order is explained there
}

impl Opened {
    /// The child's first stage: see [`parent::begin`].
    fn begin(&self, plan: &Plan) -> Result<(), StepError> {
        let kept = plan.process.as_ref().map_or(&[][..], |process| &process.kept_descriptors);
        // SAFETY: all that `stages` uses and drops is in `numbers`; the runtime's other descriptors
        // belong to functions that this process never returns to.
        unsafe { parent::begin(self.beginning, self.sync.as_fd(), [&self.numbers, kept], self.proc()) }
    }

    /// Whether a successor takes over from this process.
    pub fn has_successor(&self) -> bool {
        matches!(self.later, Later::Clone(_)) || self.succession.is_some()
    }

    /// Where a fault is reported: to the runtime that listens now.
    fn result(&self) -> BorrowedFd<'_> {
        match &self.gate {
            Gate::Fifos { result, .. } if self.started => result.as_fd(),
            _ => self.sync.as_fd(),
        }
    }

    fn begin_reports(&self) {
        if self.asks.reports {
            // SAFETY: `sync` is only closed by the execve of the program, or with this process; the
            // reports end before.
            unsafe { report::begin(self.sync.as_fd()) };
        }
    }

    /// Sets the limit of open files to that of the runtime's caller.
    fn limit_open_files(&self) -> rustix::io::Result<()> {
        self.open_files.as_ref().map_or(Ok(()), |limit| setrlimit(Resource::Nofile, *limit))
    }

    fn ask(&self, message: Message, needed: bool) -> Result<(), StepError> {
        if needed { sync::ask(self.sync.as_fd(), message).at(Step::Sync, 0) } else { Ok(()) }
    }

    /// Starts a session without a terminal. A process that has a successor leaves that to it: the
    /// terminal is lost when the session leader ends.
    fn own_session(&self) -> Result<(), StepError> {
        if self.succession.is_some() {
            return Ok(());
        }
        rustix::process::setsid().map(drop).at(Step::Session, 0)
    }

    fn wait_for_start(&mut self) -> Result<(), StepError> {
        let from = match &self.gate {
            Gate::Sync => self.sync.as_fd(),
            Gate::Fifos { start, .. } => start.as_fd(),
        };
        sync::wait_go(from).at(Step::Sync, 0)?;
        self.started = true;
        Ok(())
    }

    /// Closes all descriptors except those still needed and those that the program keeps. An image
    /// may have links into /proc/self/fd: a directory of the host among the descriptors would be an
    /// escape for its program, its passwd or its working directory.
    fn close_others(&self, kept: &[u32], terminal: Option<&OwnedFd>) -> Result<(), StepError> {
        let (start, result) = match &self.gate {
            Gate::Sync => (None, None),
            Gate::Fifos { start, result } => (Some(start), Some(result)),
        };
        let [output, errors] = &self.hook_output;
        let last = self.succession.as_ref().and_then(|succession| succession.namespace.as_ref());
        let needed = [Some(&self.sync), start, result, output.as_ref(), errors.as_ref(), terminal, last];
        let needed = needed.map(|file| file.map_or(u32::MAX, |file| file.as_raw_fd() as u32));
        // SAFETY: the owners of these numbers are never used or dropped again: this process only
        // ends by execve or _exit, `stages` has dropped its own, and all that it still uses is in
        // `needed`.
        unsafe { fd::close_others(3, [&needed, kept], self.proc()) }.at(Step::Descriptors, 0)
    }

    /// The host's procfs, while it is open.
    fn proc(&self) -> Procfs<'_> {
        Procfs::Opened(self.proc.as_fd())
    }

    fn hold_at(&self, moment: Hold) {
        if self.hold == Some(moment) {
            // If the runtime is gone, this process ends too, as at any other moment.
            if sync::wait_go(self.sync.as_fd()).is_err() {
                process::exit_now(1);
            }
        }
    }
}

fn name_host(plan: &Plan) -> Result<(), StepError> {
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(&plan.hostname).at(Step::Hostname, 0)?;
    }
    if !plan.domainname.is_empty() {
        crate::sys::cred::set_domain_name(&plan.domainname).at(Step::Domainname, 0)?;
    }
    Ok(())
}

fn sysctls(plan: &Plan, proc: BorrowedFd<'_>) -> Result<(), StepError> {
    if plan.sysctl.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(proc, c"sys", flags, Mode::empty()).at(Step::Sysctl, 0)?;
    for (index, (path, value)) in plan.sysctl.iter().enumerate() {
        write_file(directory.as_fd(), path, value).at(Step::Sysctl, index)?;
    }
    Ok(())
}

/// Writes a kernel file with one write(2).
fn write_file(directory: BorrowedFd<'_>, path: &std::ffi::CStr, value: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::openat(directory, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::io::write(&file, value)? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}
