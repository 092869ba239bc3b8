//! An object that a store has already, and all that it refers to.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::blobs::{Blobs, Source};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::nar::{DEEPEST_EVER, TreeReader};
use crate::emergence::nix::object::{Object, Stored};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Closure, Kind, Receive, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::{Demand, Proof};
use crate::emergence::proof::verify::Bytes;
use crate::emergence::store::{Meta, Store};

/// An object of a store, which it keeps open, with everything that it refers to.
pub struct StoreClosure {
    blobs: Blobs<Trees>,
    digest: Hash,
    /// What proved each when it was imported.
    proofs: Vec<Proof>,
}

impl StoreClosure {
    /// Refused with `closure.incomplete` when the store lacks the object, or one that it refers to.
    pub fn open(store: Arc<Store>, object: &StorePath) -> Result<Self> {
        let mut metas = store.closure_of(std::slice::from_ref(object))?;
        // In a circle of references the root may not be last by itself.
        if let Some(at) = metas.iter().position(|meta| meta.object.path == *object) {
            let root = metas.remove(at);
            metas.push(root);
        }
        Self::of(store, metas)
    }

    /// Of several objects, with all that they refer to, each behind that.
    pub(crate) fn of(store: Arc<Store>, metas: Vec<Meta>) -> Result<Self> {
        let trees = Trees(metas.iter().map(|meta| store.tree(&meta.object.path)).collect(), store);
        let stored = metas.iter().map(|meta| Stored {
            name: meta.object.path.to_string(),
            compression: Compression::None,
            hash: None,
            size: None,
        });
        let stored = stored.collect();
        let (objects, proofs): (Vec<_>, Vec<_>) =
            metas.into_iter().map(|meta| (meta.object, meta.proof)).unzip();
        let blobs = Blobs::new(Kind::Store, objects, stored, trees);
        let digest = blobs.root().ok_or_else(|| Fault::usage("the closure has no root"))?;
        Ok(Self { blobs, digest, proofs })
    }

    /// What proves each: as for any artifact, and otherwise what proved it when it was imported, unless a signature is demanded of all.
    fn proofs(&self, terms: &Terms) -> Result<(Vec<(Object, Proof)>, bool)> {
        let root = self.blobs.objects.last().map(|object| terms.dir.path(&object.path)).unwrap_or_default();
        let pinned = terms.trust.pinned(&root, &self.digest)?;
        let last = self.proofs.len().saturating_sub(1);
        let mut all = Vec::with_capacity(self.proofs.len());
        for (at, (object, known)) in self.blobs.objects.iter().zip(&self.proofs).enumerate() {
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
}

impl StoreClosure {
    /// What is known without a look at the trees.
    fn noted(&self, terms: &Terms) -> Result<Report> {
        Ok(Report::of_objects(Kind::Store, self.digest, self.proofs(terms)?, Bytes::default()))
    }
}

impl Closure for StoreClosure {
    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn digest(&self) -> Hash {
        self.digest
    }

    fn objects(&self) -> &[Object] {
        &self.blobs.objects
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let report = self.noted(terms)?;
        Ok(Report { bytes: self.blobs.prove(terms)?, ..report })
    }

    fn recall(&self, terms: &Terms) -> Result<Option<Report>> {
        self.noted(terms).map(Some)
    }

    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        self.blobs.unpack(terms, wanted, to)
    }
}

/// Trees as blobs: each is the NAR that a thread makes of it.
struct Trees(Vec<PathBuf>, #[allow(dead_code)] Arc<Store>);

impl Source for Trees {
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.0.get(at).cloned().ok_or_else(|| Fault::usage("an object has no tree"))?;
        Ok(Box::new(TreeReader::start(path, DEEPEST_EVER)?))
    }
}
