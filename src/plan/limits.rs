//! Words and numbers of limits and personality, turned into the kernel's.

use super::{Host, IdMaps, Judge, Limiting, MountKind, Namespaces, ProcessPlan, Rootfs};
use crate::cgroup::{self, BadLimit, Settings, devices, systemd};
use crate::spec;

/// What to write into the control group, and the program for its devices; without any words on devices, only the default
/// ones are allowed.
pub fn resources(
    wanted: Option<&spec::Resources>,
    limiting: Limiting,
    judge: &mut Judge,
) -> (Settings, Option<devices::Program>) {
    let nothing = spec::Resources::default();
    let asked = wanted.unwrap_or(&nothing);
    let blame = |judge: &mut Judge, faults: Vec<BadLimit>| {
        faults.into_iter().for_each(|fault| judge.fault(fault.field, fault.words));
    };
    match limiting {
        Limiting::Disabled => {
            let found = cgroup::limits::limits(asked).unwrap_or_default();
            let warnings = found.writes.first().map(|first| {
                format!(
                    "{}: not applied, because cgroups are disabled (--cgroup-manager disabled)",
                    first.field
                )
            });
            (Settings { warnings: warnings.into_iter().collect(), ..Settings::default() }, None)
        }
        Limiting::Nothing => {
            let found = cgroup::limits::limits(asked).unwrap_or_default();
            if let Some(first) = found.writes.first() {
                judge.fault(first.field.clone(), "this host has no control groups");
            }
            (Settings::default(), None)
        }
        Limiting::Legacy => match cgroup::limits_v1::limits(asked) {
            Ok(settings) => (settings, None),
            Err(faults) => {
                blame(judge, faults);
                (Settings::default(), None)
            }
        },
        Limiting::Unified => {
            let settings = cgroup::limits::limits(asked).unwrap_or_else(|faults| {
                blame(judge, faults);
                Settings::default()
            });
            let program = devices::rules(&asked.devices)
                .and_then(|rules| devices::compile(&rules).map_err(|bad| vec![bad]));
            let program = program.unwrap_or_else(|faults| {
                blame(judge, faults);
                None
            });
            (settings, program)
        }
    }
}

/// The properties of the container's unit: its limits, and what annotations add or change. Annotations are judged without one too.
/// `limits` become what systemd can keep.
pub fn scope(
    spec: &spec::Spec,
    limits: &mut Settings,
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
    // Faults of the rules have been told with the device program.
    let mut properties = scope.properties(limits, Some(rules)).unwrap_or_default();
    properties.extend(annotated);
    properties
}

/// Who the container's cgroup is given to: the user who runs its program, if that one can make use of it, because the cgroup is the
/// root of a namespace of the container's own and mounted for writing. Source: config-linux.md, "Cgroup ownership".
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
        && namespaces.creates(libc::CLONE_NEWCGROUP)
        && rootfs.mounts.iter().any(|step| is_writable(&step.kind));
    let owner = match &namespaces.maps {
        Some(maps) => IdMaps::outside(&maps.uid, process.uid)?,
        None => process.uid,
    };
    (is_useful && owner != host.euid).then_some(owner)
}

/// getrlimit(2).
const RLIMITS: &[(&str, u32)] = &[
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// `RLIMIT_…`.
pub fn rlimit_name(resource: u32) -> &'static str {
    RLIMITS.iter().find(|(_, known)| *known == resource).map_or("unknown", |(name, _)| name)
}

/// Resource, soft, hard of each.
pub fn rlimits(list: &[spec::Rlimit], place: &str, judge: &mut Judge) -> Vec<(u32, u64, u64)> {
    let mut found: Vec<(u32, u64, u64)> = Vec::with_capacity(list.len());
    for (at, limit) in list.iter().enumerate() {
        let place = format!("{place}.rlimits[{at}]");
        let Some((_, resource)) = RLIMITS.iter().find(|(name, _)| *name == limit.kind) else {
            judge.fault(format!("{place}.type"), unknown(&limit.kind, RLIMITS));
            continue;
        };
        if found.iter().any(|(other, ..)| other == resource) {
            judge.fault(format!("{place}.type"), format!("{} is given twice", limit.kind));
        }
        if limit.soft > limit.hard {
            judge.fault(format!("{place}.soft"), format!("{} is more than hard, {}", limit.soft, limit.hard));
        }
        found.push((*resource, limit.soft, limit.hard));
    }
    found
}

/// A list such as `0-3,7` as a bit mask in words.
pub fn bit_list(text: &str) -> Result<Vec<u64>, String> {
    /// Far above what the kernel's MAX_NUMNODES and NR_CPUS are.
    const MOST: usize = 16 * 1024;
    let mut words: Vec<u64> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{part:?} is not a number or a range such as 0-3"));
        };
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        if words.len() <= last / 64 {
            words.resize(last / 64 + 1, 0);
        }
        // Word by word: a list may name the same many over and over.
        for (at, word) in words.iter_mut().enumerate().take(last / 64 + 1).skip(first / 64) {
            let (low, high) = (first.saturating_sub(at * 64), (last - at * 64).min(63));
            *word |= u64::MAX << low & u64::MAX >> (63 - high);
        }
    }
    if words.is_empty() && !text.trim().is_empty() {
        return Err(format!("{text:?} has no number"));
    }
    Ok(words)
}

/// personality(2).
pub fn personality(wanted: &spec::Personality, judge: &mut Judge) -> Option<u64> {
    for (at, flag) in wanted.flags.iter().enumerate() {
        judge.fault(
            format!("linux.personality.flags[{at}]"),
            format!("{flag:?}: the specification defines no flags yet"),
        );
    }
    pick(&wanted.domain, &[("LINUX", 0), ("LINUX32", 8)], "linux.personality.domain", judge).map(u64::from)
}

pub(super) fn pick(name: &str, table: &[(&str, u32)], place: &str, judge: &mut Judge) -> Option<u32> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        judge.fault(place, unknown(name, table));
    }
    found
}

fn unknown(name: &str, table: &[(&str, u32)]) -> String {
    let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    format!("{name:?} is unknown; use one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_bits() {
        assert_eq!(bit_list("0-3, 7"), Ok(vec![0b1000_1111]));
        assert_eq!(bit_list("64"), Ok(vec![0, 1]));
        assert_eq!(bit_list(""), Ok(vec![]));
        for bad in ["3-1", "a", "1-", "-1", "99999999", ",", " , "] {
            assert!(bit_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rlimits_are_known_single_and_ordered() {
        let limit = |kind: &str, soft, hard| spec::Rlimit { kind: kind.into(), soft, hard };
        let mut judge = Judge::default();
        let found = rlimits(&[limit("RLIMIT_NOFILE", 1, 2)], "process", &mut judge);
        assert_eq!((found, judge.faults.len()), (vec![(libc::RLIMIT_NOFILE, 1, 2)], 0));
        rlimits(
            &[limit("RLIMIT_X", 1, 2), limit("RLIMIT_AS", 3, 2), limit("RLIMIT_AS", 1, 2)],
            "process",
            &mut judge,
        );
        let faults: Vec<String> = judge.faults.iter().map(|fault| fault.path.clone()).collect();
        assert_eq!(faults, ["process.rlimits[0].type", "process.rlimits[1].soft", "process.rlimits[2].type"]);
    }
}
