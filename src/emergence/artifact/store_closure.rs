//! An object of the store and its references.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::blob_closure::{BlobClosure, BlobSource};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::nar::{DEEPEST_EVER, TreeReader};
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{ArtifactKind, Proofs};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::{Demand, Proof};
use crate::emergence::store::{Meta, Store};

/// An object of a store, which it keeps open, with all its references.
pub type StoreClosure = BlobClosure<Trees>;

impl StoreClosure {
    /// Opens an object. Refused with `closure.incomplete` if the store lacks it or one of its
    /// references.
    pub fn open(store: Arc<Store>, object: &StorePath) -> Result<Self> {
        let mut metas = store.closure_of(std::slice::from_ref(object))?;
        // In a reference cycle, the root may not be the last.
        if let Some(at) = metas.iter().position(|meta| meta.object.path == *object) {
            let root = metas.remove(at);
            metas.push(root);
        }
        Self::of(store, metas)
    }

    /// A closure of several objects with all their references, dependencies first.
    pub(crate) fn of(store: Arc<Store>, metas: Vec<Meta>) -> Result<Self> {
        let paths = metas.iter().map(|meta| store.tree(&meta.object.path)).collect();
        let proofs = metas.iter().map(|meta| meta.proof.clone()).collect();
        let of_tree = |object: &Object| Stored {
            name: object.path.to_string(),
            compression: Compression::None,
            hash: None,
            size: None,
        };
        let objects = metas.into_iter().map(|meta| (meta.object.clone(), of_tree(&meta.object))).collect();
        Self::new(ArtifactKind::Store, objects, Trees { paths, proofs, _store: store })
    }
}

/// Trees of a store as blobs: each is the NAR that a thread generates.
pub struct Trees {
    paths: Vec<PathBuf>,
    /// The proof of each at its import.
    proofs: Vec<Proof>,
    /// Keeps the shared lock, so that nothing is garbage-collected.
    _store: Arc<Store>,
}

impl BlobSource for Trees {
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.paths.get(at).cloned().ok_or_else(|| Fault::usage("an object has no tree"))?;
        Ok(Box::new(TreeReader::start(path, DEEPEST_EVER)?))
    }

    /// As for any artifact; otherwise the proof of its import, unless signatures are demanded of
    /// all.
    fn proofs(&self, objects: &[Object], digest: &Hash, terms: &Terms) -> Result<Proofs> {
        let root = objects.last().map(|object| terms.dir.path(&object.path)).unwrap_or_default();
        let pinned = terms.trust.pinned(&root, digest)?;
        let last = self.proofs.len().saturating_sub(1);
        let mut all = Vec::with_capacity(self.proofs.len());
        for (at, (object, known)) in objects.iter().zip(&self.proofs).enumerate() {
            let proof = match terms.trust.proof(object, &terms.dir, pinned && at == last) {
                Err(fault) if fault.code() == Some(Code::TrustUnproved) => match known {
                    Proof::Nothing => return Err(fault),
                    _ if terms.trust.demand == Demand::Signed => return Err(fault),
                    known => known.clone(),
                },
                proof => proof?,
            };
            all.push((object.clone(), proof));
        }
        Ok((all, pinned))
    }

    fn is_proved(&self) -> bool {
        true
    }
}
