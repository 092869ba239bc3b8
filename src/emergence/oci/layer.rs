//! One layer read from its blob: hashed as it is stored, decompressed in a thread of its own, hashed as it comes out, and
//! taken apart into members. Both passes over an image read it this way.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::blobs::{Blob, Blobs, subject};
use super::documents::Descriptor;
use super::tar::{Input, Member, Members};
use crate::emergence::compress::Compression;
use crate::emergence::hash::{Hash, Hasher};
use crate::emergence::refusal::{Code, Fault, Result, Within};
use crate::emergence::stream::{HashThread, Hashing, ROOM};
use crate::emergence::terms::{Terms, Watch};
use crate::error::{Doing, Error};

/// Buffers between decompression and who takes the tar apart.
const AHEAD: usize = 4;

/// A layer as the manifest and the configuration declare it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) compression: Compression,
    pub(super) diff_id: Hash,
}

/// Which of the two readings it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Everything is held against what is declared.
    Verify,
    /// The stored bytes must be those that were verified.
    Again,
}

/// Is shown the members of a layer.
pub(super) trait See {
    /// A member; its bytes may be read from `from`.
    fn member<R: Input>(&mut self, member: Member, from: &mut Members<R>) -> Result<()>;
}

/// How many bytes a layer has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerBytes {
    pub(super) read: u64,
    pub(super) unpacked: u64,
}

/// The media types of layers, and what each is compressed with.
pub(super) fn layer_compression(media_type: &str) -> Option<Compression> {
    const BEGINNINGS: [&str; 2] =
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar"];
    const DOCKER: [&str; 2] = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let suffix = |beginnings: &[&str; 2]| beginnings.iter().find_map(|start| media_type.strip_prefix(start));
    match (suffix(&BEGINNINGS), suffix(&DOCKER)) {
        (Some(""), _) | (_, Some("")) => Some(Compression::None),
        (Some("+gzip"), _) | (_, Some(".gzip")) => Some(Compression::Gzip),
        (Some("+zstd"), _) | (_, Some(".zstd")) => Some(Compression::Zstd),
        _ => None,
    }
}

impl Layer {
    /// Reads the layer and shows its members to `see`. What it is shown is proved only when this has returned.
    ///
    /// Refused: as by [`Blobs::open`]; `blob.digest`, in the second pass `changed-while-reading`; when the bytes are those that
    /// were declared also `blob.compression`, `limit.size`, `layer.header`, `oci.diff-id`, and what `see` refuses.
    pub(super) fn read(
        &self,
        blobs: &Blobs,
        terms: &Terms,
        pass: Pass,
        see: &mut impl See,
    ) -> Result<LayerBytes> {
        self.read_named(blobs, terms, pass, see).within(|| format!("layer {}", self.descriptor.digest))
    }

    fn read_named(&self, blobs: &Blobs, terms: &Terms, pass: Pass, see: &mut impl See) -> Result<LayerBytes> {
        let declared = self.descriptor.digest;
        // Not compressed, blob and tar are the same bytes, and one hash serves both.
        let once = self.compression == Compression::None && declared.algorithm() == self.diff_id.algorithm();
        let hash_stored = pass == Pass::Again || !once;
        let blob = blobs.open(&self.descriptor)?;
        let hash = hash_stored.then(|| HashThread::start(declared.algorithm()));
        let hash = hash.transpose().doing(|| "start a thread")?;
        let hasher = (pass == Pass::Verify).then(|| Hasher::new(self.diff_id.algorithm()));
        let (decoder, output) = Decoder::start(blob, self.compression, (hash, hasher), terms)?;
        let mut members = Members::new(output);
        let taken = take(&mut members, see);
        if let Err(Fault::Failed(error)) = taken {
            return Err(Fault::Failed(error));
        }
        // What stands behind the end of the tar is part of the layer; behind a fault, it is part of the hash that is asked for first.
        let rest = members.input().pass(u64::MAX).map(drop).map_err(super::tar::input_fault);
        let output = members.into_input();
        if output.exceeded {
            let words = format!("more than {} bytes come out", terms.limits.size);
            return Err(Fault::refused(Code::LimitSize, subject(&declared), words));
        }
        let (unpacked, found) = output.finish();
        let found = found.filter(|_| rest.is_ok());
        let (read, stored) = decoder.finish()?;
        self.check_stored(read, if once && !hash_stored { found } else { stored }, pass)?;
        taken.and(rest)?;
        match found {
            Some(found) if found != self.diff_id => {
                let (declared, found) = (self.diff_id.to_string(), found.to_string());
                let subject = subject(&self.descriptor.digest);
                Err(Fault::differs(Code::OciDiffId, subject, "the diffID", &declared, &found))
            }
            _ => Ok(LayerBytes { read, unpacked }),
        }
    }

    /// `found`: the hash of the blob, if it could be read to its end.
    fn check_stored(&self, read: u64, found: Option<Hash>, pass: Pass) -> Result<()> {
        let declared = self.descriptor.digest;
        let found = match found {
            Some(found) if found != declared => found.to_string(),
            _ if read != self.descriptor.size => format!("that of {read} bytes"),
            _ => return Ok(()),
        };
        let code = if pass == Pass::Again { Code::ChangedWhileReading } else { Code::BlobDigest };
        Err(Fault::differs(code, subject(&declared), "its digest", &declared.to_string(), &found))
    }
}

fn take<R: Input>(members: &mut Members<R>, see: &mut impl See) -> Result<()> {
    while let Some(member) = members.advance()? {
        see.member(member, members)?;
    }
    Ok(())
}

/// What comes from the thread that decompresses.
enum Piece {
    Bytes(Vec<u8>),
    /// More comes out than may.
    TooMuch,
    Failed(io::Error),
}

/// The thread that reads and decompresses a blob.
struct Decoder(JoinHandle<io::Result<(u64, Option<Hash>)>>);

impl Decoder {
    /// Starts it; `hashes`: of the blob, and of what comes out.
    fn start(
        blob: Blob,
        compression: Compression,
        hashes: (Option<HashThread>, Option<Hasher>),
        terms: &Terms,
    ) -> Result<(Self, Output)> {
        let (to, pieces) = sync_channel(AHEAD);
        let (used, back) = sync_channel(AHEAD + 2);
        let (most, watch) = (terms.limits.size, terms.watch.clone());
        let (hash, hasher) = hashes;
        let work = move || {
            let mut stored = Stored { input: blob, count: 0, watch };
            let Some(hash) = hash else {
                decompress(&mut stored, compression, most, &to, &back);
                drop(to);
                drain(&mut stored)?;
                return Ok((stored.count, None));
            };
            let mut hashing = Hashing::new(stored, hash);
            decompress(&mut hashing, compression, most, &to, &back);
            drop(to);
            drain(&mut hashing)?;
            let (hash, count) = hashing.finish()?;
            Ok((count, Some(hash)))
        };
        let thread = std::thread::Builder::new().name("layer".into()).spawn(work);
        let thread = thread.doing(|| "start a thread")?;
        let pieces = Some((pieces, used));
        Ok((Self(thread), Output { pieces, piece: Vec::new(), at: 0, hasher, count: 0, exceeded: false }))
    }

    /// Bytes of the blob, and their hash.
    fn finish(self) -> Result<(u64, Option<Hash>)> {
        match self.0.join() {
            Ok(ended) => ended.doing(|| "read").map_err(Fault::from),
            Err(_) => Err(Error::from(io::Error::other("the thread that decompresses has ended")).into()),
        }
    }
}

/// Reads to the end, so that all of a blob is hashed.
fn drain(input: &mut impl Read) -> io::Result<()> {
    io::copy(input, &mut io::sink()).map(drop)
}

/// Sends what comes out of `input`, at most `most` bytes, until nobody wants it any more.
fn decompress(
    input: &mut impl Read,
    compression: Compression,
    most: u64,
    to: &SyncSender<Piece>,
    back: &Receiver<Vec<u8>>,
) {
    let mut decoder = match compression.reader(input) {
        Ok(decoder) => decoder,
        Err(error) => {
            // Nobody may want it any more, here and below.
            let _ = to.send(Piece::Failed(error));
            return;
        }
    };
    let mut left = most;
    loop {
        let mut bytes = back.try_recv().unwrap_or_default();
        bytes.resize(ROOM, 0);
        let filled = fill(&mut decoder, &mut bytes);
        let (count, failed) = match filled {
            Ok(count) => (count, None),
            Err((count, error)) => (count, Some(error)),
        };
        bytes.truncate(count);
        let enough = left.checked_sub(count as u64);
        let piece = if enough.is_some() { Piece::Bytes(bytes) } else { Piece::TooMuch };
        left = enough.unwrap_or(0);
        let sent = to.send(piece);
        if let Some(error) = failed {
            let _ = to.send(Piece::Failed(error));
            return;
        }
        if sent.is_err() || enough.is_none() || count < ROOM {
            return;
        }
    }
}

/// As much as there is room, or all up to the end or an error.
fn fill(input: &mut impl Read, room: &mut [u8]) -> std::result::Result<usize, (usize, io::Error)> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((filled, error)),
        }
    }
    Ok(filled)
}

/// A blob that is counted and watched.
struct Stored {
    input: Blob,
    count: u64,
    watch: Arc<dyn Watch>,
}

impl Read for Stored {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(room)?;
        self.count += got as u64;
        self.watch.advance(got as u64);
        Ok(got)
    }
}

/// What comes out of the decompression, piece by piece.
pub(super) struct Output {
    pieces: Option<(Receiver<Piece>, SyncSender<Vec<u8>>)>,
    piece: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
    count: u64,
    exceeded: bool,
}

impl Output {
    /// How many bytes came, and their hash.
    fn finish(self) -> (u64, Option<Hash>) {
        (self.count, self.hasher.map(Hasher::finish))
    }

    /// Bytes that are here; none at the end.
    fn here(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            let Some((pieces, back)) = &self.pieces else { break };
            match pieces.recv() {
                Ok(Piece::Bytes(bytes)) => {
                    let used = std::mem::replace(&mut self.piece, bytes);
                    // It may have all that it needs.
                    let _ = back.try_send(used);
                    self.at = 0;
                    self.count += self.piece.len() as u64;
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&self.piece);
                    }
                }
                Ok(Piece::TooMuch) => {
                    self.exceeded = true;
                    return Err(io::Error::other("more comes out than may"));
                }
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => self.pieces = None,
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }
}

impl Read for Output {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), here.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

impl Input for Output {
    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let here = self.here()?.len();
            if here == 0 {
                break;
            }
            let passed = usize::try_from(left).unwrap_or(usize::MAX).min(here);
            self.at += passed;
            left -= passed as u64;
        }
        Ok(count - left)
    }
}
