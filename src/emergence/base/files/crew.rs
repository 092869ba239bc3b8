//! Threads that create small files while the caller goes on reading the archive.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use crate::emergence::base::refusal::{Fault, Result};
use crate::error::{Doing, Error};

/// Maximum number of files queued for the threads.
const AHEAD: usize = 32;

/// Maximum size of the files that the threads create, in bytes.
pub(crate) const SMALL: u64 = 128 * 1024;

/// Larger buffers are not reused for the next file.
const KEPT_ROOM: usize = 64 * 1024;

/// A file to be created in the directory `F`.
pub(crate) struct Task<F> {
    /// The directory, open until the last task in it is done.
    pub directory: Arc<F>,
    /// The file's name.
    pub name: CString,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Passes files to the threads.
pub(crate) struct Crew<'a, F> {
    tasks: SyncSender<Task<F>>,
    rooms: Receiver<Vec<u8>>,
    failed: &'a AtomicBool,
}

impl<F> Crew<'_, F> {
    /// Queues `task` for a thread. Returns a buffer for the next file.
    pub(crate) fn make(&self, task: Task<F>) -> Result<Vec<u8>> {
        if self.failed.load(Ordering::Relaxed) || self.tasks.send(task).is_err() {
            return Err(Error::from(std::io::Error::other("a file could not be created")).into());
        }
        Ok(self.rooms.try_recv().unwrap_or_default())
    }
}

/// Runs `work` with `hands` threads that create files with `one`, which returns the buffer. The
/// first error of a thread is returned.
pub(crate) fn with_crew<F: Send + Sync, T>(
    hands: usize,
    one: impl Fn(Task<F>) -> Result<Vec<u8>> + Sync,
    work: impl FnOnce(Crew<'_, F>) -> Result<T>,
) -> Result<T> {
    let (tasks, incoming) = sync_channel(AHEAD);
    let (back, rooms) = channel();
    let incoming = Mutex::new(incoming);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<Fault>> = Mutex::new(None);
    let done = std::thread::scope(|scope| {
        for _ in 0..hands {
            let back = back.clone();
            let (incoming, failed, first, one) = (&incoming, &failed, &first, &one);
            let run = move || {
                while let Some(task) = next(incoming) {
                    match one(task) {
                        Ok(mut bytes) if bytes.capacity() <= KEPT_ROOM => {
                            bytes.clear();
                            // Fails if the receiver is gone, which is fine.
                            let _ = back.send(bytes);
                        }
                        Ok(_) => {}
                        Err(fault) => {
                            if !failed.swap(true, Ordering::Relaxed)
                                && let Ok(mut first) = first.lock()
                            {
                                *first = Some(fault);
                            }
                        }
                    }
                }
            };
            let started = std::thread::Builder::new().name("files".into()).spawn_scoped(scope, run);
            started.doing(|| "start a thread")?;
        }
        // The threads end when `work` drops the sender.
        work(Crew { tasks, rooms, failed: &failed })
    });
    match first.into_inner() {
        Ok(Some(fault)) => Err(fault),
        _ => done,
    }
}

fn next<F>(incoming: &Mutex<Receiver<Task<F>>>) -> Option<Task<F>> {
    incoming.lock().ok()?.recv().ok()
}
