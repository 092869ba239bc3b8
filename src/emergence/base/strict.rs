//! Strict reading of this program's own small documents.

use std::collections::BTreeMap;

use super::refusal::{Code, Fault, Result};

/// Reads a document, called `subject` in messages, into a type that denies unknown members. Refused
/// with `doc.unknown-field`, `json.duplicate-key`, or else `json.syntax`, and the member's JSON
/// path.
pub(crate) fn document<T: serde::de::DeserializeOwned>(bytes: &[u8], subject: &str) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed: std::result::Result<T, _> = serde_path_to_error::deserialize(&mut reader);
    let refused = |place: String, error: &serde_json::Error| {
        let words = error.to_string();
        let code = match &words {
            words if words.starts_with("unknown field") => Code::DocUnknownField,
            words if words.starts_with("duplicate field") => Code::JsonDuplicateKey,
            _ => Code::JsonSyntax,
        };
        let place = if place == "." { String::new() } else { format!("{place}: ") };
        Fault::refused(code, subject, format!("{place}{words}"))
    };
    match parsed {
        Ok(value) => reader.end().map(|()| value).map_err(|error| refused(".".to_owned(), &error)),
        Err(error) => Err(refused(error.path().to_string(), error.inner())),
    }
}

/// A map without duplicate members.
pub(crate) fn once<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    struct Once;
    impl<'de> serde::de::Visitor<'de> for Once {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut from: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = from.next_entry::<String, String>()? {
                if map.contains_key(&key) {
                    return Err(serde::de::Error::custom(format!("duplicate field `{key}`")));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }
    from.deserialize_map(Once)
}
