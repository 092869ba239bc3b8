//! Whether a policy allows an artifact: its type, its name and its proof.

use super::open::Artifact;
use super::reference::Reference;
use crate::emergence::base::refusal::Result;
use crate::emergence::proof::closure::ArtifactKind;
use crate::emergence::proof::policy::{Allow, Provable};
use crate::emergence::proof::terms::Terms;

impl Artifact {
    /// Refused with `trust.policy` if `allow` does not admit the artifact that `reference` names.
    /// Reads no content.
    pub fn admit(&self, reference: &Reference, allow: &Allow, terms: &Terms) -> Result<()> {
        let (kind, digest, root, document) = match self {
            Artifact::Closure(closure) => {
                (closure.kind(), closure.digest(), closure.objects().last(), closure.document())
            }
            Artifact::Image(image) => (ArtifactKind::OciImage, image.digest(), None, None),
        };
        let named = matches!(
            reference,
            Reference::Oci(image) | Reference::OciArchive(image) if image.digest.is_some()
        );
        let name = match (document, root) {
            (Some(document), _) => document.name.as_str().to_owned(),
            (None, Some(root)) => root.path.name().as_str().to_owned(),
            (None, None) => file_name(reference),
        };
        let proof = match root {
            Some(_) => Provable::Paths,
            None if named || terms.trust.expect == Some(digest) => Provable::Pinned,
            None => Provable::Nothing,
        };
        allow.admit(kind, &name, proof)
    }
}

/// The name of an artifact without a store path: its tag, or the file name.
fn file_name(reference: &Reference) -> String {
    let path = match reference {
        Reference::Nar(path) | Reference::Cache { directory: path, .. } => path,
        Reference::Oci(image) | Reference::OciArchive(image) => match &image.tag {
            Some(tag) => return tag.clone(),
            None => &image.path,
        },
        Reference::Store(_) | Reference::Automaton(_) => return String::new(),
    };
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
