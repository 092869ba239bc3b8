//! From the REF of a command line to an artifact that the policy allows.

use std::path::Path;

use super::asked::Asked;
use super::destination::open_store;
use super::node::machine;
use crate::cli::args::{ArtifactArgs, DeclaredArgs};
use crate::emergence::automaton::Document;
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::launch::constraints;
use crate::emergence::oci::Platform;
use crate::emergence::{
    Artifact, Closure, ContentAddress, Declared, Fault, Granted, Kind, Provable, Reference, Result, Said,
    Signature, lost_automaton, open_artifact,
};

/// Tests the constraints of an automaton against a machine: what its container would be granted there.
pub(super) fn met(document: &Document, node: Option<&Path>, asked: &Asked) -> Result<Granted> {
    let constraints = constraints(document)?;
    if constraints.is_empty() && node.is_none() {
        return Ok(Granted::default());
    }
    let node = machine(node, asked)?;
    for warning in constraints.check(&node)? {
        asked.note(&warning);
    }
    Ok(constraints.granted(&node))
}

/// Opens what a REF names, with what the command line says of it.
pub(super) fn opened(reference: &str, args: &ArtifactArgs, asked: &Asked) -> Result<Artifact> {
    let reference = Reference::parse(reference, asked.dir())?;
    let store = match &reference {
        Reference::Store(_) | Reference::Automaton(_) => Some(open_store(asked)?),
        _ => None,
    };
    let platform = args.platform.platform.clone().unwrap_or_else(Platform::here);
    let declared = declaration(&args.declared, asked)?;
    let said = Said { declared: &declared, platform: &platform, store: store.as_ref() };
    let artifact = open_artifact(&reference, &said, &asked.terms)?;
    admit(&reference, &artifact, asked)?;
    if let Artifact::Image(image) = &artifact
        && let Some(words) = lost_automaton(image)
    {
        asked.note(&format!("warning: {words}"));
    }
    Ok(artifact)
}

/// The same for what must be of store objects.
pub(super) fn opened_closure(
    reference: &str,
    args: &ArtifactArgs,
    asked: &Asked,
) -> Result<Box<dyn Closure>> {
    match opened(reference, args, asked)? {
        Artifact::Closure(closure) => Ok(closure),
        Artifact::Image(_) => {
            Err(Fault::usage("a plain image has no store objects; \"emergence unpack\" takes it"))
        }
    }
}

/// Whether the policy takes it, before anything but its documents is read.
fn admit(reference: &Reference, artifact: &Artifact, asked: &Asked) -> Result<()> {
    let (kind, digest, root, document) = match artifact {
        Artifact::Closure(closure) => {
            (closure.kind(), closure.digest(), closure.objects().last(), closure.document())
        }
        Artifact::Image(image) => (Kind::OciImage, image.digest(), None, None),
    };
    let named =
        matches!(reference, Reference::Oci(image) | Reference::OciArchive(image) if image.digest.is_some());
    let name = match (document, root) {
        (Some(document), _) => document.name.as_str().to_owned(),
        (None, Some(root)) => root.path.name().as_str().to_owned(),
        (None, None) => file_name(reference),
    };
    let proof = match root {
        Some(_) => Provable::Paths,
        None if named || asked.terms.trust.expect == Some(digest) => Provable::Pinned,
        None => Provable::Nothing,
    };
    asked.allow.admit(kind, &name, proof)
}

/// What an artifact without a store path is called: its tag, or the file's name.
fn file_name(reference: &Reference) -> String {
    let path = match reference {
        Reference::Nar(path) | Reference::Cache { folder: path, .. } => path,
        Reference::Oci(image) | Reference::OciArchive(image) => match &image.tag {
            Some(tag) => return tag.clone(),
            None => &image.path,
        },
        Reference::Store(_) | Reference::Automaton(_) => return String::new(),
    };
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the command line says of a NAR.
pub(super) fn declaration(args: &DeclaredArgs, asked: &Asked) -> Result<Declared> {
    let signature = |text: &String| {
        Signature::parse(text).ok_or_else(|| Fault::usage(format!("--sig {text}: must be NAME:BASE64")))
    };
    let hash = |hash: &String| Hash::parse(hash, Some(Algorithm::Sha256));
    Ok(Declared {
        path: args.store_path.as_ref().map(|path| asked.dir().parse(path)).transpose()?,
        nar_hash: args.nar_hash.as_ref().map(hash).transpose()?,
        nar_size: args.nar_size,
        references: args.references.iter().map(|path| asked.dir().parse(path)).collect::<Result<_>>()?,
        ca: args.ca.as_ref().map(|ca| ContentAddress::parse(ca)).transpose()?,
        signatures: args.signatures.iter().map(signature).collect::<Result<_>>()?,
        compression: args.compression,
        narinfo: args.narinfo.clone(),
    })
}
