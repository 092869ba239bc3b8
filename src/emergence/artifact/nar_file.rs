//! A single NAR in a file, with an external declaration.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::blob_closure::{BlobClosure, BlobSource};
use super::blob_files::Files;
use super::reference::decompressed;
use crate::emergence::base::bounded::{open_file, read_at_most};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::files::{check_space, made_whole};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::{HashThread, Hashing};
use crate::emergence::nix::keys::Signature;
use crate::emergence::nix::nar::{self, Nothing, Visitor};
use crate::emergence::nix::narinfo::NarInfo;
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::store_path::{ContentAddress, StorePath};
use crate::emergence::proof::closure::{ArtifactKind, Closure, Proofs};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::Demand;
use crate::emergence::proof::verify::Bytes;
use crate::error::{Doing, Error, Kind};

/// The caller's declaration of a NAR. Missing values are taken from the NAR.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// The store path of the object.
    pub path: Option<StorePath>,
    /// SHA-256 hash of the NAR.
    pub nar_hash: Option<Hash>,
    /// Size of the NAR in bytes.
    pub nar_size: Option<u64>,
    /// The references of the object.
    pub references: Vec<StorePath>,
    /// The content address that proves its path.
    pub ca: Option<ContentAddress>,
    /// Signatures of its fingerprint.
    pub signatures: Vec<Signature>,
    /// The compression of the file, if its first bytes and its name do not show it.
    pub compression: Option<Compression>,
    /// A narinfo file with this declaration, instead of the one at the NAR's path with `.narinfo`
    /// appended.
    pub narinfo: Option<PathBuf>,
}

/// A NAR. Without a store path it is a tree, not an object.
pub type NarFile = BlobClosure<OneNar>;

/// The file of a NAR.
pub struct OneNar {
    path: PathBuf,
    file: Files,
    compression: Compression,
    /// Bytes that were read at opening, for a NAR without a declaration.
    bytes: Bytes,
}

impl OneNar {
    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl BlobSource for OneNar {
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        self.file.open(at)
    }

    fn proofs(&self, objects: &[Object], digest: &Hash, terms: &Terms) -> Result<Proofs> {
        let pinned = terms.trust.pinned(&self.name(), digest)?;
        if objects.is_empty() && terms.trust.demand == Demand::Signed {
            let words = "a NAR without a store path carries no signature";
            return Err(Fault::refused(Code::TrustUnproved, self.name(), words));
        }
        let proof = |object: &Object| Ok((object.clone(), terms.trust.proof(object, &terms.dir, pinned)?));
        Ok((objects.iter().map(proof).collect::<Result<_>>()?, pinned))
    }

    fn bytes_of_tree(&self) -> Bytes {
        self.bytes
    }
}

fn opened(path: &Path) -> Result<std::fs::File> {
    open_file(path)?.ok_or_else(|| {
        let words = format!("{}: no such file", path.display());
        Error::new(Kind::NotFound, words).into()
    })
}

impl NarFile {
    /// Opens a NAR with its declaration. If the hash or the size is not declared, the NAR is read
    /// once for it.
    pub fn open(path: &Path, declared: &Declared, terms: &Terms) -> Result<Self> {
        let name = path.display().to_string();
        let Some(mut info) = narinfo(path, declared, terms)? else {
            return Self::by_options(path, name, declared, terms);
        };
        // The caller's options apply in addition.
        declared.check(&name, &info.object.nar_hash, info.object.nar_size)?;
        info.stored.compression = declared.compression.unwrap_or(info.stored.compression);
        Self::of_object(path, name, info)
    }

    fn by_options(path: &Path, name: String, declared: &Declared, terms: &Terms) -> Result<Self> {
        let (hash, bytes, compression) = match (&declared.path, declared.nar_hash, declared.nar_size) {
            // Only the compression is unknown.
            (Some(_), Some(hash), Some(unpacked)) => {
                let (_, compression) =
                    decompressed(opened(path)?, path, declared.compression, terms.limits.memory)?;
                (hash, Bytes { read: 0, unpacked }, compression)
            }
            _ => look(path, declared.compression, &terms.limits, &mut Nothing)?,
        };
        let Some(store_path) = &declared.path else {
            declared.check(&name, &hash, bytes.unpacked)?;
            let file = Files::new(vec![(path.to_owned(), name)]);
            let source = OneNar { path: path.to_owned(), file, compression, bytes };
            return Ok(Self::of_tree(ArtifactKind::Nar, hash, source));
        };
        let object = Object {
            path: store_path.clone(),
            nar_hash: declared.nar_hash.unwrap_or(hash),
            nar_size: declared.nar_size.unwrap_or(bytes.unpacked),
            references: declared.references.iter().cloned().collect(),
            deriver: None,
            signatures: declared.signatures.clone(),
            ca: declared.ca,
        };
        let stored = Stored { name: name.clone(), compression, hash: None, size: None };
        Self::of_object(path, name, NarInfo { object, stored })
    }

    fn of_object(path: &Path, name: String, NarInfo { object, stored }: NarInfo) -> Result<Self> {
        let file = Files::new(vec![(path.to_owned(), name)]);
        let compression = stored.compression;
        let source = OneNar { path: path.to_owned(), file, compression, bytes: Bytes::default() };
        Self::new(ArtifactKind::Nar, vec![(object, stored)], source)
    }

    /// Restores the verified tree at `to`, as `nix-store --restore` would. `to` must not exist, and
    /// there must be enough space. Refused if the NAR has changed since. After an error nothing is
    /// left.
    pub fn restore(&self, to: &Path, terms: &Terms) -> Result<()> {
        let OneNar { path, compression, bytes, .. } = &self.source;
        let make = |maker: &mut dyn Visitor| {
            let (hash, ..) = look(path, Some(*compression), &terms.limits, maker)?;
            if hash == self.digest() {
                return Ok(());
            }
            let words = "has changed since it was verified";
            Err(Fault::refused(Code::ChangedWhileReading, self.source.name(), words))
        };
        if let Some(destination) = &terms.destination {
            check_space(&destination.directory, bytes.unpacked)?;
        }
        made_whole(to, |new| nar::restore_by(new, make))
    }
}

impl Declared {
    fn check(&self, name: &str, hash: &Hash, size: u64) -> Result<()> {
        if let Some(declared) = self.nar_hash.filter(|declared| declared != hash) {
            let (declared, hash) = (declared.to_string(), hash.to_string());
            return Err(Fault::differs(Code::NarHash, name, "the NAR's hash", &declared, &hash));
        }
        if let Some(declared) = self.nar_size.filter(|declared| *declared != size) {
            let (declared, found) = (declared.to_string(), size.to_string());
            return Err(Fault::differs(Code::NarSize, name, "the NAR's size", &declared, &found));
        }
        Ok(())
    }
}

/// The contents of the narinfo file that the caller names, or of the one next to the NAR.
fn narinfo(path: &Path, declared: &Declared, terms: &Terms) -> Result<Option<NarInfo>> {
    if declared.path.is_some() {
        return Ok(None);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".narinfo");
    let file = match &declared.narinfo {
        Some(file) => file.clone(),
        None if Path::new(&beside).exists() => beside.into(),
        None => return Ok(None),
    };
    let subject = file.display().to_string();
    let text = read_at_most(opened(&file)?, &subject, terms.limits.narinfo)?;
    NarInfo::parse(&text, &terms.dir).within(|| subject).map(Some)
}

/// Reads a NAR without a declaration. Returns its hash, the bytes read, and its compression.
fn look(
    path: &Path,
    compression: Option<Compression>,
    limits: &Limits,
    visitor: &mut (impl Visitor + ?Sized),
) -> Result<(Hash, Bytes, Compression)> {
    let (file, most) = (opened(path)?, limits.size);
    let size = file.metadata().doing(|| format!("stat {}", path.display()))?.len();
    let (reader, compression) = decompressed(file, path, compression, limits.memory)?;
    let thread = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
    let mut input = Hashing::new(reader.take(most.saturating_add(1)), thread);
    let mut visitor = visitor;
    let read = nar::read(&mut input, limits.depth, &mut visitor);
    let (hash, unpacked) = input.finish().map_err(|error| Fault::from(Error::from(error).within("hash")))?;
    if unpacked > most {
        let words = format!("it unpacks to more than {most} bytes");
        return Err(Fault::refused(Code::LimitSize, path.display().to_string(), words));
    }
    read.within(|| path.display().to_string())?;
    Ok((hash, Bytes { read: size, unpacked }, compression))
}
