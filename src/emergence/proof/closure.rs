//! Closures: objects with all their transitive references, and the report of their verification.

use std::collections::{BTreeMap, BTreeSet};

use super::terms::Terms;
use super::trust::Proof;
use super::verify::Bytes;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{StoreDir, StorePath};

/// The kind of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// An OCI image that is not an automaton.
    OciImage,
    /// An automaton that container engines can run.
    AutomatonImage,
    /// An automaton whose layers are NARs.
    AutomatonArtifact,
    /// One NAR in a file.
    Nar,
    /// An object of a binary cache.
    Cache,
    /// An object of a store.
    Store,
}

impl ArtifactKind {
    /// Its name in reports and policies.
    pub fn word(self) -> &'static str {
        match self {
            ArtifactKind::OciImage => "oci-image",
            ArtifactKind::AutomatonImage => "automaton-image",
            ArtifactKind::AutomatonArtifact => "automaton-artifact",
            ArtifactKind::Nar => "nar",
            ArtifactKind::Cache => "cache",
            ArtifactKind::Store => "store",
        }
    }
}

/// A layer that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Digest of the blob.
    pub digest: Hash,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Digest of the uncompressed blob.
    pub diff_id: Option<Hash>,
}

/// The result of an artifact's verification, with the proofs.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its kind.
    pub kind: ArtifactKind,
    /// Digest of the manifest, or of the root's NAR.
    pub digest: Hash,
    /// Digests of the automaton, if it is one.
    pub digests: Option<Digests>,
    /// Whether the caller gave its digest.
    pub pinned: bool,
    /// Its objects, dependencies first.
    pub objects: Vec<(Object, Proof)>,
    /// Layers of an image, lowest first.
    pub layers: Vec<LayerReport>,
    /// The bytes read.
    pub bytes: Bytes,
}

impl Report {
    /// The report of store objects without a document.
    pub(crate) fn of_objects(
        kind: ArtifactKind,
        digest: Hash,
        (objects, pinned): Proofs,
        bytes: Bytes,
    ) -> Self {
        Self { kind, digest, digests: None, pinned, objects, layers: Vec::new(), bytes }
    }
}

/// An opened artifact of store objects. Its documents are read and match their digests; nothing
/// else is verified.
pub trait Closure {
    /// Its kind.
    fn kind(&self) -> ArtifactKind;

    /// Digest of the manifest, or of the root's NAR.
    fn digest(&self) -> Hash;

    /// The declared objects, dependencies first, the root last.
    fn objects(&self) -> &[Object];

    /// The document, if it is an automaton.
    fn document(&self) -> Option<&Document> {
        None
    }

    /// Signatures of the automaton from its manifest, separated by spaces.
    fn signature(&self) -> Option<&str> {
        None
    }

    /// Its layers as declared, if it has any.
    fn layers(&self) -> Vec<LayerReport> {
        Vec::new()
    }

    /// The parts that contain the objects for which `lacking` holds: base names of objects, or
    /// digests of blobs.
    fn pieces(&self, lacking: &dyn Fn(&Object) -> Result<bool>) -> Result<Vec<String>> {
        let mut pieces = Vec::new();
        for object in self.objects() {
            if lacking(object)? {
                pieces.push(object.path.to_string());
            }
        }
        Ok(pieces)
    }

    /// SHA-256 digests of the blobs that objects were unpacked from when verified, as far as they
    /// are declared.
    fn blobs(&self) -> BTreeMap<StorePath, Hash> {
        BTreeMap::new()
    }

    /// Verifies everything. Writes nothing.
    fn verify(&self, terms: &Terms) -> Result<Report>;

    /// Checks the proofs recorded in the store against these terms, without reading the content
    /// again. `None`: it is not in a store.
    fn recall(&self, _terms: &Terms) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Reads the `wanted` objects a second time and passes each to `to`, in any order. Refused with
    /// `changed-while-reading` if the stored bytes differ from those verified.
    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes>;
}

/// Receives the objects of a closure, from several threads.
pub trait Receive {
    /// Creates the tree of this object: calls `feed` once, with the visitor that creates it, and
    /// returns its result.
    fn object(
        &self,
        object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes>;
}

/// The proof of each object's path, and whether the caller expects the digest of the closure.
pub(crate) type Proofs = (Vec<(Object, Proof)>, bool);

/// The proof of each object's path. The last object is the root, whose NAR has the hash `digest`.
pub(crate) fn proofs(objects: &[Object], digest: &Hash, terms: &Terms) -> Result<Proofs> {
    let root = objects.last().map(|object| terms.dir.path(&object.path)).unwrap_or_default();
    let pinned = terms.trust.pinned(&root, digest)?;
    let last = objects.len().saturating_sub(1);
    let proof = |(at, object): (usize, &Object)| {
        let proof = terms.trust.proof(object, &terms.dir, pinned && at == last)?;
        Ok((object.clone(), proof))
    };
    Ok((objects.iter().enumerate().map(proof).collect::<Result<_>>()?, pinned))
}

/// Refused with `closure.incomplete` if a reference is not among the objects.
pub fn check_complete(objects: &[Object], dir: &StoreDir) -> Result<()> {
    complete_with(objects.iter(), dir, &|_| Ok(false))
}

/// Refused with `closure.incomplete` if a reference is neither among the objects nor `elsewhere`.
pub(crate) fn complete_with<'a>(
    objects: impl Iterator<Item = &'a Object> + Clone,
    dir: &StoreDir,
    elsewhere: &dyn Fn(&StorePath) -> Result<bool>,
) -> Result<()> {
    let paths: BTreeSet<&StorePath> = objects.clone().map(|object| &object.path).collect();
    for object in objects {
        for path in object.references.iter().filter(|path| !paths.contains(path)) {
            if !elsewhere(path)? {
                let words = format!("is missing, but {} refers to it", dir.path(&object.path));
                return Err(Fault::refused(Code::ClosureIncomplete, dir.path(path), words));
            }
        }
    }
    Ok(())
}
