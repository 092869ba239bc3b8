//! The name of a container.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// A name that is safe as one path component below the state directory: 1 to 1024 characters of
/// letters, digits, `_`, `+`, `-`, `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// The maximum length of an ID; a longer one is refused before a path is built from it.
const LONGEST: usize = 1024;

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| {
            Err(Error::new(Kind::Usage, format!("invalid container ID format: {text:?}: {why}")))
        };
        if text.is_empty() {
            return Err(Error::new(Kind::Usage, "container id cannot be empty"));
        }
        if text.len() > LONGEST {
            return Err(Error::new(
                Kind::Usage,
                format!("invalid container id: longer than {LONGEST} characters"),
            ));
        }
        if text == "." || text == ".." {
            return bad("it names a directory".into());
        }
        match text.char_indices().find(|&(_, c)| !(c.is_ascii_alphanumeric() || "_+-.".contains(c))) {
            Some((at, found)) => bad(format!("{found:?} at {at}; allowed are letters, digits, and _ + - .")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_file_names() {
        for good in ["a", "A-b_c+d.e", "..a", "0", &"x".repeat(1024)] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(1025)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
    }
}
