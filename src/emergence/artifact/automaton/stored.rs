//! An automaton in a store: its document under A, its objects among all others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::entry::EntryPoints;
use super::recipe;
use crate::emergence::artifact::store_closure::StoreClosure;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::json;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::format::digests::Digests;
use crate::emergence::format::document::Document;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{ArtifactKind, Closure, Receive, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::{Demand, Proof, Trust};
use crate::emergence::proof::verify::Bytes;
use crate::emergence::store::Store;

/// Stores the document of an automaton whose objects are in the store, and records the output of
/// its declaration.
pub(crate) fn keep(store: &Store, document: &Document, digests: &Digests) -> Result<()> {
    let objects: Vec<String> = document.closure.iter().map(|object| store.dir().path(&object.path)).collect();
    let kept = json!({ "document": document.value(), "objects": objects });
    store.put_automaton(&digests.automaton, kept.to_string().as_bytes())?;
    if let Some(declaration) = &digests.declaration {
        store.note_declaration(declaration, &digests.output)?;
    }
    Ok(())
}

/// An automaton in a store, which it keeps open.
pub struct StoredAutomaton {
    document: Document,
    automaton: Hash,
    inner: StoreClosure,
    /// The content hash of each object at its import.
    contents: BTreeMap<StorePath, Hash>,
}

impl StoredAutomaton {
    /// Opens the automaton with the digest A. `ArtifactKind::NotFound` if the store does not have
    /// it, `store.corrupt` if its document is invalid, `closure.incomplete` if an object is
    /// missing.
    pub fn open(store: Arc<Store>, automaton: &Hash) -> Result<Self> {
        let subject = automaton.to_string();
        let bytes = store.automaton(automaton)?.ok_or_else(|| {
            let words = format!("{subject}: the store has no such automaton");
            Fault::from(crate::error::Error::new(crate::error::Kind::NotFound, words))
        })?;
        let corrupt = |words: String| Fault::refused(Code::StoreCorrupt, &subject, words);
        let kept = json::parse(&bytes, &subject).map_err(|fault| corrupt(fault.words()))?;
        let document = kept.get("document").cloned().unwrap_or(Value::Null);
        let document = Document::from_value(document, store.dir()).map_err(|fault| corrupt(fault.words()))?;
        let paths: Vec<StorePath> = document.closure.iter().map(|object| object.path.clone()).collect();
        let metas = store.closure_of(&paths)?;
        for meta in &metas {
            let declared = document.object(&meta.object.path).map(|object| object.nar_hash);
            if declared != Some(meta.object.nar_hash) {
                return Err(corrupt(format!(
                    "{} is another object than its document says",
                    meta.object.path
                )));
            }
        }
        let contents = metas.iter().map(|meta| (meta.object.path.clone(), meta.content)).collect();
        let inner = StoreClosure::of(store, metas)?;
        Ok(Self { document, automaton: *automaton, inner, contents })
    }

    /// The terms for its objects. The digest A pins the content of all outputs, so no further proof
    /// is needed; demanded signatures still are.
    fn demanded(&self, terms: &Terms) -> Result<Terms> {
        terms.trust.pinned("the automaton", &self.automaton)?;
        let demand = match terms.trust.demand {
            Demand::Proved => Demand::None,
            other => other,
        };
        let trust = Trust { demand, expect: None, ..terms.trust.clone() };
        Ok(Terms { trust, ..terms.clone() })
    }

    /// Turns the report of its objects into one of the automaton, if it has the digest A.
    fn identified(&self, mut report: Report) -> Result<Report> {
        for (_, proof) in &mut report.objects {
            if *proof == Proof::Nothing {
                *proof = Proof::Pinned(None);
            }
        }
        let content = |(name, path): (&String, &StorePath)| Some((name.clone(), *self.contents.get(path)?));
        let contents = self.document.outputs.iter().filter_map(content).collect();
        let digests = Digests::of(&self.document, &contents)?;
        if digests.automaton != self.automaton {
            let (declared, found) = (self.automaton.to_string(), digests.automaton.to_string());
            return Err(Fault::differs(Code::AutomatonMismatch, &declared, "the digest", &declared, &found));
        }
        // The caller named it by its digest.
        Ok(Report { digest: self.automaton, digests: Some(digests), pinned: true, ..report })
    }

    /// Reads the tree of one object.
    fn look(&self, terms: &Terms, path: &StorePath, visitor: &mut (dyn Visitor + Send)) -> Result<()> {
        let one = Terms { jobs: 1, ..terms.clone() };
        self.inner.unpack(&one, &|other| other == path, &Look(Mutex::new(visitor))).map(drop)
    }
}

struct Look<'a>(Mutex<&'a mut (dyn Visitor + Send)>);

impl Receive for Look<'_> {
    fn object(
        &self,
        _object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes> {
        let mut visitor = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        feed(&mut **visitor)
    }
}

impl Closure for StoredAutomaton {
    fn kind(&self) -> ArtifactKind {
        ArtifactKind::Store
    }

    fn digest(&self) -> Hash {
        self.automaton
    }

    fn objects(&self) -> &[Object] {
        self.inner.objects()
    }

    fn document(&self) -> Option<&Document> {
        Some(&self.document)
    }

    fn verify(&self, terms: &Terms) -> Result<Report> {
        let report = self.identified(self.inner.verify(&self.demanded(terms)?)?)?;
        let mut points = EntryPoints::new(&self.document, &terms.dir);
        points.look_and_check(&mut |path, watched| self.look(terms, path, watched))?;
        recipe::check_carried(&self.document, &terms.dir, &mut |path, text| self.look(terms, path, text))?;
        Ok(report)
    }

    fn recall(&self, terms: &Terms) -> Result<Option<Report>> {
        let report = self.inner.recall(&self.demanded(terms)?)?;
        report.map(|report| self.identified(report)).transpose()
    }

    fn unpack(
        &self,
        terms: &Terms,
        wanted: &(dyn Fn(&StorePath) -> bool + Sync),
        to: &(dyn Receive + Sync),
    ) -> Result<Bytes> {
        self.inner.unpack(terms, wanted, to)
    }
}
