//! The blobs of a layout, by digest, from a directory or a tar. Their content is unverified, except
//! by [`Blobs::document`]; for streams the reader verifies it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::archive::{Archive, Part};
use super::documents::Descriptor;
use crate::emergence::base::bounded::{open_file, read_at_most};
use crate::emergence::base::hash::{Hash, Hasher};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::error::Doing;

/// Maximum number of files kept open, so that a second reading uses the same file as the first.
/// Further files are opened again; their digest shows whether they are the same.
const KEPT_OPEN: usize = 256;

/// The blobs of a layout.
#[derive(Debug)]
pub struct Blobs {
    /// The directory or tar, as the caller named it.
    name: PathBuf,
    source: Storage,
    /// Maximum size of a document, in bytes.
    most: u64,
}

#[derive(Debug)]
enum Storage {
    Directory(Mutex<HashMap<PathBuf, Arc<File>>>),
    Archive(Archive),
}

/// A reader of a blob from its beginning. A clone continues at the same position.
#[derive(Clone, Debug)]
pub struct Blob(Bytes);

#[derive(Clone, Debug)]
enum Bytes {
    Stored(Part),
    Embedded(io::Cursor<Arc<[u8]>>),
}

impl Read for Blob {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Bytes::Stored(part) => part.read(room),
            Bytes::Embedded(bytes) => bytes.read(room),
        }
    }
}

impl Blobs {
    /// The blobs of the layout in this directory. `most`: maximum size of a document, in bytes.
    pub fn directory(path: &Path, most: u64) -> Self {
        Self { name: path.to_owned(), source: Storage::Directory(Mutex::default()), most }
    }

    /// The blobs of the layout in this tar. Refused: it is compressed or has a file twice
    /// (`oci.layout`), it is not a tar (`layer.header`), it has too many members (`limit.entries`).
    pub fn archive(file: File, path: &Path, most: u64) -> Result<Self> {
        let subject = path.display().to_string();
        let archive = Archive::open(file, &subject).within(|| subject.clone())?;
        Ok(Self { name: path.to_owned(), source: Storage::Archive(archive), most })
    }

    /// Its name in messages.
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// A file of the layout; `None`: it does not exist.
    fn file(&self, inner: &str) -> Result<Option<Part>> {
        let opened = match &self.source {
            Storage::Archive(archive) => return Ok(archive.part(inner.as_bytes())),
            Storage::Directory(opened) => opened,
        };
        let path = self.name.join(inner);
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match opened.get(&path) {
            Some(file) => file.clone(),
            None => {
                let Some(file) = open_file(&path)? else { return Ok(None) };
                let file = Arc::new(file);
                if opened.len() < KEPT_OPEN {
                    opened.insert(path.clone(), file.clone());
                }
                file
            }
        };
        let left = file.metadata().doing(|| format!("stat {}", path.display()))?.len();
        Ok(Some(Part { file, at: 0, left }))
    }

    /// Reads the document `inner` of the layout, which has no digest; `None`: it does not exist.
    pub(super) fn named(&self, inner: &str) -> Result<Option<Vec<u8>>> {
        let subject = || self.name.join(inner).display().to_string();
        self.file(inner)?.map(|part| read_at_most(part, &subject(), self.most)).transpose()
    }

    /// Opens a blob and checks its declared size, but not its digest.
    ///
    /// Refused: `blob.missing`, `blob.size`, and `blob.digest` if the descriptor's embedded data
    /// does not match.
    pub fn open(&self, descriptor: &Descriptor) -> Result<Blob> {
        check_embedded(descriptor)?;
        let digest = &descriptor.digest;
        let stored = self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))?;
        match (stored, &descriptor.data) {
            (Some(part), _) if part.left != descriptor.size => {
                let (declared, found) = (descriptor.size.to_string(), part.left.to_string());
                Err(Fault::differs(Code::BlobSize, subject(digest), "its size", &declared, &found))
            }
            (Some(part), _) => Ok(Blob(Bytes::Stored(part))),
            (None, Some(data)) => Ok(Blob(Bytes::Embedded(io::Cursor::new(data.as_slice().into())))),
            (None, None) => {
                let words = format!("is not in {}", self.name.display());
                Err(Fault::refused(Code::BlobMissing, subject(digest), words))
            }
        }
    }

    /// Reads a blob that is a document, and verifies its size and digest.
    ///
    /// Refused as by [`Blobs::open`], and with `limit.document` and `blob.digest`.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let subject = subject(&descriptor.digest);
        let bytes = read_at_most(self.open(descriptor)?, &subject, self.most)?;
        check_document(descriptor, &bytes).map(|()| bytes)
    }

    /// Whether the blob exists; its content is not checked.
    pub fn has(&self, digest: &Hash) -> Result<bool> {
        Ok(self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))?.is_some())
    }
}

/// The name of a blob in messages.
pub(super) fn subject(digest: &Hash) -> String {
    format!("blob {digest}")
}

/// Checks the data embedded in a descriptor against its size and digest.
pub(super) fn check_embedded(descriptor: &Descriptor) -> Result<()> {
    match &descriptor.data {
        Some(data) => check_document(descriptor, data).within(|| "embedded data"),
        None => Ok(()),
    }
}

fn check_document(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let subject = subject(&descriptor.digest);
    if bytes.len() as u64 != descriptor.size {
        let (declared, found) = (descriptor.size.to_string(), bytes.len().to_string());
        return Err(Fault::differs(Code::BlobSize, subject, "its size", &declared, &found));
    }
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == descriptor.digest {
        Ok(())
    } else {
        let (declared, found) = (descriptor.digest.to_string(), found.to_string());
        Err(Fault::differs(Code::BlobDigest, subject, "its digest", &declared, &found))
    }
}
