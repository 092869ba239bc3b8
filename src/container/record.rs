//! The content of a container's state file.
//!
//! The status is not kept: it is what the kernel says of the process and of the fifo on which it waits.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::path;
use super::pid::ProcessId;
use crate::cgroup::{Group, ResctrlGroup};
use crate::plan::RuntimeHook;

/// How far the creation has come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// `create` is at work, or was when it was killed.
    Creating,
    /// `create` is done.
    Created,
}

/// The content of the state file. Private to this version of the program; whole at any moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The container's name.
    pub id: String,
    /// The bundle, as it was named.
    #[serde(with = "path")]
    pub bundle: PathBuf,
    /// Whether it goes with the container.
    #[serde(default)]
    pub bundle_goes: bool,
    /// The root file system on the host.
    #[serde(with = "path")]
    pub rootfs: PathBuf,
    /// Moment of creation, RFC 3339.
    pub created: String,
    /// User who created it.
    pub owner: u32,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether its processes have a session keyring of their own.
    pub new_keyring: bool,
    /// How far it is.
    pub phase: Phase,
    /// The runtime that creates it.
    pub creator: ProcessId,
    /// The container's process, once it exists.
    pub init: Option<ProcessId>,
    /// Whether its process is the first of a pid namespace, whose end ends all others in it.
    #[serde(default)]
    pub own_pids: bool,
    /// Its control group, noted before it is made.
    pub group: Option<Group>,
    /// Whether the group has been made, so that what runs in it is the container's; a unit of systemd tells it itself.
    pub owns_group: bool,
    /// Which group that came to be, known to its maker alone: see [`Group::identity`].
    #[serde(skip)]
    pub group_made: Option<u64>,
    /// Its group of shares of caches and memory bandwidth, noted before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<ResctrlGroup>,
    /// When the mounts are made in the runtime's own mount namespace and must be taken away by hand: the mount that the
    /// root file system was on before.
    pub mount_below: Option<u64>,
    /// Where the program may be, for the words of a failing start; empty: there is no program.
    pub programs: Vec<String>,
    /// Paths of the startContainer hooks, for the same.
    pub start_hooks: Vec<String>,
    /// How many createContainer hooks are counted before them.
    pub create_hooks: usize,
    /// Run by `start`.
    pub poststart: Vec<RuntimeHook>,
    /// Run by `delete`.
    pub poststop: Vec<RuntimeHook>,
}

impl Record {
    /// Whether its creator is at work.
    pub fn is_being_created(&self) -> bool {
        self.phase == Phase::Creating && self.creator.is_alive()
    }
}

/// The name of a user of this host; the number where it has none.
pub fn user_name(uid: u32) -> String {
    let named = || {
        let text = fs::read_to_string("/etc/passwd").ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    named().unwrap_or_else(|| uid.to_string())
}
