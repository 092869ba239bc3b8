//! Strict JSON: no duplicate members, a maximum depth, and the path of what does not fit.

mod exact;

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use self::exact::Exact;
use super::refusal::{Code, Fault, Result};

/// Maximum nesting of lists and objects. serde_json's own limit is slightly higher.
const DEEPEST: usize = 100;

/// Prefix of the error for a duplicate member. No other error of a parser begins with it.
const TWICE: &str = "a member occurs twice: ";

/// Parses the document `bytes`, which messages call `subject`.
///
/// Refused: not JSON, or nested deeper than 100 (`json.syntax`); a duplicate member
/// (`json.duplicate-key`).
pub fn parse(bytes: &[u8], subject: &str) -> Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut place = Vec::new();
    let value = Seed { place: &mut place, depth: 0 }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let words = error.to_string();
        match words.strip_prefix(TWICE) {
            Some(words) => Fault::refused(Code::JsonDuplicateKey, subject, format!("the member {words}")),
            None => Fault::refused(Code::JsonSyntax, subject, words),
        }
    })
}

/// Parses a document as [`parse`] does and converts it to `T`. Refused with `json.syntax` and the
/// JSON path of the value that does not fit.
pub fn read<T: DeserializeOwned>(bytes: &[u8], subject: &str) -> Result<T> {
    shaped(parse(bytes, subject)?, subject)
}

/// Converts a document to `T`. Refused with `json.syntax` and the JSON path of the value that does
/// not fit. A list is not accepted for an object.
pub fn shaped<T: DeserializeOwned>(value: Value, subject: &str) -> Result<T> {
    serde_path_to_error::deserialize(Exact(value)).map_err(|error| {
        let path = error.path().to_string();
        let words =
            if path == "." { error.inner().to_string() } else { format!("{path}: {}", error.inner()) };
        Fault::refused(Code::JsonSyntax, subject, words)
    })
}

/// Reads one value and keeps its path.
struct Seed<'a> {
    place: &'a mut Vec<String>,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&mut self) -> std::result::Result<Seed<'_>, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(format!("lists and objects are nested deeper than {DEEPEST}")));
        }
        Ok(Seed { depth: self.depth + 1, place: self.place })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            self.place.push(format!("[{}]", values.len()));
            let value = list.next_element_seed(self.deeper()?)?;
            self.place.pop();
            match value {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> std::result::Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let dot = if self.place.is_empty() { "" } else { "." };
            self.place.push(format!("{dot}{}", key.escape_debug()));
            if members.contains_key(&key) {
                return Err(A::Error::custom(format!("{TWICE}{} occurs twice", self.place.concat())));
            }
            let value = object.next_value_seed(self.deeper()?)?;
            self.place.pop();
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_each_fault() {
        let deep = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
        let table = [
            (r#"{"a":{"b":[{"c":1,"c":2}]}}"#.to_owned(), Code::JsonDuplicateKey, "a.b[0].c"),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), Code::JsonDuplicateKey, "the member a occurs twice"),
            ("{".to_owned(), Code::JsonSyntax, "EOF"),
            (String::new(), Code::JsonSyntax, "EOF"),
            ("{} {}".to_owned(), Code::JsonSyntax, "trailing"),
            ("\"\\ud800\"".to_owned(), Code::JsonSyntax, "escape"),
            (deep(101), Code::JsonSyntax, "deeper than 100"),
            (deep(100_000), Code::JsonSyntax, "deeper than 100"),
        ];
        for (text, code, words) in table {
            let fault = parse(text.as_bytes(), "x.json").unwrap_err();
            assert_eq!(fault.code(), Some(code), "{fault}");
            assert!(fault.to_string().contains(words), "{fault}");
        }
        parse(deep(100).as_bytes(), "x.json").unwrap();
        let text = r#"{"a":[1,-2,3.5,"x",null,true,922337036854775802036854775807],"b":{}}"#;
        // Numbers are unchanged after writing and reading.
        let written = parse(text.as_bytes(), "x").unwrap().to_string();
        assert_eq!(parse(written.as_bytes(), "x").unwrap(), parse(text.as_bytes(), "x").unwrap());
        assert_eq!(parse(text.as_bytes(), "x").unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn input_that_does_not_fit_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            size: u64,
        }
        let list = read::<Vec<Inner>>(br#"[{"size":1},{"size":"2"}]"#, "x.json");
        let fault = list.unwrap_err();
        assert_eq!(fault.code(), Some(Code::JsonSyntax));
        assert!(fault.to_string().contains("[1].size"), "{fault}");
        let fault = read::<Vec<Inner>>(br#"[{"size":1,"more":[null]},[1]]"#, "x.json").unwrap_err();
        assert!(fault.to_string().contains("[1]: invalid type: sequence, expected struct Inner"), "{fault}");
        let optional = read::<Vec<Option<Inner>>>(br#"[{"size":1},null]"#, "x.json").unwrap();
        assert!(matches!(optional[..], [Some(Inner { size: 1 }), None]));
    }
}
