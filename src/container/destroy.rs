//! Removes a container at any point of its life cycle: processes, mounts, cgroup, directory.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::hooks::{self, poll_until};
use super::record::Record;
use super::state::{State, Status};
use crate::cgroup::{Group, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::remove::remove;

/// Time for a killed process to end. A process that dumps core or waits for a dead disk takes
/// longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for it to end alone.
const SHORTLY: Duration = Duration::from_millis(100);

/// Kills all processes and removes everything; continues after an error and returns the first. The
/// caller holds the lock.
pub(crate) fn everything(directory: &Directory, record: &Record) -> Result<()> {
    remove_all(directory, record).map(drop)
}

/// As [`everything`], then runs the poststop hooks, as the container was visible.
pub(crate) fn with_hooks(directory: &Directory, record: &Record) -> Result<()> {
    let is_ours = remove_all(directory, record)?;
    // Otherwise the command that deleted it has run them.
    if is_ours && !record.poststop.is_empty() {
        hooks::run_tolerant(&record.poststop, &State::of(record, Status::Stopped));
    }
    Ok(())
}

/// As [`with_hooks`], for a command that has released the lock: meanwhile another command may have
/// changed or deleted the container.
pub(crate) fn at_the_end(directory: &Directory, record: &Record) -> Result<()> {
    let locked = directory.lock();
    let now = match directory.read() {
        Ok(now) => now.map(|now| Record { group_made: record.group_made, ..now }),
        Err(error) => {
            tracing::warn!("{error}; the container is removed with the cgroups recorded at its creation");
            None
        }
    };
    // A deleted container has no record.
    with_hooks(directory, now.as_ref().unwrap_or(record)).and(locked)
}

/// Removes everything. False: the container was already deleted.
fn remove_all(directory: &Directory, record: &Record) -> Result<bool> {
    let is_ours = match is_ours(directory, record) {
        Ok(is_ours) => is_ours,
        Err(error) => return Err(error.after_cleaning(kill_init(record))),
    };
    if is_ours {
        let killed = kill(record);
        killed.and(resources(record))?;
    } else {
        kill_init(record)?;
    }
    if record.bundle_goes {
        remove(&record.bundle).doing(|| format!("remove {}", record.bundle.display()))?;
    }
    // Last: while anything is left, the container can still be named.
    directory.remove()?;
    tracing::debug!("container {} is removed: processes, mounts, cgroup, state directory", record.id);
    Ok(is_ours)
}

/// Whether the cgroup at the recorded path is this container's. If the container was deleted
/// concurrently, another one may have been created with the same ID and path; a cgroup that we
/// created after the deletion is still ours.
fn is_ours(directory: &Directory, record: &Record) -> Result<bool> {
    if directory.is_current()? {
        return Ok(true);
    }
    let (Some(made), Some(group)) = (record.group_made, &record.group) else { return Ok(false) };
    Ok(group.identity()? == Some(made))
}

/// Kills the container's process without waiting.
pub(crate) fn kill_init(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    tracing::debug!("process {} is killed", init.pid);
    init.signal(libc::SIGKILL)?;
    own_group(record)?.map_or(Ok(()), Group::let_killed_end)
}

/// Kills the container's process and all others in its cgroup, and waits for the first.
fn kill(record: &Record) -> Result<()> {
    let init = match record.init {
        Some(init) => init.pidfd()?.map(|pidfd| (init, pidfd)),
        None => None,
    };
    if let Some((init, pidfd)) = &init {
        tracing::debug!("process {} is killed", init.pid);
        init.signal_through(pidfd, libc::SIGKILL)?;
    }
    let group = own_group(record)?;
    // Without its process, the cgroup is usually empty: `resources` removes it first, and kills only
    // what prevents that.
    let removed_next = record.owns_group && record.mount_below.is_none();
    let is_removed_next = |group: &&Group| removed_next && group.scope.is_none();
    let Some((init, pidfd)) = init else {
        return group.filter(|group| !is_removed_next(group)).map_or(Ok(()), Group::kill);
    };
    let end = Instant::now() + PATIENCE;
    let ends_until =
        |until| poll_until(pidfd.as_fd(), Some(until)).doing(|| "wait for the container's process");
    // All others of its pid namespace end with it, unless one of them, or a process of the cgroup
    // that is outside, prevents it: a tracer, a parent that is stopped. The v1 freezer delays it.
    let ends_alone =
        record.own_pids && group.as_ref().is_none_or(|group| is_removed_next(group) && group.is_unified());
    if !ends_alone || !ends_until(Instant::now() + SHORTLY)? {
        group.map_or(Ok(()), Group::kill)?;
        if !ends_until(end)? {
            let words = format!("process {} has been killed but does not end; try again later", init.pid);
            return Err(Error::new(Kind::System, words));
        }
    }
    // If it is our child, no other process can reap it.
    let _ = crate::sys::process::try_wait(pidfd.as_fd());
    Ok(())
}

/// The cgroup, if it was created for this container. A cgroup that was only planned when the
/// creation was interrupted may be another container's.
pub(crate) fn own_group(record: &Record) -> Result<Option<&Group>> {
    match &record.group {
        Some(group) if record.owns_group || group.scope.is_some() => {
            Ok(if group.is_another_s()? { None } else { Some(group) })
        }
        _ => Ok(None),
    }
}

/// Removes mounts that do not end with a namespace, and the cgroups.
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

/// Detaches the mounts made on the root file system since the creation, with all mounts below.
/// Mounts of the caller stay.
fn unmount(rootfs: &Path, below: u64) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    while mount_id(rootfs)?.is_some_and(|id| id != below) {
        match unmount(rootfs, UnmountFlags::DETACH) {
            Ok(()) => {}
            // Not (or no longer) a mount point, or ENOENT.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).doing(|| format!("unmount {}", rootfs.display())),
        }
    }
    Ok(())
}

/// The ID of the mount that `path` is on, from proc_pid_fdinfo(5), which kernels before 5.8 provide
/// too; `None`: the path does not exist.
pub(crate) fn mount_id(path: &Path) -> Result<Option<u64>> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened.doing(|| format!("open {}", path.display()))?,
    };
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = std::fs::read_to_string(&info).doing(|| format!("read {info}"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}
