//! Opens the artifact that a REF names: a closure of store objects, or a plain image, which has
//! none.

use std::sync::Arc;

use super::automaton::carried::CONFIG_MEMBER;
use super::automaton::carrier::{Automaton, is_automaton};
use super::automaton::stored::StoredAutomaton;
use super::cache_closure::CacheClosure;
use super::nar_file::{Declared, NarFile};
use super::reference::{self, Reference};
use super::store_closure::StoreClosure;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::oci::{self, Layout, Platform};
use crate::emergence::proof::closure::Closure;
use crate::emergence::proof::terms::Terms;
use crate::emergence::store::Store;

/// An artifact whose documents were read and compared with their digests.
pub enum Artifact {
    /// A closure of store objects.
    Closure(Box<dyn Closure>),
    /// An image that is not an automaton.
    Image(Box<oci::Image>),
}

/// The caller's options for an artifact besides its REF.
pub struct OpenOptions<'a> {
    /// The declaration of a NAR.
    pub declared: &'a Declared,
    /// Selects a manifest of an index.
    pub platform: &'a Platform,
    /// Where `store:` references are looked up.
    pub store: Option<&'a Arc<Store>>,
}

/// Opens the artifact that `reference` names. Refused as by [`Layout::open`], [`Layout::resolve`]
/// and [`oci::Image::open`]; see also [`open_closure`].
pub fn open_artifact(reference: &Reference, said: &OpenOptions<'_>, terms: &Terms) -> Result<Artifact> {
    match reference {
        Reference::Oci(image) => open_image(image, false, said, terms),
        Reference::OciArchive(image) => open_image(image, true, said, terms),
        other => Ok(Artifact::Closure(open_closure(other, said.declared, said.store, terms)?)),
    }
}

/// Opens an artifact other than an image. `declared`: the declaration of a NAR; `store`: where
/// `store:` references are looked up.
///
/// A usage error for a `store:` reference without a store.
pub fn open_closure(
    reference: &Reference,
    declared: &Declared,
    store: Option<&Arc<Store>>,
    terms: &Terms,
) -> Result<Box<dyn Closure>> {
    Ok(match reference {
        Reference::Nar(path) => Box::new(NarFile::open(path, declared, terms)?),
        Reference::Cache { directory, object, named } => {
            Box::new(CacheClosure::open(directory, object, named.as_ref(), terms)?)
        }
        Reference::Store(path) => {
            let store = store.ok_or_else(|| Fault::usage("a store: reference needs a store"))?;
            Box::new(StoreClosure::open(Arc::clone(store), path)?)
        }
        Reference::Automaton(digest) => {
            let store = store.ok_or_else(|| Fault::usage("a store: reference needs a store"))?;
            Box::new(StoredAutomaton::open(Arc::clone(store), digest)?)
        }
        Reference::Oci(image) | Reference::OciArchive(image) => {
            let said = OpenOptions { declared, platform: &Platform::here(), store };
            match open_artifact(reference, &said, terms)? {
                Artifact::Closure(closure) => closure,
                Artifact::Image(_) => {
                    let words = "is an image, which has no store objects";
                    return Err(Fault::refused(Code::TypeUnknown, image.path.display().to_string(), words));
                }
            }
        }
    })
}

fn open_image(
    image: &reference::ImageRef,
    archive: bool,
    said: &OpenOptions<'_>,
    terms: &Terms,
) -> Result<Artifact> {
    let path = &image.path;
    if archive && path.is_dir() {
        let words = "is a directory; write oci: before it";
        return Err(Fault::refused(Code::OciLayout, path.display().to_string(), words));
    }
    let layout = Layout::within(path, &terms.limits)?;
    let resolved =
        layout.resolve(image.tag.as_deref(), image.digest.as_ref(), said.platform, &|_| Ok(true))?;
    if is_automaton(&resolved.manifest) {
        return Ok(Artifact::Closure(Box::new(Automaton::open(layout, resolved, terms)?)));
    }
    Ok(Artifact::Image(Box::new(oci::Image::open(layout, resolved, terms)?)))
}

/// Warning for a plain image whose configuration declares an automaton: a tool has dropped the
/// annotations of its manifest.
pub fn lost_automaton(image: &oci::Image) -> Option<&'static str> {
    image.config().other.contains_key(CONFIG_MEMBER).then_some(
        "its configuration declares an automaton, but its manifest does not: it is taken for a plain image, without constraints and objects",
    )
}
