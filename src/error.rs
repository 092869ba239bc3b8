//! The error type: the failed step, its object, and the kernel's error.
//!
//! It does not depend on other modules. Each module adds its context with [`Doing`], so that a user
//! reads one line, outermost step first: `create web: mount proc on /proc (mounts[2]): operation
//! not permitted`.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;

/// Error class for code that must choose (exit status, clean-up, retry). Messages are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// config.json or another document is broken or requests the impossible.
    Invalid,
    /// No container has this ID.
    NotFound,
    /// A container already has this ID.
    Exists,
    /// The container's status does not allow the command.
    State,
    /// The command line is wrong.
    Usage,
    /// The configuration is valid, but this build or this kernel cannot do it.
    Unsupported,
    /// The kernel or another program refused.
    System,
    /// The kernel refused to run the container's program, after everything had been set up.
    NotExecuted,
}

#[derive(Debug)]
enum Cause {
    Os(io::Error),
    Words(String),
}

/// An error with the steps that led to it.
#[derive(Debug)]
pub struct Error {
    doing: Vec<String>,
    also: Vec<String>,
    kind: Kind,
    cause: Cause,
}

/// The result of nearly every function here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error detected by the runtime itself.
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self { doing: Vec::new(), also: Vec::new(), kind, cause: Cause::Words(words.into()) }
    }

    /// An error in config.json, at `path` (a JSON path such as `mounts[2].options[0]`).
    pub fn invalid(path: &str, words: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, format!("{path}: {words}"))
    }

    /// The error class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno, if it is the kernel's error.
    pub fn errno(&self) -> Option<i32> {
        match &self.cause {
            Cause::Os(error) => error.raw_os_error(),
            Cause::Words(_) => None,
        }
    }

    /// Adds an outer step.
    #[must_use]
    pub fn within(mut self, step: impl Into<String>) -> Self {
        self.doing.push(step.into());
        self
    }

    /// Changes the kind; the message stays.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds the error of the clean-up after this one, if that failed too.
    #[must_use]
    pub fn after_cleaning(mut self, cleaned: Result<()>) -> Self {
        self.also.extend(cleaned.err().map(|other| other.to_string()));
        self
    }
}

/// Maximum length of a JSON path in a message, in bytes.
pub const LONGEST_PATH: usize = 300;
/// Maximum length of the text about a field, in bytes: values in it may be long.
pub const LONGEST_WORDS: usize = 800;
/// Maximum length of one part of a message, in bytes. A hook's output is one part.
const LONGEST_PART: usize = 5000;

/// Cuts the middle of `text` if it is longer than `most` bytes: the start of a long value and the
/// text after it stay.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=most * 2 / 3).rev().find(is_boundary).unwrap_or_default();
    let end = (text.len() - most / 3..=text.len()).find(is_boundary).unwrap_or(text.len());
    let (head, tail) = (text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default());
    Cow::Owned(format!("{head}… ({} bytes left out) …{tail}", end - start))
}

/// Writes text on one line: control characters are escaped (`\n`, `\u{1b}`). Names come from
/// configurations and images, and must neither break a line of the log nor control a terminal.
pub struct OneLine<'a, 'b>(pub &'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            self.0.write_str(plain)?;
            let control = part.get(plain.len()..).unwrap_or_default();
            write!(self.0, "{}", control.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = OneLine(f);
        for step in self.doing.iter().rev() {
            write!(f, "{}: ", shortened(step, LONGEST_WORDS))?;
        }
        match &self.cause {
            Cause::Os(error) => write!(f, "{}", OsWords(error))?,
            Cause::Words(words) => f.write_str(&shortened(words, LONGEST_PART))?,
        }
        for other in &self.also {
            write!(f, " (and while cleaning up: {})", shortened(other, LONGEST_PART))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Os(error) => Some(error),
            Cause::Words(_) => None,
        }
    }
}

/// The kernel's error in the form that engines look for: `permission denied`, without a number
/// after it.
struct OsWords<'a>(&'a io::Error);

impl fmt::Display for OsWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = match text.rfind(" (os error ") {
            Some(at) => text.get(..at).unwrap_or(&text),
            None => &text,
        };
        let mut chars = text.chars();
        match (chars.next(), text.chars().nth(1)) {
            (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
                write!(f, "{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => f.write_str(text),
        }
    }
}

/// The text of an errno, as in an [`Error`].
pub fn errno_words(errno: i32) -> String {
    OsWords(&io::Error::from_raw_os_error(errno)).to_string()
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self { doing: Vec::new(), also: Vec::new(), kind: Kind::System, cause: Cause::Os(error) }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// Adds the failed step to an error.
pub trait Doing<T> {
    /// Adds the step and its object, lazily: nothing is formatted on success.
    fn doing<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().within(step()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_outermost_first() {
        let failed: std::result::Result<(), io::Error> = Err(io::Error::from_raw_os_error(libc::EACCES));
        let error = failed.doing(|| "write memory.max").doing(|| "create web");
        assert_eq!(error.unwrap_err().to_string(), "create web: write memory.max: permission denied");
    }

    #[test]
    fn the_kernels_error_is_the_source() {
        use std::error::Error as _;
        let failed: std::result::Result<(), io::Error> = Err(io::Error::from_raw_os_error(libc::EACCES));
        let error = failed.doing(|| "write memory.max").unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(libc::EACCES));
        assert!(Error::invalid("mounts[0]", "wrong").source().is_none());
    }

    #[test]
    fn a_long_value_loses_its_middle() {
        assert_eq!(shortened("short", 5), "short");
        let value = "ä".repeat(35_000);
        let words = shortened(&format!("{value:?} is unknown"), LONGEST_WORDS).into_owned();
        assert!(words.len() < LONGEST_WORDS + 50, "{words}");
        assert!(words.starts_with("\"ää") && words.ends_with("ä\" is unknown"), "{words}");
        let error =
            Error::invalid("mounts[0]", format!("{value} is unknown")).within(format!("create {value}"));
        let text = error.to_string();
        assert!(text.len() < LONGEST_PART + LONGEST_WORDS + 100 && text.ends_with(" is unknown"), "{text}");
    }

    #[test]
    fn names_cannot_break_the_line() {
        let error = Error::invalid("mounts[0]", "\u{e4}\n\n\x1b[2J\"\\").within("a\rb");
        assert_eq!(error.to_string(), "a\\rb: mounts[0]: \u{e4}\\n\\n\\u{1b}[2J\"\\");
    }

    #[test]
    fn clean_up_is_added_not_put_in_place() {
        let error = Error::new(Kind::Exists, "taken")
            .after_cleaning(Err(io::Error::from_raw_os_error(libc::EBUSY).into()));
        assert_eq!(error.to_string(), "taken (and while cleaning up: device or resource busy)");
        assert_eq!(error.kind(), Kind::Exists);
    }
}
