//! The process `criu swrk`, and one conversation with it.

use std::io::{ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags,
    SocketType,
};

use super::log;
use super::message::{Features, Notice, Request, RequestKind, Response};
use crate::error::{self, Doing, Error, Result};
use crate::sys::process;

/// criu's own buffer for a message; its answers are far shorter.
const LONGEST: usize = 64 * 1024;

/// The purpose of a criu process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Create processes: they inherit our standard files, and criu ends when we do.
    Make,
    /// Inspect processes, or criu's features.
    Look,
}

/// A `criu swrk` that waits for its request, or for our answer. Dropping it kills the process if it
/// still runs.
#[derive(Debug)]
pub struct Criu {
    process: Child,
    socket: Option<OwnedFd>,
}

impl Criu {
    /// Starts criu. It inherits `keep`, under the same numbers.
    pub fn start(purpose: Purpose, keep: &[BorrowedFd<'_>]) -> Result<Self> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.doing(|| "create a socket pair")?;
        let mut command = Command::new("criu");
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        if purpose == Purpose::Look {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        let kept: Vec<RawFd> = keep.iter().chain([&theirs.as_fd()]).map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            process::was_forked();
            kept.iter().try_for_each(|number| process::keep_on_exec(*number))?;
            // We may be killed at any moment; criu must not continue to create processes that no
            // one manages. A dump is better left to notice that by itself: it then lets the
            // processes continue unchanged.
            if purpose == Purpose::Make { process::die_with_parent(true) } else { Ok(()) }
        };
        // SAFETY: after the fork `prepare` only makes system calls: it allocates no memory and
        // takes no lock that another thread could hold, and its errors are numbers. The descriptors
        // that it changes stay open until `spawn` has returned.
        unsafe { command.pre_exec(prepare) };
        let process = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(
                error::Kind::Unsupported,
                "criu is not installed; checkpoint and restore need it (package criu)",
            ),
            _ => Error::from(error).within("start criu"),
        })?;
        Ok(Self { process, socket: Some(ours) })
    }

    /// The PID of criu.
    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Sends the request and calls `hear` for each notice, which may come with a descriptor.
    /// Returns when criu has ended.
    ///
    /// If `hear` fails, criu is told to give up, and the error is that of `hear`. If criu fails,
    /// the error quotes its log file `log` (the full path of the file that the request names).
    pub fn ask(
        mut self,
        request: &Request,
        log: &Path,
        mut hear: impl FnMut(&Notice, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        self.send(request)?;
        let mut refused = None;
        let answer = loop {
            let Some((response, fd)) = self.receive()? else {
                let ended = self.process.wait().doing(|| "wait for criu")?;
                let words = format!("criu ended unexpectedly ({ended}){}", log::quote(log, ""));
                return Err(Error::new(error::Kind::System, words));
            };
            let (RequestKind::Notify, Some(notice)) = (response.kind(), &response.notice) else {
                break response;
            };
            tracing::debug!("criu: {} {}", notice.script, notice.pid);
            let heard = match &refused {
                // criu may send further notices while it gives up.
                Some(_) => Ok(()),
                None => hear(notice, fd),
            };
            let notify_success = heard.is_ok();
            refused = refused.or(heard.err());
            let answer = Request { kind: RequestKind::Notify.into(), notify_success, ..Request::default() };
            self.send(&answer)?;
        };
        // criu serves further requests until the socket is closed.
        self.socket = None;
        self.process.wait().doing(|| "wait for criu")?;
        match refused {
            Some(error) => Err(error),
            None if answer.success && answer.kind == request.kind => Ok(answer),
            None => Err(failure(request, &answer, log)),
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        let Some(socket) = &self.socket else { return Err(Errno::NOTCONN.into()) };
        let bytes = request.encode_to_vec();
        loop {
            match rustix::net::send(socket, &bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).doing(|| "send a message to criu"),
            }
        }
    }

    /// Receives a response; `None`: criu has ended.
    fn receive(&self) -> Result<Option<(Response, Option<OwnedFd>)>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut data = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                received => break received.doing(|| "hear criu")?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let whole = !received.flags.contains(ReturnFlags::TRUNC);
        let response = Response::decode(bytes.get(..received.bytes).unwrap_or_default());
        match response {
            Ok(response) if whole => Ok(Some((response, fd))),
            _ => Err(Error::new(error::Kind::System, "criu's answer cannot be read; is it a newer version?")),
        }
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        self.socket = None;
        // Usually it has ended and been waited for; then both calls do nothing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The error for a failed request: criu's message, or the log's if it sent none.
fn failure(request: &Request, answer: &Response, log: &Path) -> Error {
    let what = match request.kind() {
        RequestKind::Dump => "dump",
        RequestKind::PreDump => "pre-dump",
        RequestKind::Restore => "restore",
        _ => "request",
    };
    let errno = match answer.errno {
        0 => String::new(),
        number => format!(": {}", error::errno_words(number)),
    };
    let words = format!("criu's {what} failed{errno}{}", log::quote(log, &answer.message));
    Error::new(error::Kind::System, words)
}

/// criu's version, as its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i32, pub i32, pub i32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Asks the installed criu for its version.
pub fn version() -> Result<Version> {
    let request = Request { kind: RequestKind::Version.into(), ..Request::default() };
    let answer = Criu::start(Purpose::Look, &[])?.ask(&request, Path::new(""), |_, _| Ok(()));
    let answer = answer.doing(|| "ask criu for its version")?;
    let version = answer.version.unwrap_or_default();
    Ok(Version(version.major, version.minor, version.sublevel))
}

/// Returns which of the `wanted` features are supported.
pub fn features(wanted: Features) -> Result<Features> {
    let request =
        Request { kind: RequestKind::FeatureCheck.into(), features: Some(wanted), ..Request::default() };
    let answer = Criu::start(Purpose::Look, &[])?.ask(&request, Path::new(""), |_, _| Ok(()));
    Ok(answer.doing(|| "ask criu for its features")?.features.unwrap_or_default())
}
