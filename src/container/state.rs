//! The state document of the specification, and the status in it. Source: runtime-spec runtime.md,
//! "State".

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, START_FIFO};
use super::record::{Phase, Record, user_name};
use crate::cgroup::Group;
use crate::error::{Doing, Result};

/// Version of the specification that the state document follows.
pub const OCI_VERSION: &str = "1.3.0";

/// Life-cycle status of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` runs.
    Creating,
    /// All is set up; the program has not been started.
    Created,
    /// The program runs.
    Running,
    /// Created or running, but its processes are frozen. From runc, not in the specification.
    Paused,
    /// The program has ended, or the creation was interrupted.
    Stopped,
}

impl Status {
    /// The status, from the kernel: whether the process lives, whether its cgroup is frozen, and
    /// whether it waits at its fifo.
    pub fn of(record: &Record, directory: &Directory) -> Result<Self> {
        if record.phase == Phase::Creating {
            return Ok(if record.creator.is_alive() { Status::Creating } else { Status::Stopped });
        }
        if !record.init.is_some_and(|init| init.is_alive()) {
            return Ok(Status::Stopped);
        }
        if record.group.as_ref().map_or(Ok(false), Group::is_frozen)? {
            return Ok(Status::Paused);
        }
        match directory.open_fifo(START_FIFO, OFlags::WRONLY | OFlags::NONBLOCK) {
            // The fifo has a reader: the process is before its execve.
            Ok(_) => Ok(Status::Created),
            // ENXIO: it has no reader any more. ENOENT: there never was one, as `run` needs none.
            Err(Errno::NXIO | Errno::NOENT) => Ok(Status::Running),
            Err(error) => {
                Err(error).doing(|| format!("open {}", directory.path().join(START_FIFO).display()))
            }
        }
    }

    /// The status as in the specification; `paused` is runc's.
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

/// The document that `state` prints and hooks read; with runc's members in runc's order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification that this document follows.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The PID of the container's process; 0 if it has none.
    pub pid: i32,
    /// The status, as [`Status::word`] returns it.
    pub status: String,
    /// The bundle's absolute path. JSON is UTF-8: each invalid sequence is replaced by U+FFFD.
    pub bundle: String,
    /// The bundle's path as bytes.
    #[serde(skip)]
    pub bundle_path: PathBuf,
    /// The root file system on the host.
    pub rootfs: String,
    /// Time of creation, RFC 3339.
    pub created: String,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user that created it.
    pub owner: String,
}

impl State {
    /// The document for a container in this status.
    pub fn of(record: &Record, status: Status) -> Self {
        Self::with_owner(record, status, user_name(record.owner))
    }

    /// As [`State::of`]. `owner`: the name of the user that created the container.
    pub fn with_owner(record: &Record, status: Status, owner: String) -> Self {
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
            owner,
        }
    }
}
