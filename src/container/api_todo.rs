//! The verbs of a container, until they are built.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ContainerId;
use super::request::{Create, Run, Settings};
use crate::error::{Error, Kind, Result};
use crate::spec::features::Support;

/// What `state` prints.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: String,
    pub bundle: String,
    pub rootfs: String,
    pub created: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

fn not_built<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "not built yet"))
}

/// Creates.
pub fn create(_: &Settings, _: &Create) -> Result<()> {
    not_built()
}
/// Creates, starts, waits.
pub fn run(_: &Settings, _: &Run) -> Result<i32> {
    not_built()
}
/// Starts.
pub fn start(_: &Settings, _: &ContainerId) -> Result<()> {
    not_built()
}
/// Tells.
pub fn state(_: &Settings, _: &ContainerId) -> Result<State> {
    not_built()
}
/// Tells of all.
pub fn list(_: &Settings) -> Result<Vec<State>> {
    not_built()
}
/// Signals.
pub fn kill(_: &Settings, _: &ContainerId, _: i32, _: bool) -> Result<()> {
    not_built()
}
/// Deletes.
pub fn delete(_: &Settings, _: &ContainerId, _: bool) -> Result<()> {
    not_built()
}
/// Judges a configuration.
pub fn check(_: &Path, _: &Path) -> Vec<String> {
    vec!["not built yet".into()]
}
/// What `features` tells: nothing is built.
pub fn support() -> Support {
    Support::default()
}
