//! Completes the document that `pack` is given, which has no closure: paths for `@NAME`, digests,
//! and the closure.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::emergence::artifact::automaton::recipe::{self, Recipe, Recipes};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::base::stream::hash_file;
use crate::emergence::format::declaration::{DeclarationKind, Input, of_inputs};
use crate::emergence::format::document::Document;
use crate::emergence::format::fields::Field;
use crate::emergence::nix::nar;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, StorePath};
use crate::emergence::proof::terms::Terms;
use crate::error::{Doing, Error};

/// Inputs for completing a document.
pub(super) struct Completing<'a> {
    /// The base directory of input paths.
    pub directory: &'a Path,
    /// Whether to add missing digests of inputs.
    pub pin: bool,
    /// Paths for `@NAME`.
    pub named: &'a BTreeMap<String, StorePath>,
    /// Where derivations are looked up.
    pub recipes: &'a Recipes,
    pub terms: &'a Terms,
}

impl Completing<'_> {
    /// Sets paths for names, and digests of inputs. Existing digests stay and must be right
    /// (`declaration.mismatch`).
    pub(crate) fn begin(&self, spec: &mut Value) -> Result<()> {
        let Some(members) = spec.as_object_mut() else {
            return Err(Fault::refused(Code::JsonSyntax, "the document", "must be an object"));
        };
        if members.contains_key("closure") {
            let words = "is computed from the packed objects, and cannot be given";
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

    /// Recursion is limited by the nesting of the document, which its reader has checked.
    fn put_paths(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let Some(rest) = text.strip_prefix('@') else { return };
                let (name, inner) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if let Some(path) = self.named.get(name) {
                    *text = format!("{}{inner}", self.terms.dir.path(path));
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.put_paths(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.put_paths(value)),
            _ => {}
        }
    }

    /// Checks existing inputs against their digests, or adds the digests.
    fn pin_inputs(&self, declaration: &mut Map<String, Value>) -> Result<()> {
        let Some(inputs) = declaration.get_mut("inputs").and_then(Value::as_array_mut) else { return Ok(()) };
        for input in inputs.iter_mut().filter_map(Value::as_object_mut) {
            let Some(path) = input.get("path").and_then(Value::as_str).map(str::to_owned) else { continue };
            let digest = input.get("digest").and_then(Value::as_str);
            match digest {
                Some(digest) => {
                    let declared = Hash::parse(digest, None)?;
                    // An input with a digest need not exist any more.
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
                        let place = self.directory.join(&path).display().to_string();
                        let words = "does not exist, and has no digest";
                        Fault::refused(Code::DeclarationUnpinned, place, words)
                    })?;
                    input.insert("digest".to_owned(), json!(found.to_string()));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Hash of a file's bytes or of a directory's NAR. `None`: it does not exist.
    fn input_digest(&self, path: &str, algorithm: Algorithm) -> Result<Option<Hash>> {
        let place = self.directory.join(path);
        let doing = || format!("read {}", place.display());
        match std::fs::metadata(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from(error).within(doing()).into()),
            Ok(kind) if kind.is_dir() => {
                let place = place.canonicalize().doing(doing)?;
                Ok(Some(nar::hash_tree(&place, self.terms.limits.depth, algorithm)?.0))
            }
            Ok(_) => {
                let file = crate::emergence::base::bounded::open_file(&place)?;
                let hashed = file.map(|file| hash_file(file, algorithm)).transpose().doing(doing)?;
                Ok(hashed.map(|(hash, _)| hash))
            }
        }
    }

    /// Adds the closure, and the digest of the declaration if it is missing and can be computed.
    pub(crate) fn finish(&self, mut spec: Value, closure: &[Object]) -> Result<Document> {
        let dir = &self.terms.dir;
        let mut recipe = None;
        if let Some(members) = spec.as_object_mut() {
            let objects: Vec<Value> = closure.iter().map(|object| self.shown(object)).collect();
            members.insert("closure".to_owned(), json!(objects));
            let out = members.get("outputs").and_then(|outputs| outputs.get("out")).and_then(Value::as_str);
            let out = out.and_then(|path| self.terms.dir.parse(path).ok());
            let out = out.and_then(|path| closure.iter().find(|object| object.path == path));
            if let Some(Value::Object(declaration)) = members.get_mut("declaration") {
                recipe = self.recipe(declaration)?;
                self.put_digest(declaration, out, recipe.as_ref())?;
            }
        }
        let document = Document::from_value(spec, dir)?;
        if let (Some(recipe), Some(declaration)) = (recipe, &document.declaration) {
            recipe.check(declaration, &document, dir)?;
        }
        Ok(document)
    }

    fn shown(&self, object: &Object) -> Value {
        let paths: Vec<String> = object.references.iter().map(|path| self.terms.dir.path(path)).collect();
        let mut shown = json!({
            "path": self.terms.dir.path(&object.path),
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
                put("deriver", json!(self.terms.dir.path(deriver)));
            }
            if !object.signatures.is_empty() {
                let all: Vec<String> = object.signatures.iter().map(ToString::to_string).collect();
                put("signatures", json!(all));
            }
        }
        shown
    }

    fn put_digest(
        &self,
        declaration: &mut Map<String, Value>,
        out: Option<&Object>,
        recipe: Option<&Recipe>,
    ) -> Result<()> {
        let is_told = |name: &str| declaration.get(name).is_some_and(|hash| !hash.is_null());
        let (known, equivalence_is_known) = (is_told("digest"), is_told("equivalence"));
        let kind = declaration.get("kind").and_then(Value::as_str).unwrap_or_default();
        let is = |one: DeclarationKind| kind == one.word();
        let found = if is(DeclarationKind::NixDerivation) {
            recipe.map(|recipe| recipe.digest)
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
        let equivalence = recipe.and_then(|recipe| recipe.equivalence?);
        for (name, known, found) in
            [("digest", known, found), ("equivalence", equivalence_is_known, equivalence)]
        {
            if let (false, Some(found)) = (known, found) {
                declaration.insert(name.to_owned(), json!(found.to_string()));
            }
        }
        Ok(())
    }

    /// Digest of all inputs. If one has no digest, the result is a placeholder: the parser reports
    /// that input.
    fn digest_of_inputs(&self, declaration: &Map<String, Value>) -> Option<Hash> {
        let inputs = declaration.get("inputs").and_then(Value::as_array).cloned().unwrap_or_default();
        let input = |input: &Value| {
            let text = |name: &str| input.get(name).and_then(Value::as_str);
            Some(Input { path: text("path")?.to_owned(), digest: Hash::parse(text("digest")?, None).ok()? })
        };
        let inputs: Option<Vec<Input>> = inputs.iter().map(input).collect();
        match inputs {
            Some(inputs) => Some(of_inputs(&inputs)),
            // With any digest the parser continues to the input that lacks one.
            None => Some(Hash::sha256(b"")),
        }
    }

    /// The derivation, if it is available: an input `….drv`, with its dependencies next to it, or
    /// the file at its store path.
    fn recipe(&self, declaration: &Map<String, Value>) -> Result<Option<Recipe>> {
        if declaration.get("kind").and_then(Value::as_str) != Some(DeclarationKind::NixDerivation.word()) {
            return Ok(None);
        }
        let value = Value::Object(declaration.clone());
        let field = Field { path: "declaration".to_owned(), value: &value };
        let path = field.members()?.read("storePath", |field| self.terms.dir.parse(field.text()?))?;
        let input = declaration.get("inputs").and_then(Value::as_array).into_iter().flatten();
        let mut inputs = input.filter_map(|input| input.get("path")?.as_str());
        let input = inputs.find(|path| path.ends_with(".drv")).map(|path| self.directory.join(path));
        let bytes = match (&input, &path) {
            (Some(input), _) => recipe::file(input)?,
            (None, Some(path)) => self.recipes.bytes(path, self.terms)?,
            (None, None) => None,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let beside = input.as_deref().and_then(Path::parent);
        let load = &mut |path: &StorePath| match beside
            .map(|directory| recipe::file(&directory.join(path.to_string())))
            .transpose()?
            .flatten()
        {
            Some(bytes) => Ok(Some(bytes)),
            None => self.recipes.bytes(path, self.terms),
        };
        let named = input.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let path = path.or_else(|| StorePath::parse(named?).ok());
        let shown =
            path.as_ref().map_or_else(|| named.unwrap_or_default().to_owned(), |path| path.to_string());
        Recipe::read(&bytes, path.as_ref(), &self.terms.dir, load).within(|| shown).map(Some)
    }
}
