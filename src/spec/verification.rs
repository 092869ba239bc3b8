//! The names that demand a verification of the root file system, whether this build supports it or
//! not.

use std::collections::BTreeMap;

/// The prefix of the annotations of `emergence`.
pub const PREFIX: &str = "com.matrixai.emergence.";

/// The file in which the machine's owner demands it for every container.
pub const MACHINE: &str = "/etc/emergence/runtime.json";

/// The annotations that demand it, without their prefix.
pub const DEMANDS: [&str; 2] = ["verify", "expect"];

/// The first annotation that demands a verification.
pub fn demanded(annotations: &BTreeMap<String, String>) -> Option<String> {
    let mut names = DEMANDS.iter().map(|name| format!("{PREFIX}{name}"));
    names.find(|name| annotations.contains_key(name))
}
