//! Device nodes and the default links of /dev. Child side, no heap.
//!
//! No existing file is removed or changed, since it may belong to the host: below a bind mount, or
//! in a devtmpfs.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::inroot::{self, InRoot, LastLink};
use super::nodes::Attached;
use super::path::{self, NameBuffer};
use crate::plan::{At, DeviceStep, Step, StepError};
use crate::sys::mount::{Procfs, Reach, attach, clone_mount, is_mount_root, open_tree};

/// Links of /dev, by name and target. Source: runtime-spec config-linux.md, "Dev symbolic links".
const LINKS: &[(&CStr, &CStr)] = &[
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

/// Magic number of devpts, statfs(2).
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Permission bits of an empty file created as a mount point of a node; they identify it later.
const MOUNT_POINT: u32 = 0;

/// The directories in which nodes are created.
pub struct Directory<'a> {
    /// The container's root.
    pub root: InRoot<'a>,
    /// The mount on its /dev. The name may lead to another directory by now: the image's, on disk.
    pub dev: Option<BorrowedFd<'a>>,
    /// Whether it is a new file system, which only the container uses.
    pub private: bool,
    /// The host's procfs.
    pub proc: Procfs<'a>,
}

impl Directory<'_> {
    /// The parent directory of the node at `path` (created if missing), and the node's name.
    fn parent(&self, path: &CStr) -> rustix::io::Result<(Parent<'_>, NameBuffer)> {
        let below = path.to_bytes_with_nul().strip_prefix(b"dev/");
        match (self.dev, below.and_then(|rest| CStr::from_bytes_with_nul(rest).ok())) {
            (Some(dev), Some(name)) if !name.to_bytes().contains(&b'/') => {
                Ok((Parent::Mount(dev), NameBuffer::new(name.to_bytes())?))
            }
            (Some(dev), Some(rest)) => InRoot(dev).parent(rest).map(Parent::opened),
            _ => self.root.parent(path).map(Parent::opened),
        }
    }

    fn dev(&self) -> rustix::io::Result<Parent<'_>> {
        self.dev.map_or_else(|| self.root.directory(c"dev").map(Parent::Opened), |dev| Ok(Parent::Mount(dev)))
    }
}

/// A directory in which nodes are created.
enum Parent<'a> {
    /// The mount on /dev itself.
    Mount(BorrowedFd<'a>),
    /// Another directory.
    Opened(OwnedFd),
}

impl Parent<'_> {
    fn opened((directory, name): (OwnedFd, NameBuffer)) -> (Self, NameBuffer) {
        (Self::Opened(directory), name)
    }
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Mount(mount) => *mount,
            Self::Opened(directory) => directory.as_fd(),
        }
    }
}

/// Nodes that the runtime provides, since a user namespace cannot create them.
#[derive(Clone, Copy)]
pub struct ProvidedNodes<'a> {
    /// The host's nodes as detached mounts, by index of the device.
    pub hosts: &'a [Option<OwnedFd>],
    /// A detached file system with further nodes, named by their index.
    pub made: Option<BorrowedFd<'a>>,
}

/// Creates all nodes. `bind`: they are mounted instead.
pub fn make(
    devices: &[DeviceStep],
    bind: bool,
    place: &Directory<'_>,
    ready: ProvidedNodes<'_>,
) -> Result<(), StepError> {
    let made = Attached::with(ready.made, place.root.0).at(Step::Device, 0)?;
    let mut nodes = Nodes { bind, place, hosts: ready.hosts, made };
    for (index, device) in devices.iter().enumerate() {
        create(device, index, &mut nodes)?;
    }
    nodes.made.detach(place.root.0).at(Step::Device, 0)
}

/// Where the nodes go, and where they come from.
struct Nodes<'a> {
    /// Whether they are mounted instead of created.
    bind: bool,
    place: &'a Directory<'a>,
    hosts: &'a [Option<OwnedFd>],
    made: Attached<'a>,
}

fn create(device: &DeviceStep, index: usize, nodes: &mut Nodes<'_>) -> Result<(), StepError> {
    let Nodes { bind, place, hosts, made: nodes } = nodes;
    let (directory, name) = place.parent(&device.path).at(Step::DeviceDirectory, index)?;
    let name = name.as_cstr().at(Step::Device, index)?;
    let fifo = device.kind == libc::S_IFIFO;
    let mut bind = *bind && !fifo;
    if !bind {
        match make_node(device, directory.as_fd(), name) {
            Err(Errno::EXIST) => {}
            // Creating nodes is not permitted, although there is no user namespace: a runtime with
            // few capabilities.
            Err(Errno::PERM) if !fifo => bind = true,
            other => return other.at(Step::Device, index),
        }
    }
    let target = match look(&directory, name).at(Step::Device, index)? {
        None => mount_point(&directory, name, Mode::from_raw_mode(MOUNT_POINT)).at(Step::Device, index)?,
        Some(existing) => match judge(device, &existing, bind, place.proc).at(Step::DeviceTaken, index)? {
            Standing::Serves => return Ok(()),
            Standing::IsCovered => existing,
        },
    };
    let made = if bind { Err(Errno::PERM.into()) } else { nodes.make(device, index, place.root.0) };
    let node = match made {
        Err(error) if !fifo && error.raw_os_error() == Some(libc::EPERM) => {
            match (hosts.get(index).and_then(Option::as_ref), nodes.given(index).at(Step::Device, index)?) {
                (Some(host), _) => return attach(host, &target).at(Step::Device, index),
                (None, Some(given)) => given,
                (None, None) => host_node(device, index)?,
            }
        }
        made => made.at(Step::Device, index)?,
    };
    attach(&node, &target).at(Step::Device, index)
}

fn make_node(device: &DeviceStep, directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let kind = FileType::from_raw_mode(device.kind);
    rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(device.permissions()), device.device)?;
    let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn look(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// How to treat an existing file with a device's name.
enum Standing {
    /// It is the device, or a mount of config.json that replaces a default device.
    Serves,
    /// The node is mounted on it.
    IsCovered,
}

/// Decides how to treat an existing file. EEXIST: it is not the requested device; it stays. EISDIR:
/// a directory has the name of a default device.
fn judge(device: &DeviceStep, existing: &OwnedFd, bind: bool, proc: Procfs<'_>) -> std::io::Result<Standing> {
    let stat = rustix::fs::fstat(existing)?;
    let is_device = device.is(stat.st_mode, stat.st_rdev);
    let usual_mode = bind || stat.st_mode & 0o7777 == device.permissions();
    if device.at.is_some() {
        let agrees = device.has(stat.st_mode, (stat.st_uid, stat.st_gid));
        // An empty file created as a mount point when this root was used before.
        let mount_point = bind
            && stat.st_mode == libc::S_IFREG | MOUNT_POINT
            && stat.st_size == 0
            && !is_mount_root(existing, proc)?;
        return match (is_device, agrees) {
            (true, true) => Ok(Standing::Serves),
            (true, false) => Ok(Standing::IsCovered),
            _ if mount_point => Ok(Standing::IsCovered),
            _ => Err(Errno::EXIST.into()),
        };
    }
    match FileType::from_raw_mode(stat.st_mode) {
        _ if is_device && usual_mode || is_mount_root(existing, proc)? => Ok(Standing::Serves),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Ok(Standing::IsCovered),
    }
}

/// Opens the host's node of the same path, and checks that it is the requested device.
fn host_node(device: &DeviceStep, index: usize) -> Result<OwnedFd, StepError> {
    let node = open_tree(CWD, &device.host, libc::OPEN_TREE_CLONE).at(Step::DeviceOfHost, index)?;
    let stat = rustix::fs::fstat(&node).at(Step::DeviceOfHost, index)?;
    let agrees =
        device.is(stat.st_mode, stat.st_rdev) && device.has(stat.st_mode, (stat.st_uid, stat.st_gid));
    if agrees { Ok(node) } else { Err(Errno::NXIO).at(Step::DeviceOfHost, index) }
}

/// Creates an empty file as a mount point. An existing file is used too, also a link, which is not
/// followed.
pub fn mount_point(directory: impl AsFd, name: &CStr, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&directory, name, make, mode) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    let existing = rustix::fs::openat(
        &directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    match path::kind(&existing)? {
        FileType::Directory => Err(Errno::ISDIR),
        _ => Ok(existing),
    }
}

/// Creates the default links, and ptmx for the container's own pseudo-terminals.
pub fn link(place: &Directory<'_>, proc: BorrowedFd<'_>) -> std::io::Result<()> {
    let dev = place.dev()?;
    for (name, target) in LINKS {
        link_one(&dev, name, target)?;
    }
    if rustix::fs::accessat(proc, c"kcore", rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
        link_one(&dev, c"core", c"/proc/kcore")?;
    }
    link_ptmx(place, &dev)
}

fn link_one(directory: impl AsFd, name: &CStr, target: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::symlinkat(target, directory, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Links ptmx. An image, or `linux.devices`, may have a node of this name, which opens terminals of
/// the host.
fn link_ptmx(place: &Directory<'_>, dev: &Parent<'_>) -> std::io::Result<()> {
    const TARGET: &CStr = c"pts/ptmx";
    match rustix::fs::symlinkat(TARGET, dev, c"ptmx") {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let Some(existing) = look(dev, c"ptmx")? else { return Err(Errno::AGAIN.into()) };
    // A mount there was requested by config.json.
    if path::kind(&existing)? == FileType::Symlink || is_mount_root(&existing, place.proc)? {
        return Ok(());
    }
    if place.private {
        inroot::remove(dev, c"ptmx")?;
        return Ok(rustix::fs::symlinkat(TARGET, dev, c"ptmx")?);
    }
    match own_ptmx(place.root) {
        Ok((ptmx, _)) => attach(clone_mount(ptmx, Reach::Mount)?, &existing),
        Err(Errno::NOENT | Errno::NODEV) => Ok(()), // no devpts is mounted
        Err(error) => Err(error.into()),
    }
}

/// Opens the container's /dev/pts/ptmx, and returns its status too. ENODEV: it is not a ptmx but an
/// image's file of this name, which could be any device.
pub fn own_ptmx(root: InRoot<'_>) -> rustix::io::Result<(OwnedFd, rustix::fs::Stat)> {
    let ptmx = root.open(c"dev/pts/ptmx", LastLink::Open)?;
    let stat = rustix::fs::fstat(&ptmx)?;
    let is_ptmx = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(5, 2)
        && rustix::fs::fstatfs(&ptmx)?.f_type as u64 == DEVPTS_MAGIC;
    if is_ptmx { Ok((ptmx, stat)) } else { Err(Errno::NODEV) }
}
