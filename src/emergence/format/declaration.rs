//! The source of an automaton, a derivation, fixed output or list of inputs, and its digest D.

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::{ContentAddress, StoreDir, StorePath};

use super::fields::Field;

/// The source that an automaton was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Its kind.
    pub kind: DeclarationKind,
    /// Its digest, D.
    pub digest: Hash,
    /// The derivation modulo its fixed inputs, which is equal for all derivations that build the
    /// same.
    pub equivalence: Option<Hash>,
    /// The derivation's own path.
    pub store_path: Option<StorePath>,
    /// Input files, in the order of the document.
    pub inputs: Vec<Input>,
}

/// The kind of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclarationKind {
    /// A Nix derivation; D is the SHA-256 of its bytes.
    NixDerivation,
    /// A fixed output; D is the hash of its content.
    FixedOutput,
    /// A Dockerfile and the files that it reads; D is computed from the inputs.
    Dockerfile,
    /// A source of another kind; D is computed from the inputs.
    Opaque,
}

const KINDS: [(&str, DeclarationKind); 4] = [
    ("nix-derivation", DeclarationKind::NixDerivation),
    ("fixed-output", DeclarationKind::FixedOutput),
    ("dockerfile", DeclarationKind::Dockerfile),
    ("opaque", DeclarationKind::Opaque),
];

impl DeclarationKind {
    /// Its name in documents.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// Whether D is computed from the inputs.
    pub fn is_of_inputs(self) -> bool {
        matches!(self, Self::Dockerfile | Self::Opaque)
    }
}

/// An input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its path, as in the document.
    pub path: String,
    /// Digest of its bytes, or of the NAR of a directory.
    pub digest: Hash,
}

impl Declaration {
    /// Reads the member `declaration`. Refused with `declaration.unpinned` if an input has no
    /// digest, and with `declaration.mismatch` if D is computed from the inputs and differs.
    pub(crate) fn read(field: &Field<'_>, dir: &StoreDir) -> Result<Self> {
        let mut members = field.members()?;
        let kind = members.need("kind")?.word(&KINDS)?;
        let mut inputs = Vec::new();
        if let Some(list) = members.take("inputs") {
            for field in list.list()? {
                inputs.push(input(&field)?);
            }
        }
        let declaration = Self {
            kind,
            digest: Hash::parse(members.need("digest")?.text()?, None)?,
            equivalence: members
                .read("equivalence", |field| Hash::parse(field.text()?, Some(Algorithm::Sha256)))?,
            store_path: members.read("storePath", |field| dir.parse(field.text()?))?,
            inputs,
        };
        members.end()?;
        if kind != DeclarationKind::FixedOutput && declaration.digest.algorithm() != Algorithm::Sha256 {
            return Err(field.refuse(format!("the digest of a {} is made by sha256", kind.word())));
        }
        if kind.is_of_inputs() {
            let found = of_inputs(&declaration.inputs);
            declaration.must_be(&found)?;
        }
        Ok(declaration)
    }

    /// Refused with `declaration.mismatch` if D is not `found`.
    pub(crate) fn must_be(&self, found: &Hash) -> Result<()> {
        if self.digest == *found {
            return Ok(());
        }
        let (declared, found) = (self.digest.to_string(), found.to_string());
        Err(Fault::differs(Code::DeclarationMismatch, "declaration", "the digest", &declared, &found))
    }

    /// Compares a fixed output with its object: with the content address, or with the NAR hash.
    pub(crate) fn check_output(&self, output: &Object) -> Result<()> {
        match (self.kind, &output.ca) {
            (DeclarationKind::FixedOutput, Some(ContentAddress::Fixed(_, hash))) => self.must_be(hash),
            (DeclarationKind::FixedOutput, _) => self.must_be(&output.nar_hash),
            _ => Ok(()),
        }
    }

    /// Compares the derivation with its object, whose path is computed from its bytes.
    pub(crate) fn check_recipe(&self, recipe: &Object) -> Result<()> {
        match (self.kind, &recipe.ca) {
            (DeclarationKind::NixDerivation, Some(ContentAddress::Text(hash))) => self.must_be(hash),
            _ => Ok(()),
        }
    }
}

fn input(field: &Field<'_>) -> Result<Input> {
    let mut members = field.members()?;
    let path = members.need("path")?;
    let text = path.argument()?;
    // The path becomes part of a line that is hashed.
    if text.is_empty() || text.contains('\n') {
        return Err(path.refuse("must be a path on one line"));
    }
    let digest = members.take("digest").ok_or_else(|| {
        let words = format!("{} has no digest; pack --pin writes it", text.escape_debug());
        field.refuse_with(Code::DeclarationUnpinned, words)
    })?;
    let digest = Hash::parse(digest.text()?, None)?;
    members.end()?;
    Ok(Input { path: text.to_owned(), digest })
}

/// The digest of a declaration that is computed from its inputs.
pub(crate) fn of_inputs(inputs: &[Input]) -> Hash {
    let mut lines: Vec<String> =
        inputs.iter().map(|Input { path, digest }| format!("{path} {digest}\n")).collect();
    lines.sort_unstable();
    Hash::sha256(lines.concat().as_bytes())
}
