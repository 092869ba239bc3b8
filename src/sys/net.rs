//! The loopback device of a new network namespace, brought up by the child itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::closing::close_later;

/// Brings `lo` up in the network namespace of the calling thread; the kernel then adds 127.0.0.1
/// and ::1.
///
/// Uses no heap: the child calls it between clone and exec. Needs CAP_NET_ADMIN over the namespace
/// unless it is up already. netdevice(7), SIOCGIFFLAGS and SIOCSIFFLAGS.
pub fn loopback_up() -> io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    let up = libc::IFF_UP as libc::c_short;
    // The kernel sets and clears only a few flags, of which a new loopback device has none.
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up } };
    let made = device_flags(&socket, libc::SIOCSIFFLAGS as libc::Ioctl, &mut request);
    if made.is_err() {
        device_flags(&socket, libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
        // SAFETY: SIOCGIFFLAGS succeeded, so the kernel wrote this member of the union; any bits
        // are a valid c_short.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        return if flags & up != 0 { Ok(()) } else { made };
    }
    close_later(socket);
    Ok(())
}

/// One of the two ioctls, which rustix lacks.
fn device_flags(socket: &OwnedFd, operation: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: both operations read and write one `ifreq`, which is `request`, alive and exclusively
    // borrowed for the call; its name ends in NUL, since it is an IFNAMSIZ array of "lo" followed
    // by zeros.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), operation, request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
