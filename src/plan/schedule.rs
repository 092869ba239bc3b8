//! `process.scheduler`, `process.ioPriority` and `linux.memoryPolicy`: names and numbers translated
//! to the kernel's.

use super::words::{bit_list, pick};
use super::{Judge, MemoryPolicy, Place};
use crate::spec;
use crate::sys::cred::SchedAttr;

/// Scheduling policies, sched(7).
const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", libc::SCHED_OTHER as u32),
    ("SCHED_FIFO", libc::SCHED_FIFO as u32),
    ("SCHED_RR", libc::SCHED_RR as u32),
    ("SCHED_BATCH", libc::SCHED_BATCH as u32),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", libc::SCHED_IDLE as u32),
    ("SCHED_DEADLINE", libc::SCHED_DEADLINE as u32),
];

/// Scheduling flags, sched_setattr(2).
const SCHED_FLAGS: &[(&str, u32)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// The structure for sched_setattr(2). Values that the kernel would ignore, or refuse without a
/// reason, are errors.
pub fn scheduler(wanted: &spec::Scheduler, place: &str, judge: &mut Judge) -> Option<SchedAttr> {
    let place = format_args!("{place}.scheduler");
    let policy = pick(&wanted.policy, POLICIES, format_args!("{place}.policy"), judge)?;
    let before = judge.faults.len();
    if wanted.policy == "SCHED_ISO" {
        judge.fault(format!("{place}.policy"), "SCHED_ISO is reserved; Linux does not have it");
    }
    let flags = sched_flags(wanted, place, judge);
    priorities(wanted, place, judge);
    if wanted.policy == "SCHED_DEADLINE" {
        deadline(wanted, place, judge);
    } else {
        for (name, value) in
            [("runtime", wanted.runtime), ("deadline", wanted.deadline), ("period", wanted.period)]
        {
            if value != 0 {
                judge.fault(
                    format!("{place}.{name}"),
                    format!("only SCHED_DEADLINE has it, not {}", wanted.policy),
                );
            }
        }
    }
    (judge.faults.len() == before).then_some(SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags,
        nice: wanted.nice,
        priority: wanted.priority.unsigned_abs(),
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    })
}

fn sched_flags(wanted: &spec::Scheduler, place: Place<'_>, judge: &mut Judge) -> u64 {
    let mut flags = 0;
    for (at, flag) in wanted.flags.iter().enumerate() {
        let place = format_args!("{place}.flags[{at}]");
        flags |= u64::from(pick(flag, SCHED_FLAGS, place, judge).unwrap_or_default());
        let only_deadline = matches!(flag.as_str(), "SCHED_FLAG_RECLAIM" | "SCHED_FLAG_DL_OVERRUN");
        if only_deadline && wanted.policy != "SCHED_DEADLINE" {
            judge.fault(place, format!("only SCHED_DEADLINE has it, not {}", wanted.policy));
        } else if flag.starts_with("SCHED_FLAG_UTIL_CLAMP_") {
            judge.fault(place, "needs a value, for which config.json has no field; use linux.resources.unified and cpu.uclamp.min or cpu.uclamp.max");
        }
    }
    flags
}

fn priorities(wanted: &spec::Scheduler, place: Place<'_>, judge: &mut Judge) {
    let (place_of_nice, place_of_priority) = (format_args!("{place}.nice"), format_args!("{place}.priority"));
    if !(-20..=19).contains(&wanted.nice) {
        judge.fault(place_of_nice, format!("{} is not from -20 to 19", wanted.nice));
    } else if wanted.nice != 0 && !matches!(wanted.policy.as_str(), "SCHED_OTHER" | "SCHED_BATCH") {
        let words = format!("only SCHED_OTHER and SCHED_BATCH have it, not {}", wanted.policy);
        judge.fault(place_of_nice, words);
    }
    let is_realtime = matches!(wanted.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if is_realtime && !(1..=99).contains(&wanted.priority) {
        let words = format!("{} is not from 1 to 99, as {} wants", wanted.priority, wanted.policy);
        judge.fault(place_of_priority, words);
    } else if !is_realtime && wanted.priority != 0 {
        judge.fault(
            place_of_priority,
            format!("only SCHED_FIFO and SCHED_RR have one, not {}", wanted.policy),
        );
    }
}

/// Checks the kernel's rules, sched_setattr(2): 1024 <= runtime <= deadline <= period, each below
/// 2^63. Period 0 means the deadline.
fn deadline(wanted: &spec::Scheduler, place: Place<'_>, judge: &mut Judge) {
    const SHORTEST: u64 = 1024;
    const LONGEST: u64 = i64::MAX as u64;
    let spec::Scheduler { runtime, deadline, period, .. } = *wanted;
    if runtime < SHORTEST {
        let words = format!("{runtime} ns: SCHED_DEADLINE needs at least {SHORTEST} ns");
        judge.fault(format!("{place}.runtime"), words);
    }
    if deadline == 0 {
        judge.fault(format!("{place}.deadline"), "missing; SCHED_DEADLINE needs it, in nanoseconds");
    } else if runtime > deadline {
        let words = format!("{runtime} ns is more than deadline, {deadline} ns");
        judge.fault(format!("{place}.runtime"), words);
    }
    if period != 0 && period < deadline {
        let words = format!("{period} ns is less than deadline, {deadline} ns");
        judge.fault(format!("{place}.period"), words);
    }
    for (name, value) in [("deadline", deadline), ("period", period)] {
        if value > LONGEST {
            judge.fault(format!("{place}.{name}"), format!("{value} ns is more than {LONGEST}"));
        }
    }
}

/// The value for ioprio_set(2): the class in the upper bits.
pub fn io_priority(wanted: &spec::IoPriority, place: &str, judge: &mut Judge) -> Option<i32> {
    const CLASSES: &[(&str, u32)] =
        &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    const CLASS_SHIFT: u32 = 13;
    let place = format_args!("{place}.ioPriority");
    let class = pick(&wanted.class, CLASSES, format_args!("{place}.class"), judge)?;
    if !(0..=7).contains(&wanted.priority) {
        judge.fault(format!("{place}.priority"), format!("{} is not from 0 to 7", wanted.priority));
        return None;
    }
    Some((class << CLASS_SHIFT) as i32 | wanted.priority as i32)
}

/// Modes of set_mempolicy(2): how memory is distributed over nodes.
pub const POLICY_MODES: &[(&str, u32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags of these modes, set_mempolicy(2).
pub const POLICY_FLAGS: &[(&str, u32)] = &[
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// The arguments of set_mempolicy(2). Values that the kernel would ignore, or refuse without a
/// reason, are errors.
pub fn memory_policy(wanted: &spec::MemoryPolicy, judge: &mut Judge) -> Option<MemoryPolicy> {
    const FLAGS: &str = "linux.memoryPolicy.flags";
    let mode = pick(&wanted.mode, POLICY_MODES, format_args!("linux.memoryPolicy.mode"), judge)?;
    let nodes = match bit_list(&wanted.nodes) {
        Ok(nodes) => nodes,
        Err(words) => {
            judge.fault("linux.memoryPolicy.nodes", words);
            return None;
        }
    };
    let takes_none = matches!(wanted.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL");
    if takes_none && !nodes.is_empty() {
        judge.fault("linux.memoryPolicy.nodes", format!("{} takes no nodes", wanted.mode));
    } else if !takes_none && wanted.mode != "MPOL_PREFERRED" && nodes.is_empty() {
        judge.fault(
            "linux.memoryPolicy.nodes",
            format!("missing; {} needs nodes such as \"0-1\"", wanted.mode),
        );
    }
    let mut flags = 0;
    for (at, flag) in wanted.flags.iter().enumerate() {
        let place = format_args!("{FLAGS}[{at}]");
        flags |= pick(flag, POLICY_FLAGS, place, judge)?;
        let balances = flag == "MPOL_F_NUMA_BALANCING";
        if balances && !matches!(wanted.mode.as_str(), "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
            judge
                .fault(place, format!("only MPOL_BIND and MPOL_PREFERRED_MANY take it, not {}", wanted.mode));
        } else if !balances && takes_none {
            judge.fault(place, format!("{} takes no nodes, which {flag} is about", wanted.mode));
        } else if !balances && nodes.is_empty() {
            judge.fault(place, format!("{flag} is about nodes, but linux.memoryPolicy.nodes is missing"));
        }
    }
    if flags & NUMBERED == NUMBERED {
        judge.fault(FLAGS, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    Some(MemoryPolicy { mode: (mode | flags) as i32, nodes })
}

/// `MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES`.
const NUMBERED: u32 = 1 << 15 | 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduling() {
        let mut judge = Judge::default();
        let fifo = spec::Scheduler { policy: "SCHED_FIFO".into(), priority: 5, ..Default::default() };
        assert_eq!(
            scheduler(&fifo, "process", &mut judge).map(|attr| (attr.size, attr.policy, attr.priority)),
            Some((48, 1, 5))
        );
        let rt = spec::IoPriority { class: "IOPRIO_CLASS_RT".into(), priority: 3 };
        assert_eq!(io_priority(&rt, "process", &mut judge), Some(1 << 13 | 3));
    }

    /// Each pair: members of `process.scheduler` (or `linux.memoryPolicy`), and the fields with
    /// errors.
    #[test]
    fn values_that_the_kernel_ignores_or_refuses_are_reported() {
        let ms = |count: u64| count * 1_000_000;
        let deadline = |runtime: u64, deadline: u64, period: u64| {
            format!(
                r#""policy":"SCHED_DEADLINE","runtime":{runtime},"deadline":{deadline},"period":{period}"#
            )
        };
        let table: [(String, &[&str]); 17] = [
            (deadline(ms(10), ms(20), ms(30)), &[]),
            (deadline(1024, 1024, 0), &[]),
            (deadline(1023, ms(1), 0), &["runtime"]),
            (deadline(0, 0, 0), &["runtime", "deadline"]),
            (deadline(ms(3), ms(2), ms(4)), &["runtime"]),
            (deadline(ms(1), ms(3), ms(2)), &["period"]),
            (deadline(ms(1), 1 << 63, 0), &["deadline"]),
            (deadline(ms(1), ms(2), 0) + r#","nice":1"#, &["nice"]),
            (deadline(ms(1), ms(2), 0) + r#","flags":["SCHED_FLAG_RECLAIM"]"#, &[]),
            (r#""policy":"SCHED_OTHER","flags":["SCHED_FLAG_RECLAIM"]"#.into(), &["flags[0]"]),
            (
                r#""policy":"SCHED_OTHER","nice":-20,"flags":["SCHED_FLAG_UTIL_CLAMP_MIN"]"#.into(),
                &["flags[0]"],
            ),
            (r#""policy":"SCHED_OTHER","nice":20"#.into(), &["nice"]),
            (r#""policy":"SCHED_IDLE","nice":5,"deadline":7"#.into(), &["nice", "deadline"]),
            (r#""policy":"SCHED_FIFO","nice":5,"priority":100"#.into(), &["nice", "priority"]),
            (r#""policy":"SCHED_BATCH","priority":1"#.into(), &["priority"]),
            (r#""policy":"SCHED_ISO""#.into(), &["policy"]),
            (
                r#""policy":"SCHED_FIFO","priority":1,"flags":["X","SCHED_FLAG_DL_OVERRUN"]"#.into(),
                &["flags[0]", "flags[1]"],
            ),
        ];
        for (members, want) in table {
            let wanted: spec::Scheduler = serde_json::from_str(&format!("{{{members}}}")).unwrap();
            let mut judge = Judge::default();
            let plan = scheduler(&wanted, "process", &mut judge);
            let paths = judge.faults.iter().map(|fault| fault.path.trim_start_matches("process.scheduler."));
            assert_eq!(paths.collect::<Vec<_>>(), want, "{members}");
            assert_eq!(plan.is_some(), want.is_empty(), "{members}");
        }
        let table: [(&str, &[&str]); 12] = [
            (r#""mode":"MPOL_DEFAULT""#, &[]),
            (r#""mode":"MPOL_DEFAULT","nodes":"0""#, &["nodes"]),
            (r#""mode":"MPOL_DEFAULT","flags":["MPOL_F_STATIC_NODES"]"#, &["flags[0]"]),
            (r#""mode":"MPOL_DEFAULT","flags":["MPOL_F_NUMA_BALANCING"]"#, &["flags[0]"]),
            (r#""mode":"MPOL_LOCAL","flags":["MPOL_F_RELATIVE_NODES"]"#, &["flags[0]"]),
            (r#""mode":"MPOL_PREFERRED""#, &[]),
            (r#""mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]"#, &["flags[0]"]),
            (
                r#""mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_NUMA_BALANCING","MPOL_F_STATIC_NODES"]"#,
                &[],
            ),
            (r#""mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]"#, &["flags[0]"]),
            (
                r#""mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]"#,
                &["flags"],
            ),
            (r#""mode":"MPOL_BIND","nodes":",""#, &["nodes"]),
            (r#""mode":"MPOL_BIND""#, &["nodes"]),
        ];
        for (members, want) in table {
            let wanted: spec::MemoryPolicy = serde_json::from_str(&format!("{{{members}}}")).unwrap();
            let mut judge = Judge::default();
            memory_policy(&wanted, &mut judge);
            let paths = judge.faults.iter().map(|fault| fault.path.trim_start_matches("linux.memoryPolicy."));
            assert_eq!(paths.collect::<Vec<_>>(), want, "{members}");
        }
    }
}
