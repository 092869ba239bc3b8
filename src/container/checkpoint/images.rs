//! Shared by `checkpoint` and `restore`: the image directory, common options, requirements on criu.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::message::{CgroupMode, Features, Options};
use crate::checkpoint::{self, Purpose, Version};
use crate::container::request::Settings;
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::Spec;
use crate::sys::namespace::Namespace;

/// The options of both commands.
#[derive(Clone, Debug)]
pub struct Images {
    /// The image directory.
    pub path: PathBuf,
    /// The directory of logs and sockets, if not that of the images.
    pub work_path: Option<PathBuf>,
    /// Whether open TCP connections are kept.
    pub tcp_established: bool,
    /// Whether Unix sockets may have an external peer.
    pub ext_unix_sk: bool,
    /// Whether session and terminal may belong to an external process.
    pub shell_job: bool,
    /// Whether file locks are kept.
    pub file_locks: bool,
    /// Whether pages of images are freed once they are not needed any more.
    pub auto_dedup: bool,
    /// Whether pages are fetched only on demand.
    pub lazy_pages: bool,
    /// Whether the network namespace's content is omitted.
    pub empty_network: bool,
    /// How cgroups are handled.
    pub cgroups: CgroupMode,
}

/// The open directories that criu needs.
pub struct Directories {
    /// The image directory.
    pub images: OwnedFd,
    /// The directory of logs and sockets.
    pub work: OwnedFd,
    /// The path of criu's log, in the directory of logs.
    pub log: PathBuf,
}

/// The first criu with external pid namespaces, mount contexts, and freezing in cgroup v2.
const OLDEST: Version = Version(3, 16, 0);

/// criu's debug level.
const LOG_LEVEL: i32 = 4;

/// Annotation that names a file whose options override ours.
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// The default for every container, if it exists: runc's file, as runc's users have it.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// Checks that this user may checkpoint, and that the installed criu is new enough.
pub(crate) fn check_criu(settings: &Settings) -> Result<()> {
    if settings.rootless {
        let words = "checkpoint and restore need root: criu cannot restore a rootless container";
        return Err(Error::new(Kind::Unsupported, words));
    }
    let found = checkpoint::version()?;
    if found < OLDEST {
        let words = format!("criu {found} is too old; {OLDEST} or newer is needed");
        return Err(Error::new(Kind::Unsupported, words));
    }
    Ok(())
}

/// Checks that criu and the kernel have the `wanted` features; `option` is why they are needed.
pub(crate) fn check_features(wanted: Features, option: &str) -> Result<()> {
    let found = checkpoint::features(wanted)?;
    let lacks = |wanted: Option<bool>, found: Option<bool>| wanted.is_some() && found != Some(true);
    if lacks(wanted.mem_track, found.mem_track) || lacks(wanted.lazy_pages, found.lazy_pages) {
        let words =
            format!("{option}: the installed criu or this kernel cannot do that (see \"criu check\")");
        return Err(Error::new(Kind::Unsupported, words));
    }
    Ok(())
}

impl Images {
    /// Checks that there is a checkpoint to restore, before anything is made.
    pub fn check(&self) -> Result<()> {
        let inventory = self.path.join("inventory.img");
        let doing = || format!("no checkpoint in {} (--image-path): inventory.img", self.path.display());
        fs::metadata(inventory).map(drop).doing(doing)
    }

    /// Opens the directories and creates missing ones: for `restore` only that of the logs.
    pub fn open(&self, purpose: Purpose) -> Result<Directories> {
        if purpose == Purpose::Look {
            make(&self.path, "--image-path")?;
        }
        let images = open(&self.path, "--image-path")?;
        let work_path = self.work_path.as_ref().unwrap_or(&self.path);
        if self.work_path.is_some() {
            make(work_path, "--work-path")?;
        }
        let work = open(work_path, "--work-path")?;
        let log = work_path.join(log_name(purpose));
        Ok(Directories { images, work, log })
    }

    /// criu's options that both commands set.
    pub fn options(&self, spec: &Spec, directories: &Directories, purpose: Purpose) -> Result<Options> {
        Ok(Options {
            images_dir_fd: directories.images.as_raw_fd(),
            work_dir_fd: directories.work.as_raw_fd(),
            log_level: LOG_LEVEL,
            log_file: log_name(purpose).into(),
            ext_unix_sk: self.ext_unix_sk,
            tcp_established: self.tcp_established,
            evasive_devices: true,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            notify_scripts: true,
            auto_dedup: self.auto_dedup,
            manage_cgroups: true,
            manage_cgroups_mode: Some(self.cgroups.into()),
            empty_ns: if self.empty_network { Namespace::Network.flag() as u32 } else { 0 },
            lazy_pages: self.lazy_pages,
            orphan_pts_master: true,
            config_file: config_file(spec)?,
            ..Options::default()
        })
    }
}

fn log_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Make => "restore.log",
        Purpose::Look => "dump.log",
    }
}

fn make(path: &Path, option: &str) -> Result<()> {
    // Mode 0711: root of a user namespace must be able to search the directory, to see that an
    // image does not exist. The images themselves are readable only by criu.
    match fs::DirBuilder::new().recursive(true).mode(0o711).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.doing(|| format!("create {} ({option})", path.display())),
    }
}

fn open(path: &Path, option: &str) -> Result<OwnedFd> {
    let doing = || format!("open the directory {} ({option})", path.display());
    let file = File::open(path).doing(doing)?;
    if file.metadata().doing(doing)?.is_dir() {
        return Ok(file.into());
    }
    Err(Error::new(Kind::Usage, format!("{}: not a directory", doing())))
}

/// criu's configuration file; empty: none.
fn config_file(spec: &Spec) -> Result<String> {
    match spec.annotations.get(CONFIG_ANNOTATION) {
        Some(named) if named.is_empty() => Ok(String::new()),
        Some(named) => {
            // criu would continue without it.
            File::open(named).doing(|| format!("open {named} (annotation {CONFIG_ANNOTATION})"))?;
            Ok(named.clone())
        }
        None if fs::exists(CONFIG_FILE).doing(|| format!("look for {CONFIG_FILE}"))? => {
            Ok(CONFIG_FILE.into())
        }
        None => Ok(String::new()),
    }
}
