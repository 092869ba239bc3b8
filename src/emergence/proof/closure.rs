//! Closures: objects with everything that they refer to, and the report of their verification.

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

/// What kind of artifact it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An OCI image of no automaton.
    OciImage,
    /// An automaton that engines can run.
    AutomatonImage,
    /// An automaton whose layers are NARs.
    AutomatonArtifact,
    /// One NAR in a file.
    Nar,
    /// An object of a binary cache.
    Cache,
    /// What a store has already.
    Store,
}

impl Kind {
    /// Its word in reports and policies.
    pub fn word(self) -> &'static str {
        match self {
            Kind::OciImage => "oci-image",
            Kind::AutomatonImage => "automaton-image",
            Kind::AutomatonArtifact => "automaton-artifact",
            Kind::Nar => "nar",
            Kind::Cache => "cache",
            Kind::Store => "store",
        }
    }
}

/// A layer that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Of the blob.
    pub digest: Hash,
    /// Bytes of the blob.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Of what comes out of it.
    pub diff_id: Option<Hash>,
}

/// What was verified of an artifact, and by what it is proved.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// Of the manifest, or of the root's NAR.
    pub digest: Hash,
    /// Of the automaton, if it is one.
    pub digests: Option<Digests>,
    /// Whether the caller named its digest.
    pub pinned: bool,
    /// Each behind what it refers to.
    pub objects: Vec<(Object, Proof)>,
    /// Layers of an image, lowest first.
    pub layers: Vec<LayerReport>,
    /// What was read.
    pub bytes: Bytes,
}

impl Report {
    /// Of store objects that no document declares.
    pub(crate) fn of_objects(kind: Kind, digest: Hash, (objects, pinned): Proofs, bytes: Bytes) -> Self {
        Self { kind, digest, digests: None, pinned, objects, layers: Vec::new(), bytes }
    }
}

/// An artifact of store objects, opened: its documents are read and held against their digests,
/// nothing else is proved.
pub trait Closure {
    /// What it is.
    fn kind(&self) -> Kind;

    /// Of the manifest, or of the root's NAR.
    fn digest(&self) -> Hash;

    /// What it declares, each behind what it refers to, the root last.
    fn objects(&self) -> &[Object];

    /// The document, when it is an automaton.
    fn document(&self) -> Option<&Document> {
        None
    }

    /// Signatures of the automaton, as its manifest has them: joined by spaces.
    fn signature(&self) -> Option<&str> {
        None
    }

    /// Its layers, when it has some, as they are declared.
    fn layers(&self) -> Vec<LayerReport> {
        Vec::new()
    }

    /// What carries the objects for which `lacking` holds: their base names, or digests of blobs.
    fn pieces(&self, lacking: &dyn Fn(&Object) -> Result<bool>) -> Result<Vec<String>> {
        let mut pieces = Vec::new();
        for object in self.objects() {
            if lacking(object)? {
                pieces.push(object.path.to_string());
            }
        }
        Ok(pieces)
    }

    /// Digests, by SHA-256, of the blobs that objects came out of when it was verified, as far as
    /// they are declared.
    fn blobs(&self) -> BTreeMap<StorePath, Hash> {
        BTreeMap::new()
    }

    /// Proves everything, in the order of the contract's section 5. Writes nothing.
    fn verify(&self, terms: &Terms) -> Result<Report>;

    /// What was proved of it when it came into the store, held against these terms; nothing of it
    /// is read again. `None`: it is in no store.
    fn recall(&self, _terms: &Terms) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Reads the objects that are `wanted` a second time and gives each to `to`, in any order. What
    /// is stored must be the same bytes as when it was verified (`changed-while-reading`).
    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes>;
}

/// Takes the objects of a closure, from several threads.
pub trait Receive {
    /// Makes the tree of this object: calls `feed` once, with whoever makes it, and gives back what
    /// that gives.
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

/// Refused with `closure.incomplete` when something that an object refers to is not among them.
pub fn check_complete(objects: &[Object], dir: &StoreDir) -> Result<()> {
    complete_with(objects.iter(), dir, &|_| Ok(false))
}

/// Refused with `closure.incomplete` when something that an object refers to is neither among them,
/// nor `elsewhere`.
pub(crate) fn complete_with<'a>(
    objects: impl Iterator<Item = &'a Object> + Clone,
    dir: &StoreDir,
    elsewhere: &dyn Fn(&StorePath) -> Result<bool>,
) -> Result<()> {
    let there: BTreeSet<&StorePath> = objects.clone().map(|object| &object.path).collect();
    for object in objects {
        for path in object.references.iter().filter(|path| !there.contains(path)) {
            if !elsewhere(path)? {
                let words = format!("is not there, but {} refers to it", dir.path(&object.path));
                return Err(Fault::refused(Code::ClosureIncomplete, dir.path(path), words));
            }
        }
    }
    Ok(())
}
