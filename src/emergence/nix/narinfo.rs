//! The narinfo of an object in a binary cache: the lines of a `.narinfo`. The vectors in tests are
//! Nix's.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Signature;
use super::object::{Object, Stored};
use super::store_path::{ContentAddress, StoreDir, StorePath};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result};

/// Nix's value for an unknown deriver.
const UNKNOWN_DERIVER: &str = "unknown-deriver";

/// Known fields, in the order in which Nix writes them. Others are ignored.
const FIELDS: [&str; 11] = [
    "StorePath",
    "URL",
    "Compression",
    "FileHash",
    "FileSize",
    "NarHash",
    "NarSize",
    "References",
    "Deriver",
    "Sig",
    "CA",
];

/// An object as declared by its cache, and the location of its NAR. Unverified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The object.
    pub object: Object,
    /// Its NAR, below the cache's directory.
    pub stored: Stored,
}

fn refuse(words: impl Into<String>) -> Fault {
    Fault::refused(Code::CacheNarinfo, "", words)
}

impl NarInfo {
    /// Parses the lines. Refused with `cache.narinfo`, `cache.url`, `cache.compression`,
    /// `hash.syntax`, `path.name` or `ca.syntax`.
    pub fn parse(text: &[u8], dir: &StoreDir) -> Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| refuse("is not UTF-8"))?;
        let mut fields = Fields::read(text)?;
        let compression = fields.take_single("Compression");
        // Caches without this field used bzip2.
        let compression = compression.as_deref().filter(|name| !name.is_empty()).unwrap_or("bzip2");
        let deriver =
            fields.take_single("Deriver").filter(|deriver| deriver != UNKNOWN_DERIVER && !deriver.is_empty());
        let object = Object {
            path: dir.parse(&fields.needed("StorePath")?)?,
            nar_hash: Hash::parse(&fields.needed("NarHash")?, Some(Algorithm::Sha256))?,
            nar_size: number("NarSize", &fields.needed("NarSize")?)?,
            references: references(&fields.take_single("References").unwrap_or_default())?,
            deriver: deriver.map(|deriver| StorePath::parse(&deriver)).transpose()?,
            signatures: fields.signatures()?,
            ca: fields
                .take_single("CA")
                .filter(|ca| !ca.is_empty())
                .map(|ca| ContentAddress::parse(&ca))
                .transpose()?,
        };
        let stored = Stored {
            name: url(&fields.needed("URL")?)?,
            compression: Compression::named(compression).ok_or_else(|| {
                let words = format!("NARs compressed as \"{}\" cannot be read", compression.escape_debug());
                Fault::refused(Code::CacheCompression, "", words)
            })?,
            hash: fields.take_single("FileHash").map(|hash| Hash::parse(&hash, None)).transpose()?,
            size: fields.take_single("FileSize").map(|size| number("FileSize", &size)).transpose()?,
        };
        Ok(Self { object, stored })
    }

    /// Prints the lines as Nix does.
    pub fn print(&self, dir: &StoreDir) -> String {
        let hash = |hash: &Hash| format!("{}:{}", hash.algorithm(), hash.nix32());
        let Self { object, stored } = self;
        let bases: Vec<String> = object.references.iter().map(ToString::to_string).collect();
        let value = |field: &str| -> Vec<String> {
            match field {
                "StorePath" => vec![dir.path(&object.path)],
                "URL" => vec![stored.name.clone()],
                "Compression" => vec![stored.compression.name().to_owned()],
                "FileHash" => stored.hash.iter().map(hash).collect(),
                "FileSize" => stored.size.iter().map(u64::to_string).collect(),
                "NarHash" => vec![hash(&object.nar_hash)],
                "NarSize" => vec![object.nar_size.to_string()],
                "References" => vec![bases.join(" ")],
                "Deriver" => object.deriver.iter().map(ToString::to_string).collect(),
                "Sig" => object.signatures.iter().map(ToString::to_string).collect(),
                _ => object.ca.iter().map(ToString::to_string).collect(),
            }
        };
        let lines = FIELDS.iter().flat_map(|field| value(field).into_iter().map(move |value| (field, value)));
        lines.map(|(field, value)| format!("{field}: {value}\n")).collect()
    }
}

/// The values of the known fields.
struct Fields(BTreeMap<&'static str, Vec<String>>);

impl Fields {
    fn read(text: &str) -> Result<Self> {
        let mut fields: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let place = || format!("line {}", at + 1);
            let (name, value) = line
                .split_once(": ")
                .or_else(|| Some((line.strip_suffix(':')?, "")))
                .ok_or_else(|| refuse(format!("{} is not \"Key: value\"", place())))?;
            let Some(field) = FIELDS.iter().find(|known| **known == name) else { continue };
            let values = fields.entry(field).or_default();
            if !values.is_empty() && *field != "Sig" {
                return Err(refuse(format!("{} has {field} a second time", place())));
            }
            values.push(value.to_owned());
        }
        Ok(Self(fields))
    }

    fn take_single(&mut self, field: &str) -> Option<String> {
        self.0.get_mut(field)?.pop()
    }

    fn needed(&mut self, field: &str) -> Result<String> {
        self.take_single(field)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| refuse(format!("{field} is missing")))
    }

    fn signatures(&mut self) -> Result<Vec<Signature>> {
        let texts = self.0.remove("Sig").unwrap_or_default();
        let read = |text: &String| {
            let wrong = || refuse(format!("\"{}\" is not a signature", text.escape_debug()));
            Signature::parse(text).ok_or_else(wrong)
        };
        texts.iter().map(read).collect()
    }
}

fn number(field: &str, text: &str) -> Result<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| refuse(format!("{field} is not a number: \"{}\"", text.escape_debug())))
}

fn references(text: &str) -> Result<BTreeSet<StorePath>> {
    let mut references = BTreeSet::new();
    for base in text.split(' ').filter(|base| !base.is_empty()) {
        if !references.insert(StorePath::parse(base)?) {
            return Err(refuse(format!("References has {base} twice")));
        }
    }
    Ok(references)
}

/// A path below the cache's directory, without a query, which has no meaning there.
fn url(text: &str) -> Result<String> {
    let path = text.split('?').next().unwrap_or_default();
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(part) && !path.contains(['\0', ':']) {
        return Ok(path.to_owned());
    }
    let words = format!("\"{}\" is not a path below the cache's directory", text.escape_debug());
    Err(Fault::refused(Code::CacheUrl, "", words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
StorePath: /nix/store/7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app.conf
URL: nar/1s5qimvjwjf591synv0s9pjabc84n9szvh3zrnc8ryyyj3f15a5i.nar.xz
Compression: xz
NarHash: sha256:04rgfaxyw53h52z91wkc65h5girxard05bh2ynis7ialvnnzlfv9
NarSize: 128
References: 
";

    #[test]
    fn faults_have_their_codes() {
        let dir = StoreDir::default();
        let info = NarInfo::parse(GOOD.as_bytes(), &dir).unwrap();
        assert_eq!(info.print(&dir), GOOD);
        let one = "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-app.conf";
        let table = [
            ("NarSize: 128\n", "", Code::CacheNarinfo),
            ("NarSize: 128", "NarSize: +128", Code::CacheNarinfo),
            ("NarSize: 128", "NarSize: 18446744073709551616", Code::CacheNarinfo),
            ("NarSize: 128", "NarSize: 128\nNarSize: 128", Code::CacheNarinfo),
            ("NarSize: 128", "NarSize 128", Code::CacheNarinfo),
            ("NarHash: sha256:0", "NarHash: sha1:0", Code::HashSyntax),
            ("StorePath: /nix", "StorePath: /gnu", Code::PathName),
            ("References: ", &format!("References: {one} {one}"), Code::CacheNarinfo),
            ("References: ", "References: x", Code::PathName),
            ("URL: nar/", "URL: ../nar/", Code::CacheUrl),
            ("URL: nar/", "URL: /nar/", Code::CacheUrl),
            ("URL: nar/", "URL: file:///nar/", Code::CacheUrl),
            ("URL: nar/", "URL: nar//", Code::CacheUrl),
            ("Compression: xz", "Compression: lzip", Code::CacheCompression),
            ("References: ", "References: \nSig: x", Code::CacheNarinfo),
            ("References: ", "References: \nCA: x", Code::CaSyntax),
        ];
        for (from, to, code) in table {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            assert_eq!(NarInfo::parse(text.as_bytes(), &dir).unwrap_err().code(), Some(code), "{to}");
        }
        assert_eq!(NarInfo::parse(b"\xff", &dir).unwrap_err().code(), Some(Code::CacheNarinfo));
        let more = format!("{GOOD}Unknown: \nURL2: x\nDeriver: unknown-deriver\n").replace(".xz", ".xz?a=b");
        assert_eq!(NarInfo::parse(more.as_bytes(), &dir).unwrap(), info);
        // The first caches had no Compression field.
        let old = NarInfo::parse(GOOD.replace("Compression: xz\n", "").as_bytes(), &dir).unwrap();
        assert_eq!(old.stored.compression, Compression::Bzip2);
    }
}
