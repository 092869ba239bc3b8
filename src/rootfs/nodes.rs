//! Device nodes on a separate file system, from which they are mounted on their targets. No heap.
//!
//! So a node gets its mode and owner although another file already has its name, which then stays
//! unchanged. And it gets nodes into a user namespace, which cannot create them: the runtime
//! creates them there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::pivot::detach_current_directory;
use crate::plan::DeviceStep;
use crate::sys::mount::{attach, open_tree};
use crate::sys::text::Text;

/// Creates a detached tmpfs for nodes.
pub fn file_system() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"devices")?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Creates the node of the device with this index. `owner`: IDs in this process's user namespace.
pub fn make(
    directory: BorrowedFd<'_>,
    device: &DeviceStep,
    index: usize,
    owner: (u32, u32),
) -> rustix::io::Result<()> {
    let name = name(index)?;
    let (name, mode) = (name.as_cstr()?, Mode::from_raw_mode(device.permissions()));
    rustix::fs::mknodat(directory, name, FileType::from_raw_mode(device.kind), mode, device.device)?;
    rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?; // mknod(2) applies the umask
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens the node of this index as a detached mount; its file system must be attached. ENOENT: it
/// does not exist.
pub fn open(directory: BorrowedFd<'_>, index: usize) -> io::Result<OwnedFd> {
    open_tree(directory, name(index)?.as_cstr()?, libc::OPEN_TREE_CLONE)
}

/// The name of a node: its index.
fn name(index: usize) -> rustix::io::Result<Text<16>> {
    let mut name = Text::new(b"")?;
    name.push_number(index as i32)?;
    Ok(name)
}

/// File systems of nodes, mounted on the root while devices are created: older kernels clone only
/// attached mounts.
#[derive(Default)]
pub struct Attached<'a> {
    /// The runtime's.
    given: Option<BorrowedFd<'a>>,
    /// Our own, created on demand.
    own: Option<OwnedFd>,
}

impl<'a> Attached<'a> {
    /// Starts with the file system that the runtime has created.
    pub fn with(given: Option<BorrowedFd<'a>>, root: BorrowedFd<'_>) -> io::Result<Self> {
        if let Some(given) = given {
            attach(given, root)?;
        }
        Ok(Self { given, own: None })
    }

    /// The runtime's node for this device, if it has created one.
    pub fn given(&self, index: usize) -> io::Result<Option<OwnedFd>> {
        let Some(given) = self.given else { return Ok(None) };
        match open(given, index) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Creates a new node in this process.
    pub fn make(&mut self, device: &DeviceStep, index: usize, root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let own = match &self.own {
            Some(own) => own,
            None => {
                let made = file_system()?;
                attach(&made, root)?;
                self.own.insert(made)
            }
        };
        make(own.as_fd(), device, index, (device.uid.unwrap_or(0), device.gid.unwrap_or(0)))?;
        open(own.as_fd(), index)
    }

    /// Unmounts them from the root. Opened nodes stay valid.
    pub fn detach(self, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
        for directory in [self.own.as_ref().map(AsFd::as_fd), self.given].into_iter().flatten() {
            rustix::process::fchdir(directory)?;
            detach_current_directory()?;
        }
        if self.own.is_some() || self.given.is_some() { rustix::process::fchdir(root) } else { Ok(()) }
    }
}
