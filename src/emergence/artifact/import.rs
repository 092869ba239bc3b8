//! From a verified artifact into a store: its objects, and the document of an automaton.

use super::automaton::stored;
use crate::emergence::base::refusal::Result;
use crate::emergence::proof::closure::{Closure, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::store::{Added, Store};

/// Adds the objects of `closure` that `store` lacks, and keeps the document if it is an automaton. `report` is the result of
/// [`Closure::verify`] for it.
///
/// Refused as by [`Store::add`].
pub fn import(store: &Store, closure: &dyn Closure, terms: &Terms, report: &Report) -> Result<Added> {
    let added = store.add(closure, terms, report)?;
    if let (Some(document), Some(digests)) = (closure.document(), &report.digests) {
        stored::keep(store, document, digests)?;
    }
    Ok(added)
}
