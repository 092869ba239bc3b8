//! `restore`: criu recreates the processes of a container from images; the container is recorded as
//! with `create`.
//!
//! This module prepares the rest: the root as a mount, mount points, the cgroup, and the
//! replacements of external resources. criu is itself in that cgroup, so its processes are from
//! their first moment. At whatever moment this is killed, `delete --force` finds everything.

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags};

use super::images::{self, Directories, Images};
use super::{DESCRIPTORS, external};
use crate::checkpoint::message::{
    CgroupMode, CgroupRoot, Features, Inherit, JoinNamespace, Notice, Request, RequestKind,
};
use crate::checkpoint::{Criu, NewRoot, Purpose, with_root};
use crate::container::creation::{Creation, recorded};
use crate::container::directory::Directory;
use crate::container::draft::{Draft, Manner, draft};
use crate::container::foreground::{Foreground, Program, Terminal};
use crate::container::group::{if_forbidden, join_group, make_groups};
use crate::container::pid::ProcessId;
use crate::container::record::{Phase, Record};
use crate::container::request::{Create, Settings};
use crate::container::{destroy, hold, open, pid_file};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Plan;
use crate::sys::namespace::Namespace;
use crate::sys::{fd, process};

/// `restore`.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The container to create.
    pub create: Create,
    /// The options that `checkpoint` has too.
    pub images: Images,
    /// Whether to return once the processes run.
    pub detach: bool,
    /// Whether orphans of the container are reparented to the host's init instead of us.
    pub no_subreaper: bool,
    /// Whether established TCP connections are closed.
    pub tcp_close: bool,
    /// The AppArmor or SELinux profile, if not the dumped one; empty: the dumped one.
    pub lsm_profile: String,
    /// The SELinux context of mounts, if not the dumped one; empty: the dumped one.
    pub lsm_mount_context: String,
}

/// Name of the message that carries the terminal's master.
const MASTER: &[u8] = b"/dev/ptmx";

/// `restore`. In the foreground, returns the program's exit status, or 128 plus its signal;
/// detached, 0.
pub fn restore(settings: &Settings, request: &Restore) -> Result<i32> {
    images::check_criu(settings)?;
    if request.images.lazy_pages {
        images::check_features(Features { mem_track: None, lazy_pages: Some(true) }, "--lazy-pages")?;
    }
    request.images.check()?;
    if request.detach {
        return bring_back(settings, request, Manner::Detached).map(|_| 0);
    }
    if !request.no_subreaper {
        process::set_subreaper().doing(|| "become the reaper of the container's orphans")?;
    }
    let foreground = Foreground::prepare().doing(|| "take over signals")?;
    let back = bring_back(settings, request, Manner::Foreground)?;
    let ended = foreground.wait(Program {
        pid: back.pid,
        pidfd: back.pidfd.as_fd(),
        terminal: back.terminal,
        listener: None,
    });
    let cleaned = destroy::at_the_end(&back.directory, &back.record);
    match ended {
        Ok(status) => cleaned.map(|()| status),
        Err(error) => Err(error.after_cleaning(cleaned)),
    }
}

/// A restored container.
struct Back {
    directory: Directory,
    record: Record,
    pid: i32,
    pidfd: OwnedFd,
    /// The terminal, if the runtime copies it.
    terminal: Option<Terminal>,
}

/// Restores the container. On error everything is undone.
fn bring_back(settings: &Settings, request: &Restore, manner: Manner) -> Result<Back> {
    let draft = draft(settings, &request.create, manner, None)?;
    check(&draft.plan)?;
    let (directory, record, (pid, pidfd, terminal)) =
        recorded(settings, &request.create, &draft, |directory, record| {
            set_up(settings, request, &draft, directory, record)
        })?;
    directory.unlock()?;
    Ok(Back { directory, record, pid, pidfd, terminal })
}

fn check(plan: &Plan) -> Result<()> {
    if plan.rootfs.own_mounts {
        return Ok(());
    }
    let words = "only a container with a mount namespace of its own can be restored";
    Err(Error::invalid("linux.namespaces", words).of_kind(Kind::Unsupported))
}

fn set_up(
    settings: &Settings,
    request: &Restore,
    draft: &Draft,
    directory: &Directory,
    record: &mut Record,
) -> Result<(i32, OwnedFd, Option<Terminal>)> {
    let plan = &draft.plan;
    let console = match &request.create.console_socket {
        Some(path) => {
            let socket = fd::connect_unix(path);
            Some(socket.doing(|| format!("connect to the console socket {}", path.display()))?)
        }
        None => None,
    };
    if request.images.cgroups == CgroupMode::Strict {
        check_no_group(record)?;
    }
    let made = make_groups(settings, draft, record)?;
    external::make_mount_points(plan)?;
    let namespaces = Namespaces::open(plan)?;
    let root = NewRoot { path: real_root(plan)?, readonly: plan.rootfs.readonly };
    let keep: Vec<BorrowedFd<'_>> = namespaces.files.iter().map(AsFd::as_fd).collect();
    let start = || Ok((request.images.open(Purpose::Make)?, Criu::start(Purpose::Make, &keep)?));
    let (directories, criu) = with_root(&root, start)?;
    let made = join_group(directory, record, plan, criu.pid())?.or(made);
    if let Some(group) = &record.rdt {
        group.join(criu.pid())?;
    }
    hold::stop_at("criu");
    let restored = Restored { request, draft, directories: &directories, root: &root };
    let ask = restored.ask(namespaces, criu.pid())?;
    let if_forbidden = if_forbidden(settings);
    let creation =
        Creation { plan, directory, record, made, if_forbidden, limited: false, group_recorded: false };
    let mut helper = Helper { creation, console, master: None };
    let answer = criu.ask(&ask, &directories.log, |notice, fd| helper.hear(notice, fd))?;
    let pid = answer.restored.map_or(0, |restored| restored.pid);
    helper.note_init(pid)?;
    helper.limit()?;
    let master = helper.master.take();
    let pidfd = process::pidfd_open(pid).doing(|| format!("open process {pid}"))?;
    record.phase = Phase::Created;
    directory.write(record)?;
    hold::stop_at("created");
    if let Some(file) = &request.create.pid_file {
        pid_file::write(file, &pid.to_string())?;
    }
    let terminal = master.map(|master| Terminal::of(master, plan)).transpose()?;
    Ok((pid, pidfd, terminal))
}

fn check_no_group(record: &Record) -> Result<()> {
    let paths = record.group.as_ref().map(|group| group.paths()).unwrap_or_default();
    for path in paths.into_values() {
        if path.try_exists().doing(|| format!("stat cgroup {}", path.display()))? {
            let words = format!("--manage-cgroups-mode strict: cgroup {} already exists", path.display());
            return Err(Error::new(Kind::State, words));
        }
    }
    Ok(())
}

/// The root's path without symbolic links, as criu looks for it in the kernel's list of mounts.
fn real_root(plan: &Plan) -> Result<CString> {
    let path = std::ffi::OsStr::from_bytes(plan.rootfs.path.as_bytes());
    let real = std::fs::canonicalize(path).doing(|| format!("root.path: {}", path.display()))?;
    CString::new(real.into_os_string().into_vec())
        .map_err(|_| Error::invalid("root.path", "leads to a path with a NUL byte"))
}

/// The inputs of the request to criu.
struct Restored<'a> {
    request: &'a Restore,
    draft: &'a Draft,
    directories: &'a Directories,
    root: &'a NewRoot,
}

impl Restored<'_> {
    /// The request for criu, whose PID is `criu`.
    fn ask(&self, namespaces: Namespaces, criu: i32) -> Result<Request> {
        let Self { request, draft, directories, root } = self;
        let mut options = request.images.options(&draft.spec, directories, Purpose::Make)?;
        if request.images.cgroups == CgroupMode::Strict {
            // The additional check of strict was done before the cgroup was created; criu would
            // find the new one.
            options.manage_cgroups_mode = Some(CgroupMode::Full.into());
        }
        options.root = root.path.to_string_lossy().into_owned();
        options.rst_sibling = true;
        options.external = external::mounts_for(&draft.plan)?;
        options.inherit_fd = namespaces.inherited;
        options.inherit_fd.extend(standard_files(directories)?);
        options.join_ns = namespaces.joined;
        options.cg_root = cgroup_roots(criu)?;
        options.tcp_close = request.tcp_close;
        options.lsm_profile = request.lsm_profile.clone();
        options.lsm_mount_context = request.lsm_mount_context.clone();
        Ok(Request { kind: RequestKind::Restore.into(), options: Some(options), ..Request::default() })
    }
}

/// Replaces the external standard files of the processes with ours. criu has them under the same
/// numbers.
fn standard_files(directories: &Directories) -> Result<Vec<Inherit>> {
    let doing = || format!("read {DESCRIPTORS} next to the images");
    let how = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = Vec::new();
    match rustix::fs::openat(&directories.images, DESCRIPTORS, how, Mode::empty())
        .map_err(std::io::Error::from)
    {
        Ok(file) => File::from(file).read_to_end(&mut text).doing(doing)?,
        // Images written by criu without a runtime.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(doing),
    };
    let names: Vec<String> = serde_json::from_slice(&text)
        .map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", doing())))?;
    let mut inherited: Vec<Inherit> = Vec::new();
    for (key, fd) in names.into_iter().zip(0..3) {
        let outside = key.starts_with("pipe:") || key.starts_with("file[");
        // Output and error are often the same pipe.
        if outside && !inherited.iter().any(|one| one.key == key) {
            inherited.push(Inherit { key, fd });
        }
    }
    Ok(inherited)
}

/// The cgroups of criu, as replacements of the dumped ones: criu has been moved to the container's
/// new cgroup.
fn cgroup_roots(criu: i32) -> Result<Vec<CgroupRoot>> {
    let file = format!("/proc/{criu}/cgroup");
    let text = std::fs::read_to_string(&file).doing(|| format!("read {file}"))?;
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let each = controllers.split(',');
        roots.extend(each.map(|controller| CgroupRoot { controller: controller.into(), path: path.into() }));
    }
    Ok(roots)
}

/// The namespaces that the container joins by path.
struct Namespaces {
    files: Vec<OwnedFd>,
    inherited: Vec<Inherit>,
    joined: Vec<JoinNamespace>,
}

impl Namespaces {
    fn open(plan: &Plan) -> Result<Self> {
        let mut all = Self { files: Vec::new(), inherited: Vec::new(), joined: Vec::new() };
        for namespace in &plan.namespaces.joined {
            let file = open::open_namespace(namespace)?;
            let kind = namespace.kind;
            if let Some((_, name)) = external::NAMESPACES.iter().find(|(known, _)| *known == kind) {
                all.inherited.push(Inherit { key: (*name).into(), fd: file.as_raw_fd() });
                all.files.push(file);
                continue;
            }
            if !matches!(kind, Namespace::Ipc | Namespace::Uts | Namespace::Time) {
                let place = format!("linux.namespaces[{}].path", namespace.at);
                let words = "criu cannot restore into a namespace of this kind";
                return Err(Error::invalid(&place, words).of_kind(Kind::Unsupported));
            }
            let file = namespace.path.to_string_lossy().into_owned();
            all.joined.push(JoinNamespace { kind: kind.file().into(), file });
        }
        Ok(all)
    }
}

/// Serves criu while it restores.
struct Helper<'a> {
    creation: Creation<'a>,
    /// The socket that the terminal's master is sent to, if there is a console socket.
    console: Option<OwnedFd>,
    /// The terminal's master, if the runtime copies it.
    master: Option<OwnedFd>,
}

impl Helper<'_> {
    /// Handles a notification of criu; criu(8), "--action-script" lists them.
    fn hear(&mut self, notice: &Notice, fd: Option<OwnedFd>) -> Result<()> {
        match (notice.script.as_str(), fd) {
            ("setup-namespaces", _) => {
                self.note_init(notice.pid)?;
                self.creation.run_hooks()
            }
            ("orphan-pts-master", Some(master)) => self.take(master),
            // Everything is restored, and nothing runs yet.
            ("pre-resume", _) => self.limit(),
            _ => Ok(()),
        }
    }

    fn note_init(&mut self, pid: i32) -> Result<()> {
        self.creation.note_init(Some(ProcessId::of(pid)?))
    }

    fn take(&mut self, master: OwnedFd) -> Result<()> {
        match &self.console {
            Some(socket) => fd::send_fd(socket.as_fd(), MASTER, master.as_fd())
                .doing(|| "send the terminal to the console socket"),
            None => {
                self.master = Some(master);
                Ok(())
            }
        }
    }

    /// Sets the limits at the first call only.
    fn limit(&mut self) -> Result<()> {
        if self.creation.limited {
            return Ok(());
        }
        self.creation.guard_devices()?;
        self.creation.set_limits()
    }
}
