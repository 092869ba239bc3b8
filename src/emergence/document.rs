//! Documents: what is read whole, and so has a bound.

use std::io::Read;

use super::refusal::{Code, Fault, Result};
use crate::error::Doing;

/// Bytes of a document at most.
pub(super) const LONGEST: u64 = 4 << 20;

/// All of `input`, which is called `subject`. Refused with `limit.document` when that is more than 4 MiB.
pub fn read_document(input: impl Read, subject: &str) -> Result<Vec<u8>> {
    read_at_most(input, subject, LONGEST)
}

/// The same with another bound, in bytes.
pub(super) fn read_at_most(input: impl Read, subject: &str, most: u64) -> Result<Vec<u8>> {
    // Most are small: then two calls read them.
    let mut bytes = Vec::with_capacity(8 << 10);
    input.take(most + 1).read_to_end(&mut bytes).doing(|| format!("read {subject}"))?;
    if bytes.len() as u64 > most {
        let words = format!("is longer than {most} bytes");
        return Err(Fault::refused(Code::LimitDocument, subject, words));
    }
    Ok(bytes)
}
