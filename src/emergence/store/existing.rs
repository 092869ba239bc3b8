//! Finds objects of an artifact whose content the store already has.

use super::{Meta, Store};
use crate::emergence::base::hash::Algorithm;
use crate::emergence::base::refusal::{Result, Within};
use crate::emergence::nix::nar::{self, DEEPEST_EVER, TreeReader, Visitor};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, Method, StorePath};
use crate::emergence::proof::terms::{Evidence, Holdings, Twin};

impl Store {
    /// An object of the store for which `wanted` holds and that has the tree of `object`: the
    /// object itself, or one under another path. `object` then need not be read: its NAR has the
    /// declared hash, and its content address holds.
    pub(super) fn find_identical(
        &self,
        object: &Object,
        wanted: &dyn Fn(&Meta) -> bool,
    ) -> Result<Option<Meta>> {
        let fits = |meta: &Meta| {
            (meta.object.nar_hash, meta.object.nar_size) == (object.nar_hash, object.nar_size)
                && address_holds(object, &meta.object)
                && self.tree(&meta.object.path).symlink_metadata().is_ok()
                && wanted(meta)
        };
        let own = self.meta(&object.path)?;
        if let Some(own) = own.filter(|own| own.object.references == object.references && fits(own)) {
            return Ok(Some(own));
        }
        // An object that refers to itself has different content under each path.
        if object.references.contains(&object.path) {
            return Ok(None);
        }
        for path in self.with_content(&object.nar_hash)? {
            if let Some(meta) = self.meta(&path)?.filter(&fits) {
                return Ok(Some(meta));
            }
        }
        Ok(None)
    }
}

impl Holdings for Store {
    fn has(&self, object: &StorePath) -> Result<bool> {
        Ok(self.meta(object)?.is_some())
    }

    fn twin(&self, object: &Object, evidence: Evidence<'_>) -> Result<Option<Twin>> {
        let enough = |meta: &Meta| match evidence {
            Evidence::None => true,
            Evidence::Blob(digest) => meta.blobs.contains(digest),
        };
        let found = self.find_identical(object, &enough)?;
        Ok(found.map(|meta| Twin { path: meta.object.path, content: meta.content }))
    }

    fn show(&self, object: &StorePath, mut visitor: &mut dyn Visitor) -> Result<()> {
        nar::read(TreeReader::start(self.tree(object), DEEPEST_EVER)?, DEEPEST_EVER, &mut visitor)
            .within(|| self.dir.path(object))
    }
}

/// Whether the content address of `object` follows from the record of `twin`, which has the same
/// NAR.
fn address_holds(object: &Object, twin: &Object) -> bool {
    match &object.ca {
        None => true,
        // It was checked against the content at the import.
        same if *same == twin.ca => true,
        Some(ContentAddress::Fixed(Method::Nar, hash)) if hash.algorithm() == Algorithm::Sha256 => {
            *hash == object.nar_hash && !object.references.contains(&object.path)
        }
        Some(_) => false,
    }
}
