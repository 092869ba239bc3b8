//! Network devices, on the runtime's side, over rtnetlink: moves `linux.netDevices` into the
//! container.
//!
//! runtime-spec config-linux.md, "Network Devices": a moved device keeps its permanent addresses of
//! global scope, gets its new name, and is up afterwards. It is never moved back: it exists as long
//! as the container's network namespace.

#![forbid(unsafe_code)]

pub mod address;
pub mod answer;
mod socket;

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkMessage};

use crate::error::{Doing, Error, Kind, Result};
use address::Addresses;
use socket::Socket;

/// One device of `linux.netDevices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its name in the runtime's network namespace.
    pub host_name: String,
    /// Its name in the container; a `%d` at the end is replaced by the lowest number that gives a
    /// free name.
    pub container_name: String,
}

/// The maximum length of a device name in bytes: IFNAMSIZ without the NUL.
const LONGEST: usize = libc::IFNAMSIZ - 1;

/// Checks a device's name as the kernel does (`dev_valid_name`), so that the plan can refuse it
/// before anything is made. A `%d` is permitted at the end, where it makes the name a template
/// (config-linux.md, "Network Devices").
///
/// The error is the reason, to follow the JSON path.
pub fn check_name(name: &str) -> std::result::Result<(), String> {
    let plain = name.strip_suffix("%d").unwrap_or(name);
    // The kernel's isspace() works on Latin-1, where 0xa0 is a space too.
    let refused = |byte: &u8| matches!(byte, 0 | b'\t'..=b'\r' | b' ' | b'/' | b':' | b'%' | 0xa0);
    let why = match name {
        "" => "is empty".into(),
        "." | ".." => "names a directory".into(),
        _ if name.len() > LONGEST => format!("is longer than {LONGEST} bytes"),
        _ if plain.contains('%') => "holds a %; only one %d at the end is allowed".into(),
        _ => match plain.bytes().find(|byte| refused(byte)) {
            Some(byte) => format!("holds {:?}", char::from(byte)),
            None => return Ok(()),
        },
    };
    Err(format!("the device name {name:?} {why}"))
}

/// Moves the devices from the calling thread's network namespace to `netns`, with their addresses,
/// and sets them up.
///
/// Checks everything before the first device moves. The calling thread enters `netns` for a moment,
/// so no other thread may depend on it. Needs CAP_NET_ADMIN in both namespaces and CAP_SYS_ADMIN.
pub fn move_devices(devices: &[Move], netns: BorrowedFd<'_>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let mut host = Socket::open().doing(|| "linux.netDevices: open a netlink socket")?;
    let mut inside = Socket::open_in(netns).doing(|| "linux.netDevices")?;
    let mut taken = BTreeSet::new();
    let mut ready = Vec::with_capacity(devices.len());
    for device in devices {
        ready.push(CheckedDevice::check(device, &mut taken, &mut host, &mut inside)?);
    }
    let addresses = Addresses::list(&mut host).doing(|| "linux.netDevices: list addresses")?;
    for device in ready {
        let kept = addresses.kept(device.index);
        device.carry_out(kept, netns, &mut host, &mut inside).doing(|| device.path.clone())?;
    }
    Ok(())
}

/// A validated device.
struct CheckedDevice<'a> {
    /// Its JSON path in config.json.
    path: String,
    /// Its name on the host.
    host_name: &'a str,
    /// Its index on the host.
    index: u32,
    /// Its name inside, which is free, without `%d`.
    name: String,
}

impl<'a> CheckedDevice<'a> {
    /// Validates one device in both namespaces. `taken`: names that devices before it will have
    /// inside.
    fn check(
        device: &'a Move,
        taken: &mut BTreeSet<String>,
        host: &mut Socket,
        inside: &mut Socket,
    ) -> Result<Self> {
        let path = format!("linux.netDevices.{}", device.host_name);
        check_name(&device.host_name).map_err(|why| Error::invalid(&path, why))?;
        let name_path = format!("{path}.name");
        check_name(&device.container_name).map_err(|why| Error::invalid(&name_path, why))?;

        let Some(found) = find(host, &device.host_name).doing(|| path.clone())? else {
            return Err(Error::invalid(&path, "no such device on the host"));
        };
        if found.flags.contains(LinkFlags::Loopback) {
            return Err(Error::invalid(&path, "a loopback device cannot be moved"));
        }
        let name = match device.container_name.strip_suffix("%d") {
            Some(stem) => lowest_free(stem, taken, inside).doing(|| name_path)?,
            None if is_free(&device.container_name, taken, inside).doing(|| name_path.clone())? => {
                device.container_name.clone()
            }
            None => {
                let words = format!("the container has a device {:?} already", device.container_name);
                return Err(Error::invalid(&name_path, words));
            }
        };
        taken.insert(name.clone());
        Ok(Self { path, host_name: &device.host_name, index: found.index, name })
    }

    fn carry_out(
        &self,
        addresses: impl Iterator<Item = address::MovedAddress>,
        netns: BorrowedFd<'_>,
        host: &mut Socket,
        inside: &mut Socket,
    ) -> Result<()> {
        // One message moves and renames, so that the old name may be in use inside.
        let target =
            vec![LinkAttribute::NetNsFd(netns.as_raw_fd()), LinkAttribute::IfName(self.name.clone())];
        let moving = link(self.index, LinkFlags::empty(), target);
        host.ask(RouteNetlinkMessage::SetLink(moving)).doing(|| format!("move it as {}", self.name))?;

        // Its index changes if another device inside has it.
        let Some(found) = find(inside, &self.name)? else {
            return Err(Error::new(Kind::System, format!("{} is gone after the move", self.name)));
        };
        // Set addresses before the device is up: the program never sees it up without them.
        for address in addresses {
            let words = address.to_string();
            inside
                .ask(address.request(found.index, self.host_name, &self.name))
                .doing(|| format!("set address {words}"))?;
        }
        let up = link(found.index, LinkFlags::Up, Vec::new());
        inside.ask(RouteNetlinkMessage::SetLink(up)).doing(|| "set it up")?;
        Ok(())
    }
}

/// The name with the lowest free number after `stem`, as the kernel expands a `%d`.
fn lowest_free(stem: &str, taken: &BTreeSet<String>, inside: &mut Socket) -> Result<String> {
    for number in 0_u32.. {
        let name = format!("{stem}{number}");
        if name.len() > LONGEST {
            break;
        }
        if is_free(&name, taken, inside)? {
            return Ok(name);
        }
    }
    Err(Error::new(Kind::Invalid, "no unused name found"))
}

fn is_free(name: &str, taken: &BTreeSet<String>, inside: &mut Socket) -> Result<bool> {
    Ok(!taken.contains(name) && find(inside, name)?.is_none())
}

/// Looks for the device `name`; `None` if there is none. Only the header of the answer is parsed:
/// attributes differ between kernels.
fn find(socket: &mut Socket, name: &str) -> Result<Option<LinkHeader>> {
    let named = link(0, LinkFlags::empty(), vec![LinkAttribute::IfName(name.to_owned())]);
    let answer = match socket.ask(RouteNetlinkMessage::GetLink(named)) {
        Err(error) if error.errno() == Some(libc::ENODEV) => return Ok(None),
        answer => answer.doing(|| format!("look for device {name}"))?,
    };
    match answer.first() {
        Some(body) => LinkHeader::parse(body).map(Some).map_err(answer::broken),
        None => Ok(None),
    }
}

/// A message about the device `index` that sets `flags`.
fn link(index: u32, flags: LinkFlags, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.change_mask = flags;
    message.attributes = attributes;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_the_kernel_judges_them() {
        for good in ["eth0", "lo", "a", "veth-1.2_x", "fifteen-bytes-x", "eth%d", "ünï", "...", "%d"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "is empty"),
            (".", "names a directory"),
            ("..", "names a directory"),
            ("sixteen-bytes-xx", "longer than 15 bytes"),
            ("a/b", "holds '/'"),
            ("a b", "holds ' '"),
            ("a\tb", "holds '\\t'"),
            ("a\u{b}b", "holds"),
            ("a:1", "holds ':'"),
            ("a\0", "holds '\\0'"),
            ("à", "holds"),
            ("eth%", "holds a %"),
            ("eth%dx", "holds a %"),
            ("eth%d%d", "holds a %"),
            ("e%sth%d", "holds a %"),
        ] {
            let found = check_name(bad).unwrap_err();
            assert!(found.contains(why), "{bad:?}: {found}");
        }
    }
}
