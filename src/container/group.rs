//! The second stage of a creation: the control group of the container, and its group for shares of caches and bandwidth.

use super::draft::Draft;
use super::folder::Folder;
use super::hold;
use super::record::Record;
use super::request::Settings;
use crate::cgroup::{Group, Made, Missing};
use crate::error::{Doing, Kind, Result};
use crate::plan::Plan;

/// The control group, and the one of caches and bandwidth. `None`: there is no control group, and there need not be one; or
/// systemd will make it around the process.
pub(super) fn make_groups(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let made = make_group(settings, draft, record)?;
    if let (Some(group), Some(wish)) = (&mut record.rdt, &draft.plan.rdt) {
        group.make(wish)?;
    }
    hold::here("cgroup");
    Ok(made)
}

fn make_group(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let Some(group) = draft.group.as_ref().filter(|group| group.scope.is_none()) else {
        return Ok(None);
    };
    let named = draft.spec.linux.as_ref().is_some_and(|linux| !linux.cgroups_path.is_empty());
    // The default device rules of v1 are written where that can be; nobody asked for them.
    let limited = draft.plan.limits.writes.iter().any(|write| write.missing != Missing::Skip);
    let made =
        if settings.rootless && !named && !limited { group.create_if_permitted() } else { group.create() };
    // An ordinary user may get less than was planned, or nothing; and what could not be made, as it is another container's, is
    // not for us to take away.
    record.group = made.as_ref().ok().and_then(Option::as_ref).map(|made| made.group().clone());
    record.owns_group = record.group.is_some();
    record.group_made = record.group.as_ref().map_or(Ok(None), Group::identity)?;
    made
}

/// Moves a process into the container's group. Systemd makes the group for it, where it is a unit's: `Some`.
pub(super) fn join_group(
    folder: &Folder,
    record: &mut Record,
    plan: &Plan,
    pid: i32,
) -> Result<Option<Made>> {
    let Some(group) = &mut record.group else { return Ok(None) };
    if group.scope.is_none() {
        // From here on the group is known by what is in it, even while there is no init.
        folder.write(record)?;
        return record.group.as_ref().map_or(Ok(()), |group| group.join(pid)).map(|()| None);
    }
    let made = group.start(pid, &plan.scope);
    if made.as_ref().is_err_and(|error| error.kind() == Kind::Exists) {
        // What has the unit's name is another container, which must outlive this one.
        record.group = None;
    }
    folder.write(record)?;
    hold::here("scope");
    made.map(Some)
}

/// What becomes of a step that the kernel forbids (EPERM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfForbidden {
    /// It is an error.
    Fail,
    /// The container goes without: an ordinary user has no right to it.
    GoWithout,
}

/// What becomes of steps to which an ordinary user has no right.
pub fn if_forbidden(settings: &Settings) -> IfForbidden {
    if settings.rootless { IfForbidden::GoWithout } else { IfForbidden::Fail }
}

/// The result of a step that may be left out where the kernel forbids it (EPERM): whether it was done.
pub fn unless_forbidden(result: Result<()>, if_forbidden: IfForbidden) -> Result<Done> {
    match result {
        Err(error) if if_forbidden == IfForbidden::GoWithout && error.errno() == Some(libc::EPERM) => {
            Ok(Done::No)
        }
        other => other.map(|()| Done::Yes),
    }
}

/// Whether a step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Yes,
    No,
}

/// In version 2, a program decides over devices. A child that makes nodes and mounts meanwhile may: that it always allows. An
/// ordinary user may go without: it cannot make device nodes either.
pub fn guard_devices(made: &Made, plan: &Plan, if_forbidden: IfForbidden) -> Result<()> {
    let Some(program) = &plan.device_program else { return Ok(()) };
    let done = unless_forbidden(made.guard_devices(Some(program)), if_forbidden);
    if done.doing(|| "linux.resources.devices")? == Done::Yes {
        tracing::debug!("linux.resources.devices: the program that decides over devices is attached");
    }
    Ok(())
}
