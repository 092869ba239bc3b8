//! Device nodes and the default links of /dev. Child side, no heap.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::inroot::{self, InRoot, PathBuffer};
use crate::plan::{At, DeviceStep, Fault, Step};
use crate::sys::mount::{attach, open_tree};

/// Links of /dev, by name and target. Source: runtime-spec config-linux.md, "Dev symbolic links".
const LINKS: &[(&CStr, &CStr)] = &[
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

/// Where nodes are made.
pub struct Folder<'a> {
    /// The container's root.
    pub root: InRoot<'a>,
    /// What was mounted on its /dev. By name it might be another folder by now, of the image, on disk.
    pub dev: Option<BorrowedFd<'a>>,
}

impl Folder<'_> {
    /// The folder of the node at `path` (made where missing), and the node's name.
    fn parent(&self, path: &CStr) -> rustix::io::Result<(OwnedFd, PathBuffer)> {
        let below = path.to_bytes_with_nul().strip_prefix(b"dev/");
        match (self.dev, below.and_then(|rest| CStr::from_bytes_with_nul(rest).ok())) {
            (Some(dev), Some(rest)) => InRoot(dev).parent(rest),
            _ => self.root.parent(path),
        }
    }

    fn dev(&self) -> rustix::io::Result<OwnedFd> {
        self.dev.map_or_else(|| self.root.folder(c"dev"), |dev| InRoot(dev).open(c"", false))
    }
}

/// Makes all nodes. `bind`: from the host's, since a user namespace cannot make them.
pub fn make(devices: &[DeviceStep], bind: bool, place: &Folder<'_>) -> Result<(), Fault> {
    for (index, device) in devices.iter().enumerate() {
        let (folder, name) = place.parent(&device.path).at(Step::DeviceFolder, index)?;
        let name = name.as_cstr().at(Step::Device, index)?;
        let fifo = FileType::from_raw_mode(device.mode) == FileType::Fifo;
        if bind && !fifo {
            bind_node(device, &folder, name, index)?;
            continue;
        }
        match make_node(device, folder.as_fd(), name) {
            // No right to make nodes, but no user namespace either: a runtime with few capabilities.
            Err(Errno::PERM) if !fifo => bind_node(device, &folder, name, index)?,
            other => other.at(Step::Device, index)?,
        }
    }
    Ok(())
}

fn make_node(device: &DeviceStep, folder: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let kind = FileType::from_raw_mode(device.mode);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(folder, name, kind, mode, device.device) {
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (stat.st_mode, stat.st_rdev) != (device.mode, device.device) {
                // An image's placeholder, or a node with another mode. Not changed in place: chmod follows a link that
                // somebody exchanges it for, to a file of the host.
                inroot::remove(folder, name)?;
                rustix::fs::mknodat(folder, name, kind, mode, device.device)?;
            }
        }
        other => other?,
    }
    if (device.uid, device.gid) != (0, 0) {
        let owner = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        rustix::fs::chownat(folder, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Binds the host's node of the same path, after a look that it is the device that was asked for.
fn bind_node(device: &DeviceStep, folder: &OwnedFd, name: &CStr, index: usize) -> Result<(), Fault> {
    let node = open_tree(CWD, &device.host, libc::OPEN_TREE_CLONE).at(Step::Device, index)?;
    let stat = rustix::fs::fstat(&node).at(Step::Device, index)?;
    let wanted = FileType::from_raw_mode(device.mode);
    if FileType::from_raw_mode(stat.st_mode) != wanted || stat.st_rdev != device.device {
        return Err(Fault { step: Step::DeviceTaken, index: index as u16, errno: libc::ENXIO });
    }
    let target = placeholder(folder, name).at(Step::Device, index)?;
    attach(&node, &target).at(Step::Device, index)
}

/// An empty file to mount something on; one that is there already serves, a link does not.
pub fn placeholder(folder: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, name, make, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    let there =
        rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match inroot::kind(&there)? {
        FileType::Symlink | FileType::Directory => Err(Errno::LOOP),
        _ => Ok(there),
    }
}

/// The default links, and ptmx to the container's own pseudo-terminals.
pub fn link(place: &Folder<'_>, proc: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let dev = place.dev()?;
    for (name, target) in LINKS {
        link_one(&dev, name, target)?;
    }
    if rustix::fs::accessat(proc, c"kcore", rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
        link_one(&dev, c"core", c"/proc/kcore")?;
    }
    inroot::remove(&dev, c"ptmx")?;
    link_one(&dev, c"ptmx", c"pts/ptmx")
}

fn link_one(folder: &OwnedFd, name: &CStr, target: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::symlinkat(target, folder, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
