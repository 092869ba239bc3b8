//! The runtime's own program file, which no container may write to (CVE-2019-5736): it runs from a read-only mount, or a sealed copy.
//!
//! An image whose program is a link to /proc/self/exe becomes this very file, and whoever sees that process may open it and
//! write to it once it has ended. A mount that is nowhere in the file system, and read-only, costs one more execve.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::sys::mount::{Attributes, Procfs, open_tree, prepare};

const OWN: &std::ffi::CStr = c"/proc/self/exe";
const OWN_PATH: &str = "/proc/self/exe";

/// Nobody can undo any of these, fcntl(2).
const SEALED: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Starts this program anew from a file that no container can write to, unless it runs from one. For the commands that make a
/// process in a container, before anything is open.
///
/// Who has no right to mount (an ordinary user) gets a sealed copy, 0.7 ms for each MiB, unless the file is root's alone and not
/// writable to him anyway.
pub fn run_protected() -> Result<()> {
    if is_protected().doing(|| "look at /proc/self/exe")? {
        // execve through a descriptor has left its number as the name. It is for people only.
        let _ = rustix::thread::set_name(c"emergence-runc");
        return Ok(());
    }
    let file = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) if is_roots_alone().doing(|| "look at /proc/self/exe")? => return Ok(()),
        Err(_) => sealed_copy().doing(
            || "copy the runtime's program where no container can write to it (or make root own it, writable to nobody else)",
        )?,
    };
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let mut again = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Err(again.arg0(name).args(words).exec()).doing(|| "start the runtime's protected program")
}

fn is_protected() -> std::io::Result<bool> {
    if rustix::fs::statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // What is mounted under a name may be made writable under that name, and so for whoever holds the file.
        return Ok(!has_name()?);
    }
    let link = fs::read_link(OWN_PATH)?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let seals = rustix::fs::fcntl_get_seals(File::open(OWN_PATH)?);
    Ok(seals.is_ok_and(|seals| seals.contains(SEALED)))
}

/// Whether the path that the kernel gives for this program leads to it: it then lies on a mount that is in the file system.
fn has_name() -> std::io::Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = identity(OWN_PATH.as_ref())?;
    Ok(identity(&fs::read_link(OWN_PATH)?).is_ok_and(|named| named == own))
}

fn read_only_mount() -> std::io::Result<OwnedFd> {
    let mount = open_tree(CWD, OWN, libc::OPEN_TREE_CLONE)?;
    prepare(&mount, Attributes::READONLY, false, Procfs::Here)?;
    Ok(mount)
}

/// Whether the program is root's, this process is not, and only the owner may write to it: no process in a container that an
/// ordinary user makes is root outside.
fn is_roots_alone() -> std::io::Result<bool> {
    let found = fs::metadata(OWN_PATH)?;
    Ok(!rustix::process::geteuid().is_root() && found.uid() == 0 && found.mode() & 0o022 == 0)
}

fn sealed_copy() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create(c"emergence-runc", flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 know no such flag, and need none.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"emergence-runc", flags)?,
        other => other?,
    };
    let own = rustix::fs::open(
        OWN,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    while rustix::fs::sendfile(&copy, own.as_fd(), None, 1 << 30)? > 0 {}
    rustix::fs::fcntl_add_seals(&copy, SEALED)?;
    Ok(copy)
}
