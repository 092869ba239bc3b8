//! Reads the NAR of an object once, and holds everything that was declared of it against what it is. Writes nothing.

use std::io::{self, Read};

use super::compress::Compression;
use super::hash::{Algorithm, Hash, Hasher};
use super::modulo::ModuloHasher;
use super::nar::{self, Visitor};
use super::object::{Object, Stored};
use super::refusal::{Code, Fault, Result};
use super::store_path::{ContentAddress, Method};
use super::stream::{Buffer, Drain, HashThread};
use crate::error::Doing;

/// What was read, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Of files, as they are.
    pub read: u64,
    /// Of NARs.
    pub unpacked: u64,
}

/// Reads the NAR that is `stored` in `file` and shows it to `visitor`, while it is held against what is declared: size and hash of
/// the file, compression, grammar, size and hash of the NAR, and the content address. `most`: bytes that may come out.
///
/// What the visitor is shown is proved only when this has returned.
pub fn read_object(
    file: impl Read,
    object: &Object,
    stored: &Stored,
    most: u64,
    visitor: &mut impl Visitor,
) -> Result<Bytes> {
    // Uncompressed, file and NAR are the same bytes, and one hash serves both.
    let apart = stored.compression != Compression::None;
    let algorithm = stored.hash.filter(|_| apart).map(|hash| hash.algorithm());
    let mut input = Tap::new(file, algorithm)?;
    let nar = read_nar(&mut input, object, stored.compression, most, visitor)?;
    // What a decoder has no use for is part of the file still.
    io::copy(&mut input, &mut io::sink()).doing(|| format!("read {}", stored.name))?;
    let (read, file_hash) = input.finish()?;
    if let Some(declared) = stored.size.filter(|size| *size != read) {
        let (declared, found) = (declared.to_string(), read.to_string());
        return Err(Fault::differs(Code::BlobSize, &stored.name, "the file's size", &declared, &found));
    }
    if let Some(declared) = stored.hash
        && let Some(found) = file_hash.or((declared.algorithm() == Algorithm::Sha256).then_some(nar.hash))
    {
        same(Code::BlobDigest, "the file's hash", &declared, &found)?;
    }
    Ok(Bytes { read, unpacked: nar.size })
}

/// What a NAR turned out to be.
struct Nar {
    hash: Hash,
    size: u64,
}

fn read_nar(
    stored: impl Read,
    object: &Object,
    compression: Compression,
    most: u64,
    visitor: &mut impl Visitor,
) -> Result<Nar> {
    let decoder = compression.reader(stored);
    let decoder = decoder.map_err(|error| Fault::refused(Code::BlobCompression, "", error.to_string()))?;
    let mut bounded = Bounded {
        input: Tap::new(decoder, Some(Algorithm::Sha256))?,
        left: object.nar_size.min(most),
        exceeded: false,
        second: Second::of(object),
    };
    let mut only_file = OnlyFile::of(object, visitor);
    let parsed = nar::read(&mut bounded, &mut only_file);
    if bounded.exceeded && most < object.nar_size {
        return Err(Fault::refused(Code::LimitSize, "", format!("more than {most} bytes come out")));
    }
    let declared = object.nar_size.to_string();
    if bounded.exceeded {
        let more = format!("more than {declared}");
        return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &more));
    }
    parsed?;
    let (size, hash) = bounded.input.finish()?;
    if size != object.nar_size {
        return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &size.to_string()));
    }
    let hash = hash.unwrap_or(object.nar_hash);
    same(Code::NarHash, "the NAR's hash", &object.nar_hash, &hash)?;
    if let Some(ca) = &object.ca {
        let found = match bounded.second {
            Second::None => only_file.hash().or(Some(hash)),
            Second::Plain(hasher) => Some(hasher.finish()),
            Second::Modulo(hasher) => Some(hasher.finish()),
        };
        check_address(ca, found, only_file.wanted && !only_file.is_one)?;
    }
    Ok(Nar { hash, size })
}

fn same(code: Code, what: &str, declared: &Hash, found: &Hash) -> Result<()> {
    if declared == found {
        return Ok(());
    }
    Err(Fault::differs(code, "", what, &declared.to_string(), &found.to_string()))
}

fn check_address(ca: &ContentAddress, found: Option<Hash>, is_no_file: bool) -> Result<()> {
    if is_no_file {
        let words = "is not a single file that cannot be executed";
        return Err(Fault::refused(Code::CaMismatch, ca.to_string(), words));
    }
    let (ContentAddress::Text(declared) | ContentAddress::Fixed(_, declared)) = ca;
    found.map_or(Ok(()), |found| same(Code::CaMismatch, "the content's hash", declared, &found))
}

/// Counts what is read, and hashes it in another thread.
struct Tap<R> {
    input: R,
    hash: Option<Buffer<HashThread>>,
    count: u64,
}

impl<R> Tap<R> {
    fn new(input: R, algorithm: Option<Algorithm>) -> Result<Self> {
        let thread = algorithm.map(HashThread::start).transpose().doing(|| "start a thread")?;
        Ok(Self { input, hash: thread.map(Buffer::new), count: 0 })
    }

    fn finish(self) -> Result<(u64, Option<Hash>)> {
        let hash = self.hash.map(|buffer| buffer.finish()?.finish()).transpose().doing(|| "hash")?;
        Ok((self.count, hash))
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

/// One more hash of the NAR, where the content address is not the SHA-256 of it.
enum Second {
    None,
    Plain(Hasher),
    Modulo(ModuloHasher),
}

impl Second {
    fn of(object: &Object) -> Self {
        match &object.ca {
            Some(ContentAddress::Fixed(Method::Nar, hash)) if object.references.contains(&object.path) => {
                Second::Modulo(ModuloHasher::new(hash.algorithm(), object.path.digits().as_bytes()))
            }
            Some(ContentAddress::Fixed(Method::Nar, hash)) if hash.algorithm() != Algorithm::Sha256 => {
                Second::Plain(Hasher::new(hash.algorithm()))
            }
            _ => Second::None,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Second::None => Ok(()),
            Second::Plain(hasher) => {
                hasher.update(bytes);
                Ok(())
            }
            Second::Modulo(hasher) => hasher.drain(bytes.to_vec()).map(drop),
        }
    }
}

/// Ends the stream where it is longer than it may be.
struct Bounded<R> {
    input: Tap<R>,
    left: u64,
    exceeded: bool,
    second: Second,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // One byte more than may be tells of the excess.
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
        self.second.take(room.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// Hashes the only file, which an object with an address of its bytes must be, and shows all to another.
struct OnlyFile<'a, V> {
    wanted: bool,
    hasher: Hasher,
    is_one: bool,
    next: &'a mut V,
}

impl<'a, V: Visitor> OnlyFile<'a, V> {
    fn of(object: &Object, next: &'a mut V) -> Self {
        let algorithm = match &object.ca {
            Some(ContentAddress::Text(hash) | ContentAddress::Fixed(Method::Flat, hash)) => {
                Some(hash.algorithm())
            }
            _ => None,
        };
        let hasher = Hasher::new(algorithm.unwrap_or(Algorithm::Sha256));
        Self { wanted: algorithm.is_some(), hasher, is_one: false, next }
    }

    fn hash(&self) -> Option<Hash> {
        self.wanted.then(|| self.hasher.clone().finish())
    }
}

impl<V: Visitor> Visitor for OnlyFile<'_, V> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.next.directory(name)
    }

    fn leave(&mut self) -> Result<()> {
        self.next.leave()
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        self.is_one = name.is_empty() && !executable;
        self.next.file(name, executable, size)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if self.wanted {
            self.hasher.update(bytes);
        }
        self.next.data(bytes)
    }

    fn end_file(&mut self) -> Result<()> {
        self.next.end_file()
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.next.symlink(name, target)
    }
}
