//! An object of a binary cache and all that it refers to.

use std::collections::BTreeMap;
use std::path::Path;

use super::blob_files::Files;
use super::blobs::Blobs;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::cache::Cache;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Closure, Kind, Receive, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::Bytes;

/// An object of a binary cache, with everything that it refers to.
pub struct CacheClosure {
    blobs: Blobs<Files>,
    digest: Hash,
}

impl CacheClosure {
    /// Reads the descriptions of the object with these digits, and of all that it refers to; what the destination has may be missing.
    /// `named`: the whole name that it must have (`path.mismatch`).
    pub fn open(folder: &Path, digits: &str, named: Option<&StorePath>, terms: &Terms) -> Result<Self> {
        let cache = Cache::open(folder, &terms.dir, &terms.limits)?;
        let mut infos = cache.closure(digits, &|path| terms.has(path))?;
        // In a circle of references the root may not be last by itself.
        if let Some(at) = infos.iter().position(|info| info.object.path.digits() == digits) {
            let root = infos.remove(at);
            if let Some(named) = named.filter(|named| **named != root.object.path) {
                let (named, found) = (terms.dir.path(named), terms.dir.path(&root.object.path));
                return Err(Fault::differs(
                    Code::PathMismatch,
                    &named,
                    "the object with these digits",
                    &named,
                    &found,
                ));
            }
            infos.push(root);
        }
        let files =
            infos.iter().map(|info| (cache.file(&info.stored.name), terms.dir.path(&info.object.path)));
        let files = Files::new(files.collect());
        let (objects, stored) = infos.into_iter().map(|info| (info.object, info.stored)).unzip();
        let blobs = Blobs::new(Kind::Cache, objects, stored, files);
        let digest = blobs.root().ok_or_else(|| Fault::usage("the closure has no root"))?;
        Ok(Self { blobs, digest })
    }
}

impl Closure for CacheClosure {
    fn kind(&self) -> Kind {
        Kind::Cache
    }

    fn digest(&self) -> Hash {
        self.digest
    }

    fn objects(&self) -> &[Object] {
        &self.blobs.objects
    }

    fn blobs(&self) -> BTreeMap<StorePath, Hash> {
        self.blobs.digests()
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let proofs = crate::emergence::proof::closure::proofs(&self.blobs.objects, &self.digest, terms)?;
        let bytes = self.blobs.prove(terms)?;
        Ok(Report::of_objects(Kind::Cache, self.digest, proofs, bytes))
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
