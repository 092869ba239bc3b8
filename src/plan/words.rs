//! Translates names and lists of config.json to the kernel's numbers.

use super::{Judge, Place};

/// Converts a list such as `0-3,7` to a bit mask in 64-bit words.
pub(crate) fn bit_list(text: &str) -> Result<Vec<u64>, String> {
    /// Far above the kernel's MAX_NUMNODES and NR_CPUS.
    const MOST: usize = 16 * 1024;
    let mut words: Vec<u64> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{part:?} is not a number or a range such as 0-3"));
        };
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        if words.len() <= last / 64 {
            words.resize(last / 64 + 1, 0);
        }
        // Whole words at a time: a list may name the same large range repeatedly.
        for (at, word) in words.iter_mut().enumerate().take(last / 64 + 1).skip(first / 64) {
            let (low, high) = (first.saturating_sub(at * 64), (last - at * 64).min(63));
            *word |= u64::MAX << low & u64::MAX >> (63 - high);
        }
    }
    if words.is_empty() && !text.trim().is_empty() {
        return Err(format!("{text:?} has no number"));
    }
    Ok(words)
}

/// The number of a name in `table`; an unknown name is an error at `place`.
pub(super) fn pick(name: &str, table: &[(&str, u32)], place: Place<'_>, judge: &mut Judge) -> Option<u32> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        judge.fault(place, unknown(name, table));
    }
    found
}

/// The error text for a name that is not in `table`.
pub(super) fn unknown<T>(name: &str, table: &[(&str, T)]) -> String {
    let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    format!("{name:?} is unknown; use one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_bits() {
        assert_eq!(bit_list("0-3, 7"), Ok(vec![0b1000_1111]));
        assert_eq!(bit_list("64"), Ok(vec![0, 1]));
        assert_eq!(bit_list(""), Ok(vec![]));
        for bad in ["3-1", "a", "1-", "-1", "99999999", ",", " , "] {
            assert!(bit_list(bad).is_err(), "{bad}");
        }
    }
}
