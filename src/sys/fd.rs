//! Descriptors that travel between processes, and those that must not: SCM_RIGHTS, Unix sockets by path, close_range.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Sends `fd` over the Unix socket, with `name` as the message's data. Uses no heap; a closed peer is `EPIPE`, not a signal.
///
/// `name` must not be empty: a stream socket carries descriptors only along with data. unix(7), "SCM_RIGHTS".
pub fn send_fd(socket: BorrowedFd<'_>, name: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    if name.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent =
        retry(|| rustix::net::sendmsg(socket, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL))?;
    if sent == name.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one descriptor from the Unix socket, close-on-exec, and the data beside it into `buffer`; the number is the
/// data's length in bytes. Of several descriptors in one message the first is kept and the rest are closed.
///
/// `UnexpectedEof` when the peer closed without sending, `InvalidData` when the message held no descriptor. unix(7), "SCM_RIGHTS".
pub fn recv_fd(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(OwnedFd, usize)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        let mut data = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut found = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                found.get_or_insert(fd);
            }
        }
    }
    match found {
        Some(fd) => Ok((fd, received.bytes)),
        None if received.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Closes the descriptors `first` to `last`, both included; with `cloexec` they are only marked to be closed by exec.
///
/// `u32::MAX` as `last` means all the rest. Linux 5.9 (5.11 with `cloexec`), close_range(2).
///
/// # Safety
/// Without `cloexec`, nothing in this process may use a descriptor of the range afterwards: every `OwnedFd` in it must be
/// forgotten or the process must go on to exec or exit without dropping it.
pub unsafe fn close_range(first: u32, last: u32, cloexec: bool) -> io::Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: three plain integers; that no closed descriptor is used again is the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How long whoever listens may leave us in the queue of those that want to connect; only a full queue makes us wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects a stream socket, close-on-exec, to the Unix socket at `path`, however long the path is.
/// ETIMEDOUT: the listener's queue has been full for ten seconds.
///
/// A socket's address holds 107 bytes of path. A longer path is opened first (without opening the socket itself, O_PATH) and
/// reached through /proc/self/fd. unix(7), "BUGS"; proc_pid_fd(5).
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    connect_within(path, PATIENCE)
}

fn connect_within(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    let connected = match SocketAddrUnix::new(path) {
        Ok(address) => rustix::net::connect(&socket, &address),
        Err(Errno::NAMETOOLONG) => {
            let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let short = format!("/proc/self/fd/{}", place.as_fd().as_raw_fd());
            rustix::net::connect(&socket, &SocketAddrUnix::new(short)?)
        }
        Err(other) => Err(other),
    };
    // unix(7) calls it EAGAIN, which says nothing to people.
    connected.map_err(|error| if error == Errno::AGAIN { Errno::TIMEDOUT } else { error })?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket)
}

/// `getsockopt(socket, SOL_SOCKET, SO_PEERCRED)`, unix(7): the process at the other end when it connected or listened, as our pid
/// namespace numbers it; 0 when it is in none that we see.
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: ucred is three integers, for which zeros are values.
    let mut peer: libc::ucred = unsafe { mem::zeroed() };
    let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, which is that long; both live across the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(peer.pid) } else { Err(io::Error::last_os_error()) }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_descriptor_arrives_with_its_name_and_close_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send_fd(ours.as_fd(), b"/dev/pts/0", writer.as_fd()).unwrap();
        drop(writer);
        let mut name = [0; 64];
        let (got, length) = recv_fd(theirs.as_fd(), &mut name).unwrap();
        assert_eq!(name.get(..length), Some(&b"/dev/pts/0"[..]));
        assert!(rustix::io::fcntl_getfd(&got).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&got, b"through").unwrap();
        let mut data = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut data).unwrap(), 7);
    }

    #[test]
    fn the_peer_is_known() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_pid(ours.as_fd()).unwrap(), std::process::id() as i32);
    }

    #[test]
    fn no_descriptor_is_an_error_with_a_reason() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut name = [0; 8];
        assert_eq!(
            send_fd(ours.as_fd(), b"", theirs.as_fd()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        rustix::io::write(&ours, b"x").unwrap();
        assert_eq!(recv_fd(theirs.as_fd(), &mut name).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(ours);
        assert_eq!(recv_fd(theirs.as_fd(), &mut name).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let sent = send_fd(theirs.as_fd(), b"x", theirs.as_fd());
        assert_eq!(sent.unwrap_err().raw_os_error(), Some(libc::EPIPE), "and no SIGPIPE");
    }

    #[test]
    fn a_socket_is_reached_by_a_short_and_by_a_long_path() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        // Bound under a short path, then moved: bind(2) has the same limit.
        let short = folder.path().join("s");
        let listener = UnixListener::bind(&short).unwrap();
        connect_unix(&short).unwrap();
        listener.accept().unwrap();
        let long = deep.join("n".repeat(200));
        std::fs::rename(&short, &long).unwrap();
        let socket = connect_unix(&long).unwrap();
        listener.accept().unwrap();
        assert!(rustix::io::fcntl_getfd(&socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let gone = connect_unix(&deep.join("none")).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn who_never_accepts_does_not_hold_us_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut waiting = Vec::new();
        let soon = Duration::from_millis(100);
        let error = loop {
            match connect_within(&path, soon) {
                Ok(socket) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "after {} others", waiting.len());
        let left = rustix::net::sockopt::socket_timeout(&waiting[0], Timeout::Send).unwrap();
        assert_eq!(left, None, "what is sent later may take its time");
    }

    #[test]
    fn a_range_is_marked_or_closed() {
        // High numbers, which no other test's descriptor has.
        let (reader, _) = rustix::pipe::pipe().unwrap();
        for number in 900..903 {
            // SAFETY: dup3 copies an open descriptor to a number that nothing else uses.
            assert_eq!(unsafe { libc::dup3(reader.as_raw_fd(), number, 0) }, number);
        }
        let flags = |number: i32| {
            // SAFETY: F_GETFD takes no pointer and changes nothing.
            unsafe { libc::fcntl(number, libc::F_GETFD) }
        };
        // SAFETY: with `cloexec` nothing is closed.
        unsafe { close_range(901, 902, true) }.unwrap();
        assert_eq!([900, 901, 902].map(flags), [0, libc::FD_CLOEXEC, libc::FD_CLOEXEC]);
        // SAFETY: 900 and 901 are this test's alone and are not used again.
        unsafe { close_range(900, 901, false) }.unwrap();
        assert_eq!([900, 901, 902].map(flags), [-1, -1, libc::FD_CLOEXEC]);
        // SAFETY: as above, for 902.
        unsafe { close_range(902, 902, false) }.unwrap();
    }
}
