//! The NAR of a file tree as a readable stream, produced by a thread.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::dump;
use crate::emergence::base::refusal::Result;
use crate::emergence::base::stream::{Buffer, Drain};
use crate::error::Doing;

/// Maximum number of buffers in flight.
const AHEAD: usize = 2;

/// A reader of the NAR of a tree. A thread produces the NAR meanwhile.
pub struct TreeReader {
    from: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    thread: Option<JoinHandle<Result<()>>>,
    buffer: Vec<u8>,
    used: usize,
}

struct Sender {
    to: SyncSender<Vec<u8>>,
    back: Receiver<Vec<u8>>,
}

impl Drain for Sender {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.to.send(full).map_err(|_| io::Error::other("the reader of the NAR has ended"))?;
        Ok(self.back.try_recv().unwrap_or_default())
    }
}

impl TreeReader {
    /// Starts the thread for the tree at `path`. `deepest`: maximum depth in nodes.
    pub fn start(path: PathBuf, deepest: usize) -> Result<Self> {
        let (to, from) = sync_channel(AHEAD);
        let (back, used) = sync_channel(AHEAD + 2);
        let dump = move || {
            let mut out = Buffer::new(Sender { to, back: used });
            dump(&path, deepest, &mut out)?;
            out.finish().doing(|| "write a NAR")?;
            Ok(())
        };
        let thread =
            std::thread::Builder::new().name("dump".into()).spawn(dump).doing(|| "start a thread")?;
        Ok(Self { from, back, thread: Some(thread), buffer: Vec::new(), used: 0 })
    }
}

impl Read for TreeReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.used == self.buffer.len() {
            match self.from.recv() {
                Ok(next) => {
                    // Fails if the thread has ended, which is fine.
                    let _ = self.back.try_send(std::mem::replace(&mut self.buffer, next));
                    self.used = 0;
                }
                Err(_) => {
                    return match self.thread.take().map(JoinHandle::join) {
                        None | Some(Ok(Ok(()))) => Ok(0),
                        Some(Ok(Err(fault))) => Err(io::Error::other(fault.to_string())),
                        Some(Err(_)) => Err(io::Error::other("the thread that writes the NAR has ended")),
                    };
                }
            }
        }
        let count = room.len().min(self.buffer.len() - self.used);
        let from = self.buffer.get(self.used..self.used + count).unwrap_or_default();
        room.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        self.used += count;
        Ok(count)
    }
}
