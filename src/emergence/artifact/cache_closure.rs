//! An object of a binary cache and its references.

use std::path::Path;

use super::blob_closure::BlobClosure;
use super::blob_files::Files;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::cache::Cache;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::ArtifactKind;
use crate::emergence::proof::terms::Terms;

/// An object of a binary cache and all its references.
pub type CacheClosure = BlobClosure<Files>;

impl CacheClosure {
    /// Reads the narinfo of the object with these digits and of all its references. Those that the
    /// destination has may be missing. `named`: the full name that it must have (`path.mismatch`).
    pub fn open(directory: &Path, digits: &str, named: Option<&StorePath>, terms: &Terms) -> Result<Self> {
        let cache = Cache::open(directory, &terms.dir, &terms.limits)?;
        let mut infos = cache.closure(digits, &|path| terms.has(path))?;
        // In a reference cycle, the root may not be the last.
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
        let objects = infos.into_iter().map(|info| (info.object, info.stored)).collect();
        Self::new(ArtifactKind::Cache, objects, files)
    }
}
