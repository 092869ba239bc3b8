//! `events`: statistics and out-of-memory kills of a container, in runc's JSON format, one object
//! per line.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::ContainerId;
use super::existing::Existing;
use super::request::{Events, Settings};
use super::state::Status;
use crate::cgroup::Stats;
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::clock;

/// `events`: writes to `out` until the container ends or the reader closes it.
pub fn events(settings: &Settings, id: &ContainerId, request: &Events, out: BorrowedFd<'_>) -> Result<()> {
    let container = Existing::open(settings, id)?;
    let not_running = || Error::new(Kind::State, format!("container with id {id} is not running"));
    let status = container.status()?;
    let init = container.record.init.filter(|_| !matches!(status, Status::Stopped | Status::Creating));
    let pidfd = init.ok_or_else(not_running)?.pidfd()?.ok_or_else(not_running)?;
    let group = container.record.group.unwrap_or_default();
    let teller = Teller { id: id.as_ref(), out };
    let Some(interval) = request.interval else {
        return teller.write_line("stats", Some(&group.stats()?)).map(drop);
    };
    let mut oom = group.watch_oom()?;
    // An interval of centuries overflows `Instant`, and needs no end.
    let mut next = Instant::now().checked_add(interval);
    loop {
        let ready = wait(pidfd.as_fd(), out, oom.as_ref().map(|watch| watch.fd()), next)?;
        // The kernel reports an OOM kill up to 10 ms after the death.
        match oom.as_mut().map(|watch| watch.happened()) {
            Some(Some(true)) if !teller.write_line("oom", None)? => return Ok(()),
            Some(None) => oom = None,
            _ => {}
        }
        if ready.ended || ready.unheard {
            return Ok(());
        }
        let now = Instant::now();
        if next.is_some_and(|next| next <= now) {
            if !teller.write_line("stats", Some(&group.stats()?))? {
                return Ok(());
            }
            // Missed intervals are skipped.
            next = next.and_then(|next| next.checked_add(interval)).map(|next| next.max(now));
        }
    }
}

/// Why [`wait`] woke up, besides the clock and OOM kills.
struct Ready {
    /// The container's process has ended.
    ended: bool,
    /// Our output has no reader any more.
    unheard: bool,
}

fn wait(
    pidfd: BorrowedFd<'_>,
    out: BorrowedFd<'_>,
    oom: Option<(BorrowedFd<'_>, PollFlags)>,
    until: Option<Instant>,
) -> Result<Ready> {
    let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    // Errors and hang-ups are reported without being requested.
    fds.push(PollFd::from_borrowed_fd(out, PollFlags::empty()));
    fds.extend(oom.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
    match poll(&mut fds, until.map(clock::left).as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).doing(|| "wait for the container"),
    }
    let has = |at: usize, flags: PollFlags| fds.get(at).is_some_and(|fd| fd.revents().intersects(flags));
    Ok(Ready { ended: has(0, PollFlags::IN), unheard: has(1, PollFlags::ERR | PollFlags::HUP) })
}

/// Writes the output lines.
struct Teller<'a> {
    id: &'a str,
    out: BorrowedFd<'a>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

impl Teller<'_> {
    /// Writes one line. False: the output has no reader any more.
    fn write_line(&self, kind: &str, data: Option<&Stats>) -> Result<bool> {
        let mut text = serde_json::to_vec(&Line { kind, id: self.id, data })
            .map_err(|error| Error::new(Kind::System, format!("write JSON: {error}")))?;
        text.push(b'\n');
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(self.out, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Ok(false),
                Err(Errno::AGAIN) => {
                    // Another process has made it non-blocking.
                    let mut fds = [PollFd::from_borrowed_fd(self.out, PollFlags::OUT)];
                    poll(&mut fds, None).doing(|| "wait for standard output")?;
                }
                Err(error) => return Err(error).doing(|| "write to standard output"),
            }
        }
        Ok(true)
    }
}
