//! The log: a small `tracing` subscriber that writes the lines that engines read, as text or JSON,
//! to a file or standard error.
//!
//! Nothing is opened without `--log`, and nothing is formatted unless the level allows the message.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::fd::open_to_append;

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)] // a comment would show in help
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// Parses a level by any of runc's or crun's names.
pub(crate) fn level(word: &str) -> std::result::Result<Level, String> {
    match word {
        "panic" | "fatal" | "error" => Ok(Level::ERROR),
        "warning" | "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("must be error, warning, info, debug or trace".into()),
    }
}

/// How long to wait for the reader of a full fifo.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Whether the log goes to a file, and so is not visible on standard error.
static IN_FILE: AtomicBool = AtomicBool::new(false);

/// Starts the log of this process. Appends to the file `path`, if given.
///
/// If the file cannot be opened, the log goes to standard error, where the returned error is
/// visible.
pub(crate) fn start(path: Option<&Path>, format: Format, level: Level) -> Result<()> {
    let (file, opened) = match path.map(open).transpose() {
        Ok(file) => (file, Ok(())),
        Err(error) => (None, Err(error)),
    };
    IN_FILE.store(file.is_some(), Ordering::Relaxed);
    let stopwatch = (level == Level::TRACE).then(|| Stopwatch::begin(micros(SystemTime::now())));
    let log = Log { file, format, level: LevelFilter::from_level(level), stopwatch };
    // Fails only for a second start in one process; the first log is then used.
    let _ = tracing::dispatcher::set_global_default(Dispatch::new(log));
    opened
}

/// Opens without waiting: a fifo may never get a reader.
fn open(path: &Path) -> Result<File> {
    match open_to_append(path) {
        Err(Errno::NXIO) => {
            let words =
                format!("log file {}: it is a fifo that no process reads, or a socket", path.display());
            Err(Error::new(Kind::Usage, words))
        }
        opened => opened.map(File::from).doing(|| format!("open log file {}", path.display())),
    }
}

/// Writes a line. It is lost if a fifo stays full for [`PATIENCE`]: a log must not block the
/// runtime.
fn write(file: &File, line: &[u8]) -> std::io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match (&mut &*file).write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file, PollFlags::OUT)];
                if rustix::event::poll(&mut fds, Some(&PATIENCE))? == 0 {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reports the error that ends this process: in the log, and once on standard error.
pub(crate) fn last_words(error: &Error) {
    tracing::error!("{error}");
    if IN_FILE.load(Ordering::Relaxed) {
        // Plain text, as in runc: engines that capture standard error show it to their user.
        let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
    }
}

/// As [`last_words`], but without a log file only the plain text is written to standard error, for
/// users who read it directly.
pub(crate) fn bare_last_words(error: &Error) {
    if IN_FILE.load(Ordering::Relaxed) {
        return last_words(error);
    }
    let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
}

struct Log {
    file: Option<File>,
    format: Format,
    level: LevelFilter,
    /// Set at the level trace: each line then has its time, and the time since the previous line.
    stopwatch: Option<Stopwatch>,
}

/// Times of this process, in microseconds since 1970. This clock is the same in every time
/// namespace, and may jump.
struct Stopwatch {
    begun: u64,
    last: AtomicU64,
}

/// An event's field with the low half of such a time: when it happened, if that was before it was
/// logged.
const CLOCK: &str = "clock";

impl Stopwatch {
    fn begin(now: u64) -> Self {
        Self { begun: now, last: AtomicU64::new(now) }
    }

    /// Microseconds since the start, and since the previous call.
    fn stop(&self, now: u64, happened: Option<u32>) -> (u64, u64) {
        let before = happened.map_or(0, |clock| (now as u32).wrapping_sub(clock));
        // More than a second before it was logged means that the clock has jumped.
        let at = now.saturating_sub(u64::from(before).min(1_000_000)).max(self.begun);
        let last = self.last.fetch_max(at, Ordering::Relaxed);
        (at - self.begun, at.saturating_sub(last))
    }
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

impl Subscriber for Log {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let now = SystemTime::now();
        message.time(self.stopwatch.as_ref(), micros(now));
        let now = humantime::format_rfc3339_seconds(now);
        let level = *event.metadata().level();
        let line = match self.format {
            Format::Text => text_line(&now, level, &message),
            Format::Json => json_line(&now, level, &message),
        };
        // One write, so that lines of several processes do not mix. An error of the log cannot be
        // reported anywhere.
        let _ = match &self.file {
            Some(file) => write(file, line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    // We use no spans; those of a library must do no harm.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The text of an event and its other fields.
#[derive(Default)]
struct Message {
    words: String,
    fields: Vec<(&'static str, String)>,
}

impl Message {
    /// Replaces the clock field, if there is one, by the times for the log.
    fn time(&mut self, stopwatch: Option<&Stopwatch>, now: u64) {
        let clock = self.fields.iter().position(|(name, _)| *name == CLOCK);
        let happened = clock.map(|at| self.fields.remove(at)).and_then(|(_, value)| value.parse().ok());
        if let Some(stopwatch) = stopwatch {
            let (at, took) = stopwatch.stop(now, happened);
            self.fields.push(("at_us", at.to_string()));
            self.fields.push(("took_us", took.to_string()));
        }
    }

    fn set(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.words = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.to_owned());
    }
}

/// logrus' names of levels, which engines know.
fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn text_line(now: &dyn fmt::Display, level: Level, message: &Message) -> String {
    let mut line = format!("time=\"{now}\" level={} msg={}", word(level), Quoted(&message.words));
    for (name, value) in &message.fields {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
        let _ = if !value.is_empty() && value.chars().all(plain) {
            write!(line, " {name}={value}")
        } else {
            write!(line, " {name}={}", Quoted(value))
        };
    }
    line.push('\n');
    line
}

fn json_line(now: &dyn fmt::Display, level: Level, message: &Message) -> String {
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let mut line = format!(r#"{{"level":"{}","msg":{},"time":"{now}""#, word(level), json(&message.words));
    for (name, value) in &message.fields {
        let _ = write!(line, ",{}:{}", json(name), json(value));
    }
    line.push_str("}\n");
    line
}

/// Text in double quotes with Go's escapes (`%q`), which parsers of logrus lines decode.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x0b' => f.write_str("\\v")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if c.is_ascii() || !is_hidden(c) => f.write_char(c)?,
                c if u32::from(c) < 0x1_0000 => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "\\U{:08x}", u32::from(c))?,
            }
        }
        f.write_char('"')
    }
}

/// Whether the character may be invisible on a terminal, or control it.
fn is_hidden(c: char) -> bool {
    c.escape_debug().len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: &str) -> Message {
        Message { words: words.into(), fields: Vec::new() }
    }

    const NOW: &str = "2026-01-02T03:04:05Z";

    #[test]
    fn text_lines_are_logrus_lines() {
        assert_eq!(
            text_line(&NOW, Level::ERROR, &message("container does not exist")),
            "time=\"2026-01-02T03:04:05Z\" level=error msg=\"container does not exist\"\n"
        );
        let mut more = message("");
        more.fields = vec![("id", "web".into()), ("path", "a b".into()), ("none", String::new())];
        assert_eq!(
            text_line(&NOW, Level::WARN, &more),
            "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"\" id=web path=\"a b\" none=\"\"\n"
        );
    }

    #[test]
    fn text_is_quoted_as_go_does() {
        let table = [
            (r#"exec: "x""#, r#""exec: \"x\"""#),
            ("a\nb\tc\\", r#""a\nb\tc\\""#),
            ("\0\x1b[1m\x7f", r#""\x00\x1b[1m\x7f""#),
            ("grün 漢 'x'", "\"grün 漢 'x'\""),
            ("\u{202e}\u{e0001}\u{85}", r#""\u202e\U000e0001\u0085""#),
        ];
        for (text, want) in table {
            assert_eq!(Quoted(text).to_string(), want);
        }
    }

    #[test]
    fn json_lines_are_one_object_in_engines_order() {
        let mut said = message("a \"b\"\n");
        assert_eq!(
            json_line(&NOW, Level::INFO, &said),
            "{\"level\":\"info\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        said.fields.push(("id", "web".into()));
        let back: serde_json::Value = serde_json::from_str(&json_line(&NOW, Level::DEBUG, &said)).unwrap();
        assert_eq!(back["id"], "web");
        assert_eq!(back["level"], "debug");
    }

    #[test]
    fn events_pass_by_level_and_reach_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log {
            file: Some(open(&path).unwrap()),
            format: Format::Json,
            level: LevelFilter::WARN,
            stopwatch: None,
        };
        tracing::subscriber::with_default(log, || {
            tracing::info!("not seen");
            tracing::warn!(id = "web", pid = 7, "seen {}", 1);
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["msg"], &line["id"], &line["pid"]), (&"seen 1".into(), &"web".into(), &"7".into()));
    }

    #[test]
    fn times_count_from_the_beginning_and_from_the_last() {
        let begun = 7 << 32;
        let watch = Stopwatch::begin(begun);
        assert_eq!(watch.stop(begun + 10, None), (10, 10));
        assert_eq!(watch.stop(begun + 100, Some(60)), (60, 50), "told later than it happened");
        assert_eq!(watch.stop(begun + 110, Some(40)), (40, 0), "before what was told in between");
        assert_eq!(watch.stop(begun + 120, None), (120, 60));
        let mut said = message("x");
        said.fields.push((CLOCK, "130".into()));
        said.time(None, begun + 140);
        assert!(said.fields.is_empty(), "only trace has times");
        said.fields.push((CLOCK, "130".into()));
        said.time(Some(&watch), begun + 140);
        assert_eq!(said.fields, [("at_us", "130".to_owned()), ("took_us", "10".to_owned())]);
    }

    #[test]
    fn every_name_of_a_level() {
        for (name, want) in
            [("error", "error"), ("warn", "warning"), ("warning", "warning"), ("trace", "trace")]
        {
            assert_eq!(word(level(name).unwrap()), want);
        }
        assert!(level("loud").is_err());
    }
}
