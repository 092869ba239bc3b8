//! A synchronous rtnetlink socket: sends a request and reads its whole answer.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::answer::{Body, Dump};
use crate::error::{Doing, Error, Kind, Result};

/// Attempts of a dump, which is repeated if the devices change meanwhile.
const DUMP_TRIES: u32 = 16;

/// A socket of the network namespace that it was opened in, wherever the process moves later.
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a socket in the network namespace `netns`; the calling thread returns to its own.
    ///
    /// If that fails (error `return to the runtime's network namespace`), the thread is in `netns`,
    /// and the process should end. setns(2).
    pub(crate) fn open_in(netns: BorrowedFd<'_>) -> Result<Self> {
        // Opened before entering: inside the path may not exist.
        let home = File::open("/proc/thread-self/ns/net").doing(|| "open /proc/thread-self/ns/net")?;
        let net = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(netns, net).doing(|| "enter the container's network namespace")?;
        // No `?` before the return.
        let opened = Self::open();
        let back = move_into_link_name_space(home.as_fd(), net);
        back.doing(|| "return to the runtime's network namespace")?;
        opened.doing(|| "open a netlink socket in the container")
    }

    /// Sends a request and waits for the kernel's answer. Returns its messages without the
    /// acknowledgement.
    pub(crate) fn ask(&mut self, request: RouteNetlinkMessage) -> Result<Vec<Body>> {
        self.send(request, NLM_F_ACK)?;
        self.receive().map(|answer| answer.bodies)
    }

    /// Requests a list and returns a consistent snapshot of it.
    pub(crate) fn dump(&mut self, request: &RouteNetlinkMessage) -> Result<Vec<Body>> {
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

    fn receive(&self) -> Result<Dump> {
        let mut answer = Dump::default();
        while !answer.finished {
            let datagram = self.datagram().doing(|| "netlink: receive")?;
            answer.take(&datagram, self.sequence)?;
        }
        Ok(answer)
    }

    /// Reads one datagram of any length.
    fn datagram(&self) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let length = retry(|| self.socket.recv(&mut &mut [0_u8; 1][..], libc::MSG_PEEK | libc::MSG_TRUNC))?;
        buffer.reserve(length);
        retry(|| self.socket.recv(&mut buffer, 0))?;
        Ok(buffer)
    }
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
