//! Checks that both forms of an automaton in one index have the same document, and that the
//! artifact refers to the image.

use super::carried::{ARTIFACT_TYPE, CONFIG_MEMBER, CONFIG_TYPE};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::jcs::canonical;
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::document::Document;
use crate::emergence::oci::{Descriptor, ImageConfig, Layout, Manifest, Resolved};

/// Maximum number of other manifests that are checked: an index may be very long.
const MOST: usize = 64;

/// Compares an automaton with the other automata in its index, as far as they exist: it may be
/// copied without them.
///
/// Refused with `automaton.mismatch`: its other form has a different document, or an artifact
/// refers to none of the listed images.
pub(crate) fn check(layout: &Layout, resolved: &Resolved, document: &Document) -> Result<()> {
    let own = &resolved.descriptor.digest;
    let is_other =
        |entry: &&Descriptor| entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE) && entry.digest != *own;
    let mut others = Vec::new();
    for entry in resolved.listed.iter().filter(is_other).take(MOST) {
        if let Some(bytes) = read_if_present(layout, entry)? {
            let subject = format!("blob {}", entry.digest);
            others.push((entry, json::read::<Manifest>(&bytes, &subject)?));
        }
    }
    let of = |manifest: &Manifest| manifest.subject.as_ref().map(|subject| subject.digest);
    let is_artifact = |manifest: &Manifest| manifest.config.media_type == CONFIG_TYPE;
    let is_listed = |digest: Option<Hash>| resolved.listed.iter().any(|entry| Some(entry.digest) == digest);
    let all =
        || others.iter().map(|(entry, other)| (entry.digest, other)).chain([(*own, &resolved.manifest)]);
    let has_image = all().any(|(_, manifest)| !is_artifact(manifest));
    let lost = |(_, manifest): &(Hash, &Manifest)| is_artifact(manifest) && !is_listed(of(manifest));
    if let Some((artifact, _)) = all().find(lost).filter(|_| has_image) {
        let words = "is an artifact whose subject is not an image in the same index";
        return Err(Fault::refused(Code::AutomatonMismatch, format!("blob {artifact}"), words));
    }
    for (entry, other) in &others {
        let is_ours = match (is_artifact(&resolved.manifest), is_artifact(other)) {
            (false, true) => of(other) == Some(*own),
            (true, false) => of(&resolved.manifest) == Some(entry.digest),
            _ => false,
        };
        if is_ours
            && let Some(found) = read_automaton(layout, other)?
            && found != document.canonical()?
        {
            let words = format!("has another document than blob {own}, which is the same automaton's");
            return Err(Fault::refused(Code::AutomatonMismatch, format!("blob {}", entry.digest), words));
        }
    }
    Ok(())
}

/// The bytes of a document. `None`: it does not exist.
fn read_if_present(layout: &Layout, named: &Descriptor) -> Result<Option<Vec<u8>>> {
    match layout.blobs.document(named) {
        Err(fault) if fault.code() == Some(Code::BlobMissing) => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// The document of an automaton's manifest, in the canonical form of RFC 8785.
fn read_automaton(layout: &Layout, manifest: &Manifest) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = read_if_present(layout, &manifest.config)? else { return Ok(None) };
    if manifest.config.media_type == CONFIG_TYPE {
        return Ok(Some(bytes));
    }
    let image: ImageConfig = json::read(&bytes, &format!("blob {}", manifest.config.digest))?;
    image.other.get(CONFIG_MEMBER).map_or(Ok(Some(Vec::new())), |member| canonical(member).map(Some))
}
