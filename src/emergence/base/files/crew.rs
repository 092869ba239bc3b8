//! Small files are made by several threads, while the one that reads the archive goes on.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use crate::emergence::base::refusal::{Fault, Result};
use crate::error::{Doing, Error};

/// Files on their way to the threads at most.
const AHEAD: usize = 32;

/// Files up to this size are made by the threads.
pub const SMALL: u64 = 128 * 1024;

/// Buffers larger than this are not kept for the next file.
const KEPT_ROOM: usize = 64 * 1024;

/// A file that is to be made in the folder `F`.
pub struct Task<F> {
    /// Open as long as somebody makes a file in it.
    pub folder: Arc<F>,
    /// Its name there.
    pub name: CString,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// All of its content.
    pub bytes: Vec<u8>,
}

/// Hands files to the threads.
pub struct Crew<'a, F> {
    tasks: SyncSender<Task<F>>,
    rooms: Receiver<Vec<u8>>,
    failed: &'a AtomicBool,
}

impl<F> Crew<'_, F> {
    /// Somebody makes this file. Gives back room for the next one.
    pub fn make(&self, task: Task<F>) -> Result<Vec<u8>> {
        if self.failed.load(Ordering::Relaxed) || self.tasks.send(task).is_err() {
            return Err(Error::from(std::io::Error::other("a file could not be made")).into());
        }
        Ok(self.rooms.try_recv().unwrap_or_default())
    }
}

/// Does `work` with `hands` threads that make files by `one`, which gives back the bytes. What they fail at is what it fails at.
pub fn with_crew<F: Send + Sync, T>(
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
                            // Nobody may want it any more.
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
        // The threads end when the sender does, with the work.
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
