//! Proofs of store paths. Bytes that match their declared hashes do not prove an input-addressed
//! path.

use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::keys::PublicKey;
use crate::emergence::nix::object::Object;
use crate::emergence::nix::store_path::StoreDir;

/// The proof that is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Each path by its content, a trusted key's signature, or a pin.
    #[default]
    Proved,
    /// Each path by a trusted key's signature.
    Signed,
    /// None, but existing signatures by trusted keys must verify.
    None,
}

/// The caller's trust policy.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The proof that is required.
    pub demand: Demand,
    /// Trusted keys.
    pub keys: Vec<PublicKey>,
    /// The hash that the artifact must have, if given.
    pub expect: Option<Hash>,
}

/// The proof of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The path is computed from the content.
    Content,
    /// A signature by this key.
    Signature(String),
    /// The caller gave its hash (`None`), or this trusted key signed the automaton that contains
    /// it.
    Pinned(Option<String>),
    /// None was found, and none was required.
    Nothing,
}

impl Proof {
    /// Its name in reports.
    pub fn word(&self) -> &'static str {
        match self {
            Proof::Content => "content",
            Proof::Signature(_) => "signature",
            Proof::Pinned(_) => "pinned",
            Proof::Nothing => "none",
        }
    }

    /// The trusted key that signed.
    pub fn signer(&self) -> Option<&str> {
        match self {
            Proof::Signature(key) => Some(key),
            Proof::Pinned(key) => key.as_deref(),
            Proof::Content | Proof::Nothing => None,
        }
    }
}

impl Trust {
    /// Finds the proof of the path of `info`; `pinned`: its hash is the expected one. The content
    /// itself is checked elsewhere.
    ///
    /// Refused: a wrong signature under a trusted key's name (`trust.signature`), whatever the
    /// demand; a content address that yields another path (`path.mismatch`); a missing proof
    /// (`trust.unproved`).
    pub fn proof(&self, info: &Object, dir: &StoreDir, pinned: bool) -> Result<Proof> {
        let path = dir.path(&info.path);
        let signed = self.signer(info, dir)?;
        let by_content = match &info.ca {
            Some(ca) => {
                let follows = ca.path(dir, info.path.name().clone(), &info.split_references())?;
                if follows != info.path {
                    let follows = dir.path(&follows);
                    let what = format!("the path of {ca}");
                    return Err(Fault::differs(Code::PathMismatch, &path, &what, &path, &follows));
                }
                true
            }
            None => false,
        };
        match (self.demand, signed) {
            (_, Some(key)) if self.demand == Demand::Signed || !by_content => Ok(Proof::Signature(key)),
            (Demand::Signed, _) => {
                Err(Fault::refused(Code::TrustUnproved, path, "no trusted key has signed it"))
            }
            _ if by_content => Ok(Proof::Content),
            _ if pinned => Ok(Proof::Pinned(None)),
            (Demand::None, _) => Ok(Proof::Nothing),
            (Demand::Proved, _) => {
                let words = "neither its content, nor a trusted key's signature, nor a pin proves it";
                Err(Fault::refused(Code::TrustUnproved, path, words))
            }
        }
    }

    /// Whether the caller expects the hash of `subject`; refused if another one is expected.
    pub fn pinned(&self, subject: &str, found: &Hash) -> Result<bool> {
        match &self.expect {
            None => Ok(false),
            Some(expected) if expected == found => Ok(true),
            Some(expected) => {
                let (expected, found) = (expected.to_string(), found.to_string());
                Err(Fault::differs(Code::TrustExpect, subject, "the hash", &expected, &found))
            }
        }
    }

    /// The first trusted key that signed.
    fn signer(&self, info: &Object, dir: &StoreDir) -> Result<Option<String>> {
        let fingerprint = info.fingerprint(dir);
        let mut signer = None;
        for signature in &info.signatures {
            let mut named = self.keys.iter().filter(|key| key.name() == signature.key).peekable();
            if named.peek().is_none() {
                continue;
            }
            if !named.any(|key| key.verifies(fingerprint.as_bytes(), signature)) {
                let words = format!("the signature of {} is not that key's", signature.key);
                return Err(Fault::refused(Code::TrustSignature, dir.path(&info.path), words));
            }
            signer.get_or_insert_with(|| signature.key.clone());
        }
        Ok(signer)
    }
}
