//! config.json exactly as written: no defaults filled in, nothing validated. Source: OCI
//! runtime-spec 1.3.0, config.md.
//!
//! Own types instead of oci-spec's, for reasons measured in docs/decisions.md: unknown capabilities
//! must be a warning and every value needs a JSON path, so names stay strings here and `plan`
//! validates them. A test compares with oci-spec.

#![forbid(unsafe_code)]

pub mod defaults;
pub mod features;
pub mod group;
mod lenient;
pub mod linux;
mod members;
mod outline;
mod places;
mod read;
pub mod resources;
mod survey;
pub mod verification;

pub use linux::*;
pub use members::{UnknownMember, unknown_members};
pub use places::Position;
pub use read::{ParseError, parse, parse_mounts, parse_process, parse_resources};
pub use resources::*;
pub use survey::{Survey, survey};

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Go writes an empty list as `null`: both mean "not given".
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The whole of config.json.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification that the file follows (SemVer).
    pub oci_version: String,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The process in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Host name inside.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// NIS domain name inside.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// File systems to mount, in this order.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at certain points of the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Arbitrary metadata.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Linux-specific settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// config.md, "Root".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Whether `/` is read-only inside.
    #[serde(default, deserialize_with = "or_default")]
    pub readonly: bool,
}

/// config.md, "Mounts".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path inside; a relative one is relative to `/`.
    pub destination: String,
    /// File system type.
    #[serde(
        rename = "type",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub kind: String,
    /// Device name, or the path to bind; a relative path is relative to the bundle.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Flags, propagation, extensions, and data for the file system.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User mapping of an idmapped mount.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mapping of an idmapped mount.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// config.md, "Process"; also the whole of process.json.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether the process gets a terminal of its own.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The terminal's size in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// User and groups of the process.
    #[serde(default, deserialize_with = "or_default")]
    pub user: User,
    /// The program and its arguments.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Each is `NAME=value`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory, absolute inside the container.
    pub cwd: String,
    /// The five sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// setrlimit(2).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// AppArmor profile for the program.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub apparmor_profile: String,
    /// -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// sched_setattr(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// SELinux label for the program.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub selinux_label: String,
    /// ioprio_set(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPUs for the runtime's child while it enters (`exec`), and for the program afterwards.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// Rows and columns, in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// config.md, "POSIX-platform User".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id inside.
    #[serde(default, deserialize_with = "or_default")]
    pub uid: u32,
    /// Group id inside.
    #[serde(default, deserialize_with = "or_default")]
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups inside.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// Names such as `CAP_CHOWN`, as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // capabilities(7) describes the five sets
pub struct Capabilities {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// One setrlimit(2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hard limit.
    pub hard: u64,
    /// Soft limit.
    pub soft: u64,
}

/// config.md, "scheduler".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Scheduler {
    /// `SCHED_…`.
    pub policy: String,
    /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
    #[serde(default, deserialize_with = "or_default")]
    pub nice: i32,
    /// Static priority, for SCHED_FIFO and SCHED_RR.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Nanoseconds, for SCHED_DEADLINE.
    #[serde(default, deserialize_with = "or_default")]
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    #[serde(default, deserialize_with = "or_default")]
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    #[serde(default, deserialize_with = "or_default")]
    pub period: u64,
}

/// config.md, "ioPriority".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_…`.
    #[serde(default, deserialize_with = "or_default")]
    pub class: String,
    /// 0 (highest) to 7.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i64,
}

/// Lists such as `0-3,7`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ExecCpuAffinity {
    /// Before the process enters the container's cgroup.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub initial: String,
    /// Afterwards.
    #[serde(
        rename = "final",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub last: String,
}

/// config.md, "POSIX-platform Hooks".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names are the specification's, in the order of a container's life
pub struct Hooks {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One program to run; `args[0]` is its own name, as for execve(2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// The argument vector; empty: only `path`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The whole environment; `None`: the hook inherits one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
