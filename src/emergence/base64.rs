//! Base64 with one way to write anything: padded, in one line. Source: RFC 4648, sections 3.5 and 4.

use data_encoding::BASE64;

/// The bytes; `None` for what no encoder writes, such as padding in the middle.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    (encode(&bytes) == text).then_some(bytes)
}

/// The text of these bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_encoder_writes() {
        assert_eq!(decode("Zm9v").unwrap(), b"foo");
        assert_eq!(decode("Zg==").unwrap(), b"f");
        for bad in ["Zg=", "Zg", "Zh==", "Zg==Zg==", "Zm9v\n", " Zm9v", "Zm-v"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
