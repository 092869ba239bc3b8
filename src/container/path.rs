//! A path in the state file: a JSON string, or the list of its bytes if it is not UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

/// For `#[serde(with = "path")]`.
pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => text.serialize(to),
        None => path.as_os_str().as_bytes().serialize(to),
    }
}

/// For `#[serde(with = "path")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Ok(match Form::deserialize(from)? {
        Form::Text(text) => text.into(),
        Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Kept(#[serde(with = "super")] PathBuf);

    #[test]
    fn every_path_is_read_back_as_it_was() {
        for (bytes, want) in [(&b"/b\xc3\xa4"[..], "\"/b\u{e4}\""), (b"/\xff", "[47,255]"), (b"", "\"\"")] {
            let text = serde_json::to_string(&Kept(OsString::from_vec(bytes.to_vec()).into())).unwrap();
            assert_eq!(text, want);
            let Kept(path) = serde_json::from_str(&text).unwrap();
            assert_eq!(path.as_os_str().as_bytes(), bytes);
        }
    }
}
