//! Bytes that one thread reads and another uses, passed in whole buffers that are returned for
//! reuse.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::hash::{Hash, Hasher};
use super::stream::ROOM;

/// Maximum number of buffers in flight.
const AHEAD: usize = 4;

/// A message of the reading thread.
enum Piece {
    Bytes(Vec<u8>),
    /// The input exceeds the limit.
    TooMuch,
    Failed(io::Error),
}

/// How far the thread reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the end, even if the receiver is gone.
    End,
    /// While the receiver exists, and at most this many bytes.
    Most(u64),
}

/// The reading thread.
pub(crate) struct ReadAhead(JoinHandle<io::Result<(u64, Option<Hash>)>>);

impl ReadAhead {
    /// Starts a thread that opens the input with `open`, reads it and hashes it.
    pub(crate) fn start<R: Read>(
        name: &str,
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
        hasher: Option<Hasher>,
        until: Until,
    ) -> io::Result<(Self, Pieces)> {
        let (to, pieces) = sync_channel(AHEAD);
        let (used, back) = sync_channel(AHEAD + 2);
        let work = move || read(open, hasher, until, &to, &back);
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok((Self(thread), Pieces { from: Some((pieces, used)), piece: Vec::new(), at: 0, exceeded: false }))
    }

    /// The number of bytes read, and their hash. A read error is returned here too.
    pub(crate) fn finish(self) -> io::Result<(u64, Option<Hash>)> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the thread that reads has ended")))
    }
}

fn read<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    mut hasher: Option<Hasher>,
    until: Until,
    to: &SyncSender<Piece>,
    back: &Receiver<Vec<u8>>,
) -> io::Result<(u64, Option<Hash>)> {
    let failed = |error: io::Error| {
        let reported = match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        // Fails if the receiver is gone, which is fine, here and below.
        let _ = to.send(Piece::Failed(reported));
        error
    };
    let mut input = open().map_err(failed)?;
    let (mut total, mut wanted) = (0, true);
    while wanted || until == Until::End {
        let mut bytes = back.try_recv().unwrap_or_default();
        bytes.resize(ROOM, 0);
        let (count, error) = fill(&mut input, &mut bytes);
        bytes.truncate(count);
        total += count as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        let too_much = matches!(until, Until::Most(most) if total > most);
        wanted &= to.send(if too_much { Piece::TooMuch } else { Piece::Bytes(bytes) }).is_ok();
        if let Some(error) = error {
            return Err(failed(error));
        }
        if too_much || count < ROOM {
            break;
        }
    }
    Ok((total, hasher.map(Hasher::finish)))
}

/// Reads until `room` is full, or to the end or an error.
pub(crate) fn fill(input: &mut impl Read, room: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

/// The bytes of the reading thread.
pub(crate) struct Pieces {
    from: Option<(Receiver<Piece>, SyncSender<Vec<u8>>)>,
    piece: Vec<u8>,
    at: usize,
    exceeded: bool,
}

impl Pieces {
    /// Whether the input exceeded the limit, which is also a read error.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            let Some((pieces, back)) = &self.from else { break };
            match pieces.recv() {
                Ok(Piece::Bytes(bytes)) => {
                    let used = std::mem::replace(&mut self.piece, bytes);
                    self.at = 0;
                    // The thread may have ended, or have enough buffers.
                    let _ = back.try_send(used);
                }
                Ok(Piece::TooMuch) => {
                    self.exceeded = true;
                    return Err(io::Error::other("it unpacks to more bytes than allowed"));
                }
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => self.from = None,
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.piece.len());
    }
}

impl Read for Pieces {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(room)?;
        self.consume(count);
        Ok(count)
    }
}
