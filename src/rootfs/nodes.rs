//! Device nodes on a file system of their own, from which they are mounted where they are wanted. No heap.
//!
//! So a node gets its mode and owner where another file already has its name, which then stays as it is; and in a user namespace,
//! which cannot make nodes: the runtime makes them there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::pivot::detach_current_folder;
use crate::plan::DeviceStep;
use crate::sys::mount::{attach, open_tree};
use crate::sys::text::Text;

/// A detached tmpfs for nodes.
pub fn file_system() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"devices")?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Makes the node of the device with this index. `owner`: as this process numbers users and groups.
pub fn make(
    folder: BorrowedFd<'_>,
    device: &DeviceStep,
    index: usize,
    owner: (u32, u32),
) -> rustix::io::Result<()> {
    let name = name(index)?;
    let (name, mode) = (name.as_cstr()?, Mode::from_raw_mode(device.permissions()));
    rustix::fs::mknodat(folder, name, FileType::from_raw_mode(device.kind), mode, device.device)?;
    rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?; // the umask has cut it
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens the node of this index as a detached mount; its file system is attached. ENOENT: there is none.
pub fn open(folder: BorrowedFd<'_>, index: usize) -> io::Result<OwnedFd> {
    open_tree(folder, name(index)?.as_cstr()?, libc::OPEN_TREE_CLONE)
}

/// A name as long as any number.
fn name(index: usize) -> rustix::io::Result<Text<16>> {
    let mut name = Text::new(b"")?;
    name.push_number(index as i32)?;
    Ok(name)
}

/// File systems of nodes, mounted on the root while devices are made: older kernels clone only what is mounted.
#[derive(Default)]
pub struct Attached<'a> {
    /// The runtime's.
    given: Option<BorrowedFd<'a>>,
    /// Our own, made when it is needed.
    own: Option<OwnedFd>,
}

impl<'a> Attached<'a> {
    /// With the file system that the runtime has made.
    pub fn with(given: Option<BorrowedFd<'a>>, root: BorrowedFd<'_>) -> io::Result<Self> {
        if let Some(given) = given {
            attach(given, root)?;
        }
        Ok(Self { given, own: None })
    }

    /// The runtime's node for this device, if it has made one.
    pub fn given(&self, index: usize) -> io::Result<Option<OwnedFd>> {
        let Some(given) = self.given else { return Ok(None) };
        match open(given, index) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// A new node that this process makes.
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

    /// Unmounts them from the root. What was opened lives on.
    pub fn detach(self, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
        for folder in [self.own.as_ref().map(AsFd::as_fd), self.given].into_iter().flatten() {
            rustix::process::fchdir(folder)?;
            detach_current_folder()?;
        }
        if self.own.is_some() || self.given.is_some() { rustix::process::fchdir(root) } else { Ok(()) }
    }
}
