//! `update`: changes the limits of an existing container; if one of them fails, restores the former
//! ones.

use std::collections::BTreeSet;
use std::fs;

use super::ContainerId;
use super::existing::Existing;
use super::record::Record;
use super::request::{Settings, Update};
use crate::cgroup::systemd::FormerProperties;
use crate::cgroup::{Former, Made, Resctrl, ResctrlGroup, ResctrlWish};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::update::{Change, Devices, change, fields};
use crate::plan::{BadField, Limiting, rdt};
use crate::spec::Resources;

/// `update`. First the files of the cgroup, then the shares of resctrl; devices last, as their
/// change is one atomic step. On error, the changes are rolled back.
pub fn update(settings: &Settings, id: &ContainerId, wanted: &Update) -> Result<()> {
    // Two concurrent updates would each take the other's values for the former ones.
    let mut container = Existing::lock(settings, id)?;
    container.init()?;
    let shares = shares(wanted, &container.record.id)?;
    let group = container.record.group.as_ref().map(|group| group.open()).transpose()?;
    let (former, devices) = match &group {
        Some(made) => limit(made, &wanted.resources)?,
        None => without_group(&wanted.resources)?,
    };
    let shared = share(&mut container, shares).map_err(|error| error.after_cleaning(put_back(&former)))?;
    let (Some(made), Devices::Become(program)) = (&group, devices) else { return Ok(()) };
    let replaced = made.replace_device_program(program.as_ref()).doing(|| "linux.resources.devices");
    replaced.map_err(|error| {
        let error = error.after_cleaning(unshare(&mut container, &shared));
        error.after_cleaning(put_back(&former))
    })
}

/// The limits of a container before a change.
struct FormerLimits<'a> {
    files: Former<'a>,
    /// Properties of the container's unit, if systemd manages its cgroup.
    unit: Option<FormerProperties>,
}

/// Restores the former limits. systemd first: it writes the files of the limits that it knows.
fn put_back(former: &Option<FormerLimits<'_>>) -> Result<()> {
    let Some(former) = former else { return Ok(()) };
    let unit = former.unit.as_ref().map_or(Ok(()), FormerProperties::put_back);
    unit.and(former.files.put_back())
}

/// Changes the files of the cgroup; returns the change of devices, which is still to be made.
fn limit<'a>(made: &'a Made, wanted: &Resources) -> Result<(Option<FormerLimits<'a>>, Devices)> {
    let wanted = made.complete(wanted)?;
    let limiting = if made.group().is_unified() { Limiting::Unified } else { Limiting::Legacy };
    let mut change = judge(&wanted, limiting)?;
    let Some(scope) = &made.group().scope else {
        let files = made.change(&change.settings)?;
        return Ok((Some(FormerLimits { files, unit: None }), change.devices));
    };
    scope.fit(&mut change.settings).map_err(|faults| refuse(&fields(faults)))?;
    let files = made.change(&change.settings)?;
    // Otherwise the next reload of systemd would restore the former limits.
    let set = made.keep_cpu_period(|| scope.set(&change.settings, &wanted.devices));
    let unit = set.map_err(|error| error.after_cleaning(files.put_back()))?;
    Ok((Some(FormerLimits { files, unit: Some(unit) }), change.devices))
}

/// The validated change; warnings go to the log.
fn judge(wanted: &Resources, limiting: Limiting) -> Result<Change> {
    let change = change(wanted, limiting).map_err(|faults| refuse(&faults))?;
    change.settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(change)
}

fn refuse(faults: &[BadField]) -> Error {
    let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Error::new(Kind::Invalid, words.join("; "))
}

/// A container without a cgroup has no limits; that is only an error if limits are requested.
fn without_group(wanted: &Resources) -> Result<(Option<FormerLimits<'static>>, Devices)> {
    let change = judge(wanted, Limiting::Unified)?;
    let field = match (change.settings.writes.first(), &change.devices) {
        (None, Devices::Stay) => return Ok((None, Devices::Stay)),
        (Some(first), _) => &first.field,
        (None, Devices::Become(_)) => "linux.resources.devices",
    };
    let words = format!("{field}: this container has no cgroup that could be limited");
    Err(Error::new(Kind::Unsupported, words))
}

/// The requested shares; `None`: none.
fn shares(wanted: &Update, id: &str) -> Result<Option<ResctrlWish>> {
    if wanted.l3_cache_schema.is_empty() && wanted.mem_bw_schema.is_empty() {
        return Ok(None);
    }
    let wish = rdt::change(&wanted.l3_cache_schema, &wanted.mem_bw_schema, id, Resctrl::find()?.as_ref());
    wish.map(Some).map_err(|faults| refuse(&faults))
}

/// The changes made to shares.
enum Shared {
    Nothing,
    /// The container got a resctrl group.
    Given,
    /// Its group had these shares before.
    Changed(String),
}

/// Changes the shares of the container's resctrl group; creates a group if it has none.
fn share(container: &mut Existing, wish: Option<ResctrlWish>) -> Result<Shared> {
    let Some(wish) = wish else { return Ok(Shared::Nothing) };
    if let Some(group) = &container.record.rdt {
        return group.share(&wish.shares).map(Shared::Changed);
    }
    // Recorded before it is created, so that `delete` finds it in any case.
    container.record.rdt = Some(wish.place(&container.record.id)?);
    container.directory.write(&container.record)?;
    let given =
        give(&mut container.record, &wish).and_then(|()| container.directory.write(&container.record));
    match given {
        Ok(()) => Ok(Shared::Given),
        Err(error) => Err(error.after_cleaning(unshare(container, &Shared::Given))),
    }
}

/// Creates the recorded group and moves every thread of the container into it.
fn give(record: &mut Record, wish: &ResctrlWish) -> Result<()> {
    let Some(group) = &mut record.rdt else { return Ok(()) };
    group.make(wish)?;
    let processes = || match (&record.group, record.init) {
        (Some(cgroup), _) => cgroup.pids(),
        (None, init) => Ok(init.iter().map(|init| init.pid).collect()),
    };
    let mut moved = BTreeSet::new();
    // Repeat until no thread is new: threads that a not yet moved thread creates are found by the
    // next pass; those of a moved thread are in the group.
    loop {
        let mut all = Vec::new();
        for pid in processes()? {
            all.extend(threads(pid)?);
        }
        let mut new = all.into_iter().filter(|thread| moved.insert(*thread)).peekable();
        if new.peek().is_none() {
            return Ok(());
        }
        new.try_for_each(|thread| match group.join(thread) {
            Err(error) if error.errno() == Some(libc::ESRCH) => Ok(()),
            other => other,
        })?;
    }
}

/// The threads of a process; empty if it has ended.
fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let doing = || format!("read {path}");
    let has_ended = |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
    let mut threads = Vec::new();
    let entries = match fs::read_dir(&path) {
        Err(error) if has_ended(&error) => return Ok(threads),
        entries => entries.doing(doing)?,
    };
    for entry in entries {
        match entry {
            Err(error) if has_ended(&error) => break,
            entry => threads
                .extend(entry.doing(doing)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())),
        }
    }
    Ok(threads)
}

/// Undoes [`share`].
fn unshare(container: &mut Existing, shared: &Shared) -> Result<()> {
    match (shared, &container.record.rdt) {
        (Shared::Changed(held), Some(group)) => group.put_back(held),
        (Shared::Given, Some(group)) => {
            ResctrlGroup::remove(group)?;
            container.record.rdt = None;
            container.directory.write(&container.record)
        }
        _ => Ok(()),
    }
}
