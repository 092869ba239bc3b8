//! Automata in OCI layouts, in both forms: opens, proves and unpacks them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::carried::{
    ARTIFACT_TYPE, CONFIG_MEMBER, CONFIG_TYPE, LAYER_TYPE, NAR_TYPE, annotation, annotations, compression_of,
    execution, signatures,
};
use super::entry::EntryPoints;
use super::forms;
use super::layers::{Layers, ObjectLayer};
use super::recipe::{OneFile, check_carried};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::jcs::canonical;
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::format::digests::{Digests, output_digest, signed_text};
use crate::emergence::format::document::Document;
use crate::emergence::nix::object::{Object, dependencies_first};
use crate::emergence::nix::scan::{Scanner, Searched};
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::emergence::oci::{Descriptor, ImageConfig, Layout, Manifest, Resolved};
use crate::emergence::proof::closure::{ArtifactKind, Closure, LayerReport, Receive, Report, check_complete};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::{Demand, Proof, Trust};
use crate::emergence::proof::verify::Bytes;

/// An opened automaton: its documents agree with each other; nothing else is proved.
pub struct Automaton {
    /// The document of the automaton.
    pub document: Document,
    /// Its manifest.
    pub resolved: Resolved,
    kind: ArtifactKind,
    /// Dependencies first.
    objects: Vec<Object>,
    layers: Layers,
    /// From the manifest.
    claimed: Claimed,
    verified: AtomicBool,
}

/// Digests that a manifest declares.
struct Claimed {
    automaton: Hash,
    output: Hash,
}

/// Whether a manifest belongs to an automaton.
pub fn is_automaton(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
}

impl Automaton {
    /// Opens the automaton with the manifest `resolved`. Refused: `json.syntax`,
    /// `automaton.mismatch`, `oci.media-type`, `oci.diff-id`, `closure.incomplete`,
    /// `limit.entries`, and as by [`Document::parse`].
    pub fn open(layout: Layout, resolved: Resolved, terms: &Terms) -> Result<Self> {
        let manifest = &resolved.manifest;
        let config = layout.blobs.document(&manifest.config)?;
        let subject = format!("blob {}", manifest.config.digest);
        let (kind, document, diff_ids) = match manifest.config.media_type.as_str() {
            CONFIG_TYPE => {
                let document = Document::parse(&config, &subject, &terms.dir).within(|| subject.clone())?;
                if document.canonical()? != config {
                    let words = "is not in the canonical form of RFC 8785";
                    return Err(Fault::refused(Code::JsonSyntax, subject, words));
                }
                (ArtifactKind::AutomatonArtifact, document, None)
            }
            _ => {
                let (document, diff_ids) =
                    image_document(&config, &subject, &resolved.descriptor, &terms.dir)?;
                (ArtifactKind::AutomatonImage, document, Some(diff_ids))
            }
        };
        // The descriptor of the manifest may declare the same type, but no other.
        let named = resolved.descriptor.artifact_type.as_deref().unwrap_or(ARTIFACT_TYPE);
        if named != ARTIFACT_TYPE {
            let subject = format!("blob {}", resolved.descriptor.digest);
            let (what, named) = ("artifactType", named.escape_debug().to_string());
            return Err(Fault::differs(Code::AutomatonMismatch, subject, what, &named, ARTIFACT_TYPE));
        }
        forms::check(&layout, &resolved, &document)?;
        let objects = check_closure(&document, terms)?;
        let claimed = check_annotations(&document, &resolved.manifest)?;
        let layers = layers(&resolved.manifest, diff_ids, &document, terms)?;
        let layers = Layers::new(layout, layers);
        Ok(Self { document, resolved, kind, objects, layers, claimed, verified: AtomicBool::new(false) })
    }

    /// The digest A that the manifest declares. Proved by [`Closure::verify`].
    pub fn claimed(&self) -> Hash {
        self.claimed.automaton
    }

    /// Whether the caller expects this digest, and the trusted key that signed it, if any.
    ///
    /// Refused: `trust.expect`, `trust.signature`.
    fn pinned(&self, trust: &Trust) -> Result<(bool, Option<String>)> {
        let mut pinned = self.resolved.pinned;
        if trust.expect == Some(self.claimed.automaton) {
            pinned = true;
        } else {
            pinned |= trust.pinned("the manifest", &self.resolved.descriptor.digest)?;
        }
        let text = signed_text(&self.claimed.automaton, &self.document)?;
        let mut signer = None;
        for signature in signatures(&self.resolved.manifest.annotations)? {
            let mut named = trust.keys.iter().filter(|key| key.name() == signature.key).peekable();
            if named.peek().is_none() {
                continue;
            }
            if !named.any(|key| key.verifies(text.as_bytes(), &signature)) {
                let words = format!("the signature of {} is not that key's", signature.key);
                return Err(Fault::refused(Code::TrustSignature, "the automaton", words));
            }
            signer.get_or_insert(signature.key);
        }
        Ok((pinned, signer))
    }

    fn proofs(&self, terms: &Terms) -> Result<(Vec<(Object, Proof)>, bool)> {
        let (pinned, signer) = self.pinned(&terms.trust)?;
        // A signature of the automaton counts as a signature of its objects.
        let demand = match (terms.trust.demand, &signer) {
            (Demand::Signed, Some(_)) => Demand::Proved,
            (demand, _) => demand,
        };
        let trust = Trust { demand, ..terms.trust.clone() };
        let proof = |object: &Object| {
            let proof = trust.proof(object, &terms.dir, pinned || signer.is_some())?;
            let proof = match (terms.trust.demand, &signer, proof) {
                (Demand::Signed, Some(key), Proof::Content | Proof::Pinned(_)) => {
                    Proof::Signature(key.clone())
                }
                (_, _, Proof::Pinned(_)) if !pinned => Proof::Pinned(signer.clone()),
                (_, _, proof) => proof,
            };
            Ok((object.clone(), proof))
        };
        Ok((self.objects.iter().map(proof).collect::<Result<_>>()?, pinned))
    }

    /// Computes D, O, I and A from the content. Refused with `automaton.mismatch` if the manifest
    /// declares others.
    fn check_digests(&self, contents: &BTreeMap<StorePath, Hash>) -> Result<Digests> {
        let content = |(name, path): (&String, &StorePath)| Some((name.clone(), *contents.get(path)?));
        let contents: BTreeMap<String, Hash> = self.document.outputs.iter().filter_map(content).collect();
        let digests = Digests::of(&self.document, &contents)?;
        let pairs = [
            ("output", self.claimed.output, output_digest(&contents)),
            ("automaton", self.claimed.automaton, digests.automaton),
        ];
        for (name, claimed, found) in pairs {
            mismatch(name, &claimed.to_string(), &found.to_string())?;
        }
        Ok(digests)
    }
}

fn mismatch(name: &str, claimed: &str, found: &str) -> Result<()> {
    if claimed == found {
        return Ok(());
    }
    Err(Fault::differs(Code::AutomatonMismatch, annotation(name), "the value", claimed, found))
}

/// The document in an image configuration, and the diff IDs of the layers. The rest of the
/// configuration must follow from the document.
fn image_document(
    config: &[u8],
    subject: &str,
    named: &Descriptor,
    dir: &StoreDir,
) -> Result<(Document, Vec<Hash>)> {
    let image: ImageConfig = json::read(config, subject)?;
    let (found, platform) = (image.platform(), named.platform.as_ref());
    if let Some(platform) = platform.filter(|platform| **platform != found) {
        let (platform, found) = (platform.to_string().escape_debug().to_string(), found.to_string());
        return Err(Fault::differs(Code::AutomatonMismatch, subject, "the platform", &platform, &found));
    }
    let member = image.other.get(CONFIG_MEMBER);
    let words = format!("has no member {CONFIG_MEMBER}");
    let member = member.ok_or_else(|| Fault::refused(Code::JsonSyntax, subject, words))?;
    let document = Document::from_value(member.clone(), dir).within(|| subject)?;
    if image.config != execution(&document)? {
        let words = "would be started differently by an engine than its document declares";
        return Err(Fault::refused(Code::AutomatonMismatch, subject, words));
    }
    Ok((document, image.rootfs.diff_ids))
}

/// The objects, dependencies first. The closure must be complete and must not contain unneeded
/// objects.
fn check_closure(document: &Document, terms: &Terms) -> Result<Vec<Object>> {
    if document.closure.len() > terms.limits.objects {
        let words = format!("has more than {} objects", terms.limits.objects);
        return Err(Fault::refused(Code::LimitEntries, "closure", words));
    }
    check_complete(&document.closure, &terms.dir)?;
    if let Some(surplus) = unneeded(document).first() {
        let words = "is in the closure, but nothing needs it";
        return Err(Fault::refused(Code::AutomatonMismatch, terms.dir.path(surplus), words));
    }
    check_declaration(document)?;
    let found = document.closure.iter().map(|object| (object.path.clone(), object.clone()));
    Ok(dependencies_first(found.collect(), |object| &object.references))
}

/// Checks that a fixed output and an included derivation are the declared ones.
pub(crate) fn check_declaration(document: &Document) -> Result<()> {
    let Some(declaration) = &document.declaration else { return Ok(()) };
    if let Some(object) = document.outputs.get("out").and_then(|path| document.object(path)) {
        declaration.check_output(object)?;
    }
    let recipe = declaration.store_path.as_ref().and_then(|path| document.object(path));
    recipe.map_or(Ok(()), |object| declaration.check_recipe(object))
}

/// Objects of the closure that no output, `init` or parameter leads to.
pub(crate) fn unneeded(document: &Document) -> Vec<StorePath> {
    let objects: BTreeMap<&StorePath, &Object> =
        document.closure.iter().map(|object| (&object.path, object)).collect();
    let mut needed: BTreeSet<StorePath> = BTreeSet::new();
    let mut left: Vec<StorePath> = mentioned(document).into_iter().collect();
    while let Some(path) = left.pop() {
        if let Some(object) = objects.get(&path)
            && needed.insert(path)
        {
            left.extend(object.references.iter().cloned());
        }
    }
    objects.into_keys().filter(|path| !needed.contains(*path)).cloned().collect()
}

/// Objects that the document itself names: outputs, and those in texts that programs get.
fn mentioned(document: &Document) -> BTreeSet<StorePath> {
    let searched = Searched::new(document.closure.iter().map(|object| &object.path));
    let mut scanner = Scanner::new(&searched);
    for member in ["init", "parameters"] {
        let text = document.value().get(member).and_then(|value| canonical(value).ok());
        scanner.feed(&text.unwrap_or_default());
        scanner.part();
    }
    let mut found = scanner.into_references();
    found.extend(document.outputs.values().cloned());
    found
}

/// Checks the manifest's annotations against the document, as far as possible without the blobs.
fn check_annotations(document: &Document, manifest: &Manifest) -> Result<Claimed> {
    let claimed = |name: &str| {
        let text = manifest.annotations.get(&annotation(name));
        let missing = || Fault::refused(Code::AutomatonMismatch, annotation(name), "is missing");
        let text = text.ok_or_else(missing)?;
        let hash = Hash::parse(text, Some(Algorithm::Sha256))?;
        mismatch(name, text, &hash.to_string()).map(|()| hash)
    };
    let claimed = Claimed { automaton: claimed("automaton")?, output: claimed("output")? };
    // Content digests are not checked before the blobs are read.
    let digests = Digests {
        declaration: document.declaration.as_ref().map(|declaration| declaration.digest),
        output: claimed.output,
        interface: claimed.output,
        automaton: claimed.automaton,
    };
    let wanted = annotations(document, &digests);
    for name in ["declaration", "closure"] {
        let key = annotation(name);
        let of = |all: &BTreeMap<String, String>| all.get(&key).cloned().unwrap_or("none".to_owned());
        mismatch(name, &of(&manifest.annotations), &of(&wanted))?;
    }
    Ok(claimed)
}

/// The layers. Each object must be in exactly one.
fn layers(
    manifest: &Manifest,
    diff_ids: Option<Vec<Hash>>,
    document: &Document,
    terms: &Terms,
) -> Result<Vec<ObjectLayer>> {
    if manifest.layers.len() > terms.limits.layers {
        let words = format!("has more than {} layers", terms.limits.layers);
        return Err(Fault::refused(Code::LimitEntries, "the manifest", words));
    }
    let count = diff_ids.as_ref().map_or(manifest.layers.len(), Vec::len);
    if count != manifest.layers.len() {
        let words = format!("has {} layers, but {count} diff IDs", manifest.layers.len());
        return Err(Fault::refused(Code::OciDiffId, "the manifest", words));
    }
    let by_path: BTreeMap<&StorePath, &Object> =
        document.closure.iter().map(|object| (&object.path, object)).collect();
    let mut seen = BTreeSet::new();
    let mut layers = Vec::new();
    for (at, descriptor) in manifest.layers.iter().enumerate() {
        let subject = format!("blob {}", descriptor.digest);
        let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(at).copied());
        let plain = if diff_id.is_some() { LAYER_TYPE } else { NAR_TYPE };
        let compression = compression_of(&descriptor.media_type, plain).ok_or_else(|| {
            let words = format!("is of type {}, not {plain}", descriptor.media_type.escape_debug());
            Fault::refused(Code::OciMediaType, &subject, words)
        })?;
        let paths = objects_of(descriptor, &subject)?;
        let mut objects = Vec::new();
        for path in paths {
            let object = by_path.get(&path).filter(|_| seen.insert(path.clone())).ok_or_else(|| {
                let words = format!("has {path}, which is in another layer too, or not in the closure");
                Fault::refused(Code::LayerNotCanonical, &subject, words)
            })?;
            objects.push((*object).clone());
        }
        if diff_id.is_none() && objects.len() != 1 {
            return Err(Fault::refused(
                Code::LayerNotCanonical,
                subject,
                "is one NAR, but not of one object",
            ));
        }
        layers.push(ObjectLayer { descriptor: descriptor.clone(), compression, diff_id, objects });
    }
    match by_path.keys().find(|path| !seen.contains(**path)) {
        Some(path) => {
            let path = terms.dir.path(path);
            Err(Fault::refused(Code::ClosureIncomplete, path, "is in no layer"))
        }
        None => Ok(layers),
    }
}

/// The objects of a layer, by path.
fn objects_of(descriptor: &Descriptor, subject: &str) -> Result<Vec<StorePath>> {
    let names = descriptor.annotations.get(&annotation("objects"));
    let names = names.ok_or_else(|| {
        let words = format!("has no annotation {}", annotation("objects"));
        Fault::refused(Code::LayerNotCanonical, subject, words)
    })?;
    let paths: Vec<StorePath> = names.split(' ').map(StorePath::parse).collect::<Result<_>>()?;
    if paths.is_sorted_by(|one, other| one < other) {
        Ok(paths)
    } else {
        Err(Fault::refused(Code::LayerNotCanonical, subject, "its objects are not listed by path"))
    }
}

impl Closure for Automaton {
    fn kind(&self) -> ArtifactKind {
        self.kind
    }

    fn digest(&self) -> Hash {
        self.resolved.descriptor.digest
    }

    fn objects(&self) -> &[Object] {
        &self.objects
    }

    fn document(&self) -> Option<&Document> {
        Some(&self.document)
    }

    fn signature(&self) -> Option<&str> {
        self.resolved.manifest.annotations.get(&annotation("signature")).map(String::as_str)
    }

    fn pieces(&self, lacking: &dyn Fn(&Object) -> Result<bool>) -> Result<Vec<String>> {
        let mut pieces = Vec::new();
        for layer in self.layers.all() {
            for object in &layer.objects {
                if lacking(object)? {
                    pieces.push(layer.descriptor.digest.to_string());
                    break;
                }
            }
        }
        Ok(pieces)
    }

    fn blobs(&self) -> BTreeMap<StorePath, Hash> {
        self.layers.read()
    }

    fn layers(&self) -> Vec<LayerReport> {
        let layer = |layer: &ObjectLayer| LayerReport {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            media_type: layer.descriptor.media_type.clone(),
            diff_id: layer.diff_id,
        };
        self.layers.all().iter().map(layer).collect()
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let (objects, pinned) = self.proofs(terms)?;
        let mut points = EntryPoints::new(&self.document, &terms.dir);
        let proved = self.layers.prove(terms, &self.objects, &mut points)?;
        let digests = self.check_digests(&proved.contents)?;
        points.check(&mut |path, watched| self.layers.look(terms, path, watched))?;
        let look = &mut |path: &StorePath, text: &mut OneFile| self.layers.look(terms, path, text);
        check_carried(&self.document, &terms.dir, look)?;
        self.verified.store(true, Ordering::Relaxed);
        Ok(Report {
            kind: self.kind,
            digest: self.digest(),
            digests: Some(digests),
            pinned,
            objects,
            layers: Closure::layers(self),
            bytes: proved.bytes,
        })
    }

    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        if self.verified.load(Ordering::Relaxed) {
            self.layers.unpack(terms, wanted, to)
        } else {
            Err(Fault::usage("internal error: unpacked before it was verified"))
        }
    }
}
