//! The kernel's answer to one rtnetlink request, from the bytes of its datagrams.
//!
//! An answer ends with NLMSG_ERROR (code 0: the acknowledgement) or, for a dump, with NLMSG_DONE.
//! netlink(7), rtnetlink(7).

use std::io;

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer,
};

use crate::error::{Error, Kind, Result};

/// One message of an answer: its body without the netlink header.
pub type Body = Vec<u8>;

/// The messages received so far.
#[derive(Debug, Default)]
pub struct Dump {
    /// Their bodies.
    pub bodies: Vec<Body>,
    /// Whether the kernel reports that the list changed during the dump.
    pub torn: bool,
    /// Whether the answer is complete.
    pub finished: bool,
}

impl Dump {
    /// Adds the messages of one datagram; skips those with another `sequence` number, as they
    /// answer another request.
    ///
    /// Returns the kernel's error, or an error if the bytes are no messages.
    pub fn take(&mut self, mut rest: &[u8], sequence: u32) -> Result<()> {
        while !rest.is_empty() && !self.finished {
            let message = NetlinkBuffer::new_checked(rest).map_err(broken)?;
            // Messages are aligned to four bytes.
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

    /// Ends the answer: `code` is 0 or a negative errno.
    fn finish(&mut self, code: i32) -> Result<()> {
        self.finished = true;
        if code < 0 { Err(io::Error::from_raw_os_error(code.saturating_neg()).into()) } else { Ok(()) }
    }
}

/// The error for a message from the kernel that the netlink crates cannot read.
pub fn broken(why: netlink_packet_core::DecodeError) -> Error {
    Error::new(Kind::System, format!("netlink: unreadable answer: {why}"))
}
