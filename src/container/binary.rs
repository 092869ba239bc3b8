//! The runtime's own program file, which no container may write to (CVE-2019-5736): it runs from a read-only mount.
//!
//! An image whose program is a link to /proc/self/exe becomes this very file, and whoever sees that process may open it and
//! write to it once it has ended. A mount that is nowhere in the file system, and read-only, costs one more execve.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{CWD, StatVfsMountFlags};

use crate::error::{Doing, Result};
use crate::sys::mount::{Attributes, Procfs, open_tree, prepare};

const OWN: &std::ffi::CStr = c"/proc/self/exe";

/// Starts this program anew from a read-only mount, unless it is on one. For the commands that make a container's process,
/// before anything is open.
///
/// Where the mount cannot be made (an ordinary user has no right to) nothing happens: who may not mount may hardly write
/// to a program that root has installed.
pub fn run_read_only() -> Result<()> {
    let here = rustix::fs::statvfs(OWN).doing(|| "look at /proc/self/exe")?;
    if here.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // execve through a descriptor has left its number as the name. It is for people only.
        let _ = rustix::thread::set_name(c"emergence-runc");
        return Ok(());
    }
    let Ok(mount) = open_tree(CWD, OWN, libc::OPEN_TREE_CLONE) else { return Ok(()) };
    prepare(&mount, Attributes::READONLY, false, Procfs::Here)
        .doing(|| "make the runtime's own program read-only")?;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let mut again = Command::new(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Err(again.arg0(name).args(words).exec()).doing(|| "start the runtime from a read-only mount")
}
