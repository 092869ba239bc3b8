//! Canonical JSON, the form that digests are computed of. Source: RFC 8785, for documents without
//! fractions.

use serde_json::{Number, Value};

use super::refusal::{Code, Fault, Result};

/// From here on, readers of JSON may disagree on integers.
const UNSAFE: u64 = 1 << 53;

/// Writes `value`. Refused with `json.syntax`: a number with a fraction or an exponent, or not
/// between -2^53 and 2^53.
pub fn canonical(value: &Value) -> Result<Vec<u8>> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text.into_bytes())
}

/// Recursion is as deep as the document, whose reader limits the depth.
fn write(value: &Value, to: &mut String) -> Result<()> {
    match value {
        Value::Null => to.push_str("null"),
        Value::Bool(true) => to.push_str("true"),
        Value::Bool(false) => to.push_str("false"),
        Value::Number(number) => to.push_str(&integer(number)?),
        Value::String(text) => string(text, to),
        Value::Array(list) => {
            to.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                write(value, to)?;
            }
            to.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            to.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                string(key, to);
                to.push(':');
                write(value, to)?;
            }
            to.push('}');
        }
    }
    Ok(())
}

fn integer(number: &Number) -> Result<String> {
    let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match size {
        Some(size) if size < UNSAFE => Ok(number.to_string()),
        _ => {
            let words = "is not an integer between -2^53 and 2^53";
            Err(Fault::refused(Code::JsonSyntax, number.to_string(), words))
        }
    }
}

fn string(text: &str, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\u{8}' => to.push_str("\\b"),
            '\t' => to.push_str("\\t"),
            '\n' => to.push_str("\\n"),
            '\u{c}' => to.push_str("\\f"),
            '\r' => to.push_str("\\r"),
            control if control < ' ' => to.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => to.push(plain),
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_write_it() {
        let table = [
            (r#" { "b" : [ 1 , -2 , 0 ] , "a" : null } "#, r#"{"a":null,"b":[1,-2,0]}"#),
            // A surrogate pair sorts before U+FB33, though its code point is greater.
            (
                r#"{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3,"\r":4,"1":5,"\u0080":6,"\u00f6":7}"#,
                "{\"\\r\":4,\"1\":5,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}",
            ),
            (
                r#""\u0000\u001f\b\t\n\f\r\"\\\/\u007f\u20ac""#,
                "\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\/\u{7f}\u{20ac}\"",
            ),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
        ];
        for (text, want) in table {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(String::from_utf8(canonical(&value).unwrap()).unwrap(), want, "{text}");
        }
        for bad in ["1.5", "1.0", "1e3", "-0", "9007199254740992", "-9007199254740992", "[{\"a\":0.1}]"] {
            let value: Value = serde_json::from_str(bad).unwrap();
            assert_eq!(canonical(&value).unwrap_err().code(), Some(Code::JsonSyntax), "{bad}");
        }
    }
}
