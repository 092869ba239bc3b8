//! Parses values of cgroup files as the kernel does.

/// The default period of cpu.max, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Parses a number as the kernel does (kstrtoull with base 0): decimal, `0x` and hexadecimal, or
/// `0` and octal.
pub(crate) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// `QUOTA [PERIOD]` in microseconds; the quota is `None` for `max`.
pub(crate) fn quota_and_period(value: &str) -> Option<(Option<u64>, u64)> {
    let mut words = value.split_ascii_whitespace();
    let quota = match words.next()? {
        "max" => None,
        quota => Some(quota.parse().ok()?),
    };
    let period = words.next().map_or(Some(CPU_PERIOD), |period| period.parse().ok())?;
    Some((quota, period)).filter(|_| period != 0)
}
