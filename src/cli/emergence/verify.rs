//! `emergence verify`.

use serde_json::{Value, json};

use super::image::image_document;
use super::{Asked, open_store};
use crate::cli::args::{DeclaredArgs, PlatformArgs, VerifyArgs};
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::oci::Platform;
use crate::emergence::{
    Artifact, Closure, ContentAddress, Declared, Digests, Fault, LayerReport, Object, Proof, Reference,
    Report, Result, Said, Signature, StorePath, open_artifact,
};

pub(super) fn verify(args: &VerifyArgs, asked: &Asked) -> Result<()> {
    match artifact(&args.reference, &args.declared, &args.platform, asked)? {
        Artifact::Closure(closure) => {
            let report = closure.verify(&asked.terms)?;
            asked.answer(&format!("ok {}", report.digest), || document(&report, asked))
        }
        Artifact::Image(image) => {
            let verified = image.verify(&asked.terms, args.strict)?;
            let report = &verified.report;
            asked.answer(&format!("ok {}", report.digest), || image_document(report, verified.pinned, asked))
        }
    }
}

/// Opens what a REF names where only store objects will do.
pub(super) fn opened(reference: &str, declared: &DeclaredArgs, asked: &Asked) -> Result<Box<dyn Closure>> {
    match artifact(reference, declared, &PlatformArgs { platform: None }, asked)? {
        Artifact::Closure(closure) => Ok(closure),
        Artifact::Image(_) => {
            Err(Fault::usage("a plain image has no store objects; \"emergence unpack\" takes it"))
        }
    }
}

/// Opens what a REF names, with what the command line says of it.
pub(super) fn artifact(
    reference: &str,
    declared: &DeclaredArgs,
    platform: &PlatformArgs,
    asked: &Asked,
) -> Result<Artifact> {
    let reference = Reference::parse(reference, asked.dir())?;
    let store = match &reference {
        Reference::Store(_) | Reference::Automaton(_) => Some(open_store(asked)?),
        _ => None,
    };
    let platform = platform.platform.clone().unwrap_or_else(Platform::here);
    let declared = declaration(declared, asked)?;
    let said = Said { declared: &declared, platform: &platform, store: store.as_ref() };
    open_artifact(&reference, &said, &asked.terms)
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
        narinfo: args.narinfo.clone(),
    })
}

/// What was verified.
pub(super) fn document(report: &Report, asked: &Asked) -> Value {
    let shown = |path: &StorePath| asked.dir().path(path);
    let object = |(info, proof): &(Object, Proof)| {
        let signer = match proof {
            Proof::Signature(key) => Some(key),
            _ => None,
        };
        json!({
            "path": shown(&info.path),
            "narHash": info.nar_hash.to_string(),
            "narSize": info.nar_size,
            "references": info.references.iter().map(shown).collect::<Vec<_>>(),
            "ca": info.ca.as_ref().map(ToString::to_string),
            "signedBy": signer,
            "proof": proof.word(),
        })
    };
    let digest = |which: &dyn Fn(&Digests) -> Option<Hash>| {
        report.digests.as_ref().and_then(which).map(|hash| hash.to_string())
    };
    let layer = |layer: &LayerReport| {
        json!({
            "digest": layer.digest.to_string(),
            "size": layer.size,
            "mediaType": layer.media_type,
            "diffId": layer.diff_id.map(|hash| hash.to_string()),
        })
    };
    // The weakest of them is what holds for all.
    let weakest = ["none", "pinned", "content", "signature"]
        .into_iter()
        .find(|word| report.objects.iter().any(|(_, proof)| proof.word() == *word));
    json!({
        "ok": true,
        "kind": report.kind.word(),
        "digest": report.digest.to_string(),
        "automaton": digest(&|digests| Some(digests.automaton)),
        "declaration": digest(&|digests| digests.declaration),
        "output": digest(&|digests| Some(digests.output)),
        "trust": weakest.unwrap_or("none"),
        "objects": report.objects.iter().map(object).collect::<Vec<_>>(),
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "bytes": { "read": report.bytes.read, "unpacked": report.bytes.unpacked },
    })
}
