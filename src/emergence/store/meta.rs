//! The record of an object, `meta/DIGEST.json`: its declaration and its proof.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::emergence::base::bounded::{open_file, read_document};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::emergence::nix::keys::Signature;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, StoreDir};
use crate::emergence::proof::trust::Proof;

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The declared properties, which were verified.
    pub object: Object,
    /// Hash of the NAR with the object's own digest replaced by zeros.
    pub content: Hash,
    /// The proof of its path at the import.
    pub proof: Proof,
    /// SHA-256 digests of the blobs that it was imported from.
    pub blobs: BTreeSet<Hash>,
}

/// The JSON document.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    path: String,
    nar_hash: String,
    nar_size: u64,
    references: Vec<String>,
    deriver: Option<String>,
    signatures: Vec<String>,
    ca: Option<String>,
    content: String,
    proof: String,
    signed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blobs: Vec<String>,
}

/// Path of the record for the object with these digits, in the store at `directory`.
pub(super) fn place(directory: &Path, digits: &str) -> PathBuf {
    directory.join("meta").join(format!("{digits}.json"))
}

/// Reads a record. `None`: there is none. Refused with `store.corrupt` if it is not valid.
pub(super) fn read(path: &Path, dir: &StoreDir) -> Result<Option<Meta>> {
    let Some(file) = open_file(path)? else { return Ok(None) };
    let subject = path.display().to_string();
    let corrupt = |words: String| Fault::refused(Code::StoreCorrupt, &subject, words);
    let text = read_document(file, &subject)?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
    let meta = understand(document, dir).map_err(|fault| corrupt(fault.words()))?;
    let name = path.file_stem().and_then(std::ffi::OsStr::to_str);
    if name != Some(meta.object.path.digits().as_str()) {
        return Err(corrupt(format!("is about another object, {}", meta.object.path)));
    }
    Ok(Some(meta))
}

fn understand(document: Document, dir: &StoreDir) -> Result<Meta> {
    let hash = |text: &str| Hash::parse(text, Some(Algorithm::Sha256));
    let signature = |text: &String| {
        Signature::parse(text).ok_or_else(|| Fault::usage(format!("\"{text}\" is not a signature")))
    };
    let object = Object {
        path: dir.parse(&document.path)?,
        nar_hash: hash(&document.nar_hash)?,
        nar_size: document.nar_size,
        references: document.references.iter().map(|path| dir.parse(path)).collect::<Result<_>>()?,
        deriver: document.deriver.map(|path| dir.parse(&path)).transpose()?,
        signatures: document.signatures.iter().map(signature).collect::<Result<_>>()?,
        ca: document.ca.map(|ca| ContentAddress::parse(&ca)).transpose()?,
    };
    let proof = match (document.proof.as_str(), document.signed_by) {
        ("content", None) => Proof::Content,
        ("signature", Some(key)) => Proof::Signature(key),
        ("pinned", key) => Proof::Pinned(key),
        ("none", None) => Proof::Nothing,
        (other, _) => return Err(Fault::usage(format!("\"{other}\" is not a kind of proof"))),
    };
    let blobs = document.blobs.iter().map(|blob| hash(blob)).collect::<Result<_>>()?;
    Ok(Meta { object, content: hash(&document.content)?, proof, blobs })
}

impl Meta {
    /// The record as one line of JSON, in canonical order.
    pub fn print(&self, dir: &StoreDir) -> Result<String> {
        let object = &self.object;
        let document = Document {
            path: dir.path(&object.path),
            nar_hash: object.nar_hash.to_string(),
            nar_size: object.nar_size,
            references: object.references.iter().map(|path| dir.path(path)).collect(),
            deriver: object.deriver.as_ref().map(|path| dir.path(path)),
            signatures: object.signatures.iter().map(ToString::to_string).collect(),
            ca: object.ca.as_ref().map(ToString::to_string),
            content: self.content.to_string(),
            proof: self.proof.word().to_owned(),
            signed_by: self.proof.signer().map(str::to_owned),
            blobs: self.blobs.iter().map(ToString::to_string).collect(),
        };
        let text = serde_json::to_string(&document);
        text.map(|text| text + "\n")
            .map_err(|error| Fault::usage(error.to_string()))
            .within(|| "write what was proved")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::nix::store_path::StorePath;

    #[test]
    fn written_values_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StoreDir::default();
        let path = StorePath::parse("7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app.conf").unwrap();
        let hash = Hash::sha256(b"");
        let object = Object {
            path: path.clone(),
            nar_hash: hash,
            nar_size: 128,
            references: [path.clone()].into(),
            deriver: Some(path.clone()),
            signatures: Vec::new(),
            ca: None,
        };
        let file = directory.path().join(format!("{}.json", path.digits()));
        let (signature, pinned) = (Proof::Signature("a-1".into()), Proof::Pinned(Some("a-1".into())));
        let all = [Proof::Content, signature, pinned, Proof::Pinned(None), Proof::Nothing];
        for (count, proof) in all.into_iter().enumerate() {
            let blobs = std::iter::repeat_n(hash, count).collect();
            let meta = Meta { object: object.clone(), content: hash, proof, blobs };
            let text = meta.print(&dir).unwrap();
            std::fs::write(&file, &text).unwrap();
            assert_eq!(read(&file, &dir).unwrap(), Some(meta));
            for (from, to) in
                [("128", "-1"), ("/nix/store", "/gnu/store"), ("sha256", "sha1"), ("\"path\"", "\"x\"")]
            {
                std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
                assert_eq!(read(&file, &dir).unwrap_err().code(), Some(Code::StoreCorrupt), "{to}");
            }
        }
        assert_eq!(read(&directory.path().join("x"), &dir).unwrap(), None);
    }
}
