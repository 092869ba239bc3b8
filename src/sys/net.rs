//! The loopback device of a new network namespace, brought up by the child itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

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
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    device_flags(&socket, libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
    let up = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCGIFFLAGS succeeded, so the kernel wrote this member of the union; any bits are a
    // valid c_short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if flags & up != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | up;
    device_flags(&socket, libc::SIOCSIFFLAGS as libc::Ioctl, &mut request)
}

/// One of the two ioctls, which rustix lacks.
fn device_flags(socket: &OwnedFd, operation: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: both operations read and write one `ifreq`, which is `request`, alive and exclusively
    // borrowed for the call; its name ends in NUL, since it is an IFNAMSIZ array of "lo" followed
    // by zeros.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), operation, request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
