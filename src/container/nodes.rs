//! Device nodes for a user namespace, which cannot create any: the host's nodes, or new ones with
//! the requested mode and owner.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Stat};
use rustix::io::Errno;

use super::idmap;
use crate::error::{Doing, Error, Result};
use crate::init::Nodes;
use crate::plan::{DeviceStep, IdMaps, Plan, Step};
use crate::rootfs::nodes;
use crate::sys::mount::open_tree;

/// Opens or creates the nodes. `joined`: the user namespace, if an existing one is joined.
///
/// An error names the field in which the host's node differs and for which this process cannot
/// create another node.
pub(crate) fn prepare(plan: &Plan, joined: Option<BorrowedFd<'_>>) -> Result<Nodes> {
    let devices = &plan.rootfs.devices;
    if !plan.rootfs.bind_devices {
        return Ok(Nodes::default());
    }
    let mut preparing = Preparing { plan, joined, read: None, made: None };
    let hosts = devices.iter().enumerate().map(|(index, device)| preparing.node(device, index));
    let hosts = hosts.collect::<Result<_>>()?;
    Ok(Nodes { hosts, made: preparing.made })
}

struct Preparing<'a> {
    plan: &'a Plan,
    joined: Option<BorrowedFd<'a>>,
    /// The maps of `joined`, once they are read.
    read: Option<IdMaps>,
    /// The file system for new nodes, once created.
    made: Option<OwnedFd>,
}

/// The difference between a host's node and the requested one.
enum Lack {
    /// It does not exist.
    Missing,
    /// It is another device.
    Device,
    /// It has these permission bits.
    Mode(u32),
    /// It has this user or group, as seen by this process.
    Owner(&'static str, u32),
}

impl Preparing<'_> {
    /// The host's node as a detached mount. `None`: the container's process opens it, creates it,
    /// or finds it in `made`.
    fn node(&mut self, device: &DeviceStep, index: usize) -> Result<Option<OwnedFd>> {
        // The container's process creates fifos itself.
        if device.kind == libc::S_IFIFO {
            return Ok(None);
        }
        let owner = self.owner(device, index)?;
        let found = match rustix::fs::stat(&device.host) {
            Err(Errno::NOENT) => None,
            found => Some(found.doing(|| self.words(index))?),
        };
        if let Some(lack) = lack(device, found.as_ref(), owner) {
            return self.make(device, index, owner, &lack).map(|()| None);
        }
        match open_tree(CWD, &device.host, libc::OPEN_TREE_CLONE) {
            // An unprivileged user may not; the child, root in its own namespace, may.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
            opened => opened.map(Some).doing(|| self.words(index)),
        }
    }

    fn words(&self, index: usize) -> String {
        self.plan.describe(Step::Device, index)
    }

    /// The maps of the user namespace. `None`: this process cannot know any.
    fn maps(&mut self) -> Result<Option<&IdMaps>> {
        match (&self.plan.namespaces.maps, self.joined) {
            (Some(maps), _) => Ok(Some(maps)),
            (None, Some(joined)) => match &mut self.read {
                Some(read) => Ok(Some(read)),
                read => Ok(Some(read.insert(idmap::of_namespace(joined)?))),
            },
            (None, None) => Ok(None),
        }
    }

    /// The requested owner and group of the node, as seen by this process.
    fn owner(&mut self, device: &DeviceStep, index: usize) -> Result<(Option<u32>, Option<u32>)> {
        if (device.uid, device.gid) == (None, None) {
            return Ok((None, None));
        }
        let plan = self.plan;
        let Some(maps) = self.maps()? else { return Ok((device.uid, device.gid)) };
        let outside = |name: &str, maps, id: Option<u32>| {
            let Some(id) = id else { return Ok(None) };
            IdMaps::outside(maps, id).map(Some).ok_or_else(|| {
                let words = format!("{id} is not mapped in the user namespace (linux.{name}Mappings)");
                Error::invalid(&format!("{}.{name}", plan.device_field(index)), words)
            })
        };
        Ok((outside("uid", &maps.uid, device.uid)?, outside("gid", &maps.gid, device.gid)?))
    }

    /// Creates a new node; by default, the container's root owns it.
    fn make(
        &mut self,
        device: &DeviceStep,
        index: usize,
        (uid, gid): (Option<u32>, Option<u32>),
        lack: &Lack,
    ) -> Result<()> {
        let root = match self.maps()? {
            Some(maps) => (IdMaps::outside(&maps.uid, 0), IdMaps::outside(&maps.gid, 0)),
            None => (None, None),
        };
        let owner = (uid.or(root.0).unwrap_or(0), gid.or(root.1).unwrap_or(0));
        let made = match &self.made {
            Some(made) => Ok(made),
            None => nodes::file_system().map(|made| &*self.made.insert(made)),
        };
        made.and_then(|made| nodes::make(made.as_fd(), device, index, owner))
            .map_err(|error| self.refused(index, lack, error))
    }

    /// The error for a node that differs, if a new one cannot be created.
    fn refused(&self, index: usize, lack: &Lack, error: Errno) -> Error {
        let host = self.plan.rootfs.devices.get(index);
        let host = host.map_or_else(String::new, |device| device.host.to_string_lossy().into_owned());
        let (name, words) = match lack {
            Lack::Missing => ("path", format!("{host} does not exist on the host")),
            Lack::Device => ("path", format!("{host} of the host is another device")),
            Lack::Mode(mode) => ("fileMode", format!("{host} of the host has {mode:#o}")),
            Lack::Owner(name, id) => (*name, format!("{host} of the host belongs to {id}")),
        };
        let place = format!("{}.{name}", self.plan.device_field(index));
        Error::invalid(&place, format!("{words}, and this process cannot create another node ({error})"))
    }
}

fn lack(device: &DeviceStep, found: Option<&Stat>, (uid, gid): (Option<u32>, Option<u32>)) -> Option<Lack> {
    let Some(found) = found else { return Some(Lack::Missing) };
    let mode = found.st_mode & 0o7777;
    match found {
        _ if !device.is(found.st_mode, found.st_rdev) => Some(Lack::Device),
        _ if device.mode.is_some_and(|wanted| wanted != mode) => Some(Lack::Mode(mode)),
        _ if uid.is_some_and(|wanted| wanted != found.st_uid) => Some(Lack::Owner("uid", found.st_uid)),
        _ if gid.is_some_and(|wanted| wanted != found.st_gid) => Some(Lack::Owner("gid", found.st_gid)),
        _ => None,
    }
}
