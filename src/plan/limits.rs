//! Limits of the cgroup, its owner, and the personality.

use super::words::pick;
use super::{Host, IdMaps, Judge, Limiting, MountKind, Namespaces, ProcessPlan, Rootfs};
use crate::cgroup::{self, BadLimit, CgroupSettings, devices, systemd};
use crate::spec;
use crate::sys::namespace::Namespace;

/// The settings of the cgroup, and the program for its devices. Without device rules, only the
/// default devices are allowed.
pub fn resources(
    wanted: Option<&spec::Resources>,
    limiting: Limiting,
    judge: &mut Judge,
) -> (CgroupSettings, Option<devices::Program>) {
    let nothing = spec::Resources::default();
    let resources = wanted.unwrap_or(&nothing);
    let blame = |judge: &mut Judge, faults: Vec<BadLimit>| {
        faults.into_iter().for_each(|fault| judge.fault(fault.field, fault.words));
    };
    match limiting {
        Limiting::Disabled => {
            let found = cgroup::limits::limits(resources).unwrap_or_default();
            let warnings = found.writes.first().map(|first| {
                format!(
                    "{}: not applied, because cgroups are disabled (--cgroup-manager disabled)",
                    first.field
                )
            });
            (CgroupSettings { warnings: warnings.into_iter().collect(), ..CgroupSettings::default() }, None)
        }
        Limiting::Nothing => {
            let found = cgroup::limits::limits(resources).unwrap_or_default();
            if let Some(first) = found.writes.first() {
                judge.fault(first.field.clone(), "this host has no cgroups");
            }
            (CgroupSettings::default(), None)
        }
        Limiting::Legacy => match cgroup::limits_v1::limits(resources) {
            Ok(settings) => (settings, None),
            Err(faults) => {
                blame(judge, faults);
                (CgroupSettings::default(), None)
            }
        },
        Limiting::Unified => {
            let settings = cgroup::limits::limits(resources).unwrap_or_else(|faults| {
                blame(judge, faults);
                CgroupSettings::default()
            });
            let program = devices::rules(&resources.devices)
                .and_then(|rules| devices::compile(&rules).map_err(|bad| vec![bad]));
            let program = program.unwrap_or_else(|faults| {
                blame(judge, faults);
                None
            });
            (settings, program)
        }
    }
}

/// The properties of the container's unit: its limits, and those that annotations add or change.
/// Annotations are validated without a unit too. `limits` are rounded to values that systemd can
/// keep.
pub fn scope(
    spec: &spec::Spec,
    limits: &mut CgroupSettings,
    scope: Option<&systemd::Scope>,
    judge: &mut Judge,
) -> Vec<systemd::Property> {
    let annotated = systemd::annotated_properties(&spec.annotations).unwrap_or_else(|faults| {
        faults.into_iter().for_each(|fault| judge.fault(fault.field, fault.words));
        Vec::new()
    });
    let Some(scope) = scope else { return Vec::new() };
    if let Err(faults) = scope.fit(limits) {
        faults.into_iter().for_each(|fault| judge.fault(fault.field, fault.words));
    }
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let rules = resources.map_or(&[][..], |resources| &resources.devices);
    // Errors in the rules have been reported with the device program.
    let mut properties = scope.properties(limits, Some(rules)).unwrap_or_default();
    properties.extend(annotated);
    properties
}

/// The future owner of the container's cgroup: the user of its program, if the user can use it,
/// because the cgroup is the root of the container's own cgroup namespace and mounted writable.
/// Source: config-linux.md, "Cgroup ownership".
pub fn cgroup_owner(
    process: &ProcessPlan,
    rootfs: &Rootfs,
    namespaces: &Namespaces,
    host: &Host,
) -> Option<u32> {
    let is_writable = |kind: &MountKind| match kind {
        MountKind::Cgroup(mount) => !mount.flags.contains(rustix::mount::MountFlags::RDONLY),
        _ => false,
    };
    let is_useful = host.limiting == Limiting::Unified
        && namespaces.creates(Namespace::Cgroup)
        && rootfs.mounts.iter().any(|step| is_writable(&step.kind));
    let owner = match &namespaces.maps {
        Some(maps) => IdMaps::outside(&maps.uid, process.uid)?,
        None => process.uid,
    };
    (is_useful && owner != host.euid).then_some(owner)
}

/// personality(2).
pub fn personality(wanted: &spec::Personality, judge: &mut Judge) -> Option<u64> {
    for (at, flag) in wanted.flags.iter().enumerate() {
        judge.fault(
            format!("linux.personality.flags[{at}]"),
            format!("{flag:?}: the specification defines no flags yet"),
        );
    }
    pick(&wanted.domain, &[("LINUX", 0), ("LINUX32", 8)], format_args!("linux.personality.domain"), judge)
        .map(u64::from)
}
