//! The document for our small PID 1 in a container, with the programs to start; it is in the
//! bundle, next to config.json.

use serde::{Deserialize, Serialize};

/// Path of the supervisor's program in a container.
pub const PROGRAM: &str = "/.emergence/init";

/// Path of the supervisor's document in a container.
pub const DOCUMENT: &str = "/.emergence/group.json";

/// Programs under a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProgramGroup {
    /// Which programs are restarted when one ends.
    pub strategy: Strategy,
    /// The maximum number of restarts within `seconds`; one more ends all programs.
    pub restarts: u32,
    /// The period of `restarts`, in seconds.
    pub seconds: u32,
    /// The number of the signal that asks a program to end.
    pub stop_signal: i32,
    /// Seconds between this signal and SIGKILL.
    pub grace: u32,
    /// The programs, in start order. They inherit the supervisor's environment and working
    /// directory.
    pub members: Vec<Member>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name in messages.
    pub name: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// When it is restarted.
    pub restart: Restart,
}

/// Which programs are restarted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the one that ended.
    OneForOne,
    /// All.
    OneForAll,
    /// The one that ended, and those after it.
    RestForOne,
}

/// When a program is restarted.
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
