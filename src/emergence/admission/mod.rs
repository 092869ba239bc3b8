//! Compares a root file system with its closure before a container's process exists, if an
//! annotation or the machine's configuration asks for it.
//!
//! ```text
//! requested the request: annotations, and /etc/emergence/runtime.json
//! mounted  what a mount shows
//! view     where the objects that a container sees are
//! seal     records that show quickly that an object is unchanged
//! ```
//! The only interface to the runtime. If nothing is requested it costs one system call: to find
//! that the configuration file does not exist.

mod mounted;
mod requested;
mod seal;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::keys::Signature;
use crate::emergence::nix::nar::{self, DEEPEST_EVER};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::emergence::proof::trust::Proof;
use crate::emergence::store::{Meta, Store};
use crate::spec::verification::PREFIX;
pub use mounted::{Mounted, Shown};
pub use requested::{Mode, RequestedChecks, wanted};
use seal::Sealed;
use view::View;

/// One object of the annotation `closure`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declared {
    path: StorePath,
    nar_hash: Hash,
    nar_size: u64,
}

impl RequestedChecks {
    /// Checks that a container sees in `rootfs` and `mounts` exactly the objects of its closure,
    /// with the right content. The closure is that of the annotation, of the named or expected
    /// automaton, or consists of the objects that the store has proved.
    ///
    /// Refused: a missing object (`closure.incomplete`); one that is not in the closure, or that
    /// another mount could cover (`trust.unproved`); `nar.hash`, `nar.size`; `trust.expect`,
    /// `trust.signature` and `trust.policy` for the automaton.
    pub fn check(
        &self,
        rootfs: &Path,
        mounts: &[Mounted],
        annotations: &BTreeMap<String, String>,
    ) -> Result<()> {
        let named = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
        // Engines do not pass an image's annotations to the runtime, so an expected digest also
        // names the automaton.
        let expected = self.expect.map(|digest| digest.to_string());
        let automaton = named("automaton").or(expected.as_ref());
        let document = self.document(automaton)?;
        let view = View::open(rootfs, mounts, &self.dir)?;
        let declared = match (named("closure"), &document) {
            (Some(text), _) => closure(text)?,
            (None, Some(document)) => objects(document),
            (None, None) => self.proved(&view)?,
        };
        if let Some(document) = &document
            && as_set(&declared) != as_set(&objects(document))
        {
            let words = "is not the closure of the automaton that another annotation names";
            return Err(Fault::refused(Code::AutomatonMismatch, format!("{PREFIX}closure"), words));
        }
        self.check_signature(document.as_ref(), automaton, named("signature"))?;
        self.check_names(&view, &declared)?;
        for object in &declared {
            let path = view.path(&object.path)?;
            self.check_object(object, &path).within(|| self.dir.path(&object.path))?;
        }
        match (&self.expect, &document) {
            (Some(expect), Some(document)) => self.check_expected(expect, document, &view),
            _ => Ok(()),
        }
    }

    /// The automaton's document from the store, if the check depends on it.
    fn document(&self, automaton: Option<&String>) -> Result<Option<Document>> {
        let Some(text) = automaton else {
            let words = "is missing, and a signed one is demanded";
            let missing = || Fault::refused(Code::TrustPolicy, format!("{PREFIX}automaton"), words);
            return if self.signers.is_some() { Err(missing()) } else { Ok(None) };
        };
        let digest = Hash::parse(text, Some(Algorithm::Sha256))?;
        if let Some(expect) = self.expect.filter(|expect| *expect != digest) {
            let (expect, digest) = (expect.to_string(), digest.to_string());
            return Err(Fault::differs(Code::TrustExpect, "", "the automaton", &expect, &digest));
        }
        let document = kept_document(&self.store, &digest, &self.dir)?;
        if document.is_none() && (self.expect.is_some() || self.signers.is_some()) {
            let words = format!("is not in the store {}", self.store.display());
            return Err(Fault::refused(Code::TrustUnproved, digest.to_string(), words));
        }
        Ok(document)
    }

    /// Checks that one of the keys in the machine's configuration has signed the automaton with
    /// this document.
    fn check_signature(
        &self,
        document: Option<&Document>,
        automaton: Option<&String>,
        signature: Option<&String>,
    ) -> Result<()> {
        let (Some(signers), Some(document), Some(automaton)) = (&self.signers, document, automaton) else {
            return Ok(());
        };
        let name = format!("{PREFIX}signature");
        let refused = |code, words: &str| Err(Fault::refused(code, &name, words));
        let Some(text) = signature else {
            return refused(Code::TrustPolicy, "is missing, and the owner of this machine demands one");
        };
        let signed = format!("emergence-automaton-1;{automaton};{}", Hash::sha256(&document.canonical()?));
        let mut ours = false;
        for text in text.split(' ').filter(|text| !text.is_empty()) {
            let Some(signature) = Signature::parse(text) else {
                return refused(Code::TrustSignature, "is not written as a signature");
            };
            let mut named = signers.iter().filter(|key| key.name() == signature.key).peekable();
            if named.peek().is_none() {
                continue;
            }
            if !named.any(|key| key.verifies(signed.as_bytes(), &signature)) {
                return refused(Code::TrustSignature, "is not that key's");
            }
            ours = true;
        }
        if ours {
            Ok(())
        } else {
            refused(Code::TrustPolicy, "is by no key that the owner of this machine lists")
        }
    }

    /// The store's records of all visible objects, used if no closure is declared.
    fn proved(&self, view: &View) -> Result<Vec<Declared>> {
        let names = view.names()?;
        let refused = |code, name: &str, words: &str| {
            Err(Fault::refused(code, format!("{}/{name}", self.dir.as_str()), words))
        };
        let mut all = Vec::new();
        for name in &names {
            let kept = match (StorePath::parse(name), self.relied_on) {
                (Ok(path), true) => Store::proved(&self.store, &self.dir, &path)?,
                _ => None,
            };
            let Some(Meta { object, .. }) = kept.filter(|meta| meta.proof != Proof::Nothing) else {
                let words =
                    "is in the root file system, but neither in a given closure nor proved in the store";
                return refused(Code::TrustUnproved, name, words);
            };
            let lacking =
                object.references.iter().map(ToString::to_string).find(|name| !names.contains(name));
            if let Some(lacking) = lacking {
                let words = format!("is not in the root file system, where {name} refers to it");
                return refused(Code::ClosureIncomplete, &lacking, &words);
            }
            all.push(declared(&object));
        }
        Ok(all)
    }

    fn check_names(&self, view: &View, declared: &[Declared]) -> Result<()> {
        let names: BTreeSet<String> = declared.iter().map(|object| object.path.to_string()).collect();
        let present = view.names()?;
        if let Some(name) = present.difference(&names).next() {
            let words = "is in the root file system, but not in the closure";
            return Err(Fault::refused(Code::TrustUnproved, format!("{}/{name}", self.dir.as_str()), words));
        }
        match names.difference(&present).next() {
            Some(name) => {
                let words = "is not in the root file system";
                Err(Fault::refused(Code::ClosureIncomplete, format!("{}/{name}", self.dir.as_str()), words))
            }
            None => Ok(()),
        }
    }

    fn check_object(&self, object: &Declared, path: &Path) -> Result<()> {
        let store = self.relied_on.then_some(self.store.as_path());
        let sealed = Sealed::of(store, &object.path, &object.nar_hash, path);
        match self.mode {
            Mode::Full => check_nar_hash(object, path),
            Mode::Fast => sealed.unless_unchanged(|| check_nar_hash(object, path)),
            Mode::Verity => sealed.unless_protected(|| check_nar_hash(object, path)),
        }
    }

    /// Recomputes A from the document and the content of its outputs.
    fn check_expected(&self, expect: &Hash, document: &Document, view: &View) -> Result<()> {
        let mut contents = BTreeMap::new();
        for (name, path) in &document.outputs {
            let object = document.object(path);
            let names_itself = object.is_some_and(|object| object.references.contains(path));
            let content = match object {
                Some(object) if !names_itself => object.nar_hash,
                _ => nar::hash_modulo(&view.path(path)?, DEEPEST_EVER, path.digits().as_bytes())?,
            };
            contents.insert(name.clone(), content);
        }
        let found = Digests::of(document, &contents)?.automaton;
        if found == *expect {
            Ok(())
        } else {
            Err(Fault::differs(
                Code::AutomatonMismatch,
                "",
                "the automaton's digest",
                &expect.to_string(),
                &found.to_string(),
            ))
        }
    }
}

/// The document of the automaton A in a store: `{"document": …, "objects": […]}`. `None`: the store
/// does not exist or does not have it.
fn kept_document(store: &Path, automaton: &Hash, dir: &StoreDir) -> Result<Option<Document>> {
    let path = store.join("automatons").join(format!("{}.json", automaton.hex()));
    let subject = path.display().to_string();
    let Some(file) = crate::emergence::base::bounded::open_file(&path)? else { return Ok(None) };
    let mut kept = crate::emergence::base::json::parse(
        &crate::emergence::base::bounded::read_document(file, &subject)?,
        &subject,
    )?;
    let document = kept.get_mut("document").map(serde_json::Value::take);
    let document = document.ok_or_else(|| Fault::refused(Code::StoreCorrupt, &subject, "has no document"))?;
    Document::from_value(document, dir).within(|| subject).map(Some)
}

/// Hashes the object's NAR.
fn check_nar_hash(object: &Declared, path: &Path) -> Result<()> {
    let (hash, size) = nar::hash_tree(path, DEEPEST_EVER, Algorithm::Sha256)?;
    if size != object.nar_size {
        let (declared, found) = (object.nar_size.to_string(), size.to_string());
        return Err(Fault::differs(Code::NarSize, "", "the NAR's size", &declared, &found));
    }
    if hash != object.nar_hash {
        let (declared, found) = (object.nar_hash.to_string(), hash.to_string());
        return Err(Fault::differs(Code::NarHash, "", "the NAR's hash", &declared, &found));
    }
    Ok(())
}

fn objects(document: &Document) -> Vec<Declared> {
    document.closure.iter().map(declared).collect()
}

fn declared(object: &Object) -> Declared {
    Declared { path: object.path.clone(), nar_hash: object.nar_hash, nar_size: object.nar_size }
}

fn as_set(objects: &[Declared]) -> BTreeSet<(String, String, u64)> {
    objects.iter().map(|one| (one.path.to_string(), one.nar_hash.nix32(), one.nar_size)).collect()
}

/// Parses `NAME NARHASH NARSIZE`, joined by `;`.
fn closure(text: &str) -> Result<Vec<Declared>> {
    let wrong = || {
        Fault::refused(
            Code::JsonSyntax,
            format!("{PREFIX}closure"),
            "must be NAME NARHASH NARSIZE, joined by ;",
        )
    };
    let one = |entry: &str| -> Result<Declared> {
        let mut words = entry.split(' ');
        let (Some(name), Some(hash), Some(size), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        Ok(Declared {
            path: StorePath::parse(name)?,
            nar_hash: Hash::parse(hash, Some(Algorithm::Sha256))?,
            nar_size: size.parse().map_err(|_| wrong())?,
        })
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split(';').map(one).collect() }
}

#[cfg(test)]
mod tests;
