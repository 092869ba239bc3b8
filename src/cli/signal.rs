//! Signals as given on the command line.

use crate::error::{Error, Kind, Result};
use crate::sys::signal_names;

/// The number of a signal, see [`signal_names::number`].
pub(crate) fn parse(word: &str) -> Result<i32> {
    signal_names::number(word).ok_or_else(|| Error::new(Kind::Usage, format!("unknown signal {word:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Hup", 1),
            ("usr1", libc::SIGUSR1),
            ("9", 9),
            ("0", 0),
            ("37", 37),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-1", 63),
            ("RTMAX-30", 34),
        ];
        for (word, want) in table {
            assert_eq!(parse(word).unwrap(), want, "{word}");
        }
        for bad in
            ["", "SIG", "FOO", "-9", "+9", "65", "99999999999", "RTMIN+31", "RTMAX-31", "RTMIN+-1", "RTMIN3"]
        {
            assert_eq!(parse(bad).unwrap_err().to_string(), format!("unknown signal {bad:?}"));
        }
    }
}
