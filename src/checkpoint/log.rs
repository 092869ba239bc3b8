//! Finds the relevant line of criu's log for an error.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The fatal error is at the end of the log; at this log level, everything else precedes it.
const MOST: u64 = 256 * 1024;

/// The end of an error text: the first error line of the log, which causes the later ones, and
/// criu's last one, if it differs; without such lines, criu's own `message`; and the path of the
/// log.
pub(crate) fn quote(log: &Path, message: &str) -> String {
    let found = tail(log).unwrap_or_default();
    let line = match (errors(&found).next(), errors(&found).next_back()) {
        (Some(first), Some(last)) if first != last => format!("{first}; last: {last}"),
        (Some(only), _) => only.to_owned(),
        (None, _) => message.to_owned(),
    };
    let place = if log.as_os_str().is_empty() { String::new() } else { format!(" (see {})", log.display()) };
    if line.is_empty() { place } else { format!(": {line}{place}") }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the text after the source location in lines like `(00.017)  Error
/// (criu/files-reg.c:1812): Can't lookup mount`. The final line, which only says that all has
/// failed, is left out.
fn errors(log: &str) -> impl DoubleEndedIterator<Item = &str> {
    let says_no_more = |words: &&str| !words.ends_with(" FAILED.");
    log.lines().filter_map(words).filter(says_no_more)
}

fn words(line: &str) -> Option<&str> {
    Some(line.split_once(" Error (")?.1.split_once("): ")?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
(00.000032) Version: 4.1.1 (gitid 0)
(00.017001) Error (criu/files-reg.c:1812): Can't lookup mount=167 for fd=1 path=/x
(00.017002) Warn  (criu/image.c:1): Error in words
(00.017003) Unfreezing tasks into 1
(00.017004) Error (criu/cr-dump.c:2111): Dumping FAILED.
";

    #[test]
    fn the_first_and_the_last_reason_are_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let quoted = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            quote(file.path(), "own words").replace(&file.path().display().to_string(), "LOG")
        };
        assert_eq!(quoted(LOG), ": Can't lookup mount=167 for fd=1 path=/x (see LOG)");
        let more =
            LOG.replace("Warn  (criu/image.c:1): Error in words", "Error (criu/x.c:1): Can't dump file 1");
        let want = ": Can't lookup mount=167 for fd=1 path=/x; last: Can't dump file 1 (see LOG)";
        assert_eq!(quoted(&more), want);
        assert_eq!(quoted("(00.1) Error (criu/cr-dump.c:2111): Dumping FAILED.\n"), ": own words (see LOG)");
    }

    #[test]
    fn the_message_replaces_a_missing_log() {
        assert_eq!(quote(Path::new("/nowhere/dump.log"), "no"), ": no (see /nowhere/dump.log)");
        assert_eq!(quote(Path::new(""), ""), "");
    }
}
