//! What a store has already of what an artifact declares.

use super::{Meta, Store};
use crate::emergence::base::hash::Algorithm;
use crate::emergence::base::refusal::{Result, Within};
use crate::emergence::nix::nar::{self, DEEPEST_EVER, TreeReader, Visitor};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, Method, StorePath};
use crate::emergence::proof::terms::{Evidence, Holdings, Twin};

impl Store {
    /// An object of the store for which `wanted` holds and whose tree is that of `object`: itself, or one under another path. Nothing of
    /// `object` has to be read then: its NAR has the hash that is declared, and its content address holds.
    pub(super) fn twin_where(&self, object: &Object, wanted: &dyn Fn(&Meta) -> bool) -> Result<Option<Meta>> {
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
        // What names itself has its content under another hash, and a content of its own under each path.
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
        let found = self.twin_where(object, &enough)?;
        Ok(found.map(|meta| Twin { path: meta.object.path, content: meta.content }))
    }

    fn show(&self, object: &StorePath, mut visitor: &mut dyn Visitor) -> Result<()> {
        nar::read(TreeReader::start(self.tree(object), DEEPEST_EVER)?, DEEPEST_EVER, &mut visitor)
            .within(|| self.dir.path(object))
    }
}

/// Whether the address of `object` follows from what is known of `twin`, whose NAR is the same.
fn address_holds(object: &Object, twin: &Object) -> bool {
    match &object.ca {
        None => true,
        // It was held against the content when that came.
        same if *same == twin.ca => true,
        Some(ContentAddress::Fixed(Method::Nar, hash)) if hash.algorithm() == Algorithm::Sha256 => {
            *hash == object.nar_hash && !object.references.contains(&object.path)
        }
        Some(_) => false,
    }
}
