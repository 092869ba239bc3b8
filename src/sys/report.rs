//! Progress reports that a process between clone and exec sends after each successful step, if
//! requested. No heap.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};

/// The socket for reports; negative if none are requested.
static SOCKET: AtomicI32 = AtomicI32::new(-1);

/// The last report: several calls in a row can belong to one step.
static LAST: AtomicU32 = AtomicU32::new(u32::MAX);

/// The first byte of a report; no other message begins with it.
pub const TAG: u8 = 10;

/// Starts sending reports to `socket`, until [`end`].
///
/// # Safety
/// The descriptor must stay open, under the same number, until [`end`] or the end of the process.
pub unsafe fn begin(socket: BorrowedFd<'_>) {
    SOCKET.store(socket.as_raw_fd(), Ordering::Relaxed);
}

/// Ends reports: a filter may forbid the next call, or the receiver is gone.
pub fn end() {
    SOCKET.store(-1, Ordering::Relaxed);
}

/// Reports one step. Without [`begin`] this only reads one number.
pub fn done(step: u8, index: u16) {
    let socket = SOCKET.load(Ordering::Relaxed);
    if socket < 0 {
        return;
    }
    let this = u32::from(step) << 16 | u32::from(index);
    if LAST.swap(this, Ordering::Relaxed) == this {
        return;
    }
    let ([i0, i1], [c0, c1, c2, c3]) = (index.to_ne_bytes(), clock().to_ne_bytes());
    // SAFETY: the caller of `begin` keeps this descriptor open until `end`, which sets a negative
    // number.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // If the runtime no longer reads, this is noticed where its answer is needed.
    let _ = rustix::net::send(socket, &[TAG, step, i0, i1, c0, c1, c2, c3], SendFlags::NOSIGNAL);
}

/// The low half of the microseconds since 1970. This clock is the same in every time namespace.
fn clock() -> u32 {
    let now = clock_gettime(ClockId::Realtime);
    (now.tv_sec as u64).wrapping_mul(1_000_000).wrapping_add(now.tv_nsec as u64 / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn nothing_is_sent_unless_asked() {
        use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        done(1, 2);
        // SAFETY: `theirs` lives until after `end`.
        unsafe { begin(theirs.as_fd()) };
        done(3, 513);
        done(3, 513); // the same step
        done(3, 514);
        end();
        done(5, 6);
        drop(theirs);
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 16];
            match recv(&ours, &mut bytes[..], RecvFlags::empty()).unwrap().0 {
                0 => break,
                length => heard.push((length, bytes[0], bytes[1], u16::from_ne_bytes([bytes[2], bytes[3]]))),
            }
        }
        assert_eq!(heard, [(8, TAG, 3, 513), (8, TAG, 3, 514)]);
    }
}
