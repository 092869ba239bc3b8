//! Waits for a container's process in the foreground: its terminal, our signals, its exit status,
//! in one poll(2) loop.
//!
//! Without a terminal the process has our standard files, and only signals are forwarded. With one:
//!
//! ```text
//! our stdin  ──▶ master ┐        ┌ the process
//!                       ├─ pty ──┤
//! our stdout ◀── master ┘        └
//! ```

mod relay;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

use super::sd_notify::Listener;
use crate::error::{Doing, Result};
use crate::sys::{process, signal};
use relay::{Host, Relay};

pub(crate) use relay::Terminal;

/// Our own signals, blocked and readable. Exists from before the clone until the end of the
/// uninterruptible part: dropping it restores the mask and discards signals that came too late to
/// be forwarded.
pub(crate) struct Foreground {
    signals: OwnedFd,
    original: signal::Set,
}

/// Signals that no process can block. All others are forwarded, including the stop signals of job
/// control: as with runc and crun the container's process stops, not the runtime. A crash of the
/// runtime itself (SIGSEGV) ends it even while the signal is blocked.
const NOT_OURS: [i32; 2] = [libc::SIGKILL, libc::SIGSTOP];

/// The highest signal number.
const LAST: i32 = 64;

fn forwardable() -> impl Iterator<Item = i32> {
    (1..=LAST).filter(|signal| !NOT_OURS.contains(signal))
}

/// A child of ours that runs in the foreground.
pub(crate) struct Program<'a> {
    /// Its PID.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: BorrowedFd<'a>,
    /// Its terminal, which is copied to ours.
    pub terminal: Option<Terminal>,
    /// Receives its readiness message, if a service manager waits for it.
    pub listener: Option<Listener>,
}

impl Foreground {
    /// Blocks every signal that is forwarded. Call it before the clone; otherwise an early signal
    /// ends us.
    pub(crate) fn prepare() -> io::Result<Self> {
        let set = signal::set(forwardable());
        let original = signal::block(&set)?;
        match signal::open(&set) {
            Ok(signals) => Ok(Self { signals, original }),
            Err(error) => {
                signal::set_mask(&original)?;
                Err(error)
            }
        }
    }

    /// Waits for a child of ours, forwards signals and copies its terminal; then reaps it. Also
    /// reaps orphans, if they are reparented to us.
    ///
    /// Returns its exit status, or 128 + the signal that killed it. Our own terminal's mode is
    /// always restored.
    pub(crate) fn wait(&self, program: Program<'_>) -> Result<i32> {
        self.wait_at(&Host::standard(), program)
    }

    fn wait_at(&self, host: &Host<'_>, program: Program<'_>) -> Result<i32> {
        let Program { pid, pidfd, terminal, listener } = program;
        let relay = terminal.map(|terminal| Relay::start(terminal, host)).transpose()?;
        let reap = signal::adopts_orphans().doing(|| "ask whether we are a subreaper")?;
        let mut watch = Watch {
            signals: self.signals.as_fd(),
            pidfd,
            pid,
            reap,
            relay,
            listener,
            held: false,
            ended: None,
        };
        loop {
            watch.turn()?;
            if let Some(exit) = watch.ended
                && watch.relay.as_ref().is_none_or(Relay::is_done)
            {
                watch.be_heard();
                return Ok(exit.status());
            }
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // A pending signal would end us when the mask is restored, and replace the container's
        // status.
        while let Ok(Some(_)) = signal::next(self.signals.as_fd()) {}
        // The kernel supplied this mask; a failure cannot be handled.
        let _ = signal::set_mask(&self.original);
    }
}

/// The state of the poll loop.
struct Watch<'a> {
    signals: BorrowedFd<'a>,
    pidfd: BorrowedFd<'a>,
    pid: i32,
    reap: bool,
    relay: Option<Relay<'a>>,
    /// Receives the container's messages to the service manager.
    listener: Option<Listener>,
    /// The process has ended, but its tracer has not released it: the container can delay that
    /// indefinitely. The pidfd is then always ready, and SIGCHLD reports when there is something to
    /// reap.
    held: bool,
    ended: Option<process::Exit>,
}

/// The ready descriptors, except the signals.
#[derive(Default)]
struct Ready {
    process: bool,
    listener: bool,
    relay: relay::Ready,
}

impl Watch<'_> {
    /// Waits for an event and handles it.
    fn turn(&mut self) -> Result<()> {
        let ready = self.poll().doing(|| "wait for the container")?;
        // Unconditionally: reading an empty signalfd costs less than checking poll's list.
        while let Some(received) = signal::next(self.signals).doing(|| "read a signal")? {
            self.signal(received)?;
        }
        if ready.process {
            self.ended = process::try_wait(self.pidfd).doing(|| "wait for the container's process")?;
            self.held = self.ended.is_none();
            if self.ended.is_some()
                && let Some(relay) = &mut self.relay
            {
                relay.drain();
            }
        }
        if let Some(listener) = self.listener.as_mut().filter(|_| ready.listener) {
            // This process stays the service's main process.
            listener.hear(None);
        }
        if let Some(relay) = &mut self.relay {
            relay.copy(&ready.relay);
        }
        Ok(())
    }

    /// Forwards the container's last messages; the service manager has received them when this
    /// returns.
    fn be_heard(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            listener.hear(None);
            listener.finish();
        }
    }

    fn poll(&self) -> io::Result<Ready> {
        let mut list = vec![PollFd::from_borrowed_fd(self.signals, PollFlags::IN)];
        let mut add = |fd, flags| {
            list.push(PollFd::from_borrowed_fd(fd, flags));
            list.len() - 1
        };
        let waits = self.ended.is_none() && !self.held;
        let process = waits.then(|| add(self.pidfd, PollFlags::IN));
        let heard = self.listener.as_ref().and_then(Listener::socket);
        let listener = heard.map(|socket| add(socket, PollFlags::IN));
        let relay = self.relay.as_ref().map(|relay| relay.watch(add)).unwrap_or_default();
        match rustix::event::poll(&mut list, None) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            done => done?,
        };
        // Whatever the event (also an error or a hang-up), the following call reports its meaning.
        let fired =
            |at: Option<usize>| at.and_then(|at| list.get(at)).is_some_and(|fd| !fd.revents().is_empty());
        let relay = relay::Ready { input: fired(relay.input), output: fired(relay.output) };
        Ok(Ready { process: fired(process), listener: fired(listener), relay })
    }

    fn signal(&mut self, received: signal::Received) -> Result<()> {
        let signal::Received { number, sender } = received;
        if number == libc::SIGCHLD {
            self.held = false;
        }
        if let (libc::SIGCONT, Some(relay)) = (number, &self.relay) {
            relay.resume();
        }
        match (number, &mut self.relay) {
            (libc::SIGCHLD, _) if self.reap => {
                signal::reap_all_but(self.pid).doing(|| "reap the container's orphans")?;
            }
            (libc::SIGCHLD, _) => {}
            (libc::SIGWINCH, Some(relay)) => relay.resize(),
            // From a write to our own output, which has no reader any more.
            (libc::SIGPIPE, _) if sender == process::own_pid() => {}
            // The process has ended, so the signal may be meant to end the wait for a reader of our
            // output.
            (libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM, Some(relay))
                if self.ended.is_some() =>
            {
                relay.give_up();
            }
            _ => match process::signal(self.pidfd, number) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    tracing::warn!("pass signal {number} on to process {}: {error}", self.pid);
                }
                _ => {}
            },
        }
        Ok(())
    }
}
