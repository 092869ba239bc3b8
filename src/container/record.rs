//! What is kept of a container between commands: one folder under the state folder, one file in it.
//!
//! The folder is made exclusively, so that two creations of one id cannot both win. The file is written beside and renamed,
//! so that a reader never sees half of it. Nothing is fsynced: /run does not outlive the machine. The status is not kept: it
//! is what the kernel says of the process and of the fifo on which it waits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::ContainerId;
use super::hold;
use super::pid::ProcessId;
use super::request::Settings;
use crate::cgroup::{Group, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::RuntimeHook;
use crate::spec::{self, Spec};

/// How far the creation has come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// `create` is at work, or was when it was killed.
    Creating,
    /// `create` is done.
    Created,
}

/// The content of the state file. Private to this version of the program; whole at any moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The container's name.
    pub id: String,
    /// The bundle, as it was named.
    pub bundle: PathBuf,
    /// Whether it goes with the container.
    #[serde(default)]
    pub bundle_goes: bool,
    /// The root file system on the host.
    pub rootfs: PathBuf,
    /// Moment of creation, RFC 3339.
    pub created: String,
    /// User who created it.
    pub owner: u32,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether its processes have a session keyring of their own.
    pub new_keyring: bool,
    /// How far it is.
    pub phase: Phase,
    /// The runtime that creates it.
    pub creator: ProcessId,
    /// The container's process, once it exists.
    pub init: Option<ProcessId>,
    /// Its control group, noted before it is made.
    pub group: Option<Group>,
    /// Whether the group has been made, so that what runs in it is the container's; a unit of systemd tells it itself.
    pub owns_group: bool,
    /// Which group that came to be, known to its maker alone: see [`Group::identity`].
    #[serde(skip)]
    pub group_made: Option<u64>,
    /// Its group of shares of caches and memory bandwidth, noted before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<ResctrlGroup>,
    /// When the mounts are made in the runtime's own mount namespace and must be taken away by hand: the mount that the
    /// root file system was on before.
    pub mount_below: Option<u64>,
    /// Where the program may be, for the words of a failing start; empty: there is no program.
    pub programs: Vec<String>,
    /// Paths of the startContainer hooks, for the same.
    pub start_hooks: Vec<String>,
    /// How many createContainer hooks are counted before them.
    pub create_hooks: usize,
    /// Run by `start`.
    pub poststart: Vec<RuntimeHook>,
    /// Run by `delete`.
    pub poststop: Vec<RuntimeHook>,
}

/// A container's folder under the state folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: OwnedFd,
}

const STATE: &str = "state.json";
const BESIDE: &str = ".state.json";
/// The configuration as it was at `create`: the bundle may change afterwards.
const CONFIG: &str = "config.json";
/// Gives the waiting process its byte.
pub const START_FIFO: &str = "start.fifo";
/// Takes the fault of a failing execve.
pub const RESULT_FIFO: &str = "result.fifo";

impl Folder {
    /// Makes the folder, and the state folder above it where it is missing. `Kind::Exists`: the id is taken.
    pub fn make(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let path = settings.root.join(id.as_ref());
        let make = || fs::DirBuilder::new().mode(0o711).create(&path);
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.root).doing(|| {
                    format!("make the state folder {} (--root names another)", settings.root.display())
                })?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => Self::at(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::new(Kind::Exists, format!("container with id exists already: {id}")))
            }
            Err(error) => Err(error).doing(|| format!("make {}", path.display())),
        }
    }

    /// The folder of a container that is there. `Kind::NotFound`: none.
    pub fn open(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let path = settings.root.join(id.as_ref());
        match Self::at(path) {
            // The second: an id may be longer than a file's name, and then never had a folder.
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENAMETOOLONG)) => {
                Err(Error::new(Kind::NotFound, format!("container does not exist: {id}")))
            }
            other => other,
        }
    }

    fn at(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(&path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))?;
        Ok(Self { path, handle })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user whose folder it is.
    pub fn owner(&self) -> u32 {
        rustix::fs::fstat(&self.handle).map_or(0, |stat| stat.st_uid)
    }

    /// Waits for the other commands that change this container, and keeps them waiting while the folder is open.
    pub fn lock(&self) -> Result<()> {
        rustix::fs::flock(&self.handle, FlockOperation::LockExclusive)
            .doing(|| format!("lock {}", self.path.display()))
    }

    /// Lets the other commands go on.
    pub fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.handle, FlockOperation::Unlock)
            .doing(|| format!("unlock {}", self.path.display()))
    }

    /// Writes the record, whole or not at all.
    pub fn write(&self, record: &Record) -> Result<()> {
        let file = self.path.join(STATE);
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::new(Kind::System, format!("write {}: {error}", file.display())))?;
        // By the handle: when somebody has deleted the container, the path may be another one's already.
        let write = || {
            let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
            let out = rustix::fs::openat(&self.handle, BESIDE, how, Mode::from_raw_mode(0o600))?;
            File::from(out).write_all(&text)?;
            std::io::Result::Ok(rustix::fs::renameat(&self.handle, BESIDE, &self.handle, STATE)?)
        };
        write().doing(|| format!("write {}", file.display()))
    }

    /// Reads the record. `None`: the folder was just made, or its maker was killed before the first word.
    pub fn read(&self) -> Result<Option<Record>> {
        let file = self.path.join(STATE);
        let text = match self.bytes(STATE) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.doing(|| format!("read {}", file.display()))?,
        };
        let record = serde_json::from_slice(&text);
        record
            .map(Some)
            .map_err(|error| Error::new(Kind::System, format!("read {}: {error}", file.display())))
    }

    /// Keeps the configuration that the container is made from.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let write = || {
            let out = rustix::fs::openat(&self.handle, CONFIG, how, Mode::from_raw_mode(0o600))?;
            File::from(out).write_all(bytes)
        };
        write().doing(|| format!("write {}", self.path.join(CONFIG).display()))
    }

    /// The configuration that the container was made from.
    pub fn config(&self) -> Result<Spec> {
        let file = self.path.join(CONFIG);
        let bytes = self.bytes(CONFIG).doing(|| format!("read {}", file.display()))?;
        spec::parse(&bytes).map_err(|fault| Error::new(Kind::System, format!("{}: {fault}", file.display())))
    }

    fn bytes(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let how = OFlags::RDONLY | OFlags::CLOEXEC;
        File::from(rustix::fs::openat(&self.handle, name, how, Mode::empty())?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Makes one of the two fifos and opens it both ways, so that neither opening nor a missing partner ever blocks.
    pub fn make_fifo(&self, name: &str) -> Result<OwnedFd> {
        let path = self.path.join(name);
        rustix::fs::mknodat(&self.handle, name, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .doing(|| format!("make {}", path.display()))?;
        self.open_fifo(name, OFlags::RDWR).doing(|| format!("open {}", path.display()))
    }

    /// Opens one of the two fifos; ENXIO when the other end is closed.
    pub fn open_fifo(&self, name: &str, how: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.handle, name, how | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether the path still leads to this folder: else it is deleted, and perhaps another container has its name.
    pub fn is_current(&self) -> bool {
        let own = rustix::fs::fstat(&self.handle);
        let named = rustix::fs::stat(&self.path);
        matches!((own, named), (Ok(own), Ok(named)) if (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
    }

    /// Takes the folder away with all that is in it; one that is gone already is fine.
    pub fn remove(&self) -> Result<()> {
        for name in [STATE, BESIDE, CONFIG, START_FIFO, RESULT_FIFO] {
            // Most of them are usually missing; what cannot be removed is seen below.
            let _ = rustix::fs::unlinkat(&self.handle, name, AtFlags::empty());
        }
        if !self.is_current() {
            return Ok(());
        }
        let removed = match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&self.path),
            other => other,
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove {}", self.path.display())),
        }
    }
}

/// Ids of all folders under the state folder, sorted. A state folder that is not there is an error when it was named.
pub fn all(settings: &Settings) -> Result<Vec<ContainerId>> {
    let entries = match fs::read_dir(&settings.root) {
        Err(error) if error.kind() == ErrorKind::NotFound && !settings.root_is_named => return Ok(Vec::new()),
        other => other.doing(|| format!("read the state folder {}", settings.root.display()))?,
    };
    let mut ids: Vec<ContainerId> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    ids.sort();
    Ok(ids)
}

/// The name of a user of this host; the number where it has none.
pub fn user_name(uid: u32) -> String {
    let named = || {
        let text = fs::read_to_string("/etc/passwd").ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    named().unwrap_or_else(|| uid.to_string())
}

/// Writes a file that appears whole, with `content`, at `path`: a pid file.
///
/// The folder may be anybody's: no link there is followed, and whatever moment we are killed at leaves nothing but the whole file,
/// unless it replaces another.
pub fn write_whole(path: &Path, content: &str) -> Result<()> {
    // A file system may have no files without a name, and a name may be taken: then beside it.
    nameless(path, content).or_else(|_| beside(path, content)).doing(|| format!("write {}", path.display()))
}

/// Gives the file its name last, open(2), "O_TMPFILE". EEXIST: there is one.
fn nameless(path: &Path, content: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut out = File::from(rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666))?);
    out.write_all(content.as_bytes())?;
    hold::here("pid-file");
    let own = format!("/proc/self/fd/{}", out.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn beside(path: &Path, content: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut out = match File::create_new(&beside) {
        // Of a process that had our number and was killed; or a link that somebody has put there.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&beside)?;
            File::create_new(&beside)?
        }
        other => other?,
    };
    let write = out.write_all(content.as_bytes()).and_then(|()| fs::rename(&beside, path));
    write.inspect_err(|_| drop(fs::remove_file(&beside)))
}
