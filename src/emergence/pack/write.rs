//! Creates an automaton from a document and objects, and writes it into a layout: the same input
//! gives the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::machine::ArchitectureFinder;
use super::sources::{Sources, Tree};
use super::spec::Completing;
use crate::emergence::artifact::automaton::carried::{
    ARTIFACT_TYPE, CONFIG_MEMBER, CONFIG_TYPE, LAYER_TYPE, NAR_TYPE, annotations, architecture, execution,
    grouped, media_type, objects_annotation, put_signatures,
};
use crate::emergence::artifact::automaton::carrier::{check_declaration, unneeded};
use crate::emergence::artifact::automaton::entry::EntryPoints;
use crate::emergence::artifact::automaton::layer::LayerWriter;
use crate::emergence::artifact::automaton::recipe::Recipes;
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::stream::Written;
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::keys::SecretKey;
use crate::emergence::nix::nar::{Both, Encoder, Visitor};
use crate::emergence::nix::object::{Object, dependencies_first};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::oci::{
    Descriptor, HashedWriter, ImageConfig, LayoutTarget, LayoutWriter, Manifest, Platform, RootFs, media,
};
use crate::emergence::proof::check::Check;
use crate::emergence::proof::closure::Closure;
use crate::emergence::proof::terms::Terms;
use crate::error::{Doing, Error};

/// The creation time of images: a constant, so that output is reproducible.
const CREATED: &str = "1970-01-01T00:00:01Z";

/// Compression level of blobs; a constant, so that output is reproducible.
const ZSTD_LEVEL: i32 = 9;
const GZIP_LEVEL: u32 = 6;

/// The forms of an automaton in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An image that engines can run.
    Image,
    /// An artifact of NARs.
    Artifact,
    /// Both, in an index.
    Both,
}

/// The input of [`pack`].
pub struct Packing<'a> {
    /// The document without its closure.
    pub spec: Value,
    /// The base directory of input paths.
    pub directory: &'a Path,
    /// Trees that become objects.
    pub trees: Vec<Tree>,
    /// Closures of existing objects.
    pub closures: Vec<Box<dyn Closure>>,
    /// Where its derivation is looked up.
    pub recipes: Recipes,
    /// The form in the layout.
    pub form: Form,
    /// Compression of blobs: none, zstd or gzip.
    pub compression: Compression,
    /// Key to sign it with.
    pub key: Option<&'a SecretKey>,
    /// Whether to add missing digests of inputs.
    pub pin: bool,
}

/// The result of [`pack`].
#[derive(Clone, Debug)]
pub struct Packed {
    /// Digest of the manifest, or of the index.
    pub digest: Hash,
    /// D, O, I and A.
    pub digests: Digests,
}

/// Packs an automaton and writes it to `target` under the tag `tag`.
///
/// Refused: an invalid document; objects that nothing needs (a usage error); a missing entry point
/// (`doc.entrypoint`); and as by [`LayoutWriter`]. Nothing is left after a failure.
pub fn pack(packing: Packing<'_>, target: LayoutTarget, tag: Option<&str>, terms: &Terms) -> Result<Packed> {
    let sources = Sources::new(packing.closures, &packing.trees, terms)?;
    let completing = Completing {
        directory: packing.directory,
        pin: packing.pin,
        named: &sources.named,
        recipes: &packing.recipes,
        terms,
    };
    let mut spec = packing.spec;
    completing.begin(&mut spec)?;
    let closure = dependencies_first(sources.objects(), |object| &object.references);
    let document = completing.finish(spec, &closure)?;
    if let Some(surplus) = unneeded(&document).last() {
        let words = "is packed, but neither an output, nor in init, nor referred to";
        return Err(Fault::usage(format!("{}: {words}", terms.dir.path(surplus))));
    }
    check_declaration(&document)?;
    let mut points = EntryPoints::new(&document, &terms.dir);
    points.look_and_check(&mut |path, watched| sources.visit(terms, path, watched))?;
    let digests = Digests::of(&document, &contents(&document, &sources, terms)?)?;
    let mut notes = annotations(&document, &digests);
    if let Some(key) = packing.key {
        let signature = key.sign(digests.signed_text(&document)?.as_bytes());
        put_signatures(&mut notes, &[signature]);
    }
    let mut work = Work {
        document: &document,
        sources: &sources,
        terms,
        compression: packing.compression,
        notes,
        writer: LayoutWriter::begin(target)?,
    };
    let top = match packing.form {
        Form::Image => work.image()?,
        Form::Artifact => work.artifact(None)?,
        Form::Both => work.write_both_forms()?,
    };
    let digest = top.digest;
    work.writer.finish(tag, top)?;
    Ok(Packed { digest, digests })
}

/// The content hash of each output.
fn contents(document: &Document, sources: &Sources, terms: &Terms) -> Result<BTreeMap<String, Hash>> {
    let mut contents = BTreeMap::new();
    for (name, path) in &document.outputs {
        let object = document.object(path).ok_or_else(|| Fault::usage("an output has no object"))?;
        let content = if object.references.contains(path) {
            let mut check = Check::new(object, None)?;
            sources.visit(terms, path, &mut check)?;
            check.finish(&terms.dir)?
        } else {
            object.nar_hash
        };
        contents.insert(name.clone(), content);
    }
    Ok(contents)
}

/// A layout that is being written.
struct Work<'a> {
    document: &'a Document,
    sources: &'a Sources,
    terms: &'a Terms,
    compression: Compression,
    /// Annotations of manifests.
    notes: BTreeMap<String, String>,
    writer: LayoutWriter,
}

impl Work<'_> {
    /// Writes the image form. Returns the descriptor of its manifest.
    fn image(&mut self) -> Result<Descriptor> {
        let kind = media_type(LAYER_TYPE, self.compression);
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        let mut machines = BTreeMap::new();
        for paths in grouped(&self.document.closure) {
            let (document, sources, terms, compression) =
                (self.document, self.sources, self.terms, self.compression);
            let mut diff_id = None;
            let mut layer = self.writer.blob(&kind, |to| {
                compressed(compression, to, |to| {
                    let hashing = HashedWriter::new(to)?;
                    let mut layer = LayerWriter::new(hashing, &terms.dir).doing(|| "write a layer")?;
                    for path in &paths {
                        let mut machine = ArchitectureFinder::default();
                        let mut both = Both(layer.object(path), &mut machine);
                        visit(document, sources, terms, path, &mut both)?;
                        machines.insert(path.clone(), machine.found());
                    }
                    let hashing = layer.finish().doing(|| "write a layer")?;
                    diff_id = Some(hashing.finish().doing(|| "write a layer")?.0);
                    Ok(())
                })
            })?;
            layer.annotations.extend([objects_annotation(&paths)]);
            diff_ids.push(diff_id.unwrap_or(layer.digest));
            layers.push(layer);
        }
        let machine = self.document.closure.iter().rev().find_map(|object| *machines.get(&object.path)?);
        let architecture = architecture(self.document)
            .or_else(|| machine.map(str::to_owned))
            .unwrap_or_else(|| "amd64".to_owned());
        let platform = Platform { architecture, os: "linux".to_owned(), ..Platform::default() };
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: None,
            created: Some(CREATED.to_owned()),
            config: execution(self.document)?,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
            other: BTreeMap::from([(CONFIG_MEMBER.to_owned(), self.document.value().clone())]),
        };
        let config = self.writer.document(media::CONFIG, &written(&config)?)?;
        let manifest = self.manifest(config, layers, None)?;
        Ok(Descriptor { platform: Some(platform), ..manifest })
    }

    /// Writes the artifact form, which refers to `subject`.
    fn artifact(&mut self, subject: Option<Descriptor>) -> Result<Descriptor> {
        let kind = media_type(NAR_TYPE, self.compression);
        let mut layers = Vec::new();
        for object in &self.document.closure {
            let (document, sources, terms, compression) =
                (self.document, self.sources, self.terms, self.compression);
            let mut layer = self.writer.blob(&kind, |to| {
                compressed(compression, to, |to| {
                    let mut encoder = Encoder::new(Written(to));
                    visit(document, sources, terms, &object.path, &mut encoder)?;
                    encoder.finish().map(drop)
                })
            })?;
            layer.annotations.extend([objects_annotation(std::slice::from_ref(&object.path))]);
            layers.push(layer);
        }
        let config = self.writer.document(CONFIG_TYPE, &self.document.canonical()?)?;
        self.manifest(config, layers, subject)
    }

    /// Writes both forms and their index.
    fn write_both_forms(&mut self) -> Result<Descriptor> {
        let image = self.image()?;
        let subject = Descriptor { platform: None, artifact_type: None, ..image.clone() };
        let artifact = self.artifact(Some(subject))?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::INDEX,
            "artifactType": ARTIFACT_TYPE,
            "manifests": [image, artifact],
        });
        let mut index = self.writer.document(media::INDEX, index.to_string().as_bytes())?;
        index.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        Ok(index)
    }

    fn manifest(
        &mut self,
        config: Descriptor,
        layers: Vec<Descriptor>,
        subject: Option<Descriptor>,
    ) -> Result<Descriptor> {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            config,
            layers,
            subject,
            annotations: self.notes.clone(),
        };
        let mut named = self.writer.document(media::MANIFEST, &written(&manifest)?)?;
        named.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        Ok(named)
    }
}

/// Passes an object's tree to `visitor`. The object must be unchanged since it was hashed.
fn visit(
    document: &Document,
    sources: &Sources,
    terms: &Terms,
    path: &StorePath,
    visitor: &mut (dyn Visitor + Send),
) -> Result<()> {
    let object: &Object =
        document.object(path).ok_or_else(|| Fault::usage(format!("{path} is not in the document")))?;
    let mut both = Both(visitor, Check::new(object, None)?);
    sources.visit(terms, path, &mut both)?;
    let checked = both.1.finish(&terms.dir).map(drop);
    checked.map_err(|fault| {
        let words = format!("changed while it was packed: {}", fault.words());
        Fault::refused(Code::ChangedWhileReading, terms.dir.path(path), words)
    })
}

fn written<T: serde::Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
        .map_err(|error| Fault::from(Error::from(std::io::Error::other(error))).within("write a document"))
}

/// Writes through a compressor.
fn compressed(
    compression: Compression,
    to: &mut (dyn Write + Send),
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let doing = || "compress";
    match compression {
        Compression::None => write(to),
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL).doing(doing)?;
            write(&mut encoder)?;
            encoder.finish().doing(doing)?;
            Ok(())
        }
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::GzBuilder::new().mtime(0).operating_system(255).write(to, level);
            write(&mut encoder)?;
            encoder.finish().doing(doing)?;
            Ok(())
        }
        other => Err(Fault::usage(format!("blobs are not compressed by {}", other.name()))),
    }
}
