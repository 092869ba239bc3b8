//! Files that are read whole, up to a limit in bytes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error};

/// Maximum size of a document, in bytes.
pub(crate) const LONGEST: u64 = 4 << 20;

/// Reads all of `input`, which messages call `subject`. Refused with `limit.document` if it is
/// longer than 4 MiB.
pub fn read_document(input: impl Read, subject: &str) -> Result<Vec<u8>> {
    read_at_most(input, subject, LONGEST)
}

/// As [`read_document`], with the limit `most`, in bytes.
pub(crate) fn read_at_most(input: impl Read, subject: &str, most: u64) -> Result<Vec<u8>> {
    // Most documents are small and take two calls of read(2).
    let mut bytes = Vec::with_capacity(8 << 10);
    input.take(most + 1).read_to_end(&mut bytes).doing(|| format!("read {subject}"))?;
    if bytes.len() as u64 > most {
        let words = format!("is longer than {most} bytes");
        return Err(Fault::refused(Code::LimitDocument, subject, words));
    }
    Ok(bytes)
}

/// Opens a regular file for reading. A FIFO is refused without waiting for a writer. `None`: the
/// file does not exist.
pub(crate) fn open_file(path: &Path) -> Result<Option<File>> {
    let doing =
        |error: std::io::Error| Fault::from(Error::from(error).within(format!("open {}", path.display())));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(doing)?,
    };
    let kind =
        FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(|error| doing(error.into()))?.st_mode);
    match kind {
        FileType::RegularFile => Ok(Some(file.into())),
        _ => Err(Fault::refused(Code::TypeUnknown, path.display().to_string(), "is not a file")),
    }
}
