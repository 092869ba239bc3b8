//! The second stage of a creation: the container's cgroup, and its resctrl group for shares of
//! caches and memory bandwidth.

use super::directory::Directory;
use super::draft::Draft;
use super::hold;
use super::record::Record;
use super::request::Settings;
use crate::cgroup::{Group, Made, Missing};
use crate::error::{Doing, Kind, Result};
use crate::plan::Plan;

/// Creates the cgroup and the resctrl group. `None`: there is no cgroup and none is required; or
/// systemd will create it for the process.
pub(super) fn make_groups(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let made = make_group(settings, draft, record)?;
    if let (Some(group), Some(wish)) = (&mut record.rdt, &draft.plan.rdt) {
        group.make(wish)?;
    }
    hold::stop_at("cgroup");
    Ok(made)
}

fn make_group(settings: &Settings, draft: &Draft, record: &mut Record) -> Result<Option<Made>> {
    let Some(group) = draft.group.as_ref().filter(|group| group.scope.is_none()) else {
        return Ok(None);
    };
    let named = draft.spec.linux.as_ref().is_some_and(|linux| !linux.cgroups_path.is_empty());
    // The default device rules of v1 are written if possible; they were not requested.
    let limited = draft.plan.limits.writes.iter().any(|write| write.missing != Missing::Skip);
    let made =
        if settings.rootless && !named && !limited { group.create_if_permitted() } else { group.create() };
    // An unprivileged user may get less than planned, or nothing. A cgroup that could not be
    // created because it is another container's must not be removed by us.
    record.group = made.as_ref().ok().and_then(Option::as_ref).map(|made| made.group().clone());
    record.owns_group = record.group.is_some();
    record.group_made = record.group.as_ref().map_or(Ok(None), Group::identity)?;
    made
}

/// Moves a process into the container's cgroup. If the cgroup is a systemd unit, systemd creates it
/// for the process: `Some`.
pub(super) fn join_group(
    directory: &Directory,
    record: &mut Record,
    plan: &Plan,
    pid: i32,
) -> Result<Option<Made>> {
    let Some(group) = &mut record.group else { return Ok(None) };
    if group.scope.is_none() {
        // From here on the processes in the cgroup identify the container, even while the record
        // has no init.
        directory.write(record)?;
        return record.group.as_ref().map_or(Ok(()), |group| group.join(pid)).map(|()| None);
    }
    let made = group.start(pid, &plan.scope);
    if made.as_ref().is_err_and(|error| error.kind() == Kind::Exists) {
        // The unit with this name is another container, which must survive this one.
        record.group = None;
    }
    directory.write(record)?;
    hold::stop_at("scope");
    made.map(Some)
}

/// The handling of a step that the kernel forbids (EPERM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfForbidden {
    /// Fail with the error.
    Fail,
    /// Skip the step: an unprivileged user has no right to it.
    GoWithout,
}

/// The handling of steps to which an unprivileged user has no right.
pub(crate) fn if_forbidden(settings: &Settings) -> IfForbidden {
    if settings.rootless { IfForbidden::GoWithout } else { IfForbidden::Fail }
}

/// The result of a step that may be skipped if the kernel forbids it (EPERM): whether it was done.
pub(crate) fn unless_forbidden(result: Result<()>, if_forbidden: IfForbidden) -> Result<Done> {
    match result {
        Err(error) if if_forbidden == IfForbidden::GoWithout && error.errno() == Some(libc::EPERM) => {
            Ok(Done::No)
        }
        other => other.map(|()| Done::Yes),
    }
}

/// Whether a step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Yes,
    No,
}

/// Attaches the BPF program that controls device access in cgroup v2. It always permits the nodes
/// that the child creates and mounts meanwhile. An unprivileged user may do without it, as it
/// cannot create device nodes either.
pub(crate) fn guard_devices(made: &Made, plan: &Plan, if_forbidden: IfForbidden) -> Result<()> {
    let Some(program) = &plan.device_program else { return Ok(()) };
    let done = unless_forbidden(made.guard_devices(Some(program)), if_forbidden);
    if done.doing(|| "linux.resources.devices")? == Done::Yes {
        tracing::debug!("linux.resources.devices: the program that decides over devices is attached");
    }
    Ok(())
}
