//! What our small pid 1 starts in a container: a document of ours, which lies in the bundle beside config.json.

use serde::{Deserialize, Serialize};

/// Where the supervisor's program and its document are in a container.
pub const PROGRAM: &str = "/.emergence/init";

/// See [`PROGRAM`].
pub const DOCUMENT: &str = "/.emergence/group.json";

/// Programs under a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Which are started again when one ends.
    pub strategy: Strategy,
    /// More than so many restarts …
    pub restarts: u32,
    /// … within so many seconds end them all.
    pub seconds: u32,
    /// The signal, by its number, that asks a program to end.
    pub stop_signal: i32,
    /// Seconds that they have to end when they are asked to.
    pub grace: u32,
    /// The programs, in the order in which they are started. Environment and working folder are the supervisor's own.
    pub members: Vec<Member>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What messages call it.
    pub name: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
}

/// Which programs are started again when one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// That one.
    OneForOne,
    /// All.
    OneForAll,
    /// That one, and those behind it.
    RestForOne,
}

/// When a program is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Whenever it ends.
    Permanent,
    /// When it fails.
    Transient,
    /// Never.
    Temporary,
}
