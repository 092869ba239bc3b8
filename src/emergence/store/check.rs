//! Verifies the store, and repairs corrupt objects from another copy.

use std::fs::{self, File};
use std::sync::Mutex;

use super::directory::names;
use super::{Added, Meta, Store, links};
use crate::emergence::base::hash::Algorithm;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::hash_file;
use crate::emergence::base::work;
use crate::emergence::nix::nar::{self, DEEPEST_EVER};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Closure, Report};
use crate::emergence::proof::terms::Terms;
use crate::error::Doing;

/// The result of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// Number of objects.
    pub objects: usize,
    /// Objects that have changed or lack a reference, each with the reason.
    pub faults: Vec<(StorePath, Fault)>,
}

impl Store {
    /// Hashes all objects again, `terms.jobs` at once.
    pub fn check(&self, terms: &Terms) -> Result<Checked> {
        let mut metas = Vec::new();
        for object in self.objects()? {
            metas.extend(self.meta(&object)?);
        }
        terms.watch.expect("check", metas.iter().map(|meta| meta.object.nar_size).sum());
        let faults = Mutex::new(Vec::new());
        work::each(terms.jobs, metas.len(), |at| {
            let Some(meta) = metas.get(at) else { return Ok(()) };
            let found = self.check_one(meta)?;
            if let Ok(mut faults) = faults.lock() {
                faults.extend(found.into_iter().map(|fault| (meta.object.path.clone(), fault)));
            }
            terms.watch.advance(meta.object.nar_size);
            Ok(())
        })?;
        let mut faults = faults.into_inner().unwrap_or_default();
        faults.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Checked { objects: metas.len(), faults })
    }

    /// All faults of one object.
    fn check_one(&self, meta: &Meta) -> Result<Vec<Fault>> {
        let path = self.dir.path(&meta.object.path);
        let mut faults = Vec::new();
        for other in &meta.object.references {
            if self.meta(other)?.is_none() {
                let words = format!("refers to {}, which is not in the store", self.dir.path(other));
                faults.push(Fault::refused(Code::StoreCorrupt, &path, words));
            }
        }
        faults.extend(self.check_tree(meta).err());
        Ok(faults)
    }

    fn check_tree(&self, meta: &Meta) -> Result<()> {
        let path = self.dir.path(&meta.object.path);
        let tree = self.tree(&meta.object.path);
        if tree.symlink_metadata().is_err() {
            return Err(Fault::refused(Code::StoreCorrupt, path, "is missing, but has a record"));
        }
        let (hash, size) = nar::hash_tree(&tree, DEEPEST_EVER, Algorithm::Sha256).within(|| path.clone())?;
        self.unchanged(meta, &hash, size)
    }

    /// Rebuilds the objects in `corrupt` that `closure`, which was just verified, has. Takes the
    /// exclusive lock on the store.
    pub fn repair(
        &self,
        corrupt: &[StorePath],
        closure: &dyn Closure,
        terms: &Terms,
        report: &Report,
    ) -> Result<Added> {
        self.lock_others_out()?;
        self.drop_spoilt_files()?;
        self.add_with(closure, terms, report, &|path| corrupt.contains(path))
    }

    /// Removes files whose content does not match their name, so that no other object links to
    /// them.
    fn drop_spoilt_files(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let directory = self.directory.join("links");
        for name in names(&directory)? {
            let path = directory.join(&name);
            let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
            let kind = file.metadata().doing(|| format!("stat {}", path.display()))?;
            let executable = kind.permissions().mode() & 0o100 != 0;
            let (hash, _) =
                hash_file(file, Algorithm::Sha256).doing(|| format!("read {}", path.display()))?;
            if links::name(&hash, executable).to_bytes() != name.as_bytes() {
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
