//! `create` and the first half of `run`: from the bundle to a process that waits for the word to start.
//!
//! Whatever moment this is killed at, `delete --force` finds all: each thing is noted in the record before it is made. The
//! child ends by itself when we are gone before it waits.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::conversation::Conversation;
use super::folder::{Folder, RESULT_FIFO, START_FIFO};
use super::open::{self, Given, Making};
use super::open_files::Raised;
use super::passed::passed;
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::{Create, Settings};
use super::sd_notify::Manager;
use super::{admission, destroy, facts, hold, members, pid_file, report, root, sd_notify};
use crate::cgroup::{Group, Made, Missing, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::{self, Gate, Opened, sync};
use crate::plan::{Ask, BadField, Fault, Plan, Step};
use crate::spec::{self, Spec};
use crate::sys::fd;
use crate::sys::mount::Procfs;
use crate::sys::process::{self, Cloned};

/// How the word to start will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By `start`, from another process.
    Later,
    /// By us, at once; the terminal's master goes to the console socket.
    Detached,
    /// By us, at once; the terminal's master comes to us.
    Foreground,
}

/// A container that is set up, its process waiting.
pub struct Launched {
    /// Its folder.
    pub folder: Folder,
    /// What is noted of it.
    pub record: Record,
    /// The plan, which has the words for faults.
    pub plan: Plan,
    /// Its process.
    pub pidfd: OwnedFd,
    /// Our end of the conversation.
    pub sync: OwnedFd,
    /// Carries the terminal's master to us, when it does.
    pub console: Option<OwnedFd>,
    /// Hears whether the container is ready, if a service manager wants to know.
    pub listener: Option<sd_notify::Listener>,
}

/// `create`.
pub fn create(settings: &Settings, request: &Create) -> Result<()> {
    launch(settings, request, Manner::Later)?.folder.unlock()
}

/// What is known before anything is made.
pub(super) struct Draft {
    /// config.json as it was read.
    config: Vec<u8>,
    /// The same, parsed.
    pub spec: Spec,
    /// What we will do.
    pub plan: Plan,
    bundle: PathBuf,
    group: Option<Group>,
    rdt: Option<ResctrlGroup>,
    manager: Option<Manager>,
}

/// Creates the container, and keeps its lock. After an error nothing of it is left.
pub fn launch(settings: &Settings, request: &Create, manner: Manner) -> Result<Launched> {
    let draft = draft(settings, request, manner, Manager::of_environment())?;
    let (folder, record, (listener, ends)) = recorded(settings, request, &draft, |folder, record| {
        let listener = listen(folder, &draft, manner)?;
        Ok((listener, set_up(settings, request, manner, &draft, folder, record)?))
    })?;
    let (pidfd, sync, console) = ends;
    Ok(Launched { folder, record, plan: draft.plan, pidfd, sync, console, listener })
}

/// Begins the container's directory, locked, and its record, and has `set_up` make the rest. After an error nothing is left of it all.
pub(super) fn recorded<T>(
    settings: &Settings,
    request: &Create,
    draft: &Draft,
    set_up: impl FnOnce(&Folder, &mut Record) -> Result<T>,
) -> Result<(Folder, Record, T)> {
    let folder = Folder::make(settings, &request.id)?;
    tracing::debug!("state folder {}/{} is made", settings.root.display(), request.id);
    let mut record = match record(draft, request, &folder) {
        Ok(record) => record,
        Err(error) => return Err(error.after_cleaning(folder.remove())),
    };
    match set_up(&folder, &mut record) {
        Ok(made) => Ok((folder, record, made)),
        // Once there was a process, its end is one like any other: with poststop hooks.
        Err(error) if record.init.is_some() => {
            Err(error.after_cleaning(destroy::with_hooks(&folder, &record)))
        }
        Err(error) => Err(error.after_cleaning(destroy::everything(&folder, &record))),
    }
}

/// Reads and judges: whatever config.json has wrong is found here, with nothing made yet.
///
/// With a service `manager` that waits, the container gets a socket for its messages.
pub(super) fn draft(
    settings: &Settings,
    request: &Create,
    manner: Manner,
    manager: Option<Manager>,
) -> Result<Draft> {
    let passed = passed(request.preserve_fds)?;
    root::check_length(settings, &request.id)?;
    request.pid_file.as_deref().map_or(Ok(()), pid_file::check)?;
    let bundle = std::path::absolute(&request.bundle)
        .doing(|| format!("find the bundle {}", request.bundle.display()))?;
    let (config, mut spec) = read_config(&bundle, request.config.as_deref())?;
    tracing::debug!("bundle {}: {} bytes of configuration are read", bundle.display(), config.len());
    let given_mounts = spec.mounts.len();
    if manager.is_some() {
        sd_notify::amend(&mut spec, settings, &request.id)?;
    }
    let host = facts::host(&spec, settings, request.id.as_ref())?;
    let ask = Ask {
        id: request.id.as_ref(),
        bundle: &bundle,
        no_pivot: request.no_pivot,
        new_keyring: !request.no_new_keyring,
        passed: &passed,
    };
    let plan = Plan::build(&spec, &ask, &host.host).map_err(|faults| {
        members::warn::<Spec>("config.json", &config);
        refuse("config.json", &faults)
    })?;
    log(&plan);
    check_root(&plan)?;
    check_console(&plan, request.console_socket.as_deref(), manner)?;
    let rdt = plan.rdt.as_ref().map(|wish| wish.place(request.id.as_ref())).transpose()?;
    admission::admit(&spec, &plan, &bundle, given_mounts)?;
    report::plan(&plan, host.group.as_ref());
    Ok(Draft { config, spec, plan, bundle, group: host.group, rdt, manager })
}

/// What the user should know of a plan though nothing is refused.
pub(super) fn log(plan: &Plan) {
    for warning in plan.warnings.iter().chain(&plan.limits.warnings) {
        tracing::warn!("{warning}");
    }
    for detail in &plan.details {
        tracing::debug!("{detail}");
    }
}

/// The bundle's config.json, or another file: its bytes and what they say.
pub fn read_config(bundle: &Path, config: Option<&Path>) -> Result<(Vec<u8>, Spec)> {
    let file = config.map_or_else(|| bundle.join("config.json"), Path::to_path_buf);
    let bytes = fs::read(&file).doing(|| format!("read {}", file.display()))?;
    let spec = spec::parse(&bytes).map_err(|fault| {
        let more = spec::survey(&bytes).map_or(0, |survey| survey.faults.len().saturating_sub(1));
        let more = if more > 0 { format!(" (and {more} more; {SEE_CHECK})") } else { String::new() };
        Error::new(Kind::Invalid, format!("{}: {fault}{more}", file.display()))
    })?;
    Ok((bytes, spec))
}

const SEE_CHECK: &str = "the command check tells all";

/// The first of what a document has wrong.
pub(super) fn refuse(document: &str, faults: &[BadField]) -> Error {
    let first = faults.first().map_or_else(String::new, ToString::to_string);
    let more = match faults.len() {
        0 | 1 => String::new(),
        count if document == "config.json" => {
            format!(" (and {} more; {SEE_CHECK})", count - 1)
        }
        count => format!(" (and {} more)", count - 1),
    };
    Error::new(Kind::Invalid, format!("{document}: {first}{more}"))
}

/// What the mounting would find, but late and in other words.
fn check_root(plan: &Plan) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let found = fs::metadata(path).doing(|| format!("root.path: {}", path.display()))?;
    let is_host_root = || -> Result<bool> {
        let real = fs::canonicalize(path).doing(|| format!("root.path: {}", path.display()))?;
        Ok(real == Path::new("/"))
    };
    if !plan.rootfs.own_mounts && is_host_root()? {
        let words = "is / itself, which needs a mount namespace of the container's own";
        return Err(Error::invalid("root.path", words));
    }
    if found.is_dir() {
        Ok(())
    } else {
        Err(Error::invalid("root.path", format!("{}: not a directory", path.display())))
    }
}

/// Begins with runc's words, which scripts look for.
pub(super) fn check_console(plan: &Plan, console_socket: Option<&Path>, manner: Manner) -> Result<()> {
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal.is_some());
    let words = match (terminal, console_socket.is_some(), manner) {
        (true, false, Manner::Later | Manner::Detached) => {
            "cannot allocate tty if runc will detach without setting console socket: process.terminal is true, so name a --console-socket that takes the terminal"
        }
        (false, true, _) => {
            "cannot use console socket if runc will not detach or allocate tty: --console-socket is given, but process.terminal is not true"
        }
        (true, true, Manner::Foreground) => {
            "cannot use console socket if runc will not detach or allocate tty: --console-socket needs --detach"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, words))
}

fn record(draft: &Draft, request: &Create, folder: &Folder) -> Result<Record> {
    let text =
        |list: &[std::ffi::CString]| list.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let plan = &draft.plan;
    let hooks = &plan.hooks;
    let rootfs = PathBuf::from(OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let record = Record {
        id: request.id.to_string(),
        bundle: draft.bundle.clone(),
        bundle_goes: request.bundle_goes,
        mount_below: if plan.rootfs.own_mounts { None } else { destroy::mount_id(&rootfs)? },
        rootfs,
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        owner: folder.owner()?,
        annotations: draft.spec.annotations.clone(),
        new_keyring: !request.no_new_keyring,
        phase: Phase::Creating,
        creator: ProcessId::own()?,
        init: None,
        own_pids: plan.namespaces.creates(libc::CLONE_NEWPID),
        group: draft.group.clone(),
        owns_group: false,
        group_made: None,
        rdt: draft.rdt.clone(),
        programs: plan.process.as_ref().map_or_else(Vec::new, |process| text(&process.candidates)),
        start_hooks: hooks
            .start_container
            .iter()
            .map(|hook| hook.path.to_string_lossy().into_owned())
            .collect(),
        create_hooks: hooks.create_container.len(),
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
    };
    folder.write(&record)?;
    folder.write_config(&draft.config)?;
    hold::here("recorded");
    Ok(record)
}

/// The socket for messages to the service manager. `start` listens itself.
fn listen(folder: &Folder, draft: &Draft, manner: Manner) -> Result<Option<sd_notify::Listener>> {
    let Some(manager) = draft.manager.as_ref().filter(|_| draft.plan.process.is_some()) else {
        return Ok(None);
    };
    sd_notify::make_directory(folder)?;
    let manager = (manner != Manner::Later).then(|| manager.clone());
    sd_notify::Listener::bind(folder, manager)
}

type Ends = (OwnedFd, OwnedFd, Option<OwnedFd>);

fn set_up(
    settings: &Settings,
    request: &Create,
    manner: Manner,
    draft: &Draft,
    folder: &Folder,
    record: &mut Record,
) -> Result<Ends> {
    let made = make_groups(settings, draft, record)?;
    let joins_late = record.group.as_ref().is_some_and(Group::is_joined_late);
    let (ours, theirs) = sync::pair().doing(|| "make a socket pair")?;
    let (console, console_end) = consoles(&draft.plan, request.console_socket.as_deref(), manner)?;
    let born_in_group = !joins_late && made.as_ref().is_some_and(|made| made.dir_fd().is_some());
    if born_in_group {
        // From here on the container is known by what is in its group, even while there is no init.
        folder.write(record)?;
    }
    let raised = Raised::for_plan(&draft.plan);
    let given = Given {
        sync: theirs,
        console: console_end,
        gate: gate(folder, manner)?,
        joins_group_late: joins_late,
        born_in_group,
        open_files: raised.before(),
    };
    let (mut opened, making) = open::open(&draft.spec, &draft.plan, &draft.bundle, &record.id, given)?;
    let (pid, pidfd) = clone(&draft.plan, &mut opened, &making, made.as_ref(), init::run)?;
    let mut talk = Conversation {
        plan: &draft.plan,
        folder,
        record,
        sync: ours,
        pid,
        pidfd,
        awaits_successor: opened.has_successor(),
        sources: std::mem::take(&mut opened.sources),
        raised: Some(raised),
        joins_late,
        made,
        limited: false,
        tolerant: settings.rootless,
    };
    if !opened.asks.map_ids {
        talk.close_sources();
    }
    // The child's ends must be the child's alone, so that its death closes them.
    drop(opened);
    // Beside the child's work, as it takes as long as reading the document did.
    members::warn::<Spec>("config.json", &draft.config);
    talk.begin().map_err(|error| talk.last_words().unwrap_or(error))?;
    talk.until_waiting()?;
    let Conversation { pid, pidfd, sync, .. } = talk;
    record.phase = Phase::Created;
    folder.write(record)?;
    if manner == Manner::Later {
        sync::go(sync.as_fd()).doing(|| "tell the container's process that it is noted")?;
    }
    hold::here("created");
    let annotated = draft.spec.annotations.get("run.oci.pidfd_receiver").map(PathBuf::from);
    let pidfd_socket = request.pidfd_socket.as_deref().or(annotated.as_deref());
    tell_outside(pidfd_socket, request.pid_file.as_deref(), pid, &pidfd)?;
    Ok((pidfd, sync, console))
}

/// The control group, and the one of caches and bandwidth. `None`: there is no control group, and there need not be one; or
/// systemd will make it around the process.
pub(super) fn make_groups(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let made = make_group(settings, draft, record)?;
    if let (Some(group), Some(wish)) = (&mut record.rdt, &draft.plan.rdt) {
        group.make(wish)?;
    }
    hold::here("cgroup");
    Ok(made)
}

fn make_group(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let Some(group) = draft.group.as_ref().filter(|group| group.scope.is_none()) else {
        return Ok(None);
    };
    let named = draft.spec.linux.as_ref().is_some_and(|linux| !linux.cgroups_path.is_empty());
    // The default device rules of v1 are written where that can be; nobody asked for them.
    let limited = draft.plan.limits.writes.iter().any(|write| write.missing != Missing::Skip);
    let made = group.create(settings.rootless && !named && !limited);
    // An ordinary user may get less than was planned, or nothing; and what could not be made, as it is another container's, is
    // not for us to take away.
    record.group = made.as_ref().ok().and_then(Option::as_ref).map(|made| made.group().clone());
    record.owns_group = record.group.is_some();
    record.group_made = record.group.as_ref().map_or(Ok(None), Group::identity)?;
    made
}

/// Moves a process into the container's group. Systemd makes the group for it, where it is a unit's: `Some`.
pub(super) fn join_group(
    folder: &Folder,
    record: &mut Record,
    plan: &Plan,
    pid: i32,
) -> Result<Option<Made>> {
    let Some(group) = &mut record.group else { return Ok(None) };
    if group.scope.is_none() {
        // From here on the group is known by what is in it, even while there is no init.
        folder.write(record)?;
        return record.group.as_ref().map_or(Ok(()), |group| group.join(pid)).map(|()| None);
    }
    let made = group.start(pid, &plan.scope);
    if made.as_ref().is_err_and(|error| error.kind() == Kind::Exists) {
        // What has the unit's name is another container, which must outlive this one.
        record.group = None;
    }
    folder.write(record)?;
    hold::here("scope");
    made.map(Some)
}

/// Our end for the terminal's master, and the child's.
pub(super) fn consoles(
    plan: &Plan,
    console_socket: Option<&Path>,
    manner: Manner,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    if plan.process.as_ref().is_none_or(|process| process.terminal.is_none()) {
        return Ok((None, None));
    }
    if manner == Manner::Foreground {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.doing(|| "make a socket pair")?;
        return Ok((Some(ours), Some(theirs)));
    }
    let Some(path) = console_socket else { return Ok((None, None)) };
    let socket =
        fd::connect_unix(path).doing(|| format!("connect to the console socket {}", path.display()))?;
    Ok((None, Some(socket)))
}

fn gate(folder: &Folder, manner: Manner) -> Result<Gate> {
    if manner != Manner::Later {
        return Ok(Gate::Sync);
    }
    Ok(Gate::Fifos { start: folder.make_fifo(START_FIFO)?, result: folder.make_fifo(RESULT_FIFO)? })
}

/// Makes the process, with the runtime itself in the namespaces that only a maker can hand down, for that moment. The
/// process goes on with `child`.
pub(super) fn clone(
    plan: &Plan,
    opened: &mut Opened,
    making: &Making,
    made: Option<&Made>,
    child: fn(&Plan, &mut Opened) -> !,
) -> Result<(i32, OwnedFd)> {
    let mut back = Vec::new();
    for (kind, at, file) in &making.by_runtime {
        let own = own_namespace(*kind)?;
        let joining = || Fault { step: Step::JoinNamespace, index: *at as u16, errno: 0 }.words(plan);
        let proc = Procfs::Opened(opened.proc.as_fd());
        process::enter(file.as_fd(), opened.entered, *kind, proc).doing(joining)?;
        back.push((*kind, own));
    }
    opened.list_descriptors();
    // SAFETY: no memory is shared, and `child`, one of init's two, keeps to the heap-free rules until execve or _exit.
    let cloned = unsafe { process::clone3(making.flags, made.and_then(Made::dir_fd)) };
    if matches!(cloned, Ok(Cloned::Child)) {
        child(plan, opened);
    }
    for (kind, own) in back {
        // Staying in a container's namespace would be worse than any error.
        process::setns(own.as_fd(), kind).doing(|| "return to the runtime's own namespaces")?;
    }
    let hint = cloned.as_ref().err().map_or("", refusal_of_clone);
    match cloned.doing(|| format!("make the container's process and its namespaces{hint}"))? {
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Cloned::Child => process::exit_now(1),
    }
}

/// The likely cause of a refusal that clone(2) has one bare word for.
fn refusal_of_clone(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            " (may this user make them? see kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)"
        }
        Some(libc::ENOSPC | libc::EUSERS) => " (is a limit in /proc/sys/user/max_*_namespaces reached?)",
        Some(libc::EAGAIN) => " (is RLIMIT_NPROC or the cgroup's pids.max reached?)",
        _ => "",
    }
}

fn own_namespace(kind: i32) -> Result<OwnedFd> {
    let (name, _) = NAMESPACE_FILES.iter().find(|(_, known)| *known == kind).copied().unwrap_or(("mnt", 0));
    let path = format!("/proc/self/ns/{name}");
    fs::File::open(&path).map(OwnedFd::from).doing(|| format!("open {path}"))
}

/// namespaces(7).
const NAMESPACE_FILES: &[(&str, i32)] = &[
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// What the caller wants to know: the pid in a file, the pidfd through a socket.
pub(super) fn tell_outside(
    pidfd_socket: Option<&Path>,
    pid_file: Option<&Path>,
    pid: i32,
    pidfd: &OwnedFd,
) -> Result<()> {
    if let Some(path) = pidfd_socket {
        let socket =
            fd::connect_unix(path).doing(|| format!("connect to the pidfd socket {}", path.display()))?;
        fd::send_fd(socket.as_fd(), b"pidfd", pidfd.as_fd())
            .doing(|| format!("send the pidfd to {}", path.display()))?;
    }
    match pid_file {
        Some(file) => pid_file::write(file, &pid.to_string()),
        None => Ok(()),
    }
}
