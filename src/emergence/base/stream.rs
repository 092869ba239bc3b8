//! Long byte streams in buffers that are passed on whole, so that one thread reads while another
//! hashes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::hash::{Algorithm, Hash, Hasher};

/// Size of a buffer, in bytes.
pub const ROOM: usize = 256 * 1024;

/// Maximum number of buffers in flight.
const AHEAD: usize = 4;

/// The receiver of full buffers.
pub trait Drain {
    /// Takes a buffer and returns one to fill, with any content.
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// A buffer that is filled in place and passed to `D` when full.
pub struct Buffer<D> {
    bytes: Vec<u8>,
    filled: usize,
    total: u64,
    drain: D,
}

impl<D: Drain> Buffer<D> {
    /// An empty buffer.
    pub fn new(drain: D) -> Self {
        Self { bytes: vec![0; ROOM], filled: 0, total: 0, drain }
    }

    /// Bytes received so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Space for the next bytes, never empty.
    pub fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.bytes.len() {
            self.hand_on()?;
        }
        Ok(self.bytes.get_mut(self.filled..).unwrap_or_default())
    }

    /// Marks the first `count` bytes of the space as filled.
    pub fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
        self.total += count as u64;
    }

    /// Appends `bytes`.
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

    /// Passes the rest on and returns the receiver.
    pub fn finish(mut self) -> io::Result<D> {
        self.hand_on()?;
        Ok(self.drain)
    }
}

/// A look-ahead buffer that makes the next bytes available contiguously.
pub struct Ahead<R> {
    input: R,
    buffer: Vec<u8>,
    /// The unused part of the buffer.
    start: usize,
    end: usize,
    /// Bytes consumed.
    offset: u64,
}

impl<R: Read> Ahead<R> {
    /// An empty look-ahead buffer.
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; ROOM], start: 0, end: 0, offset: 0 }
    }

    /// Bytes consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes read but not consumed.
    pub fn unused(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Makes `count` bytes available contiguously. False: the input ends before.
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

    /// Consumes the next `count` bytes, which [`Self::fill`] made available.
    pub fn used(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = (from + count).min(self.end);
        self.offset += (self.start - from) as u64;
        self.buffer.get(from..self.start).unwrap_or_default()
    }
}

/// A thread that hashes. It ends when this is dropped.
pub struct HashThread {
    to: Option<SyncSender<Vec<u8>>>,
    back: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Hash>>,
}

impl HashThread {
    /// Starts the thread.
    pub fn start(algorithm: Algorithm) -> io::Result<Self> {
        let (to, incoming) = sync_channel::<Vec<u8>>(AHEAD);
        let (used, back) = sync_channel(AHEAD + 2);
        let work = move || {
            let mut hasher = Hasher::new(algorithm);
            while let Ok(full) = incoming.recv() {
                hasher.update(&full);
                // Fails if the receiver is gone, which is fine.
                let _ = used.try_send(full);
            }
            hasher.finish()
        };
        let thread = std::thread::Builder::new().name("hash".into()).spawn(work)?;
        Ok(Self { to: Some(to), back, thread: Some(thread) })
    }

    /// Waits for the hash of all buffers.
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

/// Writes the buffers to `W`.
pub struct Written<W>(pub W);

impl<W: Write> Drain for Written<W> {
    fn drain(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.0.write_all(&full)?;
        Ok(full)
    }
}

/// Reads from `R` and hashes the bytes in another thread.
pub struct Hashing<R> {
    input: R,
    buffer: Buffer<HashThread>,
}

impl<R: Read> Hashing<R> {
    /// Hashes with this thread.
    pub fn new(input: R, thread: HashThread) -> Self {
        Self { input, buffer: Buffer::new(thread) }
    }

    /// The hash of the bytes read, and their number.
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

/// Hashes `file` from its current position. Returns the hash and the number of bytes.
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
    fn the_hash_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..3 * ROOM + 17).map(|at| (at * 7 % 251) as u8).collect();
        for piece in [1, 100, ROOM - 1, ROOM, ROOM + 1, bytes.len()] {
            // Byte by byte, the whole input takes too long in a debug build.
            let bytes = if piece == 1 { bytes.get(..1000).unwrap() } else { &bytes };
            let mut buffer = Buffer::new(HashThread::start(Algorithm::Sha256).unwrap());
            bytes.chunks(piece).for_each(|piece| buffer.put(piece).unwrap());
            assert_eq!(buffer.total(), bytes.len() as u64);
            assert_eq!(buffer.finish().unwrap().finish().unwrap(), Hash::sha256(bytes), "{piece}");
        }
    }
}
