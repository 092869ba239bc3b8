//! Several rules for one call that answer differently: which one decides, compared with libseccomp
//! and with what the profile says.

use std::collections::BTreeMap;

use emergence_runc::security::seccomp::Arch;
use emergence_runc::spec::{Seccomp, SeccompArg, SeccompRule};

use crate::differential::{arguments, ours, tangled, words};
use crate::machine::{Call, X86, X86_64, constants, run};
use crate::meaning;
use crate::profiles::{self, Dice, Recipe};
use crate::reference::Reference;

const LOG: u32 = 0x7ffc_0000;
/// read(2), where arguments have two words and where they have one.
const READ: [(u32, u32); 2] = [(X86_64, 0), (X86, 3)];

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op: format!("SCMP_CMP_{op}") }
}

/// Rules for read(2) that answer 1, 2 …; what they do not name is logged.
fn profile(rules: &[Vec<SeccompArg>]) -> Seccomp {
    let rule = |(at, args): (usize, &Vec<SeccompArg>)| SeccompRule {
        names: vec!["read".into()],
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(1 + at as u32),
        args: args.clone(),
    };
    Seccomp {
        default_action: "SCMP_ACT_LOG".into(),
        architectures: vec!["SCMP_ARCH_X86".into()],
        syscalls: rules.iter().enumerate().map(rule).collect(),
        ..Seccomp::default()
    }
}

#[test]
fn two_rules_in_either_order() {
    let Some(mut reference) = Reference::start() else { return };
    // Each holds for an argument of 5.
    let conditions = |index| {
        [
            arg(index, "EQ", 5, 0),
            arg(index, "NE", 9, 0),
            arg(index, "NE", 8, 0),
            arg(index, "MASKED_EQ", 4, 4),
            arg(index, "MASKED_EQ", 8, 0),
            arg(index, "MASKED_EQ", 0xf, 5),
            arg(index, "GE", 3, 0),
            arg(index, "GT", 2, 0),
            arg(index, "LT", 7, 0),
            arg(index, "LE", 6, 0),
        ]
    };
    let mut rules: Vec<Vec<SeccompArg>> = Vec::new();
    for first in conditions(0) {
        rules.push(vec![first.clone()]);
        rules.extend(conditions(1).map(|second| vec![first.clone(), second]));
        rules.push(vec![first.clone(), arg(2, "EQ", 5, 0)]);
        rules.push(vec![first, arg(1, "EQ", 5, 0), arg(3, "NE", 9, 0)]);
    }
    rules.extend(conditions(1).map(|only| vec![only]));
    let (mut compared, mut refused, mut wrong) = (0, 0, 0);
    for one in &rules {
        for other in &rules {
            let profile = profile(&[one.clone(), other.clone()]);
            if tangled(&profile) || (one.len() + other.len() > 2 && knotted(&profile)) {
                continue;
            }
            // A rule that asks less than one before it, or the same, is refused with EEXIST.
            let Ok(theirs) = reference.compile("x86_64", &profile) else {
                refused += 1;
                continue;
            };
            compared += 1;
            let program = ours(&profile, Arch::X86_64).program;
            let values = [[5; 6], [5, 0, 5, 5, 5, 5], [0, 5, 5, 5, 5, 5], [5, 5, 0, 0, 5, 5]];
            for (args, (audit, number)) in values.into_iter().flat_map(|args| READ.map(|read| (args, read))) {
                let call = Call { audit, number, args, big_endian: false };
                let (got, want) = (run(&program, &call).0, run(&theirs, &call).0);
                let holding = meanings(&profile.syscalls, "read", args);
                if got != want && !holding.contains(&want) {
                    // See `knotted`: no rule that holds says this.
                    wrong += 1;
                    continue;
                }
                assert_eq!(got, want, "{args:?} {}", serde_json::to_string(&profile.syscalls).unwrap());
            }
        }
    }
    println!(
        "{compared} compared, {refused} refused by libseccomp, {wrong} of its answers against the profile"
    );
    assert!(compared > 2000 && wrong * 100 < compared);
}

/// Whether one argument is compared with several values, one of them by NE. libseccomp splits an
/// argument into two words and lets the rule that was written first decide where the high words
/// differ, the one with the higher value elsewhere; and of rules that begin with NE and go on, it
/// can forget the conditions next to them.
fn knotted(profile: &Seccomp) -> bool {
    let mut seen: BTreeMap<u32, (usize, bool)> = BTreeMap::new();
    for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        let (count, unequal) = seen.entry(arg.index).or_default();
        *count += 1;
        *unequal |= arg.op.ends_with("NE");
    }
    seen.values().any(|(count, unequal)| *count > 1 && *unequal || *count > 2)
}

#[test]
fn random_conflicts() {
    let Some(mut reference) = Reference::start() else { return };
    let (mut compared, mut refused, mut different) = (0, 0, Vec::new());
    for seed in 0..16000 {
        let mut dice = Dice(seed);
        let wide = seed % 4 == 0;
        let architectures: &[&str] = if wide { &[] } else { &["X86"] };
        let recipe = Recipe { names: &["read"], architectures, quarrels: true, wide };
        let mut profile = profiles::random(&mut dice, &recipe);
        profile.default_action = "SCMP_ACT_LOG".into();
        profile.default_errno_ret = None;
        for arg in profile.syscalls.iter_mut().flat_map(|rule| &mut rule.args).filter(|_| seed % 2 == 0) {
            // So that they meet more often.
            (arg.index, arg.value, arg.value_two) = (arg.index % 3, arg.value % 3, arg.value_two % 3);
        }
        if profile.syscalls.len() < 2 || tangled(&profile) || knotted(&profile) {
            continue;
        }
        let Ok(theirs) = reference.compile("x86_64", &profile) else {
            refused += 1;
            continue;
        };
        compared += 1;
        let program = ours(&profile, Arch::X86_64).program;
        let words = words([&program, &theirs]);
        for _ in 0..200 {
            let narrow = !profile.architectures.is_empty() && dice.below(2) == 0;
            let (audit, number) = READ[usize::from(narrow)];
            let mut args = arguments(&words, &mut dice);
            if narrow {
                args = args.map(|arg| arg & 0xffff_ffff);
            }
            let call = Call { audit, number, args, big_endian: false };
            let (got, want) = (run(&program, &call).0, run(&theirs, &call).0);
            if got != want {
                different.push(format!(
                    "seed {seed}: {call:x?}: {got:#x}, libseccomp {want:#x}\n  {}",
                    serde_json::to_string(&profile.syscalls).unwrap()
                ));
                break;
            }
        }
    }
    println!("{compared} compared, {refused} refused by libseccomp, {} differ", different.len());
    different.iter().take(5).for_each(|words| println!("{words}"));
    assert!(compared >= 1000, "only {compared} profiles could be compared");
    assert!(different.is_empty());
}

/// The answers of the rules that hold.
fn meanings(rules: &[SeccompRule], name: &str, args: [u64; 6]) -> Vec<u32> {
    let answer = |rule: &SeccompRule| match rule.action.as_str() {
        "SCMP_ACT_KILL" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | rule.errno_ret.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0_0001,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        other => panic!("{other}"),
    };
    meaning::holding(rules, name, &args).into_iter().map(answer).collect()
}

/// Whatever the order: the answer is that of a rule that holds, and the default one only where none
/// does.
#[test]
fn random_profiles_keep_their_meaning() {
    let calls = [("read", 0), ("ioctl", 16), ("clone", 56), ("execve", 59), ("openat", 257)];
    let names = calls.map(|(name, _)| name);
    let mut single = 0;
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let recipe = Recipe { names: &names, architectures: &[], quarrels: seed % 2 == 0, wide: true };
        let mut profile = profiles::random(&mut dice, &recipe);
        profile.default_action = "SCMP_ACT_LOG".into(); // no ENOSYS behind the newest call, and no rule equals it
        profile.default_errno_ret = None;
        profile.syscalls.retain(|rule| rule.action != "SCMP_ACT_LOG");
        profile.syscalls.iter_mut().for_each(|rule| rule.errno_ret = None);
        let program = ours(&profile, Arch::X86_64).program;
        let words: Vec<u32> = constants(&program).chain([0]).collect();
        for (name, number) in calls {
            for _ in 0..100 {
                let args = arguments(&words, &mut dice);
                let call = Call { audit: X86_64, number, args, big_endian: false };
                let got = run(&program, &call).0;
                let mut want = meanings(&profile.syscalls, name, args);
                want.dedup();
                single += usize::from(want.len() == 1);
                let right = if want.is_empty() { got == LOG } else { want.contains(&got) };
                assert!(right, "seed {seed}: {name} {call:x?}: {got:#x}, not of {want:#x?}: {profile:?}");
            }
        }
    }
    assert!(single > 100_000, "only {single} questions had one answer");
}
