//! The end of a container, from whatever moment of its life: processes, mounts, control group, folder.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::hooks::{self, poll_until};
use super::record::{Folder, Record};
use super::state::{State, Status};
use crate::cgroup::{Group, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::remove::remove;

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
    // Somebody else's delete ends first; what it has left is for us.
    also(folder.lock());
    if is_ours(folder, record) {
        also(kill(record));
        also(resources(record));
    } else {
        also(kill_init(record));
    }
    if first.is_ok() && record.bundle_goes {
        let removed = remove(&record.bundle).doing(|| format!("remove {}", record.bundle.display()));
        first = removed.map(drop);
    }
    // Last: while anything is left, the container can still be named.
    if first.is_ok() {
        first = folder.remove();
    }
    first
}

/// Whether what stands at the group's path is this container's. Once somebody has deleted the container in our back, another
/// one may have been made with the same id and the same path; a group that we made after the deletion is still ours.
fn is_ours(folder: &Folder, record: &Record) -> bool {
    folder.is_current()
        || record
            .group_made
            .is_some_and(|made| record.group.as_ref().is_some_and(|group| group.identity() == Some(made)))
}

/// As [`everything`], then the poststop hooks: the container was there to be seen.
pub fn with_hooks(folder: &Folder, record: &Record) -> Result<()> {
    everything(folder, record)?;
    if !record.poststop.is_empty() {
        hooks::run_tolerant(&record.poststop, &State::of(record, Status::Stopped));
    }
    Ok(())
}

/// Kills the container's process, without waiting.
pub fn kill_init(record: &Record) -> Result<()> {
    record.init.map_or(Ok(true), |init| init.signal(libc::SIGKILL)).map(drop)
}

/// Kills the container's process and whatever else is in its group, and waits for the first.
fn kill(record: &Record) -> Result<()> {
    let init = match record.init {
        Some(init) => init.pidfd()?.map(|pidfd| (init, pidfd)),
        None => None,
    };
    if let Some((init, pidfd)) = &init {
        init.signal_through(pidfd, libc::SIGKILL)?;
    }
    if let Some(group) = record.group.as_ref().filter(|group| owns(record, group)) {
        group.kill()?;
    }
    let Some((init, pidfd)) = init else { return Ok(()) };
    let end = Instant::now() + PATIENCE;
    if !poll_until(pidfd.as_fd(), Some(end)).doing(|| "wait for the container's process")? {
        let words = format!("process {} has been killed but does not end; try again later", init.pid);
        return Err(Error::new(Kind::System, words));
    }
    // If it is our child, nobody else can reap it.
    let _ = crate::sys::process::try_wait(pidfd.as_fd());
    Ok(())
}

/// Whether the group was made. One that was only planned when the creation was cut off may be another container's.
fn owns(record: &Record, group: &Group) -> bool {
    (record.owns_group || group.scope.is_some()) && !group.is_another_s()
}

/// Mounts that no namespace takes with it, and the groups.
fn resources(record: &Record) -> Result<()> {
    if let Some(below) = record.mount_below {
        unmount(&record.rootfs, below)?;
    }
    match &record.group {
        Some(group) if !record.owns_group => group.remove_if_unused()?,
        Some(group) => group.remove()?,
        None => {}
    }
    record.rdt.as_ref().map_or(Ok(()), ResctrlGroup::remove)
}

/// Detaches what was mounted on the root file system since; what is mounted below goes with it. What the caller had
/// mounted there stays.
fn unmount(rootfs: &Path, below: u64) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    while mount_id(rootfs)?.is_some_and(|id| id != below) {
        match unmount(rootfs, UnmountFlags::DETACH) {
            Ok(()) => {}
            // Not (or no longer) a mount point, or not there at all.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).doing(|| format!("unmount {}", rootfs.display())),
        }
    }
    Ok(())
}

/// The mount that `path` is on, proc_pid_fdinfo(5), which kernels before 5.8 tell too; `None`: there is nothing.
pub fn mount_id(path: &Path) -> Result<Option<u64>> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened.doing(|| format!("look at {}", path.display()))?,
    };
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = std::fs::read_to_string(&info).doing(|| format!("read {info}"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}
