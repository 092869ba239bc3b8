//! The state document of the specification, and the status it tells. Source: runtime-spec runtime.md, "State".

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, START_FIFO};
use super::record::{Phase, Record, user_name};
use crate::cgroup::Group;
use crate::error::{Doing, Result};

/// Version of the specification that the state document follows.
pub const OCI_VERSION: &str = "1.3.0";

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// All is set up; the program has not been started.
    Created,
    /// The program runs.
    Running,
    /// Created or running, but the kernel lets none of its processes go on. runc's word, not the specification's.
    Paused,
    /// The program has ended, or the creation was cut off.
    Stopped,
}

impl Status {
    /// What the kernel says: whether the process lives, whether its group is frozen, and whether it waits at its fifo.
    pub fn of(record: &Record, folder: &Folder) -> Result<Self> {
        if record.phase == Phase::Creating {
            return Ok(if record.creator.is_alive() { Status::Creating } else { Status::Stopped });
        }
        if !record.init.is_some_and(|init| init.is_alive()) {
            return Ok(Status::Stopped);
        }
        if record.group.as_ref().map_or(Ok(false), Group::is_frozen)? {
            return Ok(Status::Paused);
        }
        match folder.open_fifo(START_FIFO, OFlags::WRONLY | OFlags::NONBLOCK) {
            // Somebody reads: the process is before its execve.
            Ok(_) => Ok(Status::Created),
            // ENXIO: nobody does any more. ENOENT: there never was one, because `run` needs none.
            Err(Errno::NXIO | Errno::NOENT) => Ok(Status::Running),
            Err(error) => Err(error).doing(|| format!("open {}", folder.path().join(START_FIFO).display())),
        }
    }

    /// The specification's word; `paused` is runc's.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What `state` prints, and hooks read; with runc's members in runc's order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification that this document follows.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The container's process; 0 when it has none.
    pub pid: i32,
    /// See [`Status`].
    pub status: String,
    /// The bundle, absolute. JSON has no other bytes than those of UTF-8: for each other one there is a U+FFFD.
    pub bundle: String,
    /// The same, as the kernel knows it.
    #[serde(skip)]
    pub bundle_path: PathBuf,
    /// The root file system on the host.
    pub rootfs: String,
    /// Moment of creation, RFC 3339.
    pub created: String,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who created it.
    pub owner: String,
}

impl State {
    /// The document for a container in this status.
    pub fn of(record: &Record, status: Status) -> Self {
        let pid = record.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        State {
            oci_version: OCI_VERSION.into(),
            id: record.id.clone(),
            pid,
            status: status.word().into(),
            bundle: record.bundle.to_string_lossy().into_owned(),
            bundle_path: record.bundle.clone(),
            rootfs: record.rootfs.to_string_lossy().into_owned(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: user_name(record.owner),
        }
    }
}
