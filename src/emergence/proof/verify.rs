//! Reads the NAR of an object once and compares it with the whole declaration. Writes nothing.

use std::io::{self, Read};

use super::hashes::{self, FileHash, NarHashes, check_hash};
use crate::emergence::base::compress::{Compression, Memory};
use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::stream::{Buffer, HashThread, ROOM};
use crate::emergence::nix::nar::{self, Both, DEEPEST_EVER, Visitor};
use crate::emergence::nix::object::{Object, Stored};
use crate::error::Doing;

/// Numbers of bytes read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes of files as stored.
    pub read: u64,
    /// Bytes of NARs.
    pub unpacked: u64,
}

/// Identification of a stored NAR that was verified, for a second reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The bytes read.
    pub bytes: Bytes,
    /// Hash of the file as stored.
    pub stored: Hash,
}

/// Reads the NAR that is `stored` in `file`, passes it to `visitor` and compares it with the
/// declaration: size and hash of the file, compression, grammar, size and hash of the NAR, and the
/// content address.
///
/// The nodes passed to the visitor are unverified until this returns.
pub fn read_object(
    file: impl Read,
    object: &Object,
    stored: &Stored,
    limits: &Limits,
    visitor: &mut impl Visitor,
) -> Result<Seen> {
    let weight = Weight::of(object.nar_size);
    // Without compression, file and NAR are the same bytes, and one hash serves both.
    let apart = stored.compression != Compression::None;
    // Only a strong hash identifies the file in a second reading.
    let strong = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Sha256 | Algorithm::Sha512);
    let declared = stored.hash.map(|hash| hash.algorithm());
    let other = declared.filter(|algorithm| !strong(algorithm) || !apart && *algorithm != Algorithm::Sha256);
    let main = apart.then(|| declared.filter(strong).unwrap_or(Algorithm::Sha256));
    let mut input = Tap::new(Tap::new(file, other, weight)?, main, weight)?;
    let nar = read_nar(&mut input, object, stored.compression, limits, visitor)?;
    // Bytes that the decoder does not need are part of the file.
    io::copy(&mut input, &mut io::sink()).doing(|| format!("read {}", stored.name))?;
    let (inner, read, main_hash) = input.finish()?;
    let (_, _, other_hash) = inner.finish()?;
    let main_hash = main_hash.unwrap_or(nar.hash);
    check_stored(stored, read, &other_hash.unwrap_or(main_hash))?;
    Ok(Seen { bytes: Bytes { read, unpacked: nar.size }, stored: main_hash })
}

/// Verifies a file without decompressing it, because its content is known already. Errors as of
/// [`read_object`].
pub(crate) fn read_known(file: impl Read, stored: &Stored) -> Result<Bytes> {
    let algorithm = stored.hash.map_or(Algorithm::Sha256, |hash| hash.algorithm());
    let (read, hash) = hashed(file, algorithm, stored.size.unwrap_or_default(), &stored.name)?;
    hash.map_or(Ok(()), |hash| check_stored(stored, read, &hash))?;
    Ok(Bytes { read, unpacked: 0 })
}

/// Reads all of `file`, called `name` in messages. Returns the number of bytes and their hash.
/// `size`: approximate number of bytes.
pub(crate) fn hashed(
    file: impl Read,
    algorithm: Algorithm,
    size: u64,
    name: &str,
) -> Result<(u64, Option<Hash>)> {
    let input = Tap::new(file, Some(algorithm), Weight::of(size))?;
    let mut input = io::BufReader::with_capacity(ROOM, input);
    io::copy(&mut input, &mut io::sink()).doing(|| format!("read {name}"))?;
    let (_, read, hash) = input.into_inner().finish()?;
    Ok((read, hash))
}

/// Compares a file's size and hash with the declaration.
fn check_stored(stored: &Stored, read: u64, hash: &Hash) -> Result<()> {
    if let Some(declared) = stored.size.filter(|size| *size != read) {
        let (declared, found) = (declared.to_string(), read.to_string());
        return Err(Fault::differs(Code::BlobSize, &stored.name, "the file's size", &declared, &found));
    }
    stored.hash.map_or(Ok(()), |declared| check_hash(Code::BlobDigest, "the file's hash", &declared, hash))
}

/// Reads a verified NAR again and passes it to `visitor`. Only the stored bytes are hashed, since
/// the same bytes yield the same NAR. Refused with `changed-while-reading` if they differ, after
/// the visitor has received the nodes.
pub fn read_verified(
    file: impl Read,
    stored: &Stored,
    seen: &Seen,
    memory: Memory,
    visitor: &mut impl Visitor,
) -> Result<Bytes> {
    let changed = || {
        let words = "has changed since it was verified";
        Fault::refused(Code::ChangedWhileReading, &stored.name, words)
    };
    let weight = Weight::of(seen.bytes.read);
    let mut input =
        Tap::new(file.take(seen.bytes.read.saturating_add(1)), Some(seen.stored.algorithm()), weight)?;
    let decoder = stored.compression.reader(&mut input, memory);
    let parsed =
        decoder.map_err(|error| Fault::refused(Code::BlobCompression, "", error.to_string())).and_then(
            |decoder| nar::read(decoder.take(seen.bytes.unpacked.saturating_add(1)), DEEPEST_EVER, visitor),
        );
    // An error of the visitor is a system error, and its output is discarded: no need to read on.
    if let Err(fault @ Fault::Failed(_)) = parsed {
        return Err(fault);
    }
    io::copy(&mut input, &mut io::sink()).doing(|| format!("read {}", stored.name))?;
    let (_, read, hash) = input.finish()?;
    if read != seen.bytes.read || hash != Some(seen.stored) {
        return Err(changed());
    }
    parsed.map(|()| seen.bytes)
}

/// Hash and size of a NAR as read.
struct Nar {
    hash: Hash,
    size: u64,
}

fn read_nar(
    stored: impl Read,
    object: &Object,
    compression: Compression,
    limits: &Limits,
    visitor: &mut impl Visitor,
) -> Result<Nar> {
    let most = limits.size;
    let decoder = compression.reader(stored, limits.memory);
    let decoder = decoder.map_err(|error| Fault::refused(Code::BlobCompression, "", error.to_string()))?;
    let mut bounded = Bounded {
        input: Tap::new(decoder, Some(Algorithm::Sha256), Weight::of(object.nar_size))?,
        left: object.nar_size.min(most),
        exceeded: false,
        hashes: NarHashes::of_address(object),
    };
    let mut both = Both(FileHash::of_address(object), visitor);
    let parsed = nar::read(&mut bounded, limits.depth, &mut both);
    if bounded.exceeded && most < object.nar_size {
        return Err(Fault::refused(Code::LimitSize, "", format!("it unpacks to more than {most} bytes")));
    }
    if bounded.exceeded {
        let declared = object.nar_size.to_string();
        let more = format!("more than {declared}");
        return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &more));
    }
    parsed?;
    let (_, size, hash) = bounded.input.finish()?;
    let hash = hash.unwrap_or(object.nar_hash);
    hashes::check(object, size, hash, bounded.hashes, both.0)?;
    Ok(Nar { hash, size })
}

/// Whether there are enough bytes to hash to justify a thread.
#[derive(Clone, Copy)]
enum Weight {
    Light,
    Heavy,
}

impl Weight {
    /// Starting a thread takes as long as hashing some tens of kilobytes.
    fn of(size: u64) -> Self {
        if size <= 128 * 1024 { Self::Light } else { Self::Heavy }
    }
}

/// Hashes bytes, in this thread or in another.
enum Hashed {
    Here(Hasher),
    There(Buffer<HashThread>),
}

impl Hashed {
    fn start(algorithm: Algorithm, weight: Weight) -> io::Result<Self> {
        Ok(match weight {
            Weight::Light => Self::Here(Hasher::new(algorithm)),
            Weight::Heavy => Self::There(Buffer::new(HashThread::start(algorithm)?)),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Here(hasher) => {
                hasher.update(bytes);
                Ok(())
            }
            Self::There(buffer) => buffer.put(bytes),
        }
    }

    fn finish(self) -> io::Result<Hash> {
        match self {
            Self::Here(hasher) => Ok(hasher.finish()),
            Self::There(buffer) => buffer.finish()?.finish(),
        }
    }
}

/// Counts and hashes the bytes that are read.
struct Tap<R> {
    input: R,
    hash: Option<Hashed>,
    count: u64,
}

impl<R> Tap<R> {
    fn new(input: R, algorithm: Option<Algorithm>, weight: Weight) -> Result<Self> {
        let hash = algorithm.map(|algorithm| Hashed::start(algorithm, weight)).transpose();
        Ok(Self { input, hash: hash.doing(|| "start a thread")?, count: 0 })
    }

    /// The input, the number of bytes read, and their hash.
    fn finish(self) -> Result<(R, u64, Option<Hash>)> {
        let hash = self.hash.map(Hashed::finish).transpose().doing(|| "hash")?;
        Ok((self.input, self.count, hash))
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(room)?;
        if let Some(hash) = &mut self.hash {
            hash.put(room.get(..count).unwrap_or_default())?;
        }
        self.count += count as u64;
        Ok(count)
    }
}

/// Ends the stream at a maximum length.
struct Bounded<R> {
    input: Tap<R>,
    left: u64,
    exceeded: bool,
    /// Hashes of the bytes read.
    hashes: NarHashes,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // Reading one more byte detects the excess.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(room.len());
        let room = room.get_mut(..most).unwrap_or_default();
        let count = self.input.read(room)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Ok(0);
            }
        }
        self.hashes.update(room.get(..count).unwrap_or_default());
        Ok(count)
    }
}
