//! The addresses that a device keeps when it moves: the kernel removes them all, so they are read
//! before and set again afterwards.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::LONGEST;
use super::answer::{Body, broken};
use super::socket::Socket;
use crate::error::Result;

/// The flags that the creator of an address sets; the others are set by the kernel (secondary,
/// tentative, …).
const OURS: AddressFlags = AddressFlags::Nodad
    .union(AddressFlags::Homeaddress)
    .union(AddressFlags::Managetempaddr)
    .union(AddressFlags::Noprefixroute)
    .union(AddressFlags::Mcautojoin);

/// All addresses of the host, read once.
pub struct Addresses(Vec<AddressMessage>);

impl Addresses {
    /// Reads the addresses of all devices and families.
    pub(super) fn list(socket: &mut Socket) -> Result<Self> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        Self::parse(&socket.dump(&request)?)
    }

    /// Parses the messages of the kernel's answer.
    pub fn parse(answer: &[Body]) -> Result<Self> {
        let mut header = NetlinkHeader::default();
        header.message_type = libc::RTM_NEWADDR;
        let mut found = Vec::new();
        for body in answer {
            if let RouteNetlinkMessage::NewAddress(address) =
                RouteNetlinkMessage::deserialize(&header, body).map_err(broken)?
            {
                found.push(address);
            }
        }
        Ok(Self(found))
    }

    /// The addresses of the device with this index that move with it: permanent and of global
    /// scope, in the kernel's order, so that the first of a network becomes the primary one again.
    pub fn kept(&self, index: u32) -> impl Iterator<Item = MovedAddress> {
        let of_device = self.0.iter().filter(move |address| address.header.index == index);
        of_device.filter(|address| moves(address)).cloned().map(MovedAddress)
    }
}

/// Whether an address moves, config-linux.md, "Network Devices": IFA_F_PERMANENT and
/// RT_SCOPE_UNIVERSE.
fn moves(address: &AddressMessage) -> bool {
    address.header.scope == AddressScope::Universe && all_flags(address).contains(AddressFlags::Permanent)
}

/// The flags of the attribute, which holds all of them, otherwise those of the header.
fn all_flags(address: &AddressMessage) -> AddressFlags {
    let attribute = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    attribute.unwrap_or(AddressFlags::from_bits_retain(address.header.flags.bits().into()))
}

/// An address to set in the container.
pub struct MovedAddress(AddressMessage);

impl MovedAddress {
    /// The message that sets the address of the device `index` inside, formerly `host_name` and now
    /// `name`.
    pub fn request(self, index: u32, host_name: &str, name: &str) -> RouteNetlinkMessage {
        let MovedAddress(mut address) = self;
        let flags = all_flags(&address) & OURS;
        address.header.index = index;
        address.header.flags = AddressHeaderFlags::empty();
        let old = std::mem::take(&mut address.attributes);
        address.attributes =
            old.into_iter().filter_map(|attribute| carried(attribute, host_name, name)).collect();
        address.attributes.push(AddressAttribute::Flags(flags));
        RouteNetlinkMessage::NewAddress(address)
    }
}

/// The attribute to set again, if any; the kernel creates the others, or they belong to the old
/// namespace.
fn carried(attribute: AddressAttribute, host_name: &str, name: &str) -> Option<AddressAttribute> {
    use AddressAttribute::{Address, Broadcast, CacheInfo, Label, Local, Protocol, RoutePriority};
    match attribute {
        // ifconfig's `eth0:1`: the device's name is its first part.
        Label(label) => {
            let label = format!("{name}{}", label.strip_prefix(host_name)?);
            (label.len() <= LONGEST).then_some(Label(label))
        }
        Address(_) | Local(_) | Broadcast(_) | CacheInfo(_) | RoutePriority(_) | Protocol(_) => {
            Some(attribute)
        }
        _ => None,
    }
}

/// The address as `ip` writes it, for errors.
impl fmt::Display for MovedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found: Option<IpAddr> = None;
        for attribute in &self.0.attributes {
            match attribute {
                AddressAttribute::Local(local) => found = Some(*local),
                AddressAttribute::Address(address) => found = found.or(Some(*address)),
                _ => {}
            }
        }
        match found {
            Some(address) => write!(f, "{address}/{}", self.0.header.prefix_len),
            None => f.write_str("(none)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(scope: AddressScope, flags: AddressFlags, label: &str) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.scope = scope;
        message.header.index = 7;
        message.header.prefix_len = 24;
        message.attributes = vec![
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
            AddressAttribute::Label(label.into()),
            AddressAttribute::TargetNetNsId(3),
            AddressAttribute::Flags(flags),
        ];
        message
    }

    #[test]
    fn permanent_and_global_addresses_of_the_device_are_kept() {
        let (permanent, global) = (AddressFlags::Permanent, AddressScope::Universe);
        let list = Addresses(vec![
            address(global, permanent, "eth0"),
            address(global, AddressFlags::empty(), "eth0"),
            address(AddressScope::Link, permanent, "eth0"),
        ]);
        assert_eq!(list.kept(7).map(|kept| kept.to_string()).collect::<Vec<_>>(), ["10.0.0.1/24"]);
        assert_eq!(list.kept(8).count(), 0);
    }

    #[test]
    fn a_request_carries_what_was_set_by_hand() {
        let flags = AddressFlags::Permanent | AddressFlags::Noprefixroute | AddressFlags::Secondary;
        for (label, inside, want) in
            [("eth0:1", "net0", Some("net0:1")), ("eth0:1", "fourteen-bytes", None), ("other", "net0", None)]
        {
            let kept = MovedAddress(address(AddressScope::Universe, flags, label));
            let RouteNetlinkMessage::NewAddress(request) = kept.request(3, "eth0", inside) else {
                unreachable!()
            };
            assert_eq!(request.header.index, 3);
            let mut wanted = vec![AddressAttribute::Local("10.0.0.1".parse().unwrap())];
            wanted.extend(want.map(|label| AddressAttribute::Label(label.into())));
            wanted.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
            assert_eq!(request.attributes, wanted, "{label}");
        }
    }
}
