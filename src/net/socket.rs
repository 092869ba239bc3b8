//! One rtnetlink socket, synchronous: a request goes out, its answer comes back whole.
//!
//! An answer ends with NLMSG_ERROR (code 0 is the acknowledgement) or, when it is a dump, with NLMSG_DONE. netlink(7), rtnetlink(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Doing, Error, Kind, Result};

/// How often a dump is asked for again because the devices changed while the kernel wrote it.
const DUMP_TRIES: u32 = 16;

/// A socket of the network namespace it was opened in, wherever the process goes later.
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

/// One message of an answer: its body without the netlink header.
pub type Body = Vec<u8>;

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a socket in the network namespace behind `netns`; the calling thread is back in its own afterwards.
    ///
    /// After an error `return to the runtime's network namespace` the thread is in `netns`, and the process should end. setns(2).
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self> {
        // Opened before leaving: inside there may be no way to find it.
        let home = File::open("/proc/thread-self/ns/net").doing(|| "open /proc/thread-self/ns/net")?;
        let net = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(netns, net).doing(|| "enter the container's network namespace")?;
        // No `?` between here and the way back.
        let opened = Self::open();
        let back = move_into_link_name_space(home.as_fd(), net);
        back.doing(|| "return to the runtime's network namespace")?;
        opened.doing(|| "open a netlink socket in the container")
    }

    /// Sends a request and waits for the kernel's answer. What it holds besides the acknowledgement is returned.
    pub fn ask(&mut self, request: RouteNetlinkMessage) -> Result<Vec<Body>> {
        self.send(request, NLM_F_ACK)?;
        self.receive().map(|answer| answer.bodies)
    }

    /// Sends a request for a list and returns all of it, as it was at one moment.
    pub fn dump(&mut self, request: &RouteNetlinkMessage) -> Result<Vec<Body>> {
        for _ in 0..DUMP_TRIES {
            self.send(request.clone(), NLM_F_DUMP)?;
            let answer = self.receive()?;
            if !answer.torn {
                return Ok(answer.bodies);
            }
        }
        Err(Error::new(Kind::System, "netlink: the list changes faster than it can be read"))
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).doing(|| "netlink: send")?;
        Ok(())
    }

    fn receive(&self) -> Result<Answer> {
        let mut answer = Answer { bodies: Vec::new(), torn: false, finished: false };
        while !answer.finished {
            let datagram = self.datagram().doing(|| "netlink: receive")?;
            answer.take(&datagram, self.sequence)?;
        }
        Ok(answer)
    }

    /// Reads one datagram, however long it is.
    fn datagram(&self) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let length = retry(|| self.socket.recv(&mut &mut [0_u8; 1][..], libc::MSG_PEEK | libc::MSG_TRUNC))?;
        buffer.reserve(length);
        retry(|| self.socket.recv(&mut buffer, 0))?;
        Ok(buffer)
    }
}

/// What has come so far.
struct Answer {
    bodies: Vec<Body>,
    /// Whether the kernel says that the list changed while it was written.
    torn: bool,
    finished: bool,
}

impl Answer {
    /// Adds the messages of one datagram; those of another request (`sequence` tells) are skipped.
    fn take(&mut self, mut rest: &[u8], sequence: u32) -> Result<()> {
        while !rest.is_empty() && !self.finished {
            let message = NetlinkBuffer::new_checked(rest).map_err(broken)?;
            // Messages start at multiples of four.
            let next = (message.length() as usize).next_multiple_of(4);
            if message.sequence_number() == sequence {
                self.torn |= message.flags() & NLM_F_DUMP_INTR != 0;
                self.add(message.message_type(), message.payload())?;
            }
            rest = rest.get(next..).unwrap_or_default();
        }
        Ok(())
    }

    fn add(&mut self, kind: u16, body: &[u8]) -> Result<()> {
        match kind {
            NLMSG_NOOP => {}
            NLMSG_OVERRUN => return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()),
            NLMSG_DONE if body.is_empty() => self.finished = true,
            NLMSG_DONE => self.finish(DoneBuffer::new_checked(body).map_err(broken)?.code())?,
            NLMSG_ERROR => {
                let code = ErrorBuffer::new_checked(body).map_err(broken)?.code();
                self.finish(code.map_or(0, |code| code.get()))?;
            }
            _ => self.bodies.push(body.to_vec()),
        }
        Ok(())
    }

    /// The end of the answer: 0, or an error number below zero.
    fn finish(&mut self, code: i32) -> Result<()> {
        self.finished = true;
        if code < 0 { Err(io::Error::from_raw_os_error(code.saturating_neg()).into()) } else { Ok(()) }
    }
}

/// The error for a message from the kernel that the netlink crates cannot read.
pub fn broken(why: netlink_packet_core::DecodeError) -> Error {
    Error::new(Kind::System, format!("netlink: unreadable answer: {why}"))
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
