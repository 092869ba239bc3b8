//! `checkpoint`: criu writes the processes of a container into images. The container is then
//! deleted, unless it is to keep running.

mod external;
mod images;
mod restore;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::cgroup::Driver;
use crate::checkpoint::message::{Features, Options, PageServer, Request, RequestKind};
use crate::checkpoint::{Criu, Purpose};
use crate::container::existing::Existing;
use crate::container::request::Settings;
use crate::container::state::Status;
use crate::container::{ContainerId, destroy, draft, facts};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::Spec;
use images::Directories;

pub use images::Images;
pub use restore::{Restore, restore};

/// `checkpoint`.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The container.
    pub id: ContainerId,
    /// The options that `restore` has too.
    pub images: Images,
    /// An earlier dump, relative to the images.
    pub parent_path: Option<PathBuf>,
    /// Whether the container keeps running.
    pub leave_running: bool,
    /// Whether only memory is written; the container then keeps running.
    pub pre_dump: bool,
    /// Whether TCP connections that are not yet established are skipped.
    pub tcp_skip_in_flight: bool,
    /// Whether unlinked files may get a name again.
    pub link_remap: bool,
    /// The descriptor of ours that gets a zero byte when the page server is ready.
    pub status_fd: Option<i32>,
    /// Address and port of the page server that pages are sent to, instead of a file.
    pub page_server: Option<(String, u16)>,
}

/// Names of the standard files, in the image directory: runc's name and format, a list of three.
const DESCRIPTORS: &str = "descriptors.json";

/// `checkpoint`.
pub fn checkpoint(settings: &Settings, request: &Checkpoint) -> Result<()> {
    let container = Existing::lock(settings, &request.id)?;
    let status = container.status()?;
    if !matches!(status, Status::Running | Status::Paused) {
        let words = format!("container cannot be checkpointed in {status} state; it must run or be paused");
        return Err(Error::new(Kind::State, words));
    }
    images::check_criu(settings)?;
    check_parent(request)?;
    check_status_fd(request)?;
    if request.pre_dump {
        images::check_features(Features { mem_track: Some(true), lazy_pages: None }, "--pre-dump")?;
    }
    if request.images.lazy_pages {
        images::check_features(Features { mem_track: None, lazy_pages: Some(true) }, "--lazy-pages")?;
    }
    let spec = container.directory.config()?;
    let plan = plan(settings, &container, &spec)?;
    let directories = request.images.open(Purpose::Look)?;
    dump(request, &container, &spec, &plan, &directories)?;
    if request.leave_running || request.pre_dump {
        return Ok(());
    }
    destroy::with_hooks(&container.directory, &container.record)
}

/// The plan of the container's creation, built again to find the sources of its mounts.
fn plan(settings: &Settings, container: &Existing, spec: &Spec) -> Result<Plan> {
    // The cgroup is that of the record.
    let settings = Settings { driver: Driver::Disabled, ..settings.clone() };
    let host = facts::host(spec, &settings, &container.record.id)?;
    let plan = Plan::build(spec, &container.ask(), &host.host)
        .map_err(|faults| draft::refuse("config.json", &faults))?;
    if plan.rootfs.own_mounts {
        return Ok(plan);
    }
    let words = "only a container with a mount namespace of its own can be checkpointed";
    Err(Error::invalid("linux.namespaces", words).of_kind(Kind::Unsupported))
}

fn dump(
    request: &Checkpoint,
    container: &Existing,
    spec: &Spec,
    plan: &Plan,
    directories: &Directories,
) -> Result<()> {
    let init = container.init()?;
    let mut options = request.images.options(spec, directories, Purpose::Look)?;
    own_options(request, &mut options);
    options.pid = init.pid;
    options.freeze_cgroup = freezer(container);
    options.external = external::mounts_of(init.pid, plan)?;
    for (kind, name) in external::NAMESPACES {
        if plan.namespaces.joins(*kind) {
            let file = kind.file();
            let path = format!("/proc/{}/ns/{file}", init.pid);
            let inode = fs::metadata(&path).doing(|| format!("stat {path}"))?.ino();
            options.external.push(format!("{file}[{inode}]:{name}"));
        }
    }
    let (files, outside) = external::standard_files(init.pid)?;
    options.external.extend(outside);
    if !request.pre_dump {
        write_descriptors(&directories.images, &files)
            .doing(|| format!("write {}", request.images.path.join(DESCRIPTORS).display()))?;
    }
    let kind = if request.pre_dump { RequestKind::PreDump } else { RequestKind::Dump };
    let request = Request { kind: kind.into(), options: Some(options), ..Request::default() };
    Criu::start(Purpose::Look, &[])?.ask(&request, &directories.log, |_, _| Ok(())).map(drop)
}

fn own_options(request: &Checkpoint, options: &mut Options) {
    options.leave_running = request.leave_running || request.pre_dump;
    options.tcp_skip_in_flight = request.tcp_skip_in_flight;
    options.link_remap = request.link_remap;
    options.track_mem = request.pre_dump || request.parent_path.is_some();
    options.status_fd = request.status_fd;
    let parent = request.parent_path.as_ref();
    options.parent_img = parent.map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    let server =
        |(address, port): &(String, u16)| PageServer { address: address.clone(), port: (*port).into() };
    options.page_server = request.page_server.as_ref().map(server);
}

/// The cgroup that contains all its processes, so that none escapes while they are stopped one by
/// one. Empty: there is none.
fn freezer(container: &Existing) -> String {
    let Some(group) = &container.record.group else { return String::new() };
    let dir = if group.is_unified() { group.unified.as_ref() } else { group.legacy_dir("freezer") };
    dir.map_or_else(String::new, |dir| dir.path().to_string_lossy().into_owned())
}

/// Checks the parent dump: without it, criu would silently write a full dump.
fn check_parent(request: &Checkpoint) -> Result<()> {
    let Some(parent) = &request.parent_path else { return Ok(()) };
    if parent.is_absolute() {
        let words = format!("--parent-path must be relative to the --image-path: {}", parent.display());
        return Err(Error::new(Kind::Usage, words));
    }
    let place = request.images.path.join(parent);
    // The image directory may not exist yet, but its name counts.
    let above = place.components().collect::<PathBuf>();
    let found = fs::metadata(&place).or_else(|_| fs::metadata(lexical(&above)));
    let found = found.doing(|| format!("--parent-path: {}", place.display()))?;
    if found.is_dir() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("--parent-path: {}: not a directory", place.display())))
}

/// Removes `..` without resolving symbolic links.
fn lexical(path: &std::path::Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir && clean.file_name().is_some() {
            clean.pop();
        } else {
            clean.push(part);
        }
    }
    clean
}

/// Checks the status descriptor early: criu would only find out when it writes to it.
fn check_status_fd(request: &Checkpoint) -> Result<()> {
    let Some(number) = request.status_fd else { return Ok(()) };
    let file = format!("/proc/self/fdinfo/{number}");
    let text = fs::read_to_string(&file).doing(|| format!("--status-fd {number}: it is not open"))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or_default();
    if flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(Error::new(Kind::Usage, format!("--status-fd {number}: it is not open for writing")));
    }
    Ok(())
}

fn write_descriptors(directory: &OwnedFd, files: &[String]) -> std::io::Result<()> {
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let out = rustix::fs::openat(directory, DESCRIPTORS, how, Mode::from_raw_mode(0o600))?;
    File::from(out).write_all(&serde_json::to_vec(files)?)
}
