//! The runtime's program file, protected from writes by containers (CVE-2019-5736): it runs from a
//! read-only mount or a sealed copy.
//!
//! If an image's program is a link to /proc/self/exe, that process executes this very file. Any
//! process that sees it may open the file and write to it once it has ended. A read-only mount that
//! is nowhere in the file system costs one more execve.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};

use super::handover;
use crate::error::{Doing, Result};
use crate::sys::handover::Window;
use crate::sys::memfd::{self, Content, SEALED};
use crate::sys::mount::{Attributes, Procfs, Reach, clone_with};
use crate::sys::process;

const OWN: &std::ffi::CStr = c"/proc/self/exe";
const OWN_PATH: &str = "/proc/self/exe";

/// Has a protected file for processes that enter containers: they will execute it
/// ([`handover`]). For the commands that create such a process, before anything is open.
///
/// If this process cannot hand memory over (a low limit of file sizes or of its address space, more
/// rights than its caller), it executes the protected file itself, and such processes are copies of it.
///
/// A caller without the right to mount (an unprivileged user) gets a sealed copy, 0.7 ms per MiB,
/// unless root owns the file and only root may write to it.
pub fn protect() -> Result<()> {
    // A program with more rights than its caller takes no memory from the caller either.
    if !process::has_gained_rights()
        && let Ok(memory) = Window::reserve()
    {
        handover::enable(protected_file()?.map_or_else(own_file, Ok)?, memory);
        return Ok(());
    }
    if is_protected().doing(|| "check the write protection of /proc/self/exe")? {
        // execve through a descriptor has made its number the process name. The name is only for
        // people.
        let _ = rustix::thread::set_name(c"emergence-runc");
        return Ok(());
    }
    let Some(file) = protected_file()? else { return Ok(()) };
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let mut again = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Err(again.arg0(name).args(args).exec()).doing(|| "start the runtime's protected program")
}

/// This program in a file that no container can write to; `None`: it is such a file already.
fn protected_file() -> Result<Option<OwnedFd>> {
    if let Ok(mount) = read_only_mount() {
        return Ok(Some(mount));
    }
    let is_safe = is_writable_by_root_only().and_then(|safe| Ok(safe || is_protected()?));
    if is_safe.doing(|| "check the write protection of /proc/self/exe")? {
        return Ok(None);
    }
    sealed_copy().map(Some).doing(
        || "copy the runtime's binary to where no container can write to it (not needed if only root can write to the binary)",
    )
}

fn own_file() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(OWN, flags, Mode::empty()).doing(|| "open /proc/self/exe")
}

fn is_protected() -> std::io::Result<bool> {
    if rustix::fs::statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // A mount with a path may be remounted writable through that path, and so for every holder
        // of the file.
        return Ok(!has_name()?);
    }
    let link = fs::read_link(OWN_PATH)?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let seals = rustix::fs::fcntl_get_seals(File::open(OWN_PATH)?);
    Ok(seals.is_ok_and(|seals| seals.contains(SEALED)))
}

/// Whether the path that the kernel reports for this program leads to it: then the program is on a
/// mount in the file system.
fn has_name() -> std::io::Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = identity(OWN_PATH.as_ref())?;
    Ok(identity(&fs::read_link(OWN_PATH)?).is_ok_and(|named| named == own))
}

fn read_only_mount() -> std::io::Result<OwnedFd> {
    clone_with(CWD, OWN, Attributes::READONLY, Reach::Mount, Procfs::Here)
}

/// Whether root owns the program, only root may write to it, and this process is not root: no
/// process in an unprivileged user's container is root outside.
fn is_writable_by_root_only() -> std::io::Result<bool> {
    let found = fs::metadata(OWN_PATH)?;
    Ok(!rustix::process::geteuid().is_root() && found.uid() == 0 && found.mode() & 0o022 == 0)
}

fn sealed_copy() -> rustix::io::Result<OwnedFd> {
    let copy = memfd::create(c"emergence-runc", Content::Program)?;
    let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    while rustix::fs::sendfile(&copy, own.as_fd(), None, 1 << 30)? > 0 {}
    rustix::fs::fcntl_add_seals(&copy, SEALED)?;
    Ok(copy)
}
