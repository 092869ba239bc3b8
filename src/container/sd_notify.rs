//! The service manager's NOTIFY_SOCKET, sd_notify(3): the container has its own socket, from which
//! only READY=1 is passed on.
//!
//! ```text
//! process ── any message ──▶ /run/notify/notify.sock ──▶ runtime ── READY=1, MAINPID=…, BARRIER=1 ──▶ service manager
//! ```
//! The container's state directory has a directory with the socket, which is mounted read-only.
//! `run` listens from before the clone; after `create`, `start` does. The container's messages are
//! hostile: their length and number are limited, and no descriptor is accepted.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, socket_with,
};

use super::ContainerId;
use super::directory::Directory;
use super::hooks::poll_until;
use super::request::Settings;
use crate::error::{Doing, Result};
use crate::spec::{Mount, Spec};
use crate::sys::fd;

/// The directory's path in the container, as with runc.
const INSIDE: &str = "/run/notify";
/// The directory's name in the container's state directory.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";

/// The maximum length of a message, as in systemd.
const LONGEST: usize = 4096;

/// Maximum number of messages read from a container. A program that reports its progress sends some
/// hundreds.
const MOST_MESSAGES: u32 = 1 << 16;

/// Maximum number of messages read at once: more than the queue of an unread socket holds
/// (net.unix.max_dgram_qlen).
const AT_ONCE: u32 = 1024;

/// Timeout of the service manager for a message, as in systemd-notify(1).
const PATIENCE: Duration = Duration::from_secs(5);

/// The address of the service manager.
#[derive(Clone)]
pub(crate) struct Manager(SocketAddrUnix);

impl Manager {
    /// The address in NOTIFY_SOCKET. `None`: no service manager waits, or its address cannot be
    /// used.
    pub(crate) fn of_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(Path::new(&name)),
            [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest),
            _ => Err(Errno::AFNOSUPPORT),
        };
        let usable = address.inspect_err(|error| {
            tracing::warn!("NOTIFY_SOCKET {}: {error}; the container gets none", Path::new(&name).display());
        });
        usable.ok().map(Self)
    }

    /// Reports that the service is ready, and its main process if that is not this one. The
    /// returned descriptor reaches end of file once the manager has processed the messages.
    fn announce(&self, main: Option<i32>) -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        rustix::net::connect(&socket, &self.0)?;
        let send = |words: &str| rustix::net::send(&socket, words.as_bytes(), SendFlags::NOSIGNAL).map(drop);
        send("READY=1\n")?;
        main.map_or(Ok(()), |pid| send(&format!("MAINPID={pid}\n")))?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let sent = fd::send_fd(socket.as_fd(), b"BARRIER=1", writer.as_fd());
        sent.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(reader)
    }
}

/// Adds the container's socket to its mounts and to its environment.
pub(super) fn amend(spec: &mut Spec, settings: &Settings, id: &ContainerId) -> Result<()> {
    let Some(process) = &mut spec.process else { return Ok(()) };
    let root = std::path::absolute(&settings.root).doing(|| "find the state directory")?;
    let Some(source) = root.join(id.as_ref()).join(DIRECTORY).to_str().map(str::to_owned) else {
        tracing::warn!("{} is not UTF-8; the container gets no NOTIFY_SOCKET", root.display());
        return Ok(());
    };
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec();
    spec.mounts.push(Mount { destination: INSIDE.into(), source, options, ..Mount::default() });
    process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    Ok(())
}

/// Creates the directory to be mounted, which every user of the container may enter.
pub(super) fn make_directory(directory: &Directory) -> Result<()> {
    let make = || {
        rustix::fs::mkdirat(directory, DIRECTORY, Mode::from_raw_mode(0o755))?;
        // mkdir(2) applies the caller's umask.
        rustix::fs::fchmod(open_directory(directory)?, Mode::from_raw_mode(0o755))
    };
    make().doing(|| format!("create {}", directory.path().join(DIRECTORY).display()))
}

fn open_directory(directory: &Directory) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, DIRECTORY, flags, Mode::empty())
}

/// The container's socket, while the runtime listens to it.
pub(crate) struct Listener {
    manager: Manager,
    /// `None` once no message is of interest.
    socket: Option<OwnedFd>,
    messages: u32,
    /// Set once readiness is reported: at end of file when the manager has processed it.
    announced: Option<OwnedFd>,
}

impl Listener {
    /// Listens for a container that was created with a socket. `None`: it has none, or no service
    /// manager waits.
    pub(super) fn bind(directory: &Directory, manager: Option<Manager>) -> Result<Option<Self>> {
        let Some(manager) = manager else { return Ok(None) };
        let doing = || format!("listen at {}", directory.path().join(DIRECTORY).join(SOCKET).display());
        let directory = match open_directory(directory) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.doing(doing)?,
        };
        let socket = bind_in(&directory).doing(doing)?;
        Ok(Some(Self { manager, socket: Some(socket), messages: 0, announced: None }))
    }

    /// The descriptor to poll for messages.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Reads pending messages, and passes READY=1 on. `main` is the service's main process from
    /// then on.
    pub(super) fn hear(&mut self, main: Option<i32>) {
        if !self.read() || self.announced.is_some() {
            return;
        }
        match self.manager.announce(main) {
            Ok(barrier) => self.announced = Some(barrier),
            // The manager may be gone; the container does not depend on it.
            Err(error) => {
                tracing::warn!(
                    "tell the service manager (NOTIFY_SOCKET) that the container is ready: {error}"
                );
                self.socket = None;
            }
        }
    }

    /// Whether one of the pending messages contains READY=1.
    fn read(&mut self) -> bool {
        let mut ready = false;
        for _ in 0..AT_ONCE {
            let Some(socket) = &self.socket else { return ready };
            let mut room = [0; LONGEST];
            // Without a control buffer, the kernel closes descriptors that come with a message.
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match rustix::net::recv(socket, &mut room, flags) {
                Ok((_, length)) => ready |= room.get(..length).is_some_and(says_ready),
                Err(Errno::INTR) => continue,
                Err(_) => return ready,
            }
            self.messages += 1;
            if self.messages == MOST_MESSAGES {
                tracing::warn!(
                    "the container sends too many messages to its NOTIFY_SOCKET; no more are read"
                );
                self.socket = None;
            }
        }
        ready
    }

    /// Waits until the container is ready or its process `main`, then the service's main process,
    /// has ended.
    pub(super) fn until_ready(mut self, main: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        while let Some(socket) = &self.socket {
            let mut list =
                [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
            let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut list, None));
            polled.doing(|| "wait for READY=1 of the container")?;
            let [_, process] = &list;
            let ended = !process.revents().is_empty();
            self.hear(Some(main));
            if self.announced.is_some() || ended {
                break;
            }
        }
        self.finish();
        Ok(())
    }

    /// Waits until the service manager has processed the messages: it looks up the sender, which
    /// must live until then.
    pub(super) fn finish(mut self) {
        self.socket = None;
        if let Some(barrier) = self.announced {
            let dealt_with = poll_until(barrier.as_fd(), Some(Instant::now() + PATIENCE));
            if !dealt_with.unwrap_or(false) {
                tracing::warn!(
                    "the service manager (NOTIFY_SOCKET) has not answered for {} s",
                    PATIENCE.as_secs()
                );
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// Binds the socket in `directory`, writable for every user. Its path may be longer than a socket
/// address.
fn bind_in(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    // By umask, not by a later chmod of the path: by then a process in the container might have
    // replaced it by a link.
    let umask = rustix::process::umask(Mode::empty());
    let bound = match rustix::net::bind(&socket, &address) {
        // Left by a killed `start`.
        Err(Errno::ADDRINUSE) => rustix::fs::unlinkat(directory, SOCKET, AtFlags::empty())
            .and_then(|()| rustix::net::bind(&socket, &address)),
        bound => bound,
    };
    rustix::process::umask(umask);
    bound.map(|()| socket)
}

#[cfg(test)]
mod tests {
    use super::says_ready;

    #[test]
    fn only_a_whole_line_counts() {
        for message in ["READY=1", "READY=1\n", "STATUS=up\nREADY=1", "MAINPID=1\nREADY=1\nX=y"] {
            assert!(says_ready(message.as_bytes()), "{message}");
        }
        for message in ["", "READY=0", "READY=11", "XREADY=1", "STATUS=READY=1", "READY=1 "] {
            assert!(!says_ready(message.as_bytes()), "{message}");
        }
    }
}
