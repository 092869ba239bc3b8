//! The digests of an automaton: D, O, I, and A, which is computed from these three.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::Document;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::jcs::canonical;
use crate::emergence::base::refusal::Result;

/// The members of a document that I covers.
const INTERFACE: [&str; 5] = ["init", "parameters", "ports", "constraints", "resources"];

/// O: the digest of the content of each output, by name.
pub fn output_digest(contents: &BTreeMap<String, Hash>) -> Hash {
    let lines = contents.iter().map(|(name, content)| format!("{name} {}\n", content.hex()));
    let text = std::iter::once("emergence-output-1\n".to_owned()).chain(lines).collect::<String>();
    Hash::sha256(text.as_bytes())
}

/// The digests of an automaton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// D: digest of the declaration, if there is one.
    pub declaration: Option<Hash>,
    /// O: digest of the content of its outputs.
    pub output: Hash,
    /// I: digest of its interface.
    pub interface: Hash,
    /// A: digest of these three.
    pub automaton: Hash,
}

impl Digests {
    /// The digests of a document whose outputs have these content hashes: for each output the hash
    /// of its NAR, with its own digest replaced by zeros.
    pub fn of(document: &Document, contents: &BTreeMap<String, Hash>) -> Result<Self> {
        let declaration = document.declaration.as_ref().map(|declaration| declaration.digest);
        let output = output_digest(contents);
        let interface = interface(document)?;
        let named = declaration.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let text =
            format!("emergence-automaton-1\ndeclaration {named}\noutput {output}\ninterface {interface}\n");
        Ok(Self { declaration, output, interface, automaton: Hash::sha256(text.as_bytes()) })
    }

    /// The text to sign: A and the document's own digest.
    pub fn signed_text(&self, document: &Document) -> Result<String> {
        signed_text(&self.automaton, document)
    }
}

/// The text to sign for the automaton with this A.
pub(crate) fn signed_text(automaton: &Hash, document: &Document) -> Result<String> {
    let digest = Hash::sha256(&document.canonical()?);
    Ok(format!("emergence-automaton-1;{automaton};{digest}"))
}

fn interface(document: &Document) -> Result<Hash> {
    let member = |name: &&str| Some(((*name).to_owned(), document.value().get(*name)?.clone()));
    let members: Map<String, Value> = INTERFACE.iter().filter_map(member).collect();
    let mut bytes = b"emergence-interface-1\n".to_vec();
    bytes.extend(canonical(&Value::Object(members))?);
    Ok(Hash::sha256(&bytes))
}
