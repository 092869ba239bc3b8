//! A number of bytes as users write it.

/// Bytes of a size as runc's users write it: a number, perhaps with a fraction, and perhaps one of k, m, g, t, p for a power
/// of 1024, followed by b or ib; -1 is no limit.
pub(crate) fn size(text: &str) -> std::result::Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let wrong = || "not a size: write bytes, or a number with k, m, g, t or p, or -1 for no limit".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1024_i64.pow(power);
    let large = || "more bytes than there can be".to_owned();
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(large);
    }
    if !number.contains('.') {
        return Err(if number.is_empty() { wrong() } else { large() });
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(large()) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        let table = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64k", Some(65536)),
            ("64K", Some(65536)),
            ("64KiB", Some(65536)),
            ("1 mb", Some(1 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2t", Some(1 << 41)),
            ("32b", Some(32)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("9007199254740992p", None),
            ("-2", None),
            ("-1k", None),
            ("", None),
            ("m", None),
            (".", None),
            ("1.2.3m", None),
            ("1x", None),
            ("1  m", None),
            ("1e3", None),
            ("٣", None),
        ];
        for (text, want) in table {
            assert_eq!(size(text).ok(), want, "{text:?}");
        }
    }
}
