//! Hashes: the algorithms that Nix and OCI use, and their text forms.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::Digest;

use super::nix32;
use super::refusal::{Code, Fault, Result};
use crate::sys::base64;

/// A hash algorithm. Only SHA-2 counts as proof; the others occur as names in old recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 4] = [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];

    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of its hashes, in bytes.
    pub const fn size(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| format!("{name}: unknown hash algorithm; known are md5, sha1, sha256 and sha512"))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text form of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `sha256:` and hexadecimal digits, as OCI digests are.
    Oci,
    /// `sha256-` and base64, Subresource Integrity.
    Sri,
    /// Nix's base-32 digits only.
    Nix32,
    /// Hexadecimal digits only.
    Base16,
    /// Base64 only.
    Base64,
}

/// A hash and its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash {
    algorithm: Algorithm,
    /// Bytes after the algorithm's size are 0.
    bytes: [u8; 64],
}

impl Hash {
    /// A hash from its bytes; `None` if their number is not the algorithm's.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut hash = Self { algorithm, bytes: [0; 64] };
        if bytes.len() != algorithm.size() {
            return None;
        }
        hash.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(hash)
    }

    /// The SHA-256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.size()).unwrap_or_default()
    }

    /// Hexadecimal digits, in lower case.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.bytes())
    }

    /// Nix's base-32 digits.
    pub fn nix32(&self) -> String {
        nix32::encode(self.bytes())
    }

    /// Its text in this format.
    pub fn written(&self, format: Format) -> String {
        match format {
            Format::Oci => format!("{}:{}", self.algorithm, self.hex()),
            Format::Sri => format!("{}-{}", self.algorithm, base64::encode(self.bytes())),
            Format::Nix32 => self.nix32(),
            Format::Base16 => self.hex(),
            Format::Base64 => base64::encode(self.bytes()),
        }
    }

    /// Parses any [`Format`], and `algorithm:` before Nix's digits or base64, as Nix does. Digits
    /// without a prefix need `algorithm`; a prefix must agree with it.
    ///
    /// Refused with `hash.syntax`.
    pub fn parse(text: &str, algorithm: Option<Algorithm>) -> Result<Self> {
        let refuse = |words: String| Fault::refused(Code::HashSyntax, text.escape_debug().to_string(), words);
        let named = |name: &str| name.parse::<Algorithm>().map_err(refuse);
        let (named, digits) = match (text.split_once(':'), text.split_once('-')) {
            (Some((name, digits)), _) => (Some(named(name)?), digits),
            (None, Some((name, digits))) => {
                let found = named(name)?;
                // After a dash, only base64.
                let bytes = base64::decode(digits);
                let hash = bytes.and_then(|bytes| Self::new(found, &bytes));
                let hash = hash.ok_or_else(|| {
                    refuse(format!("{name}- is followed by {} bytes in base64", found.size()))
                })?;
                return hash.of(algorithm, refuse);
            }
            (None, None) => (None, text),
        };
        let Some(found) = named.or(algorithm) else {
            return Err(refuse(
                "the hash algorithm is not given; write it before a colon, or name it".into(),
            ));
        };
        let hash = Self::from_digits(found, digits).ok_or_else(|| {
            let size = found.size();
            let (hex, nix32, base64) = (size * 2, nix32::length(size), size.div_ceil(3) * 4);
            refuse(format!(
                "a {found} hash is {hex} hexadecimal digits, {nix32} of Nix's, or {base64} of base64"
            ))
        })?;
        hash.of(algorithm, refuse)
    }

    /// Their number decides whether the digits are hexadecimal, Nix's, or base64.
    fn from_digits(algorithm: Algorithm, digits: &str) -> Option<Self> {
        let mut bytes = vec![0; algorithm.size()];
        if digits.len() == algorithm.size() * 2 {
            bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        } else if digits.len() == nix32::length(algorithm.size()) {
            nix32::decode(digits, &mut bytes)?;
        } else {
            bytes = base64::decode(digits)?;
        }
        Self::new(algorithm, &bytes)
    }

    fn of(self, wanted: Option<Algorithm>, refuse: impl Fn(String) -> Fault) -> Result<Self> {
        match wanted {
            Some(wanted) if wanted != self.algorithm => Err(refuse(format!("is not a {wanted} hash"))),
            _ => Ok(self),
        }
    }
}

/// `algorithm:hexadecimal`, the form of OCI digests.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(Format::Oci))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a hash piece by piece.
#[derive(Clone)]
pub enum Hasher {
    /// See [`Algorithm::Md5`].
    Md5(md5::Md5),
    /// See [`Algorithm::Sha1`].
    Sha1(sha1::Sha1),
    /// See [`Algorithm::Sha256`].
    Sha256(sha2::Sha256),
    /// See [`Algorithm::Sha512`].
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher without input.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Hasher::Md5(md5::Md5::new()),
            Algorithm::Sha1 => Hasher::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes added.
    pub fn finish(self) -> Hash {
        fn fill(algorithm: Algorithm, made: &[u8]) -> Hash {
            let mut hash = Hash { algorithm, bytes: [0; 64] };
            hash.bytes.iter_mut().zip(made).for_each(|(to, from)| *to = *from);
            hash
        }
        match self {
            Hasher::Md5(hasher) => fill(Algorithm::Md5, &hasher.finalize()),
            Hasher::Sha1(hasher) => fill(Algorithm::Sha1, &hasher.finalize()),
            Hasher::Sha256(hasher) => fill(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => fill(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_values_are_read() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"abc");
            let hash = hasher.finish();
            for format in [Format::Oci, Format::Sri, Format::Nix32, Format::Base16, Format::Base64] {
                let text = hash.written(format);
                assert_eq!(Hash::parse(&text, Some(algorithm)).unwrap(), hash, "{text}");
            }
            for digits in [hash.nix32(), hash.hex().to_uppercase(), base64::encode(hash.bytes())] {
                let text = format!("{algorithm}:{digits}");
                assert_eq!(Hash::parse(&text, None).unwrap(), hash, "{text}");
            }
        }
    }

    #[test]
    fn invalid_hashes_are_refused() {
        let hex = Hash::sha256(b"").hex();
        let table = [
            String::new(),
            hex.clone(), // by which algorithm?
            format!("sha256:{}", hex.get(1..).unwrap()),
            format!("sha256:{hex}0"),
            format!("sha256-{hex}"),
            format!("SHA256:{hex}"),
            format!("sha1:{hex}"),
            format!("sha256: {}", hex.get(1..).unwrap()),
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=".to_owned(), // bits beyond the bytes
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".to_owned(),  // without padding
            "sha256:\u{e9}".to_owned(),
        ];
        for text in table {
            assert_eq!(Hash::parse(&text, None).unwrap_err().code(), Some(Code::HashSyntax), "{text}");
        }
        assert!(Hash::parse(&hex, Some(Algorithm::Sha512)).is_err());
        assert!(Hash::parse(&format!("sha256:{hex}"), Some(Algorithm::Sha1)).is_err());
    }
}
