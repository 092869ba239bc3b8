//! The JSON documents that several subcommands print.

use serde_json::{Value, json};

use super::common::CommonOptions;
use crate::emergence::hash::Hash;
use crate::emergence::{Digests, Fault, LayerReport, Object, Proof, Report, StorePath};

/// Merges two objects; members of `other` replace existing ones.
pub(super) fn with(mut object: Value, other: Value) -> Value {
    if let (Some(object), Value::Object(other)) = (object.as_object_mut(), other) {
        object.extend(other);
    }
    object
}

/// `{"ok":false,"error":{…}}`.
pub(super) fn error_document(fault: &Fault) -> Value {
    json!({ "ok": false, "error": fault_document(fault) })
}

/// The document of an error.
pub(super) fn fault_document(fault: &Fault) -> Value {
    match fault {
        Fault::Refused(refusal, _) => json!({
            "code": refusal.code.text(),
            "message": fault.to_string(),
            "subject": refusal.subject,
            "expected": refusal.expected,
            "actual": refusal.actual,
        }),
        Fault::Failed(_) => json!({
            "code": null, "message": fault.to_string(), "subject": null, "expected": null, "actual": null,
        }),
    }
}

/// The declaration of an object.
pub(super) fn object_document(object: &Object, options: &CommonOptions) -> Value {
    let shown = |path: &StorePath| options.dir().path(path);
    json!({
        "path": shown(&object.path),
        "narHash": object.nar_hash.to_string(),
        "narSize": object.nar_size,
        "references": object.references.iter().map(shown).collect::<Vec<_>>(),
        "ca": object.ca.as_ref().map(ToString::to_string),
    })
}

/// The document of a layer.
pub(super) fn layer_document(layer: &LayerReport) -> Value {
    json!({
        "digest": layer.digest.to_string(),
        "size": layer.size,
        "mediaType": layer.media_type,
        "diffId": layer.diff_id.map(|hash| hash.to_string()),
    })
}

/// The document of a verification.
pub(super) fn document(report: &Report, options: &CommonOptions) -> Value {
    let object = |(info, proof): &(Object, Proof)| {
        with(object_document(info, options), json!({ "signedBy": proof.signer(), "proof": proof.word() }))
    };
    let digest = |which: &dyn Fn(&Digests) -> Option<Hash>| {
        report.digests.as_ref().and_then(which).map(|hash| hash.to_string())
    };
    // The weakest proof is the one that holds for all objects.
    let weakest = ["none", "pinned", "content", "signature"]
        .into_iter()
        .find(|word| report.objects.iter().any(|(_, proof)| proof.word() == *word));
    // Without store paths, only a digest can be the proof.
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
