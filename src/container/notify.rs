//! Hands a seccomp listener to the agent that answers for the container's system calls. Source:
//! runtime-spec config-linux.md, "The Container Process State".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::Serialize;

use super::record::Record;
use super::state::{OCI_VERSION, State, Status};
use crate::error::{Doing, Error, Kind, Result, errno_words};
use crate::init::sync::{self, Answer};
use crate::plan::Plan;
use crate::sys::fd;

/// The message that is sent with the descriptor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    /// Names of the descriptors, in order.
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State,
}

/// Sends the listener and the container process state to the socket that config.json names.
///
/// `pid` is the process that loaded the filter: the container's, or one of `exec`.
pub(crate) fn hand_on(
    record: &Record,
    plan: &Plan,
    pid: i32,
    status: Status,
    listener: &OwnedFd,
) -> Result<()> {
    let Some(wanted) = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()) else {
        return Ok(());
    };
    let document = ProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &wanted.metadata,
        state: State::of(record, status),
    };
    let text = serde_json::to_vec(&document).map_err(|error| Error::new(Kind::System, error.to_string()))?;
    let doing = || format!("linux.seccomp.listenerPath: send the listener to {}", wanted.path);
    let socket = fd::connect_unix(Path::new(&wanted.path)).doing(doing)?;
    fd::send_fd(socket.as_fd(), &text, listener.as_fd()).doing(doing)
}

/// Takes the listener that the child announces as its descriptor `number`, as soon as its filter is
/// loaded: from then on any system call of the child may block on the listener's new owner. `None`:
/// the child sends the listener or a fault, which is the next message.
///
/// Refuses a profile that would block the child forever, with the rule's path: if we may not take
/// the listener (pidfd_getfd(2) requires the rights of ptrace(2)) and a rule notifies on the very
/// call that would send it.
pub(crate) fn take(
    plan: &Plan,
    number: i32,
    pidfd: BorrowedFd<'_>,
    sync: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>> {
    let doing = || "take the listener of linux.seccomp";
    let mut notified = false;
    loop {
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(listener) => return Ok(Some(listener)),
            // Not there yet, but permitted: before the child has our answer its number is free.
            Err(Errno::BADF) if notified => {
                let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                // Until the filter is loaded the child sends only a failure to load it.
                if poll(&mut [PollFd::new(&sync, PollFlags::IN)], Some(&millisecond)).doing(doing)? > 0 {
                    return Ok(None);
                }
            }
            Err(Errno::BADF) => {
                sync::go(sync).doing(doing)?;
                notified = true;
            }
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => {
                let asks = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
                if let Some(path) = asks.and_then(|listener| listener.asks_about_sending.as_ref()) {
                    let words = match error {
                        Errno::NOSYS => "pidfd_getfd(2), which Linux has since 5.6".to_owned(),
                        error => format!(
                            "the right to take the listener from the container's process: pidfd_getfd(2): {}",
                            errno_words(error.raw_os_error())
                        ),
                    };
                    let words = format!("SCMP_ACT_NOTIFY on sendmsg needs {words}");
                    return Err(Error::invalid(&format!("linux.seccomp.{path}"), words));
                }
                sync::answer(sync, Answer::Send).doing(doing)?;
                return Ok(None);
            }
        }
    }
}
