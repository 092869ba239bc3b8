//! Whatever a REF names, opened: a closure of store objects, or a plain image, which has none.

use std::sync::Arc;

use super::automaton::{Automaton, CONFIG_MEMBER, is_automaton};
use super::closure::{Closure, Declared, open_closure};
use super::oci::{self, Layout, Platform};
use super::reference::{self, Reference};
use super::refusal::{Code, Fault, Result};
use super::store::Store;
use super::terms::Terms;

/// An artifact of which the documents were read and held against their digests.
pub enum Artifact {
    /// Of store objects.
    Closure(Box<dyn Closure>),
    /// An image of no automaton.
    Image(Box<oci::Image>),
}

/// What the caller says of an artifact besides its REF.
pub struct Said<'a> {
    /// Of a NAR.
    pub declared: &'a Declared,
    /// Which of the manifests of an index is wanted.
    pub platform: &'a Platform,
    /// Where `store:` references are looked up.
    pub store: Option<&'a Arc<Store>>,
}

/// Opens what `reference` names. Refused as by [`Layout::open`], [`Layout::resolve`] and [`oci::Image::open`]; see also [`open_closure`].
pub fn open_artifact(reference: &Reference, said: &Said<'_>, terms: &Terms) -> Result<Artifact> {
    match reference {
        Reference::Oci(image) => open_image(image, false, said, terms),
        Reference::OciArchive(image) => open_image(image, true, said, terms),
        other => Ok(Artifact::Closure(open_closure(other, said.declared, said.store, terms)?)),
    }
}

fn open_image(image: &reference::Image, archive: bool, said: &Said<'_>, terms: &Terms) -> Result<Artifact> {
    let path = &image.path;
    if archive && path.is_dir() {
        let words = "is a folder; write oci: before it";
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

/// Words about a plain image whose configuration declares an automaton: a tool on its way has dropped what makes it one.
pub fn lost_automaton(image: &oci::Image) -> Option<&'static str> {
    image.config().other.contains_key(CONFIG_MEMBER).then_some(
        "its configuration declares an automaton, but its manifest does not: it is taken for a plain image, without constraints and objects",
    )
}
