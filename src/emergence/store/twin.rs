//! What a store has already of what an artifact declares.

use super::{Meta, Store};
use crate::emergence::closure::TreeReader;
use crate::emergence::hash::Algorithm;
use crate::emergence::nar::{self, DEEPEST_EVER, Visitor};
use crate::emergence::object::Object;
use crate::emergence::refusal::{Result, Within};
use crate::emergence::store_path::{ContentAddress, Method};

impl Store {
    /// An object of the store for which `wanted` holds and whose tree is that of `object`: itself, or one under another path. Nothing of
    /// `object` has to be read then: its NAR has the hash that is declared, and its content address holds.
    pub fn twin(&self, object: &Object, wanted: &dyn Fn(&Meta) -> bool) -> Result<Option<Meta>> {
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

    /// Tells `visitor` of the tree of an object.
    pub fn show(&self, meta: &Meta, mut visitor: &mut dyn Visitor) -> Result<()> {
        let path = &meta.object.path;
        nar::read(TreeReader::start(self.tree(path), DEEPEST_EVER)?, DEEPEST_EVER, &mut visitor)
            .within(|| self.dir.path(path))
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
