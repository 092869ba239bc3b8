//! The syntax of a REF: the name of an artifact on the command line.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::emergence::base::bounded::open_file;
use crate::emergence::base::compress::{Compression, Memory};
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::read_ahead::fill;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::{StoreDir, StorePath};

/// The first bytes of a NAR: the length of the magic string, and the string.
const NAR: &[u8] = b"\x0d\0\0\0\0\0\0\0nix-archive-1";

/// The name of an artifact, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `nar:PATH`: one NAR in a file.
    Nar(PathBuf),
    /// `cache:PATH#OBJECT`: an object of a binary cache in a directory, with its closure.
    Cache {
        /// The directory.
        directory: PathBuf,
        /// Digits of the object.
        object: String,
        /// Its full name, if not only its digits were given.
        named: Option<StorePath>,
    },
    /// `store:PATH`: an object of the store, with its closure.
    Store(StorePath),
    /// `store:sha256:…`: an automaton of the store.
    Automaton(Hash),
    /// `oci:PATH[:TAG][@DIGEST]`: an entry of an OCI layout in a directory.
    Oci(ImageRef),
    /// `oci-archive:PATH[:TAG][@DIGEST]`: an entry of an OCI layout in a tar.
    OciArchive(ImageRef),
}

/// An entry of an OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Path of the layout.
    pub path: PathBuf,
    /// Its name in the layout.
    pub tag: Option<String>,
    /// The digest that it must have.
    pub digest: Option<Hash>,
}

impl ImageRef {
    /// Parses `PATH[:TAG][@DIGEST]`. The tag follows the last colon that has no slash after it; if
    /// that path does not exist, see [`whole_name`].
    fn parse(text: &str) -> Result<Self> {
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if digest.contains(':') && !digest.contains('/') => {
                (rest, Some(Hash::parse(digest, None)?))
            }
            _ => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.is_empty() || tag == Some("") {
            return Err(Fault::usage(format!(
                "{text}: must be PATH, optionally followed by :TAG and @DIGEST"
            )));
        }
        let whole = if Path::new(path).exists() { None } else { whole_name(rest) };
        let (path, tag) = whole.map_or((path, tag), |(path, tag)| (path, Some(tag)));
        Ok(Self { path: path.into(), tag: tag.map(str::to_owned), digest })
    }
}

/// Splits a path from a full image name as the tag, which may have colons and slashes:
/// `DIRECTORY:localhost/app:latest`. The tag follows the first colon that is preceded by an
/// existing layout.
fn whole_name(text: &str) -> Option<(&str, &str)> {
    let exists = |path: &str| Path::new(path).join("oci-layout").exists() || Path::new(path).is_file();
    let mut splits =
        text.match_indices(':').filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + 1..)?)));
    splits.find(|(path, tag)| !tag.is_empty() && exists(path))
}

impl Reference {
    /// Parses a REF. Without a prefix, a directory with `nix-cache-info` is a cache, and a file
    /// that begins as a NAR is one.
    ///
    /// A usage error if the syntax is wrong; `type.unknown` if the file at the path has none of
    /// these types.
    pub fn parse(text: &str, dir: &StoreDir) -> Result<Self> {
        match text.split_once(':') {
            Some(("nar", path)) if !path.is_empty() => Ok(Self::Nar(path.into())),
            Some(("cache", rest)) => Self::cache(rest.strip_prefix("file://").unwrap_or(rest), dir),
            Some(("store", object)) if object.starts_with("sha256:") => {
                Ok(Self::Automaton(Hash::parse(object, Some(Algorithm::Sha256))?))
            }
            Some(("store", object)) if object.starts_with('/') => Ok(Self::Store(dir.parse(object)?)),
            Some(("store", object)) => Ok(Self::Store(StorePath::parse(object)?)),
            Some(("oci", image)) => Ok(Self::Oci(ImageRef::parse(image)?)),
            Some(("oci-archive", image)) => Ok(Self::OciArchive(ImageRef::parse(image)?)),
            _ => Self::recognise(text, dir),
        }
    }

    fn cache(text: &str, dir: &StoreDir) -> Result<Self> {
        let wrong = || {
            Fault::usage(format!("cache:{text}: must be cache:DIRECTORY#OBJECT, a store path or its digits"))
        };
        let (directory, object) = text.rsplit_once('#').ok_or_else(wrong)?;
        if directory.is_empty() {
            return Err(wrong());
        }
        let named = match object.starts_with('/') {
            true => Some(dir.parse(object)?),
            false if object.contains('-') => Some(StorePath::parse(object)?),
            false => None,
        };
        let digits = match &named {
            Some(path) => path.digits(),
            // With any name appended they must form a store path.
            None => match StorePath::parse(&format!("{object}-x")) {
                Ok(path) => path.digits(),
                Err(_) if object.is_empty() => return Err(wrong()),
                Err(_) => {
                    let words = "is neither a store path nor the digits of one";
                    return Err(Fault::refused(Code::PathName, object, words));
                }
            },
        };
        Ok(Self::Cache { directory: directory.into(), object: digits, named })
    }

    fn recognise(text: &str, dir: &StoreDir) -> Result<Self> {
        if let Some((directory, _)) = text.rsplit_once('#')
            && Path::new(directory).join("nix-cache-info").exists()
        {
            return Self::cache(text, dir);
        }
        if let Ok(image) = ImageRef::parse(text)
            && image.path.join("oci-layout").exists()
        {
            return Ok(Self::Oci(image));
        }
        let path = Path::new(text);
        let unknown = |words: &str| Err(Fault::refused(Code::TypeUnknown, text, words));
        if !path.exists()
            && let Ok(image) = ImageRef::parse(text)
            && image.path.is_file()
        {
            return Ok(Self::OciArchive(image));
        }
        if path.is_dir() {
            return if path.join("nix-cache-info").exists() {
                Err(Fault::usage(format!("{text}: name an object of this cache, {text}#OBJECT")))
            } else {
                unknown(
                    "is a directory of unknown type; a layout has oci-layout, a binary cache nix-cache-info",
                )
            };
        }
        let Some(mut file) = open_file(path)? else {
            let kept =
                dir.parse(text).map_or_else(|_| String::new(), |_| format!("; the store has store:{text}"));
            let words = format!("{text}: no such file{kept}");
            return Err(crate::error::Error::new(crate::error::Kind::NotFound, words).into());
        };
        let mut first = [0; NAR.len()];
        let count = read_full(&mut file, &mut first).map_err(crate::error::Error::from)?;
        let first = first.get(..count).unwrap_or_default();
        match Compression::recognised(first) {
            Compression::None if first == NAR => Ok(Self::Nar(path.into())),
            // Brotli has no magic number.
            Compression::None if path.extension().is_some_and(|end| end == "br") => {
                Ok(Self::Nar(path.into()))
            }
            Compression::None if is_tar(&file).map_err(crate::error::Error::from)? => {
                Ok(Self::OciArchive(ImageRef { path: path.into(), tag: None, digest: None }))
            }
            Compression::None if is_exported(&file).map_err(crate::error::Error::from)? => unknown(
                "is what nix-store --export writes; convert it to a cache with \"nix copy --to file://DIRECTORY\"",
            ),
            Compression::None => unknown("is of unknown type: neither a NAR nor an archive of a layout"),
            _ if is_other(&file, path) => {
                unknown("is compressed, but not a NAR; an archive of a layout is not compressed")
            }
            _ => Ok(Self::Nar(path.into())),
        }
    }
}

/// Whether a compressed file certainly contains no NAR. Decompression errors are left to its
/// reader.
fn is_other(mut file: &std::fs::File, name: &Path) -> bool {
    let mut first = [0; NAR.len()];
    let begin = std::io::Seek::rewind(&mut file);
    begin.is_ok()
        && decompressed(file, name, None, Memory::default())
            .is_ok_and(|(mut reader, _)| read_full(&mut reader, &mut first).is_ok() && first != NAR)
}

/// Whether the first header of a file has the magic of a tar.
fn is_tar(file: &std::fs::File) -> std::io::Result<bool> {
    has_at(file, 257, b"ustar")
}

/// Whether a file begins with the number one and a NAR, as an export of several NARs does.
fn is_exported(file: &std::fs::File) -> std::io::Result<bool> {
    Ok(has_at(file, 0, &1u64.to_le_bytes())? && has_at(file, 8, NAR)?)
}

fn has_at(file: &std::fs::File, at: u64, mark: &[u8]) -> std::io::Result<bool> {
    let mut found = vec![0; mark.len()];
    let count = std::os::unix::fs::FileExt::read_at(file, &mut found, at)?;
    Ok(count == mark.len() && found == mark)
}

fn read_full(input: &mut impl Read, room: &mut [u8]) -> std::io::Result<usize> {
    let (count, error) = fill(input, room);
    error.map_or(Ok(count), Err)
}

/// Decompresses a NAR. The compression is `told`, or is detected from its first bytes or its name.
/// Also returns the compression.
pub fn decompressed<'a>(
    mut input: impl Read + 'a,
    name: &Path,
    declared: Option<Compression>,
    memory: Memory,
) -> Result<(Box<dyn Read + 'a>, Compression)> {
    let mut first = [0; 6];
    let count = read_full(&mut input, &mut first).map_err(crate::error::Error::from)?;
    let first = first.get(..count).unwrap_or_default().to_vec();
    let compression = match declared.unwrap_or_else(|| Compression::recognised(&first)) {
        Compression::None if declared.is_none() && name.extension().is_some_and(|end| end == "br") => {
            Compression::Brotli
        }
        other => other,
    };
    let whole = std::io::Cursor::new(first).chain(input);
    let reader = compression.reader(whole, memory);
    let reader = reader.map_err(|error| Fault::refused(Code::BlobCompression, "", error.to_string()))?;
    Ok((reader, compression))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_select_the_type() {
        let dir = StoreDir::default();
        let digits = "7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42";
        let named = StorePath::parse(&format!("{digits}-app.conf")).ok();
        let cache = |directory: &str, named| Reference::Cache {
            directory: directory.into(),
            object: digits.into(),
            named,
        };
        let table = [
            ("nar:a:b".to_owned(), Reference::Nar("a:b".into())),
            (format!("cache:/c#{digits}"), cache("/c", None)),
            (format!("cache:file:///c#{digits}-app.conf"), cache("/c", named.clone())),
            (format!("cache:c#d#/nix/store/{digits}-app.conf"), cache("c#d", named)),
        ];
        for (text, want) in table {
            assert_eq!(Reference::parse(&text, &dir).unwrap(), want, "{text}");
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = |path: &str, tag: Option<&str>, pinned: bool| ImageRef {
            path: path.into(),
            tag: tag.map(str::to_owned),
            digest: pinned.then(|| Hash::parse(&digest, None).unwrap()),
        };
        let table = [
            ("oci:a/b".to_owned(), Reference::Oci(image("a/b", None, false))),
            ("oci:a:b/c".to_owned(), Reference::Oci(image("a:b/c", None, false))),
            ("oci:a:b/c:t".to_owned(), Reference::Oci(image("a:b/c", Some("t"), false))),
            (
                format!("oci-archive:/a.tar:t@{digest}"),
                Reference::OciArchive(image("/a.tar", Some("t"), true)),
            ),
            (format!("oci:a@b@{digest}"), Reference::Oci(image("a@b", None, true))),
            (
                format!("store:/nix/store/{digits}-a"),
                Reference::Store(StorePath::parse(&format!("{digits}-a")).unwrap()),
            ),
            (format!("store:{digest}"), Reference::Automaton(Hash::parse(&digest, None).unwrap())),
        ];
        for (text, want) in table {
            assert_eq!(Reference::parse(&text, &dir).unwrap(), want, "{text}");
        }
        for bad in ["oci:", "oci:a:", "oci::t", "store:", "store:x", "store:sha256:0", "oci:a@sha256:0"] {
            assert!(Reference::parse(bad, &dir).is_err(), "{bad}");
        }
        for bad in ["cache:/c", "cache:#x", "cache:/c#x", "cache:/c#", "", "nar:", "/none/such", "bogus:x"] {
            assert!(Reference::parse(bad, &dir).is_err(), "{bad}");
        }
    }
}
