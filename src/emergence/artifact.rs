//! Whatever a REF names, opened: a closure of store objects, or a plain image, which has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::automaton::{Automaton, is_automaton};
use super::closure::{Closure, Declared, Receive, open_closure};
use super::nar::{self, Visitor};
use super::object::Object;
use super::oci::{self, Layout, Platform, Staging};
use super::reference::{self, Reference};
use super::refusal::{Code, Fault, Result};
use super::store::Store;
use super::terms::Terms;
use super::verify::Bytes;
use crate::error::Doing;

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
    let layout = Layout::open(path)?;
    let resolved =
        layout.resolve(image.tag.as_deref(), image.digest.as_ref(), said.platform, &|_| Ok(true))?;
    if is_automaton(&resolved.manifest) {
        return Ok(Artifact::Closure(Box::new(Automaton::open(layout, resolved, terms)?)));
    }
    Ok(Artifact::Image(Box::new(oci::Image::open(layout, resolved, terms)?)))
}

/// Makes the trees of all objects of a closure below `to`, where nothing may be yet, each at its store path: a root file system
/// that has only these. After an error nothing is there.
pub fn unpack_closure(closure: &dyn Closure, terms: &Terms, to: &Path) -> Result<Bytes> {
    let staging = Staging::beside(to)?;
    let trees = staging.path().join(terms.dir.as_str().trim_start_matches('/'));
    let make = || {
        let sizes = closure.objects().iter().map(|object| object.nar_size);
        staging.has_space(sizes.fold(0, u64::saturating_add))?;
        fs::create_dir_all(&trees).doing(|| format!("make {}", trees.display()))?;
        closure.unpack(terms, &|_| true, &Below(&trees))
    };
    let bytes = staging.or_gone(make())?;
    staging.open_to_all()?;
    staging.rename(to)?;
    Ok(bytes)
}

/// Makes each object by its name in a folder.
struct Below<'a>(&'a PathBuf);

impl Receive for Below<'_> {
    fn object(
        &self,
        object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes> {
        let mut bytes = Bytes::default();
        nar::restore_by(&self.0.join(object.path.to_string()), |maker| {
            bytes = feed(maker)?;
            Ok(())
        })?;
        Ok(bytes)
    }
}
