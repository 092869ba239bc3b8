//! `update`: other limits for a container that exists, or, when one of them cannot be, the ones it had.

use super::ContainerId;
use super::existing::Existing;
use super::request::{Settings, Update};
use crate::cgroup::Made;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Limiting;
use crate::plan::update::{Change, Devices, change};
use crate::spec::Resources;

/// `update`.
pub fn update(settings: &Settings, id: &ContainerId, wanted: &Update) -> Result<()> {
    let there = Existing::open(settings, id)?;
    // Two at once would each take the other's values for the former ones.
    there.folder.lock()?;
    there.init()?;
    let Some(group) = &there.record.group else { return without_group(&wanted.resources) };
    limit(&group.open()?, &wanted.resources)
}

/// Changes the limits in the kernel's files, and who decides over devices.
fn limit(made: &Made, wanted: &Resources) -> Result<()> {
    let wanted = made.complete(wanted)?;
    let change =
        judge(&wanted, if made.group().is_unified() { Limiting::Unified } else { Limiting::Legacy })?;
    let former = made.change(&change.settings)?;
    // Last, since it is one step that is done or not.
    let Devices::Become(program) = change.devices else { return Ok(()) };
    match made.replace_device_program(program.as_ref()).doing(|| "linux.resources.devices") {
        Ok(()) => Ok(()),
        Err(error) => Err(error.after_cleaning(former.put_back())),
    }
}

/// A change in which nothing is wrong; warnings go to the log.
fn judge(wanted: &Resources, limiting: Limiting) -> Result<Change> {
    let change = change(wanted, limiting).map_err(|faults| {
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::new(Kind::Invalid, words.join("; "))
    })?;
    change.settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(change)
}

/// A container outside of any control group has no limits; that is only a fault when some are asked for.
fn without_group(wanted: &Resources) -> Result<()> {
    let change = judge(wanted, Limiting::Unified)?;
    match (change.settings.writes.first(), &change.devices) {
        (None, Devices::Stay) => Ok(()),
        (Some(first), _) => Err(no_group(&first.field)),
        (None, Devices::Become(_)) => Err(no_group("linux.resources.devices")),
    }
}

fn no_group(field: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{field}: this container has no control group to limit it by"))
}
