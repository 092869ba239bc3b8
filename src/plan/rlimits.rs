//! `rlimits` of a process, getrlimit(2).

use rustix::process::Resource;

use super::Judge;
use super::words::unknown;
use crate::spec;

/// Names and numbers of the resources, getrlimit(2).
const RLIMITS: &[(&str, Resource)] = &[
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// The name of a resource, `RLIMIT_…`.
pub fn rlimit_name(resource: Resource) -> &'static str {
    RLIMITS.iter().find(|(_, known)| *known == resource).map_or("unknown", |(name, _)| name)
}

/// Validates the limits; returns resource, soft and hard limit of each.
pub fn rlimits(list: &[spec::Rlimit], place: &str, judge: &mut Judge) -> Vec<(Resource, u64, u64)> {
    let mut found: Vec<(Resource, u64, u64)> = Vec::with_capacity(list.len());
    for (at, limit) in list.iter().enumerate() {
        let place = format_args!("{place}.rlimits[{at}]");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rlimits_are_known_single_and_ordered() {
        let limit = |kind: &str, soft, hard| spec::Rlimit { kind: kind.into(), soft, hard };
        let mut judge = Judge::default();
        let found = rlimits(&[limit("RLIMIT_NOFILE", 1, 2)], "process", &mut judge);
        assert_eq!((found, judge.faults.len()), (vec![(Resource::Nofile, 1, 2)], 0));
        rlimits(
            &[limit("RLIMIT_X", 1, 2), limit("RLIMIT_AS", 3, 2), limit("RLIMIT_AS", 1, 2)],
            "process",
            &mut judge,
        );
        let faults: Vec<String> = judge.faults.iter().map(|fault| fault.path.clone()).collect();
        assert_eq!(faults, ["process.rlimits[0].type", "process.rlimits[1].soft", "process.rlimits[2].type"]);
    }
}
