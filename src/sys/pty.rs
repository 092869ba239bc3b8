//! Operations on a pseudoterminal, each one ioctl(2) without heap use: the child calls them before
//! exec. See pty(7), ioctl_tty(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of rows.
    pub rows: u16,
    /// Number of columns.
    pub cols: u16,
}

/// Unlocks the slave of the new `master`; before, it cannot be opened. TIOCSPTLCK in ioctl_tty(2).
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::pty::unlockpt(master)?)
}

/// Opens the slave of `master` without a path, so no other devpts and no symbolic link can
/// interfere. It is close-on-exec and does not become the controlling terminal.
///
/// `EIO` means that the slave is still locked. Linux 4.13, TIOCGPTPEER in ioctl_tty(2).
pub fn open_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// The size of `terminal`; `ENOTTY` if it is not a terminal. TIOCGWINSZ in ioctl_tty(2).
pub fn size(terminal: impl AsFd) -> io::Result<Size> {
    let found = rustix::termios::tcgetwinsize(terminal)?;
    Ok(Size { rows: found.ws_row, cols: found.ws_col })
}

/// Sets the size, on the master or the slave; the foreground processes of the slave get SIGWINCH if
/// it changed. TIOCSWINSZ in ioctl_tty(2).
pub fn set_size(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let wanted = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, wanted)?)
}

/// Makes `slave` the controlling terminal of the calling process, which must lead a session
/// (setsid(2)) without a terminal.
///
/// `EPERM` otherwise, or if the terminal controls another session. TIOCSCTTY in ioctl_tty(2).
pub fn make_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{read, write};

    fn master() -> OwnedFd {
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn the_peer_opens_once_unlocked_and_carries_bytes() {
        let master = master();
        assert_eq!(open_peer(master.as_fd()).unwrap_err().raw_os_error(), Some(libc::EIO), "still locked");
        unlock(master.as_fd()).unwrap();
        let peer = open_peer(master.as_fd()).unwrap();
        assert!(rustix::io::fcntl_getfd(&peer).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        write(&master, b"hello\n").unwrap();
        let mut got = [0; 16];
        assert_eq!(read(&peer, &mut got).unwrap(), 6);
        assert_eq!(got.get(..6), Some(&b"hello\n"[..]));
    }

    #[test]
    fn a_size_set_on_the_master_is_the_slaves() {
        let master = master();
        unlock(master.as_fd()).unwrap();
        let peer = open_peer(master.as_fd()).unwrap();
        set_size(&master, Size { rows: 33, cols: 121 }).unwrap();
        assert_eq!(size(&peer).unwrap(), Size { rows: 33, cols: 121 });
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(size(&pipe).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn only_a_session_leader_gets_a_controlling_terminal() {
        let master = master();
        unlock(master.as_fd()).unwrap();
        let peer = open_peer(master.as_fd()).unwrap();
        // In a child: a thread of the test binary leads no session of its own, or one that already
        // has a terminal or cannot take this one.
        // SAFETY: the child only makes system calls and ends with _exit, so no lock or heap of the
        // parent is used.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let before = make_controlling(peer.as_fd()).is_err();
            let session = rustix::process::setsid().is_ok();
            let after = make_controlling(peer.as_fd()).is_ok();
            let ours =
                rustix::termios::tcgetsid(&peer).is_ok_and(|sid| Ok(sid) == rustix::process::getsid(None));
            // SAFETY: _exit ends the child at once and takes no pointer.
            unsafe { libc::_exit(if before && session && after && ours { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call, which writes one int to it.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "refused before setsid, taken after");
    }
}
