//! A container's directory under the state directory: made, opened, locked, read, written, removed.
//!
//! It is created exclusively: of two creations with one ID only one succeeds. The state file is
//! written to a temporary name and exchanged with the old one, so that a reader never sees half of
//! it. (A rename over the old one makes ext4 write the data to disk at once.) Nothing is fsynced:
//! /run does not survive a reboot.
//!
//! # The lock
//! flock(2) on the directory. docs/architecture.md, "Who holds the lock", lists its holders and for
//! how long they hold it. A new holder must check again what it read before:
//! [`Directory::is_current`], then the record.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::ContainerId;
use super::record::Record;
use super::request::Settings;
use super::root::StateRoot;
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::{self, Spec};
use crate::sys::remove::remove_at;
use crate::sys::small_file;

/// A container's open directory.
#[derive(Debug)]
pub struct Directory {
    root: Arc<StateRoot>,
    id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
    /// The directory's metadata: device, inode and owner do not change.
    stat: OnceLock<Stat>,
    /// Whether it may contain fifos: not if this command has created it and no fifo.
    has_fifos: AtomicBool,
}

/// The state file's content.
#[derive(Debug)]
pub enum StateFile {
    /// No file: the directory was just created, or its creator was killed before the first write.
    Nothing,
    /// A record.
    Whole(Box<Record>),
    /// Bytes that are no record.
    Broken(Broken),
}

/// A state file that does not parse.
#[derive(Debug)]
pub struct Broken {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The parse error.
    pub error: Error,
}

const STATE: &str = "state.json";
const BESIDE: &str = ".state.json";
/// The configuration at `create`: the bundle may change afterwards.
const CONFIG: &str = "config.json";
/// Delivers the start message to the waiting process.
pub(crate) const START_FIFO: &str = "start.fifo";
/// Receives the fault of a failing execve.
pub(crate) const RESULT_FIFO: &str = "result.fifo";

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Directory {
    /// Creates the directory, and the state directory above it if missing, and locks it.
    ///
    /// `Kind::Exists`: the ID is in use. After any other error there is no directory.
    pub fn make(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let root = Arc::new(StateRoot::make(settings)?);
        let path = settings.root.join(id.as_ref());
        match rustix::fs::mkdirat(&*root, id.as_ref(), Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::new(
                    Kind::Exists,
                    format!("container with given ID already exists: {id}"),
                ));
            }
            Err(error) => return Err(error).doing(|| format!("create {}", path.display())),
        }
        let handle = match open(&root, id, &path) {
            Ok(handle) => handle,
            // It would block its ID, as no other command knows that it is empty.
            Err(error) => {
                let removed = rustix::fs::unlinkat(&*root, id.as_ref(), AtFlags::REMOVEDIR);
                return Err(error.after_cleaning(removed.doing(|| format!("remove {}", path.display()))));
            }
        };
        let made = Self::opened(root, id, path, handle, false);
        // A delete --force may have seen the empty directory first.
        match made.lock().and_then(|()| made.is_current()) {
            Ok(true) => Ok(made),
            Ok(false) => {
                Err(Error::new(Kind::State, format!("container {id} was deleted while it was being created")))
            }
            Err(error) => Err(error.after_cleaning(made.remove())),
        }
    }

    /// Opens the directory of an existing container. `Kind::NotFound`: there is none.
    pub fn open(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let root = StateRoot::open(settings)?.ok_or_else(|| missing(id))?;
        Self::open_in(Arc::new(root), settings, id)
    }

    /// As [`Directory::open`], below the state directory that is open already.
    pub(super) fn open_in(root: Arc<StateRoot>, settings: &Settings, id: &ContainerId) -> Result<Self> {
        let path = settings.root.join(id.as_ref());
        match open(&root, id, &path) {
            Ok(handle) => Ok(Self::opened(root, id, path, handle, true)),
            // ENAMETOOLONG: no directory can have this name.
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENAMETOOLONG)) => {
                Err(missing(id))
            }
            Err(error) => Err(error),
        }
    }

    fn opened(root: Arc<StateRoot>, id: &ContainerId, path: PathBuf, handle: OwnedFd, fifos: bool) -> Self {
        let has_fifos = AtomicBool::new(fifos);
        Self { root, id: id.clone(), path, handle, stat: OnceLock::new(), has_fifos }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container's name.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory's metadata when it was first asked for.
    pub fn stat(&self) -> Result<&Stat> {
        if let Some(stat) = self.stat.get() {
            return Ok(stat);
        }
        let stat = rustix::fs::fstat(&self.handle).doing(|| format!("stat {}", self.path.display()))?;
        Ok(self.stat.get_or_init(|| stat))
    }

    /// The directory's owner, a UID.
    pub fn owner(&self) -> Result<u32> {
        self.stat().map(|stat| stat.st_uid)
    }

    /// Waits for the lock and takes it. No error if this command already holds it.
    pub fn lock(&self) -> Result<()> {
        let locked =
            rustix::io::retry_on_intr(|| rustix::fs::flock(&self.handle, FlockOperation::LockExclusive));
        locked.doing(|| format!("lock {}", self.path.display()))
    }

    /// Takes the lock without waiting: false if another command holds it.
    pub fn try_lock(&self) -> Result<bool> {
        match rustix::fs::flock(&self.handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error).doing(|| format!("lock {}", self.path.display())),
        }
    }

    /// Releases the lock, also for a child that has a copy of the descriptor.
    pub fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.handle, FlockOperation::Unlock)
            .doing(|| format!("unlock {}", self.path.display()))
    }

    /// Whether the path still leads to this directory. Otherwise it is deleted, and another
    /// container may have its name.
    pub fn is_current(&self) -> Result<bool> {
        let own = self.stat()?;
        match rustix::fs::statat(&*self.root, self.id.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).doing(|| format!("stat {}", self.path.display())),
        }
    }

    /// Writes the first record, atomically: there is no state file yet.
    pub fn write_first(&self, record: &Record) -> Result<()> {
        self.put(record, || rustix::fs::renameat(&self.handle, BESIDE, &self.handle, STATE))
    }

    /// Replaces the record atomically.
    pub fn write(&self, record: &Record) -> Result<()> {
        let exchange = || {
            rustix::fs::renameat_with(&self.handle, BESIDE, &self.handle, STATE, RenameFlags::EXCHANGE)?;
            rustix::fs::unlinkat(&self.handle, BESIDE, AtFlags::empty())
        };
        self.put(record, || match exchange() {
            // There is no state file, or a file system cannot exchange files.
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::renameat(&self.handle, BESIDE, &self.handle, STATE)
            }
            done => done,
        })
    }

    /// Writes the record to a new file beside the state file, which `replace` then replaces.
    fn put(&self, record: &Record, replace: impl Fn() -> rustix::io::Result<()>) -> Result<()> {
        let file = self.path.join(STATE);
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::new(Kind::System, format!("write {}: {error}", file.display())))?;
        // By descriptor: if the container was deleted, the path may already be another container's.
        let write = || {
            let out = match self.create_beside() {
                // A command was killed before it removed or renamed it. A reader may have opened it
                // as the state file: it must not be truncated.
                Err(Errno::EXIST) => {
                    rustix::fs::unlinkat(&self.handle, BESIDE, AtFlags::empty())?;
                    self.create_beside()?
                }
                created => created?,
            };
            File::from(out).write_all(&text)?;
            std::io::Result::Ok(replace()?)
        };
        write().doing(|| format!("write {}", file.display()))
    }

    fn create_beside(&self) -> rustix::io::Result<OwnedFd> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&self.handle, BESIDE, how, Mode::from_raw_mode(0o600))
    }

    /// Reads the record; a broken one is an error. `None`: [`StateFile::Nothing`].
    pub fn read(&self) -> Result<Option<Record>> {
        match self.kept()? {
            StateFile::Nothing => Ok(None),
            StateFile::Whole(record) => Ok(Some(*record)),
            StateFile::Broken(broken) => Err(broken.error),
        }
    }

    /// Reads the state file. An error means that it could not be read and implies nothing about its
    /// content.
    pub fn kept(&self) -> Result<StateFile> {
        let file = self.path.join(STATE);
        let bytes = match self.bytes(STATE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(StateFile::Nothing),
            Err(error) => return Err(error).doing(|| format!("read {}", file.display())),
        };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(StateFile::Whole(record)),
            Err(error) => {
                let error = Error::new(Kind::System, format!("read {}: {error}", file.display()));
                Ok(StateFile::Broken(Broken { bytes, error }))
            }
        }
    }

    /// Writes the configuration that the container is created from.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let write = || {
            let out = rustix::fs::openat(&self.handle, CONFIG, how, Mode::from_raw_mode(0o600))?;
            File::from(out).write_all(bytes)
        };
        write().doing(|| format!("write {}", self.path.join(CONFIG).display()))
    }

    /// The configuration that the container was created from.
    pub fn config(&self) -> Result<Spec> {
        let file = self.path.join(CONFIG);
        let bytes = self.bytes(CONFIG).doing(|| format!("read {}", file.display()))?;
        spec::parse(&bytes).map_err(|fault| Error::new(Kind::System, format!("{}: {fault}", file.display())))
    }

    fn bytes(&self, name: &str) -> std::io::Result<Vec<u8>> {
        small_file::read_at(self.handle.as_fd(), name)
    }

    /// Creates one of the two fifos and opens it for reading and writing, so that neither the open
    /// nor a missing peer ever blocks.
    pub fn make_fifo(&self, name: &str) -> Result<OwnedFd> {
        let path = self.path.join(name);
        self.has_fifos.store(true, Ordering::Relaxed);
        rustix::fs::mknodat(&self.handle, name, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .doing(|| format!("create {}", path.display()))?;
        self.open_fifo(name, OFlags::RDWR).doing(|| format!("open {}", path.display()))
    }

    /// Opens one of the two fifos; ENXIO if the other end is closed.
    pub fn open_fifo(&self, name: &str, how: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.handle, name, how | OFlags::CLOEXEC, Mode::empty())
    }

    /// Removes the directory and its content; no error if it is already removed.
    pub fn remove(&self) -> Result<()> {
        if !self.is_current()? {
            return Ok(());
        }
        // A file that cannot be removed is noticed below, as is one that is rarely there.
        let unlink = |name| rustix::fs::unlinkat(&self.handle, name, AtFlags::empty());
        let _ = unlink(CONFIG);
        if self.has_fifos.load(Ordering::Relaxed) && unlink(START_FIFO).is_ok() {
            let _ = unlink(RESULT_FIFO);
        }
        let _ = unlink(STATE);
        let removed = match rustix::fs::unlinkat(&*self.root, self.id.as_ref(), AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.name().and_then(|name| Ok(remove_at(self.root.as_fd(), &name)?)).map(drop)
            }
            other => other.map_err(std::io::Error::from),
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove {}", self.path.display())),
        }
    }

    fn name(&self) -> std::io::Result<std::ffi::CString> {
        Ok(std::ffi::CString::new(self.id.as_ref())?)
    }
}

fn missing(id: &ContainerId) -> Error {
    Error::new(Kind::NotFound, format!("container does not exist: {id}"))
}

fn open(root: &StateRoot, id: &ContainerId, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(root, id.as_ref(), flags, Mode::empty());
    opened.doing(|| format!("open {}", path.display()))
}
