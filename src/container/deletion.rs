//! `delete`: acquires the lock of a container that other commands may be using, and kills processes
//! for that if necessary.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::directory::{Directory, StateFile};
use super::existing::Pause;
use super::hooks::poll_until;
use super::record::{Phase, Record};
use super::request::Settings;
use super::state::Status;
use super::{ContainerId, destroy, hold, holder, remains};
use crate::cgroup::Group;
use crate::error::{Doing, Error, Kind, Result};

/// Time for another command to release the lock after the container's processes are killed. A
/// creator that takes longer, because of a hook or because it is stopped, is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// As [`PATIENCE`], for other commands such as another `delete --force` that waits for killed
/// processes.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(15);

/// `delete`: deletes a stopped container; with `force` any container, and an unknown ID is no
/// error.
pub fn delete(settings: &Settings, id: &ContainerId, force: bool) -> Result<()> {
    let directory = match Directory::open(settings, id) {
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
        other => other?,
    };
    if force { by_force(settings, &directory) } else { stopped(&directory) }
}

fn stopped(directory: &Directory) -> Result<()> {
    let mut pause = Pause::new();
    while !directory.try_lock()? {
        // The creator may be waiting for a hook that runs this command.
        if let Some(record) = directory.read()? {
            check_stopped(&record, directory)?;
        }
        if !directory.is_current()? {
            break;
        }
        if pause.elapsed() > PATIENCE {
            return Err(busy(directory));
        }
        pause.sleep();
    }
    let missing = || Error::new(Kind::NotFound, format!("container does not exist: {}", directory.id()));
    if !directory.is_current()? {
        return Err(missing());
    }
    let record = directory.read()?.ok_or_else(missing)?;
    check_stopped(&record, directory)?;
    destroy::with_hooks(directory, &record)
}

fn check_stopped(record: &Record, directory: &Directory) -> Result<()> {
    let status = Status::of(record, directory)?;
    if status == Status::Stopped {
        return Ok(());
    }
    let id = directory.id();
    let words = format!(
        "cannot delete container {id} that is not stopped: {status} (kill it first, or use delete --force)"
    );
    Err(Error::new(Kind::State, words))
}

fn busy(directory: &Directory) -> Error {
    let words = format!("another command is at work on container {}; try again later", directory.id());
    Error::new(Kind::State, words)
}

fn by_force(settings: &Settings, directory: &Directory) -> Result<()> {
    if !take(directory)? || !directory.is_current()? {
        return Ok(());
    }
    // Read again under the lock: the record may have changed.
    let kept = directory.kept()?;
    hold::stop_at("delete");
    match kept {
        // Its creator was killed before it wrote the record.
        StateFile::Nothing => directory.remove(),
        StateFile::Whole(record) => destroy::with_hooks(directory, &record),
        StateFile::Broken(broken) => remains::destroy(settings, directory, broken),
    }
}

/// Kills the container's process until the lock is released, and takes the lock. False: the
/// container is already deleted; or a hook of the creation called us, and the creator removes
/// everything once the hook has ended.
fn take(directory: &Directory) -> Result<bool> {
    let (mut pause, mut killed) = (Pause::new(), None);
    while !directory.try_lock()? {
        if !directory.is_current()? {
            return Ok(false);
        }
        let record = match directory.kept()? {
            StateFile::Whole(record) => Some(record),
            StateFile::Nothing | StateFile::Broken(_) => None,
        };
        if let Some(record) = &record {
            // A command that waits for the process, or for a hook in the container, is now woken.
            destroy::kill_init(record)?;
            if record.is_being_created() && record.creator.is_ancestor_of_caller()? {
                return wait_for_init(record).map(|()| false);
            }
            if record.phase == Phase::Creating && (record.init.is_none() || !record.creator.is_alive()) {
                // The creator may wait for a process that the record does not name yet. A child
                // just cloned by the creator has a copy of the lock until it has run for a moment.
                destroy::own_group(record)?.map_or(Ok(()), Group::kill)?;
            }
        }
        if pause.elapsed() > PATIENCE {
            let creator = record.as_ref().map(|record| record.creator);
            match holder::of(directory)? {
                Some(holder) if killed == Some(holder) => return Err(busy(directory)),
                Some(holder) if creator == Some(holder) || pause.elapsed() > PATIENCE_WITH_OTHERS => {
                    let (id, pid) = (directory.id(), holder.pid);
                    tracing::warn!(
                        "process {pid} is killed: it keeps container {id} locked and does not end"
                    );
                    holder.signal(libc::SIGKILL)?;
                    (pause, killed) = (Pause::new(), Some(holder));
                }
                Some(_) => {}
                // A child just cloned by the creator has a copy of the lock; it is killed with the
                // rest.
                None if record.is_some_and(|record| record.phase == Phase::Creating) => return Ok(true),
                None => return Err(busy(directory)),
            }
        }
        pause.sleep();
    }
    Ok(true)
}

fn wait_for_init(record: &Record) -> Result<()> {
    let Some(pidfd) = record.init.map(|init| init.pidfd()).transpose()?.flatten() else { return Ok(()) };
    let until = Instant::now() + PATIENCE;
    poll_until(pidfd.as_fd(), Some(until)).doing(|| "wait for the container's process").map(drop)
}
