//! Store paths, `STOREDIR/DIGEST-NAME`, and how the digest of each kind of object is computed.
//!
//! Source: the Nix manual, "Store path specification"; the vectors in tests are Nix's own output.

use std::collections::BTreeSet;
use std::fmt;

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::nix32;
use crate::emergence::base::refusal::{Code, Fault, Result, shown};

/// Nix's default store directory.
pub const USUAL_STORE: &str = "/nix/store";

/// Length of a path's digest, in bytes.
const DIGEST: usize = 20;

/// Length of a path's digest, in characters.
pub(crate) const DIGITS: usize = nix32::length(DIGEST);

/// Maximum length of an object's name.
const LONGEST_NAME: usize = 211;

/// The store directory that paths are computed for. Absolute, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreDir(String);

impl StoreDir {
    /// A store directory with this path. A usage error if it is not absolute and in its shortest
    /// form.
    pub fn new(path: &str) -> Result<Self> {
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        match path.strip_prefix('/') {
            Some(rest) if rest.split('/').all(part) && !rest.contains('\0') => Ok(Self(path.to_owned())),
            _ => Err(Fault::usage(format!(
                "--store-dir {path}: must be an absolute path in its shortest form"
            ))),
        }
    }

    /// The directory's path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of `object` in this directory.
    pub fn path(&self, object: &StorePath) -> String {
        format!("{}/{object}", self.0)
    }

    /// Parses the path of an object in this directory, without anything after it.
    pub fn parse(&self, path: &str) -> Result<StorePath> {
        let base = path.strip_prefix(self.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let base = base.ok_or_else(|| {
            Fault::refused(Code::PathName, path.escape_debug().to_string(), format!("is not in {}", self.0))
        })?;
        StorePath::parse(base)
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self(USUAL_STORE.to_owned())
    }
}

/// The name of an object: 1 to 211 of `[A-Za-z0-9+._?=-]`, not `.` or `..`, and not beginning with
/// `.-` or `..-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name; refused with `path.name` if it is invalid.
    pub fn new(name: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+._?=-".contains(&byte);
        let dots = name.split_once('-').map_or(name, |(before, _)| before);
        let words = if name.is_empty() || name.len() > LONGEST_NAME {
            format!("a name has 1 to {LONGEST_NAME} characters")
        } else if !name.bytes().all(allowed) {
            "a name has only letters, digits and + - . _ ? =".to_owned()
        } else if dots == "." || dots == ".." {
            "a name is not . or .., and does not begin with one of them and a dash".to_owned()
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Fault::refused(Code::PathName, shown(name.as_bytes()), words))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store path without its directory. Displayed as `DIGEST-NAME` and ordered by that text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StorePath {
    digest: [u8; DIGEST],
    name: Name,
}

impl StorePath {
    /// Parses `DIGEST-NAME`; refused with `path.name`.
    pub fn parse(base: &str) -> Result<Self> {
        let refuse = || {
            let words = format!("does not begin with {DIGITS} of Nix's digits and a dash");
            Fault::refused(Code::PathName, shown(base.as_bytes()), words)
        };
        let (digits, name) = base.split_at_checked(DIGITS).ok_or_else(refuse)?;
        let name = name.strip_prefix('-').ok_or_else(refuse)?;
        let mut digest = [0; DIGEST];
        nix32::decode(digits, &mut digest).ok_or_else(refuse)?;
        Ok(Self { digest, name: Name::new(name)? })
    }

    /// The digest, as in the path.
    pub fn digits(&self) -> String {
        nix32::encode(&self.digest)
    }

    /// The name, after the digest.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The path for a fingerprint: `TYPE:sha256:INNER:STOREDIR:NAME`, hashed and folded.
    fn make(dir: &StoreDir, kind: &str, inner: &Hash, name: Name) -> Self {
        let fingerprint = format!("{kind}:{}:{}:{name}", inner, dir.as_str());
        let hash = Hash::sha256(fingerprint.as_bytes());
        let mut digest = [0; DIGEST];
        // Not truncated: the remaining bytes are XORed in.
        for (at, byte) in hash.bytes().iter().enumerate() {
            if let Some(place) = digest.get_mut(at % DIGEST) {
                *place ^= byte;
            }
        }
        Self { digest, name }
    }

    /// The path of a derivation's output `output`. `modulo` is the hash that [`super::drv`]
    /// computes.
    pub fn output(dir: &StoreDir, modulo: &Hash, output: &str, drv_name: &Name) -> Result<Self> {
        Ok(Self::make(dir, &format!("output:{output}"), modulo, output_name(drv_name, output)?))
    }
}

/// The name of an output: the derivation's name, with `-OUTPUT` appended unless that is `out`.
pub fn output_name(drv_name: &Name, output: &str) -> Result<Name> {
    if output == "out" { Ok(drv_name.clone()) } else { Name::new(&format!("{drv_name}-{output}")) }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.digits(), self.name)
    }
}

impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Digits are written from the last byte to the first, and sort as their values do.
        self.digest.iter().rev().cmp(other.digest.iter().rev()).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The form of an object that is hashed for its content address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The bytes of a single file. They do not contain the execute bit: `nix-store --add-fixed`
    /// keeps that of its source.
    Flat,
    /// The NAR.
    Nar,
}

/// The content address of an object: the field `CA` of a narinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentAddress {
    /// `text:sha256:…`: a file written by Nix, such as a derivation.
    Text(Hash),
    /// `fixed:…`: addressed by the hash of its content.
    Fixed(Method, Hash),
}

/// The references of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Other objects.
    pub others: BTreeSet<StorePath>,
    /// Whether it refers to itself.
    pub itself: bool,
}

impl References {
    /// Whether there are no references.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty() && !self.itself
    }

    /// `TYPE`, followed by each reference, which must be in `dir`.
    fn kind(&self, dir: &StoreDir, kind: &str) -> String {
        let mut text = kind.to_owned();
        for other in &self.others {
            text.push(':');
            text.push_str(&dir.path(other));
        }
        if self.itself {
            text.push_str(":self");
        }
        text
    }
}

impl ContentAddress {
    /// Parses the field; refused with `ca.syntax`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |words: &str| Fault::refused(Code::CaSyntax, text.escape_debug().to_string(), words);
        let hash = |digits: &str| {
            Hash::parse(digits, None).map_err(|_| refuse("does not end in an algorithm, a colon and digits"))
        };
        if let Some(digits) = text.strip_prefix("text:") {
            let hash = hash(digits)?;
            return match hash.algorithm() {
                Algorithm::Sha256 => Ok(Self::Text(hash)),
                _ => Err(refuse("a text is addressed by sha256")),
            };
        }
        let digits = text.strip_prefix("fixed:").ok_or_else(|| refuse("begins with text: or fixed:"))?;
        match digits.strip_prefix("r:") {
            Some(digits) => Ok(Self::Fixed(Method::Nar, hash(digits)?)),
            None => Ok(Self::Fixed(Method::Flat, hash(digits)?)),
        }
    }

    /// The path of an object with this content. Refused with `ca.syntax` if it has references that
    /// such an object cannot have.
    pub fn path(&self, dir: &StoreDir, name: Name, references: &References) -> Result<StorePath> {
        let refuse = |words: &str| Err(Fault::refused(Code::CaSyntax, self.to_string(), words));
        match self {
            Self::Text(_) if references.itself => refuse("a text cannot refer to itself"),
            Self::Text(hash) => Ok(StorePath::make(dir, &references.kind(dir, "text"), hash, name)),
            Self::Fixed(Method::Nar, hash) if hash.algorithm() == Algorithm::Sha256 => {
                Ok(StorePath::make(dir, &references.kind(dir, "source"), hash, name))
            }
            Self::Fixed(..) if !references.is_empty() => {
                refuse("only what is addressed by the sha256 of its NAR can have references")
            }
            Self::Fixed(method, hash) => {
                let inner = Hash::sha256(fixed_out(*method, hash).as_bytes());
                Ok(StorePath::make(dir, "output:out", &inner, name))
            }
        }
    }
}

/// `fixed:out:[r:]ALGORITHM:HEX:`, hashed for the paths of fixed outputs and of their dependents.
pub fn fixed_out(method: Method, hash: &Hash) -> String {
    format!("fixed:out:{}{hash}:", recursive(method))
}

fn recursive(method: Method) -> &'static str {
    match method {
        Method::Flat => "",
        Method::Nar => "r:",
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(hash) => write!(f, "text:{}:{}", hash.algorithm(), hash.nix32()),
            Self::Fixed(method, hash) => {
                write!(f, "fixed:{}{}:{}", recursive(*method), hash.algorithm(), hash.nix32())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", ".a", "..a", "a-b", "...", "+._?=-", &"x".repeat(211)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".-a", "..-", "a/b", "a b", "\u{e9}", "a\0", &"x".repeat(212)] {
            assert_eq!(Name::new(bad).unwrap_err().code(), Some(Code::PathName), "{bad}");
        }
    }

    #[test]
    fn paths_are_read_and_ordered_as_they_are_written() {
        let dir = StoreDir::default();
        let paths = [
            "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo",
            "/nix/store/0177s5kq1qpgpc7c0n9izz942ahxrmq5-greeting.txt",
            "/nix/store/0177s5kq1qpgpc7c0n9izz942ahxrmq5-a",
            "/nix/store/f370xcds2xrf7a5zd5y395scr6nn4zlz-both",
        ];
        let mut read: Vec<StorePath> = paths.iter().map(|path| dir.parse(path).unwrap()).collect();
        read.sort();
        let mut sorted = paths.to_vec();
        sorted.sort_unstable();
        assert_eq!(read.iter().map(|path| dir.path(path)).collect::<Vec<_>>(), sorted);
        for bad in [
            "/nix/store/",
            "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0",
            "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-",
            "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-a/b",
            "/nix/store/exjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo",
            "/nix/storevxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo",
            "/gnu/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo",
            "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2a\u{e9}-foo",
        ] {
            assert_eq!(dir.parse(bad).unwrap_err().code(), Some(Code::PathName), "{bad}");
        }
    }

    #[test]
    fn store_directories_are_in_their_shortest_form() {
        for bad in ["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/./store", "/nix/../store"] {
            assert!(StoreDir::new(bad).is_err(), "{bad}");
        }
        assert_eq!(StoreDir::new("/s").unwrap().as_str(), "/s");
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for good in [
            "text:sha256:18nz0c34m97xj3cpa9i3sirj4xb9vqg7hhfc2sg3jwx8br77l41p",
            "fixed:sha1:hsax2d9wqkv5zmcwkmgm1xivvlb8bc3l",
            "fixed:r:sha256:1djc5gjkjvrh4vpzcgk66a9iy7jp378aflgssdbmik1d3b5qm2fc",
        ] {
            assert_eq!(ContentAddress::parse(good).map(|ca| ca.to_string()).unwrap_or_default(), good);
        }
        for bad in [
            "",
            "text:sha1:hsax2d9wqkv5zmcwkmgm1xivvlb8bc3l",
            "fixed:",
            "fixed:r:",
            "fixed:sha256:0",
            "nar:sha256:x",
        ] {
            assert_eq!(ContentAddress::parse(bad).unwrap_err().code(), Some(Code::CaSyntax), "{bad}");
        }
    }
}
