//! Descriptors that are passed between processes, and those that must not be: SCM_RIGHTS, Unix
//! sockets by path, close_range.

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

use super::check;
use super::older::{self, Procfs};
use super::process::is_inherited;

/// Sends `fd` over the Unix socket, with `name` as the message's data. Uses no heap; a closed peer
/// gives `EPIPE`, not a signal.
///
/// `name` must not be empty: a stream socket carries descriptors only along with data. unix(7),
/// "SCM_RIGHTS".
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

/// Receives one close-on-exec descriptor from the Unix socket, and the message's data into
/// `buffer`. Returns the descriptor and the data's length in bytes. Of several descriptors in one
/// message the first is kept and the rest are closed.
///
/// `UnexpectedEof` if the peer closed without sending, `InvalidData` if the message held no
/// descriptor. unix(7), "SCM_RIGHTS".
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

/// Closes all descriptors from `first` on except those in the lists `keep`. close_range(2), Linux
/// 5.9; before, as listed in /proc/self/fd.
///
/// # Safety
/// Nothing in this process may use a closed descriptor afterwards: every `OwnedFd` that is not in
/// `keep` must be forgotten, or the process must go on to exec or exit without dropping it.
pub unsafe fn close_others(first: u32, keep: [&[u32]; 2], proc: Procfs<'_>) -> io::Result<()> {
    let mut start = first;
    loop {
        let kept = keep.iter().copied().flatten().copied();
        let next = kept.filter(|number| *number >= start).min().unwrap_or(u32::MAX);
        if next > start && close_range(start, next - 1, 0).is_err() {
            // ENOSYS, or EPERM from the filter of an old engine: the call itself has no other
            // reason to fail.
            let close = |number: i32| {
                if !keep.iter().any(|some| some.contains(&(number as u32))) {
                    // SAFETY: an integer; the caller guarantees that the descriptor is not used
                    // again. Not rustix's close, which panics in a debug build if the number is not
                    // open.
                    unsafe { libc::syscall(libc::SYS_close, number) };
                }
            };
            return older::descriptors::each(proc, first, close);
        }
        if next >= u32::MAX - 1 {
            return Ok(());
        }
        start = next + 1;
    }
}

/// Calls `act` with every descriptor from `first` to `last` that is open since this program began,
/// as listed in /proc/self/fd.
pub fn each_inherited(first: u32, last: u32, mut act: impl FnMut(u32)) -> io::Result<()> {
    older::descriptors::each(Procfs::Here, first, |number| {
        if number.unsigned_abs() <= last && is_inherited(number) {
            act(number.unsigned_abs());
        }
    })
}

/// Sets close-on-exec on all descriptors from `first` on. close_range(2), CLOSE_RANGE_CLOEXEC,
/// Linux 5.11; before, as listed in /proc/self/fd.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    if close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).is_ok() {
        return Ok(());
    }
    older::descriptors::each(Procfs::Here, first, |number| {
        // SAFETY: fcntl with F_SETFD takes integers and only changes a flag.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    })
}

/// `close_range(first, last, flags)`, both inclusive. Without CLOSE_RANGE_CLOEXEC only
/// [`close_others`] may call it.
fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: three plain integers; the caller of `close_others` guarantees that no closed
    // descriptor is used again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(done).map(drop)
}

/// How long to wait if the listener's queue of connections is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects a stream socket, close-on-exec, to the Unix socket at `path`, however long the path is.
/// ETIMEDOUT: the listener's queue has been full for ten seconds.
///
/// A socket's address holds 107 bytes of path. A longer path is opened first (without opening the
/// socket itself, O_PATH) and reached through /proc/self/fd. unix(7), "BUGS"; proc_pid_fd(5).
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
    // unix(7) returns EAGAIN, which is no helpful message.
    connected.map_err(|error| if error == Errno::AGAIN { Errno::TIMEDOUT } else { error })?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket)
}

/// `getsockopt(socket, SOL_SOCKET, SO_PEERCRED)`, unix(7): PID, in our PID namespace, of the peer
/// when it connected or listened; 0 if it is in no visible PID namespace.
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: ucred consists of three integers, for which zero is valid.
    let mut peer: libc::ucred = unsafe { mem::zeroed() };
    let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, which is that long; both live
    // across the call.
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

/// Opens a file for appending, and creates it with mode 0644 if it is missing. Never waits: ENXIO
/// means a fifo that no process reads, open(2). A write to a full fifo or terminal fails with
/// EAGAIN.
pub fn open_to_append(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o644))
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
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        // Bound under a short path, then moved: bind(2) has the same limit.
        let short = directory.path().join("s");
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
    fn a_peer_that_never_accepts_does_not_block_the_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
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

    /// State of the descriptors 900 to 902 after `act` in a child process: open (0), close-on-exec
    /// (1) or closed (-1).
    fn after(act: impl FnOnce()) -> [i32; 3] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: no memory is shared; the child only makes system calls, and ends by _exit.
        match unsafe { crate::sys::process::clone3(0, None) }.unwrap() {
            crate::sys::process::Cloned::Child => {
                for number in 900..903 {
                    // SAFETY: dup3 copies an open descriptor to a number that nothing else uses.
                    unsafe { libc::dup3(reader.as_raw_fd(), number, 0) };
                }
                act();
                // SAFETY: F_GETFD takes no pointer and changes nothing.
                let flags = [900, 901, 902].map(|number| unsafe { libc::fcntl(number, libc::F_GETFD) });
                let _ = rustix::io::write(&writer, &flags.map(|flags| flags as u8));
                crate::sys::process::exit_now(0)
            }
            crate::sys::process::Cloned::Parent { pidfd, .. } => {
                crate::sys::process::wait(pidfd.as_fd()).unwrap();
            }
        }
        let mut flags = [0; 3];
        assert_eq!(rustix::io::read(&reader, &mut flags).unwrap(), 3);
        flags.map(|flags| i32::from(flags as i8))
    }

    #[test]
    fn all_but_some_are_closed_or_marked() {
        let all = |number: i32, close: &dyn Fn(i32)| {
            if number != 901 {
                close(number);
            }
        };
        // SAFETY: nothing in the child uses them again; this also holds for the calls below.
        assert_eq!(after(|| unsafe { close_others(900, [&[901], &[]], Procfs::Here) }.unwrap()), [-1, 0, -1]);
        let close = |number: i32| {
            // SAFETY: nothing in the child uses the descriptor again.
            unsafe { libc::close(number) };
        };
        let listed = || older::descriptors::each(Procfs::Here, 900, |number| all(number, &close)).unwrap();
        assert_eq!(after(listed), [-1, 0, -1]);
        assert_eq!(after(|| close_on_exec_from(901).unwrap()), [0, 1, 1]);
    }
}
