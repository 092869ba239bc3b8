//! `emergence verify`.

use std::path::Path;

use serde_json::{Value, json};

use super::node::machine;
use super::store::there;
use super::{Asked, open_store, with};
use crate::cli::args::{ArtifactArgs, DeclaredArgs, VerifyArgs};
use crate::emergence::automaton::{DeclarationKind, Document, Recipes, check_recipe};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::launch::constraints;
use crate::emergence::oci::Platform;
use crate::emergence::{
    Artifact, Closure, ContentAddress, Declared, Digests, Fault, Granted, Kind, LayerReport, Object, Proof,
    Provable, Reference, Report, Result, Said, Signature, StorePath, lost_automaton, open_artifact,
};

pub(super) fn verify(args: &VerifyArgs, asked: &Asked) -> Result<()> {
    match opened(&args.reference, &args.artifact, asked)? {
        Artifact::Closure(closure) => {
            if let Some(automaton) = closure.document() {
                met(automaton, args.node.as_deref(), asked)?;
            }
            let report = closure.verify(&asked.terms)?;
            let recipe = closure.document().map(|document| recipe(document, asked)).transpose()?.flatten();
            asked.answer(&format!("ok {}", report.digest), || {
                let mut document = self::document(&report, asked);
                if let Some(members) = document.as_object_mut() {
                    members.insert("recipe".to_owned(), json!(recipe));
                }
                document
            })
        }
        Artifact::Image(image) => {
            let report = image.verify(&asked.terms, args.strict)?.report;
            asked.answer(&format!("ok {}", report.digest), || document(&report, asked))
        }
    }
}

/// Whether what is told of the derivation was computed from it, or is as it is declared. `None`: there is no derivation.
fn recipe(document: &Document, asked: &Asked) -> Result<Option<&'static str>> {
    let declaration = document.declaration.as_ref();
    let Some(declaration) = declaration.filter(|one| one.kind == DeclarationKind::NixDerivation) else {
        return Ok(None);
    };
    let is_carried = declaration.store_path.as_ref().is_some_and(|path| document.object(path).is_some());
    let recipes = there(asked)?.map_or(Recipes::Nowhere, Recipes::Store);
    let computed = check_recipe(document, &recipes, &asked.terms)? || is_carried;
    Ok(Some(if computed { "computed" } else { "declared" }))
}

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

/// What is declared of an object.
pub(super) fn object_document(object: &Object, asked: &Asked) -> Value {
    let shown = |path: &StorePath| asked.dir().path(path);
    json!({
        "path": shown(&object.path),
        "narHash": object.nar_hash.to_string(),
        "narSize": object.nar_size,
        "references": object.references.iter().map(shown).collect::<Vec<_>>(),
        "ca": object.ca.as_ref().map(ToString::to_string),
    })
}

/// The same of a layer.
pub(super) fn layer_document(layer: &LayerReport) -> Value {
    json!({
        "digest": layer.digest.to_string(),
        "size": layer.size,
        "mediaType": layer.media_type,
        "diffId": layer.diff_id.map(|hash| hash.to_string()),
    })
}

/// What was verified.
pub(super) fn document(report: &Report, asked: &Asked) -> Value {
    let object = |(info, proof): &(Object, Proof)| {
        with(object_document(info, asked), json!({ "signedBy": proof.signer(), "proof": proof.word() }))
    };
    let digest = |which: &dyn Fn(&Digests) -> Option<Hash>| {
        report.digests.as_ref().and_then(which).map(|hash| hash.to_string())
    };
    // The weakest of them is what holds for all.
    let weakest = ["none", "pinned", "content", "signature"]
        .into_iter()
        .find(|word| report.objects.iter().any(|(_, proof)| proof.word() == *word));
    // What has no store paths can be proved by a pin alone.
    let bare = if report.pinned { "pinned" } else { "none" };
    json!({
        "ok": true,
        "kind": report.kind.word(),
        "digest": report.digest.to_string(),
        "automaton": digest(&|digests| Some(digests.automaton)),
        "declaration": digest(&|digests| digests.declaration),
        "output": digest(&|digests| Some(digests.output)),
        "trust": weakest.unwrap_or(bare),
        "objects": report.objects.iter().map(object).collect::<Vec<_>>(),
        "layers": report.layers.iter().map(layer_document).collect::<Vec<_>>(),
        "bytes": { "read": report.bytes.read, "unpacked": report.bytes.unpacked },
    })
}
