//! The content of a container's state file.
//!
//! The status is not recorded: it follows from the state of the process and of the fifo that it
//! waits on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::path;
use super::pid::ProcessId;
use crate::cgroup::{Group, ResctrlGroup};
use crate::plan::RuntimeHook;
use crate::sys::small_file;

/// The phase of the creation.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// `create` runs, or was killed while it ran.
    Creating,
    /// `create` is done.
    Created,
}

/// The content of the state file. Its format is private to this version of the program. Written
/// atomically.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The container's name.
    pub id: String,
    /// The bundle's path, as given.
    #[serde(with = "path")]
    pub bundle: PathBuf,
    /// Whether the bundle is deleted with the container.
    #[serde(default)]
    pub bundle_goes: bool,
    /// The root file system on the host.
    #[serde(with = "path")]
    pub rootfs: PathBuf,
    /// Time of creation, RFC 3339.
    pub created: String,
    /// UID of the user that created it.
    pub owner: u32,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether its processes have a session keyring of their own.
    pub new_keyring: bool,
    /// The phase of its creation.
    pub phase: Phase,
    /// The runtime that creates it.
    pub creator: ProcessId,
    /// The container's process, at the latest when its creation is done: until then its cgroup may
    /// identify it.
    pub init: Option<ProcessId>,
    /// Whether its process is the init of a pid namespace, whose end kills all others in it.
    #[serde(default)]
    pub own_pids: bool,
    /// Its cgroup, recorded before it is created.
    pub group: Option<Group>,
    /// Whether the cgroup was created, so that the processes in it are the container's; a systemd
    /// unit identifies itself.
    pub owns_group: bool,
    /// The identity of the created cgroup, known only to its creator: [`Group::identity`].
    #[serde(skip)]
    pub group_made: Option<u64>,
    /// Its resctrl group for shares of caches and memory bandwidth, recorded before it is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<ResctrlGroup>,
    /// If the mounts are in the runtime's own mount namespace and must be unmounted explicitly: the
    /// ID of the mount that the root file system was on before.
    pub mount_below: Option<u64>,
    /// Candidate paths of the program, for the message of a failing start; empty: there is no
    /// program.
    pub programs: Vec<String>,
    /// Paths of the startContainer hooks, for the same message.
    pub start_hooks: Vec<String>,
    /// Number of createContainer hooks, which are counted before them.
    pub create_hooks: usize,
    /// Hooks that `start` runs.
    pub poststart: Vec<RuntimeHook>,
    /// Hooks that `delete` runs.
    pub poststop: Vec<RuntimeHook>,
}

impl Record {
    /// Whether its creator is still creating it.
    pub fn is_being_created(&self) -> bool {
        self.phase == Phase::Creating && self.creator.is_alive()
    }
}

/// The name of a user of this host; its UID if it has none.
pub(crate) fn user_name(uid: u32) -> String {
    UserNames::default().of(uid).to_owned()
}

/// Names of users of this host, from /etc/passwd, which is read once.
#[derive(Default)]
pub(super) struct UserNames {
    passwd: Option<String>,
    known: BTreeMap<u32, String>,
}

impl UserNames {
    /// The user's name; its UID if it has none.
    pub(super) fn of(&mut self, uid: u32) -> &str {
        let Self { passwd, known } = self;
        known.entry(uid).or_insert_with(|| {
            let text = passwd.get_or_insert_with(|| {
                let text = small_file::read_at(CWD, "/etc/passwd").unwrap_or_default();
                String::from_utf8(text).unwrap_or_default()
            });
            let mut names = text.lines().filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
            });
            names.next().unwrap_or_else(|| uid.to_string())
        })
    }
}
