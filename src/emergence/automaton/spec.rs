//! What `pack` is given is a document without a closure: it is completed here, with paths for `@NAME`, digests, and the closure.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::declaration::{DeclarationKind, Input, of_inputs};
use super::document::Document;
use super::fields::Field;
use crate::emergence::document::read_document;
use crate::emergence::drv;
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::nar;
use crate::emergence::object::Object;
use crate::emergence::refusal::{Code, Fault, Result, Within};
use crate::emergence::store_path::{ContentAddress, StoreDir, StorePath};
use crate::emergence::stream::hash_file;
use crate::error::{Doing, Error};

/// What a document is completed with.
pub(super) struct Completing<'a> {
    /// Where the paths of inputs begin.
    pub folder: &'a Path,
    /// Whether inputs get their digests here.
    pub pin: bool,
    /// What `@NAME` stands for.
    pub named: &'a BTreeMap<String, StorePath>,
    pub dir: &'a StoreDir,
    /// Nodes below each other in a folder that is an input.
    pub deepest: usize,
}

impl Completing<'_> {
    /// Paths for names, and digests of inputs. What is there already stays, and must be right (`declaration.mismatch`).
    pub(super) fn begin(&self, spec: &mut Value) -> Result<()> {
        let Some(members) = spec.as_object_mut() else {
            return Err(Fault::refused(Code::JsonSyntax, "the document", "must be an object"));
        };
        if members.contains_key("closure") {
            let words = "follows from the objects that are packed, and is not told";
            return Err(Fault::refused(Code::DocUnknownField, "closure", words));
        }
        for name in ["outputs", "init"] {
            if let Some(value) = members.get_mut(name) {
                self.put_paths(value);
            }
        }
        if let Some(Value::Object(declaration)) = members.get_mut("declaration") {
            self.pin_inputs(declaration)?;
        }
        Ok(())
    }

    /// As deep as the document, of which its reader has made sure.
    fn put_paths(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let Some(rest) = text.strip_prefix('@') else { return };
                let (name, inner) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if let Some(path) = self.named.get(name) {
                    *text = format!("{}{inner}", self.dir.path(path));
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.put_paths(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.put_paths(value)),
            _ => {}
        }
    }

    /// Inputs that are there are held against their digests, or get them.
    fn pin_inputs(&self, declaration: &mut Map<String, Value>) -> Result<()> {
        let Some(inputs) = declaration.get_mut("inputs").and_then(Value::as_array_mut) else { return Ok(()) };
        for input in inputs.iter_mut().filter_map(Value::as_object_mut) {
            let Some(path) = input.get("path").and_then(Value::as_str).map(str::to_owned) else { continue };
            let digest = input.get("digest").and_then(Value::as_str);
            match digest {
                Some(digest) => {
                    let declared = Hash::parse(digest, None)?;
                    // What is named by its content need not be here any more.
                    if let Some(found) = self.input_digest(&path, declared.algorithm())?
                        && found != declared
                    {
                        let (declared, found) = (declared.to_string(), found.to_string());
                        let what = "the digest";
                        return Err(Fault::differs(Code::DeclarationMismatch, path, what, &declared, &found));
                    }
                }
                None if self.pin => {
                    let found = self.input_digest(&path, Algorithm::Sha256)?.ok_or_else(|| {
                        let place = self.folder.join(&path).display().to_string();
                        let words = "is not there, and has no digest";
                        Fault::refused(Code::DeclarationUnpinned, place, words)
                    })?;
                    input.insert("digest".to_owned(), json!(found.to_string()));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Of a file's bytes, or of a folder's NAR. `None`: nothing is there.
    fn input_digest(&self, path: &str, algorithm: Algorithm) -> Result<Option<Hash>> {
        let place = self.folder.join(path);
        let doing = || format!("read {}", place.display());
        match std::fs::metadata(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from(error).within(doing()).into()),
            Ok(kind) if kind.is_dir() => {
                let place = place.canonicalize().doing(doing)?;
                Ok(Some(nar::hash_tree(&place, self.deepest, algorithm)?.0))
            }
            Ok(_) => {
                let file = crate::emergence::cache::open_file(&place)?;
                let hashed = file.map(|file| hash_file(file, algorithm)).transpose().doing(doing)?;
                Ok(hashed.map(|(hash, _)| hash))
            }
        }
    }

    /// The closure, and the digest of the declaration where it is not told but follows from what is here.
    pub(super) fn finish(&self, mut spec: Value, closure: &[Object]) -> Result<Document> {
        if let Some(members) = spec.as_object_mut() {
            let objects: Vec<Value> = closure.iter().map(|object| self.shown(object)).collect();
            members.insert("closure".to_owned(), json!(objects));
            let out = members.get("outputs").and_then(|outputs| outputs.get("out")).and_then(Value::as_str);
            let out = out.and_then(|path| self.dir.parse(path).ok());
            let out = out.and_then(|path| closure.iter().find(|object| object.path == path));
            if let Some(Value::Object(declaration)) = members.get_mut("declaration") {
                self.put_digest(declaration, out)?;
            }
        }
        Document::from_value(spec, self.dir)
    }

    fn shown(&self, object: &Object) -> Value {
        let paths: Vec<String> = object.references.iter().map(|path| self.dir.path(path)).collect();
        let mut shown = json!({
            "path": self.dir.path(&object.path),
            "narHash": object.nar_hash.to_string(),
            "narSize": object.nar_size,
            "references": paths,
        });
        if let Some(members) = shown.as_object_mut() {
            let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
            if let Some(ca) = &object.ca {
                put("ca", json!(ca.to_string()));
            }
            if let Some(deriver) = &object.deriver {
                put("deriver", json!(self.dir.path(deriver)));
            }
            if !object.signatures.is_empty() {
                let all: Vec<String> = object.signatures.iter().map(ToString::to_string).collect();
                put("signatures", json!(all));
            }
        }
        shown
    }

    fn put_digest(&self, declaration: &mut Map<String, Value>, out: Option<&Object>) -> Result<()> {
        let known = declaration.get("digest").is_some_and(|digest| !digest.is_null());
        let kind = declaration.get("kind").and_then(Value::as_str).unwrap_or_default();
        let is = |one: DeclarationKind| kind == one.word();
        let found = if is(DeclarationKind::NixDerivation) {
            self.recipe_digest(declaration)?
        } else if known {
            None
        } else if is(DeclarationKind::FixedOutput) {
            out.map(|object| match &object.ca {
                Some(ContentAddress::Fixed(_, hash)) => *hash,
                _ => object.nar_hash,
            })
        } else {
            self.digest_of_inputs(declaration)
        };
        let found = match (known, found) {
            (false, Some(found)) => found,
            (true, Some(found)) => return must_be(declaration, &found),
            _ => return Ok(()),
        };
        declaration.insert("digest".to_owned(), json!(found.to_string()));
        Ok(())
    }

    /// `None` when one has no digest, which is told where the document is read.
    fn digest_of_inputs(&self, declaration: &Map<String, Value>) -> Option<Hash> {
        let inputs = declaration.get("inputs").and_then(Value::as_array).cloned().unwrap_or_default();
        let input = |input: &Value| {
            let text = |name: &str| input.get(name).and_then(Value::as_str);
            Some(Input { path: text("path")?.to_owned(), digest: Hash::parse(text("digest")?, None).ok()? })
        };
        let inputs: Option<Vec<Input>> = inputs.iter().map(input).collect();
        match inputs {
            Some(inputs) => Some(of_inputs(&inputs)),
            // Any digest lets the reader go on to the input that lacks one.
            None => Some(Hash::sha256(b"")),
        }
    }

    /// The digest of a derivation that is here: an input `….drv`, or the file at its store path. It must be the one that is named.
    fn recipe_digest(&self, declaration: &Map<String, Value>) -> Result<Option<Hash>> {
        let value = Value::Object(declaration.clone());
        let field = Field { path: "declaration".to_owned(), value: &value };
        let mut members = field.members()?;
        let store_path = members.read("storePath", |field| self.dir.parse(field.text()?))?;
        let input = declaration.get("inputs").and_then(Value::as_array).into_iter().flatten();
        let mut inputs = input.filter_map(|input| input.get("path")?.as_str());
        let place = match inputs.find(|path| path.ends_with(".drv")) {
            Some(path) => self.folder.join(path),
            None => match &store_path {
                Some(path) => self.dir.path(path).into(),
                None => return Ok(None),
            },
        };
        let Some(file) = crate::emergence::cache::open_file(&place)? else { return Ok(None) };
        let subject = place.display().to_string();
        let bytes = read_document(file, &subject)?;
        let recipe = drv::parse(&bytes, self.dir).within(|| subject)?;
        if let Some(path) = store_path {
            let own = recipe.path(self.dir, path.name().clone())?;
            if own != path {
                let (declared, found) = (self.dir.path(&path), self.dir.path(&own));
                let what = "the derivation's path";
                return Err(Fault::differs(
                    Code::DeclarationMismatch,
                    "declaration",
                    what,
                    &declared,
                    &found,
                ));
            }
        }
        Ok(Some(Hash::sha256(&bytes)))
    }
}

fn must_be(declaration: &Map<String, Value>, found: &Hash) -> Result<()> {
    let declared = declaration.get("digest").and_then(Value::as_str).unwrap_or_default();
    let declared = Hash::parse(declared, None)?;
    if declared == *found {
        return Ok(());
    }
    let (declared, found) = (declared.to_string(), found.to_string());
    Err(Fault::differs(Code::DeclarationMismatch, "declaration", "the digest", &declared, &found))
}
