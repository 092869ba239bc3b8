//! The unit of a container, from its placement to its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::annotated_properties;
use super::bus::Bus;
use super::fit::{self, QuotaStep};
use super::manager::Manager;
use super::place::UnitPlace;
use super::properties::{self, Property};
use super::value::Value;
use crate::cgroup::directory::{self, Directory, join};
use crate::cgroup::file::is_shortage;
use crate::cgroup::{BadLimit, CgroupSettings, devices};
use crate::error::{Doing, Error, Kind, Result};
use crate::spec::DeviceRule;

/// A container's unit, created or not; the state file keeps it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Its name, with `.scope` or `.slice`.
    pub unit: String,
    /// The slice that contains it.
    slice: String,
    /// The systemd that manages it.
    bus: Bus,
    /// Its Description, which tells our own unit from another of the same name.
    description: String,
    /// Its cgroup.
    pub dir: Directory,
    /// Whether this host's cgroups have `io.bfq.weight`.
    bfq: bool,
    /// The version of its systemd; 0: unknown.
    #[serde(default)]
    version: u32,
}

/// The result of stopping a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It existed and is now stopped.
    Now,
    /// It did not exist.
    Before,
    /// Another container's unit has the name now.
    Replaced,
}

impl Scope {
    /// Decides the unit of container `id`, and asks systemd where its cgroup will be. Creates
    /// nothing.
    pub fn place(mount: &Path, cgroups_path: &str, id: &str) -> Result<Self> {
        let bus = Bus::of_caller()?;
        let place = UnitPlace::parse(cgroups_path, id, bus.default_slice())?;
        let mut manager = Manager::connect(&bus)?;
        let own = manager.own_cgroup()?;
        let below = join(&own, &place.below());
        Ok(Self {
            bfq: has_bfq(mount, &below),
            version: manager.version().doing(|| "find systemd's version")?,
            description: format!("emergence-runc container {id}"),
            dir: Directory { mount: mount.to_owned(), below },
            unit: place.unit,
            slice: place.slice,
            bus,
        })
    }

    /// Whether the unit is itself a slice, to which systemd adds no process.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The properties for these limits; also for devices if rules are given and it is the system's
    /// systemd: a user's may not set them.
    ///
    /// The errors are those of the device rules.
    pub fn properties(
        &self,
        settings: &CgroupSettings,
        rules: Option<&[DeviceRule]>,
    ) -> std::result::Result<Vec<Property>, Vec<BadLimit>> {
        let mut properties = properties::limits(settings, self.bfq, self.step());
        if let (Some(written), Bus::System) = (rules, &self.bus) {
            let checked = devices::rules(written)?;
            properties.extend(properties::devices(devices::allowed(&checked).as_deref()));
        }
        Ok(properties)
    }

    /// Creates the unit (a scope with the process inside); returns its cgroup.
    ///
    /// `Kind::Exists`: another unit has the name, and is in use.
    pub fn start(&self, pid: i32, wanted: &[Property]) -> Result<Directory> {
        let mut manager = Manager::connect(&self.bus)?;
        let yes = |name: &str| Property::new(name, Value::Bool(true));
        let mut properties = vec![
            Property::new("Description", Value::text(&self.description)),
            // A unit that fails, by a CPU time limit or by a slow stop, must be unloaded too.
            Property::new("CollectMode", Value::text("inactive-or-failed")),
            Property::new("DefaultDependencies", Value::Bool(false)),
            yes("MemoryAccounting"),
            yes("CPUAccounting"),
            yes("IOAccounting"),
            yes("TasksAccounting"),
        ];
        if self.is_slice() {
            properties.push(Property::new("Wants", Value::texts([self.slice.clone()])));
        } else {
            properties.extend([
                Property::new("Slice", Value::text(&self.slice)),
                yes("Delegate"),
                Property::new("PIDs", Value::Array("u".into(), vec![Value::U32(pid as u32)])),
            ]);
        }
        // The last value wins, so annotations come last.
        properties.extend_from_slice(wanted);
        known_only(&mut manager, &mut properties)?;
        let path = self.dir.path();
        let in_use = || directory::pids(&path).is_ok_and(|pids| !pids.is_empty());
        manager.start(&self.unit, &properties, in_use)?;
        match manager.unit(&self.unit)? {
            Some((_, cgroup)) if !cgroup.is_empty() => {
                Ok(Directory { mount: self.dir.mount.clone(), below: cgroup })
            }
            _ => Err(Error::new(
                Kind::System,
                format!("unit {} ended immediately after its creation", self.unit),
            )),
        }
    }

    /// Rounds the limits to what this unit's systemd can keep.
    pub fn fit(&self, settings: &mut CgroupSettings) -> std::result::Result<(), Vec<BadLimit>> {
        fit::fit(settings, self.step())
    }

    fn step(&self) -> QuotaStep {
        QuotaStep::of_version(self.version)
    }

    /// Passes changed limits to systemd, for the remaining lifetime of the unit. Values that
    /// `settings` and `rules` do not name stay.
    ///
    /// systemd then writes the files that it knows, with the same values, after [`Scope::fit`] has
    /// rounded them.
    pub fn set(&self, settings: &CgroupSettings, rules: &[DeviceRule]) -> Result<FormerProperties> {
        let rules = Some(rules).filter(|rules| !rules.is_empty());
        let mut properties = self.properties(settings, rules).map_err(first_error)?;
        let mut former = FormerProperties { unit: self.clone(), properties: Vec::new() };
        if properties.is_empty() {
            return Ok(former);
        }
        let mut manager = Manager::connect(&self.bus)?;
        known_only(&mut manager, &mut properties)?;
        for name in properties.iter().map(|property| &property.name) {
            if former.properties.iter().any(|property| property.name == *name) {
                continue;
            }
            if let Some(value) = manager.property(&self.unit, name)? {
                // A list is appended to the present one, unless an empty list is set first.
                if let Value::Array(kind, _) = &value {
                    former.properties.push(Property::new(name, Value::Array(kind.clone(), Vec::new())));
                }
                former.properties.push(Property::new(name, value));
            }
        }
        manager.set(&self.unit, &properties)?;
        Ok(former)
    }

    /// The period of the unit's quota, in microseconds, even if there is no quota. `None`: systemd
    /// knows none.
    ///
    /// Without a quota, the cgroup's file has systemd's own period instead.
    pub fn cpu_period(&self) -> Result<Option<u64>> {
        match Manager::connect(&self.bus)?.property(&self.unit, "CPUQuotaPeriodUSec")? {
            Some(Value::U64(period)) => Ok(Some(period).filter(|period| *period != u64::MAX)),
            _ => Ok(None),
        }
    }

    /// Stops the unit and waits until it and its cgroup are removed.
    pub fn stop(&self) -> Result<Ended> {
        let mut manager = Manager::connect(&self.bus)?;
        match manager.unit(&self.unit)? {
            None => Ok(Ended::Before),
            Some((description, _)) if description != self.description => Ok(Ended::Replaced),
            Some(_) => manager.stop(&self.unit).map(|()| Ended::Now),
        }
    }

    /// Whether the unit of this name belongs to another container: then ours no longer exists.
    pub fn is_another_s(&self) -> Result<bool> {
        let mut manager = match Manager::connect(&self.bus) {
            Ok(manager) => manager,
            Err(error) if error.errno().is_some_and(|errno| is_shortage(Errno::from_raw_os_error(errno))) => {
                return Err(error);
            }
            Err(_) => return Ok(false),
        };
        let unit = manager.unit(&self.unit)?;
        Ok(unit.is_some_and(|(description, _)| description != self.description))
    }

    /// Adopts the Description of an annotation.
    pub(in crate::cgroup) fn describe(&mut self, annotations: &BTreeMap<String, String>) {
        let named = annotated_properties(annotations).unwrap_or_default();
        let named = named.into_iter().find(|property| property.name == "Description");
        if let Some(Property { value: Value::Str(text), .. }) = named {
            self.description = text;
        }
    }
}

/// Whether cgroups have files of the BFQ scheduler, checked in an existing one: a slice of
/// systemd's.
fn has_bfq(mount: &Path, below: &str) -> bool {
    let first = below.split('/').next().unwrap_or_default();
    fs::exists(mount.join(first).join("io.bfq.weight")).unwrap_or(false)
}

fn first_error(faults: Vec<BadLimit>) -> Error {
    let first = faults.into_iter().next();
    first.unwrap_or_else(|| BadLimit::invalid("linux.resources", "cannot be understood")).into()
}

/// Removes properties that this systemd is too old for: the limit is then only in the files.
fn known_only(manager: &mut Manager, properties: &mut Vec<Property>) -> Result<()> {
    if properties.iter().any(|property| property.since > 0) {
        let version = manager.version().doing(|| "find systemd's version")?;
        properties.retain(|property| property.since <= version);
    }
    Ok(())
}

/// Properties of a unit as they were before a change.
#[derive(Debug)]
pub struct FormerProperties {
    unit: Scope,
    properties: Vec<Property>,
}

impl FormerProperties {
    /// Restores these properties.
    pub fn put_back(&self) -> Result<()> {
        if self.properties.is_empty() {
            return Ok(());
        }
        Manager::connect(&self.unit.bus)?.set(&self.unit.unit, &self.properties)
    }
}
