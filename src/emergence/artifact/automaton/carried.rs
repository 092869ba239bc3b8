//! How an automaton is carried: media types, annotations, and the configuration that lets any engine run it. Writers make these,
//! readers make them again and compare.

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

/// The type of both carriers.
pub const ARTIFACT_TYPE: &str = "application/vnd.matrixai.automaton.v1";

/// The document, where it is a blob of its own.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.matrixai.automaton.config.v1+json";

/// A NAR; `+zstd` or `+gzip` may follow.
pub(crate) const NAR_TYPE: &str = "application/vnd.matrixai.nix.nar.v1";

/// The member of an image's configuration that is the document.
pub const CONFIG_MEMBER: &str = "com.matrixai.automaton";

/// Of a longer list of objects, there is no annotation.
const LONGEST_CLOSURE: usize = 64 * 1024;

/// Layers of an image at most: engines mount each.
const MOST_LAYERS: usize = 100;

/// The whole name of an annotation.
pub(crate) fn annotation(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// How a layer is compressed, by the end of its media type; `None`: it is not of the type `plain`.
pub(super) fn compression_of(media_type: &str, plain: &str) -> Option<Compression> {
    match media_type.strip_prefix(plain)? {
        "" => Some(Compression::None),
        "+zstd" => Some(Compression::Zstd),
        "+gzip" => Some(Compression::Gzip),
        _ => None,
    }
}

/// The media type of a layer that is compressed so.
pub(crate) fn media_type(plain: &str, compression: Compression) -> String {
    match compression {
        Compression::None => plain.to_owned(),
        other => format!("{plain}+{}", other.name()),
    }
}

/// The media type of layers of an image.
pub(crate) const LAYER_TYPE: &str = media::LAYER;

/// What the manifest says of the automaton, without signatures.
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

/// The signatures among annotations.
pub(crate) fn signatures(annotations: &BTreeMap<String, String>) -> Result<Vec<Signature>> {
    let text = annotations.get(&annotation("signature")).map(String::as_str).unwrap_or_default();
    let wrong = |text: &str| {
        let words = format!("\"{}\" is no signature", text.escape_debug());
        Fault::refused(Code::AutomatonMismatch, annotation("signature"), words)
    };
    let parse = |text: &str| Signature::parse(text).ok_or_else(|| wrong(text));
    text.split(' ').filter(|text| !text.is_empty()).map(parse).collect()
}

/// Puts signatures among annotations.
pub(crate) fn put_signatures(annotations: &mut BTreeMap<String, String>, signatures: &[Signature]) {
    let texts: Vec<String> = signatures.iter().map(ToString::to_string).collect();
    annotations.insert(annotation("signature"), texts.join(" "));
}

/// How engines start it: with the defaults of its parameters. One without a default keeps its `{name}`, so that it is seen.
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

/// The architecture that a document asks for, if it is one only.
pub(crate) fn architecture(document: &Document) -> Option<String> {
    let arch = |constraint: &&Value| constraint.get("kind").and_then(Value::as_str) == Some("arch");
    let any_of = document.constraints.iter().find(arch)?.get("anyOf")?.as_array()?;
    match any_of.as_slice() {
        [Value::String(only)] => Some(only.clone()),
        _ => None,
    }
}

/// Which objects are in which layer of an image: one in each; when there are too many, those that fewest others refer to share the
/// last one.
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

/// The annotation of a layer with these objects.
pub(crate) fn objects_annotation(objects: &[StorePath]) -> (String, String) {
    let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
    (annotation("objects"), names.join(" "))
}
