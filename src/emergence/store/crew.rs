//! Small files are made by several threads, while the one that reads the archive goes on.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, fchmod, futimens, openat};

use super::links::{self, Links};
use crate::emergence::files::TIMES;
use crate::emergence::hash::{Algorithm, Hash, Hasher};
use crate::emergence::refusal::{Fault, Result};
use crate::error::{Doing, Error};

/// Files on their way to the threads at most.
const AHEAD: usize = 32;

/// Buffers larger than this are not kept for the next file.
const KEPT_ROOM: usize = 64 * 1024;

/// How files are made.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    /// Where files that are the same are found.
    pub links: Option<&'a Links>,
    /// Whether the umask takes away what files need.
    pub chmod: bool,
}

impl Ways<'_> {
    /// A new file, which has its mode already.
    pub(super) fn create(
        &self,
        at: &impl AsFd,
        name: &CString,
        executable: bool,
    ) -> rustix::io::Result<File> {
        let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(at, name, flags, mode)?;
        if self.chmod {
            fchmod(&file, mode)?;
        }
        Ok(file.into())
    }

    /// A small file, all of which is there: one more name of one that is the same, or a new one that others may use.
    pub(super) fn whole(&self, at: &impl AsFd, name: &CString, executable: bool, bytes: &[u8]) -> Result<()> {
        let doing = || format!("make the file {}", name.to_string_lossy());
        let hash = self.links.map(|links| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(bytes);
            (links, hasher.finish())
        });
        if let Some((links, hash)) = &hash
            && links::doing(links.reuse(hash, executable, at.as_fd(), name))?
        {
            return Ok(());
        }
        let mut file = self.create(at, name, executable).doing(doing)?;
        file.write_all(bytes).doing(doing)?;
        self.settle(at, name, executable, file, hash)
    }

    /// A file that is whole gets its time, and others may use it.
    fn settle(
        &self,
        at: &impl AsFd,
        name: &CString,
        executable: bool,
        file: File,
        hash: Option<(&Links, Hash)>,
    ) -> Result<()> {
        futimens(&file, &TIMES).doing(|| format!("set the time of {}", name.to_string_lossy()))?;
        drop(file);
        match hash {
            Some((links, hash)) => links::doing(links.keep(at.as_fd(), name, &hash, executable)),
            None => Ok(()),
        }
    }
}

/// A folder that files are made in. It is closed by whoever is the last to use it.
pub(super) struct Folder(pub(super) OwnedFd);

/// Gives up a folder. The last one to do so closes it.
pub(super) fn leave(folder: Arc<Folder>) -> Result<()> {
    if let Some(Folder(folder)) = Arc::into_inner(folder) {
        fchmod(&folder, Mode::from_raw_mode(0o555)).doing(|| "set the mode of a folder")?;
        futimens(&folder, &TIMES).doing(|| "set the time of a folder")?;
    }
    Ok(())
}

struct Task {
    folder: Arc<Folder>,
    name: CString,
    executable: bool,
    bytes: Vec<u8>,
}

/// Hands files to the threads.
pub(super) struct Crew<'a> {
    tasks: SyncSender<Task>,
    rooms: Receiver<Vec<u8>>,
    failed: &'a AtomicBool,
}

impl Crew<'_> {
    /// Somebody makes this file. Gives back room for the next one.
    pub(super) fn make(
        &self,
        folder: Arc<Folder>,
        name: CString,
        executable: bool,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let task = Task { folder, name, executable, bytes };
        if self.failed.load(Ordering::Relaxed) || self.tasks.send(task).is_err() {
            return Err(Error::from(std::io::Error::other("a file could not be made")).into());
        }
        Ok(self.rooms.try_recv().unwrap_or_default())
    }
}

/// Does `work` with `hands` threads that make files. What they fail at is what it fails at.
pub(super) fn with_crew<T>(
    hands: usize,
    ways: Ways<'_>,
    work: impl FnOnce(Crew<'_>) -> Result<T>,
) -> Result<T> {
    let (tasks, incoming) = sync_channel(AHEAD);
    let (back, rooms) = channel();
    let incoming = Mutex::new(incoming);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<Fault>> = Mutex::new(None);
    let done = std::thread::scope(|scope| {
        for _ in 0..hands {
            let back = back.clone();
            let (incoming, failed, first) = (&incoming, &failed, &first);
            let run = move || {
                while let Some(task) = next(incoming) {
                    if let Err(fault) = one(task, ways, &back)
                        && !failed.swap(true, Ordering::Relaxed)
                        && let Ok(mut first) = first.lock()
                    {
                        *first = Some(fault);
                    }
                }
            };
            let started = std::thread::Builder::new().name("files".into()).spawn_scoped(scope, run);
            started.doing(|| "start a thread")?;
        }
        // The threads end when the sender does, with the work.
        work(Crew { tasks, rooms, failed: &failed })
    });
    match first.into_inner() {
        Ok(Some(fault)) => Err(fault),
        _ => done,
    }
}

fn next(incoming: &Mutex<Receiver<Task>>) -> Option<Task> {
    incoming.lock().ok()?.recv().ok()
}

fn one(task: Task, ways: Ways<'_>, back: &Sender<Vec<u8>>) -> Result<()> {
    let Task { folder, name, executable, mut bytes } = task;
    ways.whole(&folder.0, &name, executable, &bytes)?;
    if bytes.capacity() <= KEPT_ROOM {
        bytes.clear();
        // Nobody may want it any more.
        let _ = back.send(bytes);
    }
    leave(folder)
}
