//! Adds a signature to an automaton in a layout. This changes its manifest; the document, and so A,
//! stay the same.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::emergence::artifact::automaton::carried::{put_signatures, signatures};
use crate::emergence::artifact::automaton::carrier::{Automaton, is_automaton};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::digests::signed_text;
use crate::emergence::nix::keys::{SecretKey, Signature};
use crate::emergence::oci::{
    Descriptor, Index, Layout, LayoutTarget, LayoutWriter, Manifest, Platform, media,
};
use crate::emergence::proof::closure::Closure;
use crate::emergence::proof::terms::Terms;
use crate::error::Doing;

/// Maximum nesting of indexes.
const DEEPEST: usize = 4;

/// Verifies an automaton, signs it, and adds the signature to its manifest, or to both manifests.
/// `path` and `tag` are those of [`Layout::resolve`]. Returns the signature and the new digest of
/// the tag.
///
/// Refused: as by verification; an entry that is not an automaton (`type.unknown`).
pub fn sign(path: &Path, tag: Option<&str>, key: &SecretKey, terms: &Terms) -> Result<(Signature, Hash)> {
    let is_directory = path.is_dir();
    let target = if is_directory {
        LayoutTarget::Directory(path.to_owned())
    } else {
        LayoutTarget::Archive(path.to_owned())
    };
    // Fails if the path does not exist, before a temporary file is created next to it.
    Layout::open(path)?;
    let writer = LayoutWriter::begin(target)?;
    let layout = Layout::open(path)?;
    let top = top(&layout, tag)?;
    let mut signing =
        Signing { layout, writer, path, key, terms, is_directory, new: BTreeMap::new(), signature: None };
    let new = signing.descriptor(&top, 0)?;
    if !is_directory {
        for entry in signing.layout.index().manifests.clone() {
            signing.descriptor(&entry, 0)?;
        }
    }
    let signature = signing.signature.take().ok_or_else(|| {
        let words = "has no automaton that could be signed";
        Fault::refused(Code::TypeUnknown, path.display().to_string(), words)
    })?;
    signing.writer.replace(tag, &top.digest, &new)?;
    Ok((signature, new.digest))
}

/// The entry of `index.json` with this tag.
fn top(layout: &Layout, tag: Option<&str>) -> Result<Descriptor> {
    // Reports the error if there is no such entry.
    let accept = |_: &Descriptor| Ok(true);
    layout.resolve(tag, None, &Platform::here(), &accept)?;
    let is_named = |entry: &&Descriptor| {
        tag.is_none() || entry.annotations.get(media::REF_NAME).map(String::as_str) == tag
    };
    let entry = layout.index().manifests.iter().find(is_named).cloned();
    entry.ok_or_else(|| Fault::usage("select what to sign by its tag"))
}

struct Signing<'a> {
    layout: Layout,
    writer: LayoutWriter,
    path: &'a Path,
    key: &'a SecretKey,
    terms: &'a Terms,
    /// In a directory, all other blobs stay in place.
    is_directory: bool,
    /// New descriptors of manifests and indexes, by old digest.
    new: BTreeMap<Hash, Descriptor>,
    signature: Option<Signature>,
}

impl Signing<'_> {
    /// The new descriptor of a manifest or an index, at most [`DEEPEST`] levels deep.
    fn descriptor(&mut self, old: &Descriptor, depth: usize) -> Result<Descriptor> {
        if let Some(new) = self.new.get(&old.digest) {
            return Ok(new.clone());
        }
        let subject = format!("blob {}", old.digest);
        if depth > DEEPEST {
            return Err(Fault::refused(Code::OciLayout, subject, "is nested too deep"));
        }
        let bytes = self.layout.blobs.document(old)?;
        let mut value = json::parse(&bytes, &subject)?;
        if [media::INDEX, media::DOCKER_INDEX].contains(&old.media_type.as_str()) {
            let index: Index = json::read(&bytes, &subject)?;
            for (at, entry) in index.manifests.iter().enumerate() {
                let new = self.descriptor(entry, depth + 1)?;
                rename(value.get_mut("manifests").and_then(|list| list.get_mut(at)), &new);
            }
        } else {
            let manifest: Manifest = json::read(&bytes, &subject)?;
            self.carry(&manifest)?;
            if is_automaton(&manifest) {
                self.put_signature(old, &manifest, &mut value)?;
            }
            if let Some(new) = manifest.subject.as_ref().and_then(|subject| self.new.get(&subject.digest)) {
                rename(value.get_mut("subject"), new);
            }
        }
        // An unchanged document keeps its bytes.
        let same = json::parse(&bytes, &subject)? == value;
        let bytes = if same { bytes } else { value.to_string().into_bytes() };
        let written = self.writer.document(&old.media_type, &bytes)?;
        let new = Descriptor { digest: written.digest, size: written.size, data: None, ..old.clone() };
        self.new.insert(old.digest, new.clone());
        Ok(new)
    }

    /// Copies the blobs of a manifest into a new tar.
    fn carry(&mut self, manifest: &Manifest) -> Result<()> {
        if self.is_directory {
            return Ok(());
        }
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let mut from = self.layout.blobs.open(blob)?;
            let copied = self.writer.blob(&blob.media_type, |mut to| {
                io::copy(&mut from, &mut to).doing(|| "copy a blob")?;
                Ok(())
            })?;
            if copied.digest != blob.digest {
                let (declared, found) = (blob.digest.to_string(), copied.digest.to_string());
                let subject = format!("blob {declared}");
                return Err(Fault::differs(Code::BlobDigest, subject, "its digest", &declared, &found));
            }
        }
        Ok(())
    }

    fn put_signature(&mut self, old: &Descriptor, manifest: &Manifest, value: &mut Value) -> Result<()> {
        let layout = Layout::open(self.path)?;
        let resolved = layout.resolve(None, Some(&old.digest), &Platform::here(), &|_| Ok(true))?;
        let automaton = Automaton::open(layout, resolved, self.terms)?;
        automaton.verify(self.terms)?;
        let signature = self.key.sign(signed_text(&automaton.claimed(), &automaton.document)?.as_bytes());
        let mut all = signatures(&manifest.annotations)?;
        all.retain(|other| other.key != signature.key);
        all.push(signature.clone());
        let mut annotations = manifest.annotations.clone();
        put_signatures(&mut annotations, &all);
        if let Some(members) = value.as_object_mut() {
            members.insert("annotations".to_owned(), json!(annotations));
        }
        self.signature = Some(signature);
        Ok(())
    }
}

/// Points a descriptor to the new document.
fn rename(descriptor: Option<&mut Value>, new: &Descriptor) {
    if let Some(members) = descriptor.and_then(Value::as_object_mut) {
        members.insert("digest".to_owned(), json!(new.digest.to_string()));
        members.insert("size".to_owned(), json!(new.size));
    }
}
