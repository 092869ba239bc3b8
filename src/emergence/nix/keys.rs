//! Ed25519 keys and signatures, in Nix's form `name:base64`.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::emergence::base::refusal::{Fault, Result};
use crate::sys::base64;

/// Splits `name:base64`; `None` if the form is wrong or the bytes are not `size`.
fn split(text: &str, size: usize) -> Option<(&str, Vec<u8>)> {
    let (name, coded) = text.split_once(':')?;
    let bytes = base64::decode(coded)?;
    let plain = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    (plain && bytes.len() == size).then_some((name, bytes))
}

/// A signature and the name of the key that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature {
    /// Name of the key.
    pub key: String,
    bytes: [u8; 64],
}

impl Signature {
    /// Parses `name:base64`.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, bytes) = split(text, 64)?;
        Some(Self { key: key.to_owned(), bytes: bytes.try_into().ok()? })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, base64::encode(&self.bytes))
    }
}

/// A key to verify signatures with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Parses `name:base64` of 32 bytes; a usage error otherwise.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Fault::usage(format!("{text}: a public key is NAME:BASE64 of 32 bytes"));
        let (name, bytes) = split(text.trim_end(), 32).ok_or_else(wrong)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// Its name, which signatures contain.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` is this key's signature of `bytes`. Strict: a signature has only one
    /// valid form.
    pub fn verifies(&self, bytes: &[u8], signature: &Signature) -> bool {
        let signed = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key == self.name && self.key.verify_strict(bytes, &signed).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, base64::encode(self.key.as_bytes()))
    }
}

/// A key to sign with.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// Generates a key with this name from the kernel's random numbers.
    pub fn generate(name: &str) -> Result<Self> {
        let plain =
            !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control());
        if !plain {
            return Err(Fault::usage(format!(
                "{}: a key's name has no blanks and no colon",
                name.escape_debug()
            )));
        }
        let mut seed = [0; 32];
        let filled = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty());
        match filled.map_err(crate::error::Error::from)? {
            32 => Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) }),
            _ => Err(Fault::usage("getrandom(2) returned too few bytes; try again")),
        }
    }

    /// Parses `name:base64` of 64 bytes, the seed and the public key. A usage error otherwise,
    /// without the text in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Fault::usage("a secret key is NAME:BASE64 of 64 bytes, a seed and its public key");
        let (name, bytes) = split(text.trim_end(), 64).ok_or_else(wrong)?;
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| wrong())?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| wrong())?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `bytes`.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature { key: self.name.clone(), bytes: self.key.sign(bytes).to_bytes() }
    }

    /// The text that [`SecretKey::parse`] reads. It is secret.
    pub fn reveal(&self) -> String {
        format!("{}:{}", self.name, base64::encode(&self.key.to_keypair_bytes()))
    }
}

/// Shows the name and never the key.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_signs_and_is_read_again() {
        let key = SecretKey::generate("mine-1").unwrap();
        let again = SecretKey::parse(&format!("{}\n", key.reveal())).unwrap();
        let signature = Signature::parse(&again.sign(b"words").to_string()).unwrap();
        let public = PublicKey::parse(&key.public().to_string()).unwrap();
        assert!(public.verifies(b"words", &signature));
        assert!(!public.verifies(b"other", &signature));
        let renamed = Signature { key: "other-1".into(), ..signature };
        assert!(!public.verifies(b"words", &renamed));
        assert!(!format!("{key:?}").contains(':'));
    }

    #[test]
    fn invalid_keys_are_refused() {
        for bad in ["", "a", ":AAAA", "a:AAAA", "a b:6iZHHcnAh3sgZBMnaVY74iJQss2oJgDPMFwuuNFuih8="] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
            assert!(SecretKey::parse(bad).is_err(), "{bad}");
            assert!(Signature::parse(bad).is_none(), "{bad}");
        }
        for bad in ["", "a:b", "a b", "a\n"] {
            assert!(SecretKey::generate(bad).is_err(), "{bad}");
        }
        // The second half of the bytes must be the public key of the first.
        let key = SecretKey::generate("a").unwrap().reveal();
        let mut bytes = base64::decode(key.strip_prefix("a:").unwrap()).unwrap();
        bytes[40] ^= 1;
        assert!(SecretKey::parse(&format!("a:{}", base64::encode(&bytes))).is_err());
    }
}
