//! Messages about unknown members of a document: likely typing errors.

use serde::de::DeserializeOwned;

use crate::spec::{self, UnknownMember};

/// The message of `check` about an unknown member.
pub(crate) fn words(unknown: &UnknownMember) -> String {
    let meant = unknown.meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"));
    format!("{}: unknown member, which is ignored{meant}", unknown.path())
}

/// Warns of members of `document` that differ from a known one only by case: runc accepts them as
/// those. `bytes` is its content, of type `T`. Other unknown members may be extensions.
pub fn warn<T: DeserializeOwned>(document: &str, bytes: &[u8]) {
    for unknown in spec::unknown_members::<T>(bytes).iter().filter(|unknown| unknown.differs_in_case_only()) {
        tracing::warn!("{document}: {}", words(unknown));
    }
}
