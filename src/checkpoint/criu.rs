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
use super::message::{Features, Kind, Notice, Request, Response};
use crate::error::{self, Doing, Error, Result};
use crate::sys::process;

/// criu's own buffer for a message; its answers are far shorter.
const LONGEST: usize = 64 * 1024;

/// What criu is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make processes: they have our standard files, and criu ends when we do.
    Make,
    /// To look at processes, or at what criu can do.
    Look,
}

/// A `criu swrk` that waits for its request, or for our answer. Dropped, it is killed if it still runs.
#[derive(Debug)]
pub struct Criu {
    process: Child,
    socket: Option<OwnedFd>,
}

impl Criu {
    /// Starts criu. `keep` stays open in it, under the same numbers.
    pub fn start(purpose: Purpose, keep: &[BorrowedFd<'_>]) -> Result<Self> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.doing(|| "make a socket pair")?;
        let mut command = Command::new("criu");
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        if purpose == Purpose::Look {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        let kept: Vec<RawFd> = keep.iter().chain([&theirs.as_fd()]).map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            process::was_forked();
            kept.iter().try_for_each(|number| process::keep_on_exec(*number))?;
            // We may be killed at any moment; criu must not go on to make processes that nobody knows of. A dump is better
            // left to notice that by itself: it then lets the processes go as they were.
            if purpose == Purpose::Make { process::die_with_parent(true) } else { Ok(()) }
        };
        // SAFETY: after the fork `prepare` makes system calls and nothing else: it takes no memory and no lock that another thread
        // could hold, and its errors are numbers. The descriptors that it changes stay open until `spawn` has returned.
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

    /// criu's process.
    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Makes the request and lets `hear` answer each notice, which may come with a descriptor. Returns when criu has ended.
    ///
    /// When `hear` fails, criu is told so and gives up; the error is that of `hear`. When criu fails, the error quotes its
    /// log, `log` (the file that the request names, with its folder).
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
                let words = format!("criu ended in the middle ({ended}){}", log::quote(log, ""));
                return Err(Error::new(error::Kind::System, words));
            };
            let (Kind::Notify, Some(notice)) = (response.kind(), &response.notice) else { break response };
            tracing::debug!("criu: {} {}", notice.script, notice.pid);
            let heard = match &refused {
                // It may still have something to say while it gives up.
                Some(_) => Ok(()),
                None => hear(notice, fd),
            };
            let notify_success = heard.is_ok();
            refused = refused.or(heard.err());
            let answer = Request { kind: Kind::Notify.into(), notify_success, ..Request::default() };
            self.send(&answer)?;
        };
        // It serves further requests until nobody can make one.
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

    /// `None`: criu has ended.
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
        // It has usually ended and been waited for; then both do nothing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What criu says was wrong. Of an error that it has no words for, the log's.
fn failure(request: &Request, answer: &Response, log: &Path) -> Error {
    let what = match request.kind() {
        Kind::Dump => "dump",
        Kind::PreDump => "pre-dump",
        Kind::Restore => "restore",
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
    let request = Request { kind: Kind::Version.into(), ..Request::default() };
    let answer = Criu::start(Purpose::Look, &[])?.ask(&request, Path::new(""), |_, _| Ok(()));
    let answer = answer.doing(|| "ask criu for its version")?;
    let version = answer.version.unwrap_or_default();
    Ok(Version(version.major, version.minor, version.sublevel))
}

/// Asks which of the `wanted` features there are.
pub fn features(wanted: Features) -> Result<Features> {
    let request = Request { kind: Kind::FeatureCheck.into(), features: Some(wanted), ..Request::default() };
    let answer = Criu::start(Purpose::Look, &[])?.ask(&request, Path::new(""), |_, _| Ok(()));
    Ok(answer.doing(|| "ask criu for its features")?.features.unwrap_or_default())
}
