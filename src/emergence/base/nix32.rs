//! Nix's base-32 encoding, checked against Nix's output.
//!
//! The bytes are one number, least significant byte first. Its digits are written most significant
//! first. So the first character holds the remaining high bits; its bits beyond the bytes must be
//! 0.

/// No e, o, t and u.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Length of the encoding of `bytes` bytes, in characters.
pub(crate) const fn length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Encodes `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let digit = |at: usize| (0..5).fold(0, |value, place| value | usize::from(bit(at * 5 + place)) << place);
    let digits = (0..length(bytes.len())).rev().map(digit);
    digits.filter_map(|digit| DIGITS.get(digit)).map(|byte| char::from(*byte)).collect()
}

/// Decodes `text` into `bytes`. `None`: other characters, another length, or bits set beyond the
/// bytes.
pub(crate) fn decode(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != length(bytes.len()) {
        return None;
    }
    bytes.fill(0);
    for (at, character) in text.bytes().rev().enumerate() {
        let digit = DIGITS.iter().position(|known| *known == character)?;
        for place in (0..5).filter(|place| digit >> place & 1 == 1) {
            let bit = at * 5 + place;
            *bytes.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_bits_and_strange_characters_are_refused() {
        let mut byte = [0];
        assert_eq!(decode("40", &mut byte), Some(()));
        assert_eq!(byte, [0x80]);
        for bad in ["80", "4e", "4", "400", "4\u{e9}", ""] {
            assert_eq!(decode(bad, &mut byte), None, "{bad}");
        }
        assert_eq!(encode(&[]), "");
        assert_eq!(decode("", &mut []), Some(()));
    }

    #[test]
    fn every_length_comes_back() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37) ^ 0xa5).collect();
            let mut back = vec![0; bytes.len()];
            assert_eq!(decode(&encode(&bytes), &mut back), Some(()));
            assert_eq!(back, bytes);
        }
    }
}
