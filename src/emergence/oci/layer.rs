//! Reads one layer from its blob. One thread reads and hashes the stored bytes, another
//! decompresses them, and the caller hashes the result and splits it into members. Both passes over
//! an image use this.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use super::blobs::{Blob, Blobs, subject};
use super::documents::Descriptor;
use super::tar::{Input, Member, Members};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::{Hash, Hasher};
use crate::emergence::base::read_ahead::{Pieces, ReadAhead, Until};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::proof::terms::{Terms, Watch};
use crate::emergence::proof::verify::hashed;
use crate::error::Doing;

/// A layer as declared by the manifest and the configuration.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) compression: Compression,
    pub(super) diff_id: Hash,
}

/// Which of the two readings it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The first: everything is compared with the declaration.
    Verify,
    /// The second: the stored bytes must be those verified.
    Again,
}

/// Receives the members of a layer.
pub(super) trait See {
    /// A member; its content may be read from `from`.
    fn member<R: Input>(&mut self, member: Member, from: &mut Members<R>) -> Result<()>;
}

/// Numbers of bytes of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerBytes {
    pub(super) read: u64,
    pub(super) unpacked: u64,
}

/// The compression of a layer's media type; `None`: it is not a layer's.
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
    /// Reads the layer and passes its members to `see`. They are unverified until this returns.
    ///
    /// Refused: as by [`Blobs::open`]; `blob.digest`, in the second pass `changed-while-reading`.
    /// If the digest matches, also `blob.compression`, `oci.media-type`, `limit.size`, `layer.header`, `oci.diff-id`,
    /// and refusals of `see`.
    pub(super) fn read(
        &self,
        blobs: &Blobs,
        terms: &Terms,
        pass: Pass,
        see: &mut impl See,
    ) -> Result<LayerBytes> {
        let done = self.check_type().and_then(|()| self.read_named(blobs, terms, pass, see));
        done.map_err(|fault| self.explained(blobs, fault))
            .within(|| format!("layer {}", self.descriptor.digest))
    }

    /// Hashes the stored bytes of a layer whose members are known. The blob may be missing.
    ///
    /// Refused: as by [`Blobs::open`], and `blob.digest`.
    pub(super) fn recognise(&self, blobs: &Blobs, terms: &Terms) -> Result<LayerBytes> {
        self.check_type()?;
        let input = match blobs.open(&self.descriptor) {
            Err(fault) if fault.code() == Some(Code::BlobMissing) => return Ok(LayerBytes::default()),
            other => other?,
        };
        let stored = Stored { input, watch: terms.watch.clone() };
        let Descriptor { digest, size, .. } = &self.descriptor;
        let (read, hash) = hashed(stored, digest.algorithm(), *size, &format!("layer {digest}"))?;
        self.check_stored(read, hash, Pass::Verify)?;
        Ok(LayerBytes { read, unpacked: 0 })
    }

    /// Equal hashes of blob and tar mean that the layer is not compressed.
    fn check_type(&self) -> Result<()> {
        if self.descriptor.digest == self.diff_id && self.compression != Compression::None {
            return Err(self.mistyped("its digest and its diffID are equal, so it is not compressed"));
        }
        Ok(())
    }

    /// The refusal if the media type is the reason why the layer could not be read, else `fault`.
    fn explained(&self, blobs: &Blobs, fault: Fault) -> Fault {
        if !matches!(fault.code(), Some(Code::LayerHeader | Code::BlobCompression)) {
            return fault;
        }
        let mut first = Vec::new();
        let opened = blobs.open(&self.descriptor).map(|blob| blob.take(6).read_to_end(&mut first));
        let found = Compression::recognised(&first);
        if !matches!(opened, Ok(Ok(6))) || found == self.compression {
            return fault;
        }
        self.mistyped(&match found {
            Compression::None => format!("its bytes are not in {}", self.compression.name()),
            found => format!("its bytes are in {}", found.name()),
        })
    }

    fn mistyped(&self, found: &str) -> Fault {
        let declared = self.descriptor.media_type.escape_debug();
        let words = format!("is declared as {declared}, but {found}");
        Fault::refused(Code::OciMediaType, subject(&self.descriptor.digest), words)
    }

    fn read_named(&self, blobs: &Blobs, terms: &Terms, pass: Pass, see: &mut impl See) -> Result<LayerBytes> {
        let declared = self.descriptor.digest;
        // Without compression, blob and tar are the same bytes, and one hash serves both.
        let once = self.compression == Compression::None && declared.algorithm() == self.diff_id.algorithm();
        let hash_stored = pass == Pass::Again || !once;
        let stored = Stored { input: blobs.open(&self.descriptor)?, watch: terms.watch.clone() };
        let hasher = hash_stored.then(|| Hasher::new(declared.algorithm()));
        let started = ReadAhead::start("blob", move || Ok(stored), hasher, Until::End);
        let (source, stored) = started.doing(|| "start a thread")?;
        let (compression, memory, most) =
            (self.compression, terms.limits.memory, Until::Most(terms.limits.size));
        let started = ReadAhead::start("layer", move || compression.buffered(stored, memory), None, most);
        let (_, pieces) = started.doing(|| "start a thread")?;
        let hasher = (pass == Pass::Verify).then(|| Hasher::new(self.diff_id.algorithm()));
        let mut members = Members::new(Output { pieces, hashed: 0, hasher, count: 0 });
        let taken = take(&mut members, see);
        if let Err(Fault::Failed(error)) = taken {
            return Err(Fault::Failed(error));
        }
        // Bytes after the tar's end are part of the layer. After a refusal they are read too,
        // because the digest is checked first.
        let rest = members.input().pass(u64::MAX).map(drop).map_err(super::tar::input_fault);
        let output = members.into_input();
        if output.pieces.exceeded() {
            let words = format!("it unpacks to more than {} bytes", terms.limits.size);
            return Err(Fault::refused(Code::LimitSize, subject(&declared), words));
        }
        let (unpacked, found) = output.finish();
        let found = found.filter(|_| rest.is_ok());
        let (read, stored) = source.finish().doing(|| "read").map_err(Fault::from)?;
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

/// A blob that reports progress.
struct Stored {
    input: Blob,
    watch: Arc<dyn Watch>,
}

impl Read for Stored {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(room)?;
        self.watch.advance(got as u64);
        Ok(got)
    }
}

/// The decompressed bytes, hashed.
pub(super) struct Output {
    pieces: Pieces,
    /// Number of available bytes that are hashed already.
    hashed: usize,
    hasher: Option<Hasher>,
    count: u64,
}

impl Output {
    /// The number of bytes, and their hash.
    fn finish(self) -> (u64, Option<Hash>) {
        (self.count, self.hasher.map(Hasher::finish))
    }

    /// The available bytes; empty at the end.
    fn here(&mut self) -> io::Result<&[u8]> {
        let here = self.pieces.fill_buf()?;
        if self.hashed == 0 {
            self.hashed = here.len();
            self.count += here.len() as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(here);
            }
        }
        Ok(here)
    }

    fn used(&mut self, count: usize) {
        self.pieces.consume(count);
        self.hashed = self.hashed.saturating_sub(count);
    }
}

impl Read for Output {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.here()?.read(room)?;
        self.used(count);
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
            self.used(passed);
            left -= passed as u64;
        }
        Ok(count - left)
    }
}
