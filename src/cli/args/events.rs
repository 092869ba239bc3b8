//! Options of `events`, and Go's way of writing a duration.

use std::time::Duration;

use clap::Args;

use super::switch;

// `events`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct EventsArgs {
    /// Interval between statistics, such as 500ms, 5s or 1m30s
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "5s")]
    pub interval: Duration,
    /// Print the statistics once and exit
    #[arg(long)]
    pub stats: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// The units of Go's time.ParseDuration, in nanoseconds.
const UNITS: &[(&str, f64)] =
    &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Parses an interval in the format of Go's time.ParseDuration, as runc's callers write it: `1m30s`, `1.5h`.
fn interval(text: &str) -> Result<Duration, String> {
    let mut nanoseconds = 0.0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err("empty; write for example 5s".into());
    }
    // Go takes a zero without a unit.
    while !rest.is_empty() && rest != "0" {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) => nanoseconds += number * factor,
            _ => return Err(format!("{text:?} is not a duration; write for example 500ms, 5s or 1m30s")),
        }
        rest = after;
    }
    let interval = Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| "too long".to_owned())?;
    if interval.is_zero() { Err("duration interval must be greater than 0".into()) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_in_go() {
        let table = [
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            ("+1s", Some(1_000)),
            (".5s", Some(500)),
            ("2h0m1s", Some(7_201_000)),
            ("0", None),
            ("0s", None),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("s", None),
            ("1..5s", None),
            ("5d", None),
            ("99999999999999999999h", None),
        ];
        for (text, want) in table {
            assert_eq!(interval(text).ok(), want.map(Duration::from_millis), "{text}");
        }
        assert_eq!(interval("3µs"), Ok(Duration::from_micros(3)));
        assert_eq!(interval("0s").unwrap_err(), "duration interval must be greater than 0");
    }
}
