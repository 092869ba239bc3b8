//! The blobs of a layout, by their digest, from a folder or a tar. What is read of one is only what
//! the layout says it is; [`Blobs::document`] proves it, for streams that is for who reads them.

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

/// Files of a folder that are kept open at most, so that a second reading is of the same file as
/// the first. Beyond, a file is opened anew, and its digest tells whether it is the same.
const KEPT_OPEN: usize = 256;

/// Where blobs are.
#[derive(Debug)]
pub struct Blobs {
    /// The folder or the tar, as it was named.
    name: PathBuf,
    source: Source,
    /// Bytes of a document at most.
    most: u64,
}

#[derive(Debug)]
enum Source {
    Folder(Mutex<HashMap<PathBuf, Arc<File>>>),
    Archive(Archive),
}

/// The bytes of a blob from its beginning. A clone begins where this one is.
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
    /// Of the layout in this folder. `most`: bytes of a document.
    pub fn folder(path: &Path, most: u64) -> Self {
        Self { name: path.to_owned(), source: Source::Folder(Mutex::default()), most }
    }

    /// Of the layout in this tar, which is not compressed. Refused: it is compressed or has a file
    /// twice (`oci.layout`), it is no tar (`layer.header`), it has too many members
    /// (`limit.entries`).
    pub fn archive(file: File, path: &Path, most: u64) -> Result<Self> {
        let subject = path.display().to_string();
        let archive = Archive::open(file, &subject).within(|| subject.clone())?;
        Ok(Self { name: path.to_owned(), source: Source::Archive(archive), most })
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// A file of the layout; `None`: there is none.
    fn file(&self, inner: &str) -> Result<Option<Part>> {
        let opened = match &self.source {
            Source::Archive(archive) => return Ok(archive.part(inner.as_bytes())),
            Source::Folder(opened) => opened,
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
        let left = file.metadata().doing(|| format!("look at {}", path.display()))?.len();
        Ok(Some(Part { file, at: 0, left }))
    }

    /// All of the document `inner` of the layout that no digest names; `None`: it is not there.
    pub(super) fn named(&self, inner: &str) -> Result<Option<Vec<u8>>> {
        let subject = || self.name.join(inner).display().to_string();
        self.file(inner)?.map(|part| read_at_most(part, &subject(), self.most)).transpose()
    }

    /// The bytes of this blob, of the size that is declared. What they hash to is not looked at.
    ///
    /// Refused: `blob.missing`, `blob.size`, and `blob.digest` when the descriptor itself has other
    /// bytes than it declares.
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

    /// All of a blob that is a document, proved to have the declared size and digest.
    ///
    /// Refused as by [`Blobs::open`], and with `limit.document` and `blob.digest`.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let subject = subject(&descriptor.digest);
        let bytes = read_at_most(self.open(descriptor)?, &subject, self.most)?;
        same(descriptor, &bytes).map(|()| bytes)
    }

    /// Whether a blob is there, of whatever content.
    pub fn has(&self, digest: &Hash) -> Result<bool> {
        Ok(self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))?.is_some())
    }
}

/// What messages call a blob.
pub(super) fn subject(digest: &Hash) -> String {
    format!("blob {digest}")
}

/// Bytes in a descriptor must be those that it names.
pub(super) fn check_embedded(descriptor: &Descriptor) -> Result<()> {
    match &descriptor.data {
        Some(data) => same(descriptor, data).within(|| "embedded data"),
        None => Ok(()),
    }
}

fn same(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let subject = subject(&descriptor.digest);
    if bytes.len() as u64 != descriptor.size {
        let (declared, found) = (descriptor.size.to_string(), bytes.len().to_string());
        return Err(Fault::differs(Code::BlobSize, subject, "its size", &declared, &found));
    }
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    match found == descriptor.digest {
        true => Ok(()),
        false => {
            let (declared, found) = (descriptor.digest.to_string(), found.to_string());
            Err(Fault::differs(Code::BlobDigest, subject, "its digest", &declared, &found))
        }
    }
}
