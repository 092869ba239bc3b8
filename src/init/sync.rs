//! The protocol between the runtime and the container's process: a SEQPACKET socket pair, messages
//! of eight bytes, in lock step.
//!
//! ```text
//! child                                runtime
//!   ── Successor + pidfd ────────────►  the process continues as its successor, which waits
//!   ◄─────────────────────────── Go ──  for this before it sends its first message
//!   ── MapIds ───────────────────────►  writes ID maps, joins v1 cgroups, moves network devices
//!   ◄─────────────────────────── Go ──
//!   ── KeyringStays ─────────────────►  warns that the process shares the caller's session keyring
//!   ◄─────────────────────────── Go ──
//!   ── MapMount + descriptor ────────►  makes this bind source idmapped; only the child sees it
//!   ◄─────────────────────────── Go ──
//!   ── Hooks ────────────────────────►  runs prestart, createRuntime hooks, before pivot_root
//!   ◄─────────────────────────── Go ──
//!   ── Limits ───────────────────────►  sets rlimits that only the host's root may raise
//!   ◄─────────────────────────── Go ──
//!   ── Listener ─────────────────────►  a filter with a listener is loaded next
//!   ◄─────────────────── Go or Send ──  Go: the runtime takes the listener; Send: it may not
//!   ── Notify + descriptor ──────────►  after Send: passes the listener
//!   ◄─────────────────────────── Go ──
//!   ── Waiting ──────────────────────►  `create` may return; only execve can still fail
//!   ◄─────────────────────────── Go ──  `run`: start; `create`: recorded, the start comes by fifo
//!   ── Hooked ───────────────────────►  all startContainer hooks have succeeded (if any)
//!   (end of file: execve has closed the socket)
//! ```
//! At any moment before `Waiting` and before its filter, the child may send `Done` for a finished
//! step, if requested (`--debug`); it gets no answer. At any moment the child may send `StepError`
//! and end; if a hook has failed, the hook's output follows. Each message is sent only if the plan
//! needs the answer. When the runtime is gone, the child reads end of file and ends too.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use crate::plan::{Step, StepError};
use crate::sys::report;

/// A message of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The namespaces exist; their ID maps and devices do not.
    MapIds,
    /// The root is assembled.
    Hooks,
    /// The runtime may set the limits now.
    Limits,
    /// The filter that is loaded next has a listener, with this descriptor number in the child.
    Listener(i32),
    /// A seccomp listener is attached to this message.
    Notify,
    /// A new process continues in this one's place: its pidfd is attached.
    Successor,
    /// A bind source that only this process could open is attached: idmap it for the mount with
    /// this index.
    MapMount(u16),
    /// The user's key quota is exhausted.
    KeyringStays,
    /// Everything is done except execve.
    Waiting,
    /// The startContainer hooks are done: end of file before this message is not a start.
    Hooked,
    /// A step has failed.
    Fault(StepError),
    /// A step has succeeded.
    Done(Done),
}

/// A step that has succeeded, and when. Sent by `sys::report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// Its index into the plan, if there are several.
    pub index: u16,
    /// The low 32 bits of the microseconds since 1970.
    pub clock: u32,
}

const LENGTH: usize = 8;

/// Maximum output of a failed hook that is sent, in bytes. A fifo takes it in one write, PIPE_BUF.
pub const MOST_OUTPUT: usize = 4096;

const GO: &[u8] = b"go";
const SEND: &[u8] = b"send";

/// An answer of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Continue.
    Go,
    /// Send it yourself; only to [`Message::Listener`].
    Send,
}

impl Message {
    fn encode(self) -> [u8; LENGTH] {
        let plain = |tag: u8| [tag, 0, 0, 0, 0, 0, 0, 0];
        match self {
            Message::MapIds => plain(1),
            Message::Hooks => plain(2),
            Message::Limits => plain(3),
            Message::Notify => plain(4),
            Message::Successor => plain(5),
            Message::Waiting => plain(6),
            Message::Hooked => plain(8),
            Message::KeyringStays => plain(12),
            Message::MapMount(index) => {
                let [i0, i1] = index.to_ne_bytes();
                [11, 0, i0, i1, 0, 0, 0, 0]
            }
            Message::Listener(number) => {
                let [n0, n1, n2, n3] = number.to_ne_bytes();
                [9, 0, 0, 0, n0, n1, n2, n3]
            }
            Message::Fault(fault) => {
                let [i0, i1] = fault.index.to_ne_bytes();
                let [e0, e1, e2, e3] = fault.errno.to_ne_bytes();
                [7, fault.step as u8, i0, i1, e0, e1, e2, e3]
            }
            Message::Done(Done { step, index, clock }) => {
                let ([i0, i1], [c0, c1, c2, c3]) = (index.to_ne_bytes(), clock.to_ne_bytes());
                [report::TAG, step as u8, i0, i1, c0, c1, c2, c3]
            }
        }
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Self> {
        let [tag, step, i0, i1, e0, e1, e2, e3] = bytes;
        Some(match tag {
            1 => Message::MapIds,
            2 => Message::Hooks,
            3 => Message::Limits,
            4 => Message::Notify,
            5 => Message::Successor,
            6 => Message::Waiting,
            7 => Message::Fault(StepError {
                step: Step::from_number(step)?,
                index: u16::from_ne_bytes([i0, i1]),
                errno: i32::from_ne_bytes([e0, e1, e2, e3]),
            }),
            8 => Message::Hooked,
            report::TAG => Message::Done(Done {
                step: Step::from_number(step)?,
                index: u16::from_ne_bytes([i0, i1]),
                clock: u32::from_ne_bytes([e0, e1, e2, e3]),
            }),
            9 => Message::Listener(i32::from_ne_bytes([e0, e1, e2, e3])),
            11 => Message::MapMount(u16::from_ne_bytes([i0, i1])),
            12 => Message::KeyringStays,
            _ => return None,
        })
    }
}

/// The two ends of the conversation: the runtime's, the child's.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Child: sends a message without waiting. No heap.
pub fn say(to: BorrowedFd<'_>, message: Message) -> Result<()> {
    retry(|| rustix::net::send(to, &message.encode(), SendFlags::NOSIGNAL)).map(drop)
}

/// Child: sends a message with only write(2), which a seccomp filter hardly forbids.
pub fn say_plainly(to: BorrowedFd<'_>, message: Message) -> Result<()> {
    retry(|| rustix::io::write(to, &message.encode())).map(drop)
}

/// Child: sends a message with a descriptor. No heap.
pub fn say_with(to: BorrowedFd<'_>, message: Message, attached: BorrowedFd<'_>) -> std::io::Result<()> {
    crate::sys::fd::send_fd(to, &message.encode(), attached)
}

/// Child: sends a message and waits for the answer. An error if the runtime is gone. No heap.
pub fn ask(to: BorrowedFd<'_>, message: Message) -> Result<()> {
    say(to, message)?;
    wait_go(to)
}

/// Child: waits for the runtime's answer on a socket or a fifo, with only read(2): a seccomp filter
/// may forbid more.
pub fn wait_go(from: BorrowedFd<'_>) -> Result<()> {
    wait_answer(from).map(drop)
}

/// Child: as [`wait_go`], if more than one answer is possible.
pub fn wait_answer(from: BorrowedFd<'_>) -> Result<Answer> {
    let mut word = [0; 4];
    match retry(|| rustix::io::read(from, &mut word))? {
        0 => Err(Errno::PIPE),
        _ if word == SEND => Ok(Answer::Send),
        _ => Ok(Answer::Go),
    }
}

/// Child: sends the fault with only write(2), to a socket or a fifo.
pub fn tell_fault(to: BorrowedFd<'_>, fault: StepError) {
    // A failure to report cannot be reported.
    let _ = retry(|| rustix::io::write(to, &Message::Fault(fault).encode()));
}

/// Child: sends the output of a failed hook, from the file `said`, after the fault. No heap.
pub fn tell_output(to: BorrowedFd<'_>, said: &OwnedFd) {
    let mut output = [0; MOST_OUTPUT];
    let Ok(length @ 1..) = retry(|| rustix::io::pread(said, &mut output, 0)) else { return };
    let _ = retry(|| rustix::io::write(to, output.get(..length).unwrap_or_default()));
}

/// Runtime: reads the output of a failed hook, which follows its fault; returns its length.
pub fn hear_output(from: impl AsFd, output: &mut [u8]) -> Result<usize> {
    retry(|| rustix::io::read(&from, &mut *output))
}

/// Runtime: lets the child continue.
pub fn go(to: BorrowedFd<'_>) -> Result<()> {
    answer(to, Answer::Go)
}

/// Runtime: as [`go`], if more than one answer is possible.
pub fn answer(to: BorrowedFd<'_>, answer: Answer) -> Result<()> {
    let word = match answer {
        Answer::Go => GO,
        Answer::Send => SEND,
    };
    retry(|| rustix::net::send(to, word, SendFlags::NOSIGNAL)).map(drop)
}

/// Runtime: the child's next message and its descriptor; `None` if the child has closed its end.
pub fn hear(from: BorrowedFd<'_>) -> Result<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = [0; LENGTH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        let mut data = [std::io::IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(from, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    // A child killed with unread messages of ours resets the connection.
    let received = match received {
        Err(Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut attached = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            attached = descriptors.next();
        }
    }
    let message = Message::decode(bytes).filter(|_| received.bytes == LENGTH).ok_or(Errno::PROTO)?;
    Ok(Some((message, attached)))
}

/// Runtime: reads the fault that a child left in its fifo when execve failed; `None` at end of
/// file.
pub fn hear_fault(from: impl AsFd) -> Result<Option<StepError>> {
    match hear_plainly(from)? {
        None => Ok(None),
        Some(Message::Fault(fault)) => Ok(Some(fault)),
        Some(_) => Err(Errno::PROTO),
    }
}

/// Runtime: the next message in a fifo; `None` at end of file.
pub fn hear_plainly(from: impl AsFd) -> Result<Option<Message>> {
    let mut bytes = [0; LENGTH];
    match retry(|| rustix::io::read(&from, &mut bytes))? {
        0 => Ok(None),
        LENGTH => Message::decode(bytes).map(Some).ok_or(Errno::PROTO),
        _ => Err(Errno::PROTO),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        let (ours, theirs) = pair().unwrap();
        let fault = StepError { step: Step::Exec, index: 513, errno: libc::ENOENT };
        for message in [
            Message::MapIds,
            Message::Hooks,
            Message::Limits,
            Message::Waiting,
            Message::Hooked,
            Message::Listener(70_000),
            Message::MapMount(513),
            Message::KeyringStays,
            Message::Fault(fault),
            Message::Done(Done { step: Step::Mount, index: 258, clock: u32::MAX - 1 }),
        ] {
            say(theirs.as_fd(), message).unwrap();
            assert_eq!(hear(ours.as_fd()).unwrap().map(|heard| heard.0), Some(message));
        }
        say_with(theirs.as_fd(), Message::Notify, theirs.as_fd()).unwrap();
        assert!(matches!(hear(ours.as_fd()), Ok(Some((Message::Notify, Some(_))))));
        go(ours.as_fd()).unwrap();
        wait_go(theirs.as_fd()).unwrap();
        for word in [Answer::Go, Answer::Send] {
            answer(ours.as_fd(), word).unwrap();
            assert_eq!(wait_answer(theirs.as_fd()), Ok(word));
        }
        drop(ours);
        assert_eq!(wait_go(theirs.as_fd()), Err(Errno::PIPE));
    }
}
