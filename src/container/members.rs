//! Words about members of a document that mean nothing here: likely typing errors.

use serde::de::DeserializeOwned;

use crate::spec::{self, UnknownMember};

/// What `check` says of one.
pub fn words(unknown: &UnknownMember) -> String {
    let meant = unknown.meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"));
    format!("{}: unknown member, which is ignored{meant}", unknown.path())
}

/// Warns of members of `document`, whose content is `bytes` and makes a `T`, that differ from a known one only by case: runc takes them
/// for those. Others may be anybody's extensions.
pub fn warn<T: DeserializeOwned>(document: &str, bytes: &[u8]) {
    for unknown in spec::unknown_members::<T>(bytes).iter().filter(|unknown| unknown.differs_in_case_only()) {
        tracing::warn!("{document}: {}", words(unknown));
    }
}
