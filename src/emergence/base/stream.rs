//! Long streams of bytes in buffers that are handed on whole, so that one thread reads while another hashes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::hash::{Algorithm, Hash, Hasher};

/// Bytes of a buffer.
pub const ROOM: usize = 256 * 1024;

/// How many buffers are on their way at most.
const AHEAD: usize = 4;

/// Where full buffers go.
pub trait Drain {
    /// Takes a buffer and gives one back to be filled, of any content.
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// A buffer that is filled in place, and handed to `D` when it is full.
pub struct Buffer<D> {
    bytes: Vec<u8>,
    filled: usize,
    total: u64,
    drain: D,
}

impl<D: Drain> Buffer<D> {
    /// An empty one.
    pub fn new(drain: D) -> Self {
        Self { bytes: vec![0; ROOM], filled: 0, total: 0, drain }
    }

    /// How many bytes have come.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// A place for the next bytes, never empty.
    pub fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.bytes.len() {
            self.hand_on()?;
        }
        Ok(self.bytes.get_mut(self.filled..).unwrap_or_default())
    }

    /// Says that the first `count` bytes of the room are filled.
    pub fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
        self.total += count as u64;
    }

    /// Puts bytes behind those that are there.
    pub fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            if let Some(room) = room.get_mut(..count) {
                room.copy_from_slice(now);
            }
            self.fill(count);
            bytes = later;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let mut full = std::mem::take(&mut self.bytes);
        full.truncate(self.filled);
        self.bytes = self.drain.drain(full)?;
        self.bytes.resize(ROOM, 0);
        self.filled = 0;
        Ok(())
    }

    /// Hands the rest on and gives back where it went.
    pub fn finish(mut self) -> io::Result<D> {
        self.hand_on()?;
        Ok(self.drain)
    }
}

/// Reads ahead, so that a few bytes stand in one piece.
pub struct Ahead<R> {
    input: R,
    buffer: Vec<u8>,
    /// What of the buffer is not used yet.
    start: usize,
    end: usize,
    /// Bytes used so far.
    offset: u64,
}

impl<R: Read> Ahead<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; ROOM], start: 0, end: 0, offset: 0 }
    }

    /// How many bytes were used.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What was read and not used.
    pub fn unused(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Makes `count` bytes stand in one piece. False: the input ends before.
    pub fn fill(&mut self, count: usize) -> io::Result<bool> {
        if self.buffer.len() < count {
            self.buffer.resize(count, 0);
        }
        while self.end - self.start < count {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match self.input.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Uses the next `count` bytes, which were made to stand there.
    pub fn used(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = (from + count).min(self.end);
        self.offset += (self.start - from) as u64;
        self.buffer.get(from..self.start).unwrap_or_default()
    }
}

/// A thread that hashes. Dropping it ends the thread.
pub struct HashThread {
    to: Option<SyncSender<Vec<u8>>>,
    back: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Hash>>,
}

impl HashThread {
    /// Starts it.
    pub fn start(algorithm: Algorithm) -> io::Result<Self> {
        let (to, incoming) = sync_channel::<Vec<u8>>(AHEAD);
        let (used, back) = sync_channel(AHEAD + 2);
        let work = move || {
            let mut hasher = Hasher::new(algorithm);
            while let Ok(full) = incoming.recv() {
                hasher.update(&full);
                // Nobody may want it any more.
                let _ = used.try_send(full);
            }
            hasher.finish()
        };
        let thread = std::thread::Builder::new().name("hash".into()).spawn(work)?;
        Ok(Self { to: Some(to), back, thread: Some(thread) })
    }

    /// The hash of all that came, when that is done.
    pub fn finish(mut self) -> io::Result<Hash> {
        self.to = None;
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(hash)) => Ok(hash),
            _ => Err(gone()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that hashes has ended")
}

impl Drain for HashThread {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        let sent = self.to.as_ref().map(|to| to.send(full));
        if !matches!(sent, Some(Ok(()))) {
            return Err(gone());
        }
        Ok(self.back.try_recv().unwrap_or_default())
    }
}

/// Buffers are written.
pub struct Written<W>(pub W);

impl<W: Write> Drain for Written<W> {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.0.write_all(&full)?;
        Ok(full)
    }
}

/// Reads from `R`, and hashes all that is read in another thread.
pub struct Hashing<R> {
    input: R,
    buffer: Buffer<HashThread>,
}

impl<R: Read> Hashing<R> {
    /// Hashes with this thread.
    pub fn new(input: R, thread: HashThread) -> Self {
        Self { input, buffer: Buffer::new(thread) }
    }

    /// The hash of what was read, and how many bytes that is.
    pub fn finish(self) -> io::Result<(Hash, u64)> {
        let total = self.buffer.total();
        Ok((self.buffer.finish()?.finish()?, total))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(room)?;
        self.buffer.put(room.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// Hashes what `file` has from here on. Gives the hash and the number of bytes.
pub fn hash_file(file: File, algorithm: Algorithm) -> io::Result<(Hash, u64)> {
    let mut buffer = Buffer::new(HashThread::start(algorithm)?);
    loop {
        match rustix::io::read(&file, buffer.room()?) {
            Ok(0) => break,
            Ok(count) => buffer.fill(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let total = buffer.total();
    Ok((buffer.finish()?.finish()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_pieces_the_hash_is_of_all() {
        let bytes: Vec<u8> = (0..3 * ROOM + 17).map(|at| (at * 7 % 251) as u8).collect();
        for piece in [1, 100, ROOM - 1, ROOM, ROOM + 1, bytes.len()] {
            // One byte at a time for all of it takes too long in a debug build.
            let bytes = if piece == 1 { bytes.get(..1000).unwrap() } else { &bytes };
            let mut buffer = Buffer::new(HashThread::start(Algorithm::Sha256).unwrap());
            bytes.chunks(piece).for_each(|piece| buffer.put(piece).unwrap());
            assert_eq!(buffer.total(), bytes.len() as u64);
            assert_eq!(buffer.finish().unwrap().finish().unwrap(), Hash::sha256(bytes), "{piece}");
        }
    }
}
