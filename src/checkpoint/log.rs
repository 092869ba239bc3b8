//! criu's log, of which an error quotes the line that matters.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// At the end of the log stands what ended it; before, at this level, everything that was done.
const MOST: u64 = 256 * 1024;

/// What an error ends with: the first line of the log that is an error, which those after it come of; or else criu's own
/// `message`; and where the log is.
pub fn quote(log: &Path, message: &str) -> String {
    let found = tail(log).unwrap_or_default();
    let line = first_error(&found).unwrap_or(message);
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

/// Of `(00.017)  Error (criu/files-reg.c:1812): Can't lookup mount`, the words behind the place in criu's source.
fn first_error(log: &str) -> Option<&str> {
    log.lines().find_map(|line| Some(line.split_once(" Error (")?.1.split_once("): ")?.1.trim()))
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
    fn the_first_reason_is_quoted() {
        assert_eq!(first_error(LOG), Some("Can't lookup mount=167 for fd=1 path=/x"));
        assert_eq!(first_error(""), None);
    }

    #[test]
    fn words_stand_in_for_a_missing_log() {
        assert_eq!(quote(Path::new("/nowhere/dump.log"), "no"), ": no (see /nowhere/dump.log)");
        assert_eq!(quote(Path::new(""), ""), "");
    }
}
