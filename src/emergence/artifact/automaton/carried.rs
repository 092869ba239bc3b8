//! The representation of an automaton in a layout: media types, annotations, and the image
//! configuration with which any engine can run it. Writers generate these; readers generate them
//! again and compare.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::emergence::base::compress::Compression;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::binding;
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::keys::Signature;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::oci::{Execution, media};
use crate::spec::verification::PREFIX;

/// The artifact type of both forms.
pub const ARTIFACT_TYPE: &str = "application/vnd.matrixai.automaton.v1";

/// Media type of a document in its own blob.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.matrixai.automaton.config.v1+json";

/// Media type of a NAR; `+zstd` or `+gzip` may follow.
pub(crate) const NAR_TYPE: &str = "application/vnd.matrixai.nix.nar.v1";

/// The member of an image configuration that contains the document.
pub const CONFIG_MEMBER: &str = "com.matrixai.automaton";

/// Maximum length of the closure annotation, in bytes; a longer one is omitted.
const LONGEST_CLOSURE: usize = 64 * 1024;

/// Maximum number of layers of an image: engines mount each of them.
const MOST_LAYERS: usize = 100;

/// The full name of an annotation.
pub(crate) fn annotation(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The compression of a layer, from the suffix of its media type. `None`: the type is not `plain`.
pub(super) fn compression_of(media_type: &str, plain: &str) -> Option<Compression> {
    match media_type.strip_prefix(plain)? {
        "" => Some(Compression::None),
        "+zstd" => Some(Compression::Zstd),
        "+gzip" => Some(Compression::Gzip),
        _ => None,
    }
}

/// The media type of a layer with this compression.
pub(crate) fn media_type(plain: &str, compression: Compression) -> String {
    match compression {
        Compression::None => plain.to_owned(),
        other => format!("{plain}+{}", other.name()),
    }
}

/// The media type of image layers.
pub(crate) const LAYER_TYPE: &str = media::LAYER;

/// The annotations of a manifest for the automaton, except signatures.
pub(crate) fn annotations(document: &Document, digests: &Digests) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (annotation("automaton"), digests.automaton.to_string()),
        (annotation("output"), digests.output.to_string()),
    ]);
    if let Some(declaration) = digests.declaration {
        all.insert(annotation("declaration"), declaration.to_string());
    }
    let line = |object: &Object| format!("{} {} {}", object.path, object.nar_hash.nix32(), object.nar_size);
    let closure = document.closure.iter().map(line).collect::<Vec<_>>().join(";");
    if closure.len() <= LONGEST_CLOSURE {
        all.insert(annotation("closure"), closure);
    }
    all
}

/// Parses the signature annotation.
pub(crate) fn signatures(annotations: &BTreeMap<String, String>) -> Result<Vec<Signature>> {
    let text = annotations.get(&annotation("signature")).map(String::as_str).unwrap_or_default();
    let wrong = |text: &str| {
        let words = format!("\"{}\" is not a signature", text.escape_debug());
        Fault::refused(Code::AutomatonMismatch, annotation("signature"), words)
    };
    let parse = |text: &str| Signature::parse(text).ok_or_else(|| wrong(text));
    text.split(' ').filter(|text| !text.is_empty()).map(parse).collect()
}

/// Sets the signature annotation.
pub(crate) fn put_signatures(annotations: &mut BTreeMap<String, String>, signatures: &[Signature]) {
    let texts: Vec<String> = signatures.iter().map(ToString::to_string).collect();
    annotations.insert(annotation("signature"), texts.join(" "));
}

/// The execution parameters for engines, with the defaults of its parameters. A parameter without a
/// default keeps its `{name}`, so that it is visible.
pub(crate) fn execution(document: &Document) -> Result<Execution> {
    let bound = binding::defaults(document)?;
    let Some(init) = &document.init else { return Ok(Execution::default()) };
    let ports = bound.ports.iter().map(|port| (format!("{}/{}", port.port, port.protocol.word()), json!({})));
    Ok(Execution {
        user: init.user.clone(),
        exposed_ports: ports.collect(),
        env: bound.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: init.entrypoint.clone(),
        cmd: bound.args.iter().skip(init.entrypoint.len()).cloned().collect(),
        working_dir: init.cwd.clone(),
        stop_signal: init.stop_signal.clone().unwrap_or_default(),
        ..Execution::default()
    })
}

/// The architecture that a document requires, if it is exactly one.
pub(crate) fn architecture(document: &Document) -> Option<String> {
    let arch = |constraint: &&Value| constraint.get("kind").and_then(Value::as_str) == Some("arch");
    let any_of = document.constraints.iter().find(arch)?.get("anyOf")?.as_array()?;
    match any_of.as_slice() {
        [Value::String(only)] => Some(only.clone()),
        _ => None,
    }
}

/// Distributes objects over the layers of an image: one object per layer. If there are too many,
/// the objects with the fewest dependents share the last layer.
pub(crate) fn grouped(objects: &[Object]) -> Vec<Vec<StorePath>> {
    let alone = |objects: &mut dyn Iterator<Item = &Object>| -> Vec<Vec<StorePath>> {
        objects.map(|object| vec![object.path.clone()]).collect()
    };
    if objects.len() <= MOST_LAYERS {
        return alone(&mut objects.iter());
    }
    let mut dependents: BTreeMap<&StorePath, usize> = BTreeMap::new();
    for object in objects {
        for path in object.references.iter().filter(|path| **path != object.path) {
            *dependents.entry(path).or_default() += 1;
        }
    }
    let mut order: Vec<&Object> = objects.iter().collect();
    let count = |object: &Object| dependents.get(&object.path).copied().unwrap_or_default();
    order.sort_by(|one, other| count(other).cmp(&count(one)).then_with(|| one.path.cmp(&other.path)));
    let own: BTreeSet<&StorePath> = order.iter().take(MOST_LAYERS - 1).map(|object| &object.path).collect();
    let mut layers = alone(&mut objects.iter().filter(|object| own.contains(&object.path)));
    let shared: BTreeSet<StorePath> =
        objects.iter().map(|object| object.path.clone()).filter(|path| !own.contains(path)).collect();
    layers.push(shared.into_iter().collect());
    layers
}

/// The annotation that lists the objects of a layer.
pub(crate) fn objects_annotation(objects: &[StorePath]) -> (String, String) {
    let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
    (annotation("objects"), names.join(" "))
}
