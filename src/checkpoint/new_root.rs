//! A separate mount namespace in which criu starts: only there, the new root is a mount, as criu
//! requires. The namespace ends with criu, whatever happens to us.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::{Doing, Result};
use crate::sys::mount::{Attributes, Procfs, Reach, attach, open_tree, prepare};
use crate::sys::namespace::Namespace;
use crate::sys::process::{self, WayBack};

/// The mount that criu makes the root of the restored processes.
#[derive(Debug)]
pub struct NewRoot {
    /// A directory, bound onto itself.
    pub path: CString,
    /// Whether that mount is read-only.
    pub readonly: bool,
}

/// Calls `act` in a new mount namespace with that root, and returns to the former one. Processes
/// started by `act` stay there, and so do the directories that it opens: criu mounts in its log
/// directory, which must be in its own namespace.
pub fn with_root<T>(root: &NewRoot, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let way_back =
        directory(c"/proc").and_then(WayBack::open).doing(|| "open the runtime's own mount namespace")?;
    process::unshare(Namespace::Mount).doing(|| "create a mount namespace for criu")?;
    let done =
        mount(root).doing(|| format!("mount {} for criu", root.path.to_string_lossy())).and_then(|()| act());
    way_back.take().doing(|| "return to the runtime's own mount namespace")?;
    done
}

fn mount(root: &NewRoot) -> io::Result<()> {
    // Mounts made here do not propagate to the host; the host's mounts still propagate here. criu
    // makes the container's mounts slaves of the same masters as these, if they were slaves before.
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let mount = open_tree(CWD, &root.path, libc::OPEN_TREE_CLONE | Reach::Tree.flag())?;
    if root.readonly {
        prepare(&mount, Attributes::READONLY, Reach::Mount, Procfs::Here)?;
    }
    attach(mount, directory(&root.path)?)
}

fn directory(path: &CStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
