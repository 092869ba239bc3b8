//! Base64 in its canonical form: padded, on one line. Source: RFC 4648, sections 3.5 and 4.

use data_encoding::BASE64;

/// Decodes text. `None` for text that no encoder writes, such as padding in the middle.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    (encode(&bytes) == text).then_some(bytes)
}

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_encodings_are_accepted() {
        let table: [(&str, &[u8]); 5] =
            [("", b""), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/+/", &[0xfb, 0xff, 0xbf])];
        for (text, bytes) in table {
            assert_eq!(decode(text).unwrap(), bytes);
            assert_eq!(encode(bytes), text);
        }
        for bad in ["Zg=", "Zg", "Zh==", "Z===", "Zg==Zg==", "Zm9v\n", "Zm9 ", " Zm9v", "Zm-v"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
