//! Imports an artifact into a store: verifies it first, then adds its objects, layers, or the
//! document of an automaton.

use std::sync::Arc;

use super::automaton::stored;
use super::stack::ImageForm;
use crate::emergence::base::refusal::{Fault, Result};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::oci::{Image, Unpacked, Verified};
use crate::emergence::proof::closure::{Closure, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::store::{Added, Store, StoreTarget};

/// Adds the objects of `closure` that `store` lacks, and keeps the document if it is an automaton.
/// `report` is the result of [`Closure::verify`] for it.
///
/// Refused as by [`Store::add`].
pub fn import(store: &Store, closure: &dyn Closure, terms: &Terms, report: &Report) -> Result<Added> {
    let added = store.add(closure, terms, report)?;
    if let (Some(document), Some(digests)) = (closure.document(), &report.digests) {
        stored::keep(store, document, digests)?;
    }
    Ok(added)
}

/// Verifies `closure` and imports it. Returns its roots (the outputs of an automaton, or the last
/// object), and the result of the import. The store is created after the verification, if it does
/// not exist.
///
/// A usage error for a NAR without a store path; otherwise refused as by [`Closure::verify`] and
/// [`import`].
pub fn verify_and_import(
    closure: &dyn Closure,
    terms: &Terms,
    target: &StoreTarget,
) -> Result<(Vec<StorePath>, Added)> {
    let roots: Vec<StorePath> = match closure.document() {
        Some(document) => document.outputs.values().cloned().collect(),
        None => closure.objects().last().map(|object| object.path.clone()).into_iter().collect(),
    };
    if roots.is_empty() {
        return Err(Fault::usage(NO_PATH));
    }
    let report = closure.verify(terms)?;
    Ok((roots, import(&*target.store()?, closure, terms, &report)?))
}

/// A NAR without a store path cannot be imported.
pub(crate) const NO_PATH: &str = "it has no store path; give it with --store-path";

/// An imported image.
pub struct ImportedImage {
    /// The image, and the report of its verification.
    pub verified: Verified,
    /// Its directories in the store, lowest layer first.
    pub unpacked: Unpacked,
    /// The store.
    pub store: Arc<Store>,
}

/// Verifies the parts of `image` that the store lacks and imports them, in the form `form`, or in
/// the one that suits the store best. The store is created after the verification, if it does not
/// exist. `strict` is that of [`Image::verify`].
pub fn verify_and_import_image(
    image: Image,
    form: Option<ImageForm>,
    strict: bool,
    terms: &Terms,
    target: &StoreTarget,
) -> Result<ImportedImage> {
    let form_of = |image: &Image, store: &Store| form.map_or_else(|| image.best_form(store), Ok);
    let (verified, store, form) = match target.existing() {
        Some(store) => {
            let form = form_of(&image, store)?;
            (image.verify_for(terms, strict, store, form)?, Arc::clone(store), form)
        }
        None => {
            let verified = image.verify(terms, strict)?;
            let store = target.store()?;
            let form = form_of(verified.image(), &store)?;
            (verified, store, form)
        }
    };
    let unpacked = verified.unpack_into(terms, &store, form)?;
    Ok(ImportedImage { verified, unpacked, store })
}
