//! Hands a seccomp listener to whoever answers for the container's calls. Source: runtime-spec config-linux.md,
//! "The Container Process State".

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use serde::Serialize;

use super::record::Record;
use super::state::{OCI_VERSION, State, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Plan;
use crate::sys::fd;

/// What goes over the socket with the descriptor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState {
    oci_version: &'static str,
    /// Names of the descriptors, in order.
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: String,
    state: State,
}

/// Another receiver than `listenerPath`.
const RECEIVER: &str = "run.oci.seccomp.receiver";

/// Sends the listener and the container process state to the socket that config.json names.
///
/// `pid` is the process that loaded the filter: the container's, or one that `exec` made.
pub fn hand_on(record: &Record, plan: &Plan, pid: i32, status: Status, listener: &OwnedFd) -> Result<()> {
    let wanted = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
    let path =
        record.annotations.get(RECEIVER).map(String::as_str).or(wanted.map(|wanted| wanted.path.as_str()));
    let path = path.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| {
        Error::invalid("linux.seccomp.listenerPath", "missing; SCMP_ACT_NOTIFY needs a listener")
    })?;
    let document = ProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: wanted.map_or_else(String::new, |wanted| wanted.metadata.clone()),
        state: State::of(record, status),
    };
    let text = serde_json::to_vec(&document).map_err(|error| Error::new(Kind::System, error.to_string()))?;
    let doing = || format!("linux.seccomp.listenerPath: send the listener to {path}");
    let socket = fd::connect_unix(Path::new(path)).doing(doing)?;
    fd::send_fd(socket.as_fd(), &text, listener.as_fd()).doing(doing)
}
