//! Parses a document into values, without the parts that only ignored members may contain.
//!
//! serde skips an unknown member without parsing its value. A `serde_json::Value` accepts less: no
//! lone surrogate, no invalid UTF-8, no number beyond a float, at most 128 levels. Every document
//! that can be read must be convertible to values.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Error, Map, Value};

/// Maximum nesting of structures and lists. No structure of a specification has half as many
/// levels.
pub(super) const DEEPEST: usize = 100;

/// The values of a document with valid syntax. Parts that no value can represent become null.
pub(super) fn lenient(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_str::<&RawValue>(&String::from_utf8_lossy(bytes)).map(|text| value(text, 0))
}

fn value(text: &RawValue, level: usize) -> Value {
    let text = text.get();
    let found = match text.as_bytes().first() {
        _ if level > DEEPEST => None,
        Some(b'{') => {
            let members: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(text);
            let values = |members: BTreeMap<_, _>| {
                members.into_iter().map(|(name, text)| (name, value(text, level + 1))).collect::<Map<_, _>>()
            };
            members.ok().map(|members| Value::Object(values(members)))
        }
        Some(b'[') => {
            let items: Result<Vec<&RawValue>, _> = serde_json::from_str(text);
            items.ok().map(|items| items.into_iter().map(|text| value(text, level + 1)).collect())
        }
        _ => serde_json::from_str(text).ok(),
    };
    found.unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unrepresentable_values_are_null() {
        let table = [
            (r#"{"a":"\ud800","b":[1,"\udc00"]}"#, json!({"a": null, "b": [1, null]})),
            (r#"{"a":1e999,"b":{"c":-1e999,"d":"x"}}"#, json!({"a": null, "b": {"c": null, "d": "x"}})),
            (r#"{"a":{"\ud800":1},"b":2}"#, json!({"a": null, "b": 2})),
        ];
        for (text, want) in table {
            assert_eq!(lenient(text.as_bytes()).unwrap(), want, "{text}");
        }
        for levels in [10, 1000, 100_000] {
            let text = format!("{{\"a\":{}{},\"b\":1}}", "[".repeat(levels), "]".repeat(levels));
            assert_eq!(lenient(text.as_bytes()).unwrap()["b"], 1, "{levels}");
        }
        for text in ["", "{", "[1,", "{\"a\":}", "\"\u{1}\"", "{} {}"] {
            assert!(lenient(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(lenient(b"[\"\xff\", 1]").unwrap()[1], 1);
    }
}
