//! The end of a container, from whatever moment of its life: processes, mounts, control group, folder.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::hooks::{self, poll_until};
use super::record::{Folder, Record};
use super::state::{State, Status};
use crate::error::{Doing, Error, Kind, Result};

/// How long a killed process may take to end. A process that dumps core or waits for a dead disk takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills what runs and takes everything away; goes on after an error and gives the first.
pub fn everything(folder: &Folder, record: &Record) -> Result<()> {
    let mut first = Ok(());
    let mut also = |done: Result<()>| {
        if first.is_ok() {
            first = done;
        }
    };
    also(kill(record));
    also(resources(record));
    // Last: while anything is left, the container can still be named.
    if first.is_ok() {
        first = folder.remove();
    }
    first
}

/// As [`everything`], then the poststop hooks: the container was there to be seen.
pub fn with_hooks(folder: &Folder, record: &Record) -> Result<()> {
    everything(folder, record)?;
    hooks::run_tolerant(&record.poststop, &State::of(record, Status::Stopped));
    Ok(())
}

/// Kills the container's process and whatever else is in its group, and waits for the first.
fn kill(record: &Record) -> Result<()> {
    let pidfd = record.init.map_or(Ok(None), |init| init.pidfd())?;
    if let Some(init) = record.init {
        init.signal(libc::SIGKILL)?;
    }
    if let Some(group) = &record.group {
        group.kill()?;
    }
    let Some(pidfd) = pidfd else { return Ok(()) };
    let end = Instant::now() + PATIENCE;
    if !poll_until(pidfd.as_fd(), Some(end)).doing(|| "wait for the container's process")? {
        let pid = record.init.map_or(0, |init| init.pid);
        let words = format!("process {pid} has been killed but does not end; try again later");
        return Err(Error::new(Kind::System, words));
    }
    // If it is our child, nobody else can reap it.
    let _ = crate::sys::process::try_wait(pidfd.as_fd());
    Ok(())
}

/// Mounts that no namespace takes with it, and the group.
fn resources(record: &Record) -> Result<()> {
    if record.shares_mounts {
        unmount(&record.rootfs)?;
    }
    match &record.group {
        Some(group) => group.remove(),
        None => Ok(()),
    }
}

/// Detaches every mount on the root file system; what is mounted below goes with it.
fn unmount(rootfs: &Path) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    loop {
        match unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not (or no longer) a mount point, or not there at all.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).doing(|| format!("unmount {}", rootfs.display())),
        }
    }
}
