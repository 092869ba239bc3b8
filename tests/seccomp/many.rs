//! Many comparisons of one argument of one call: they fit into a filter, take few steps, and answer
//! what the profile says.

use emergence_runc::security::seccomp::Arch;
use emergence_runc::spec::{Seccomp, SeccompArg, SeccompRule};

use crate::differential::ours;
use crate::machine::{Call, X86, X86_64, run};
use crate::meaning;
use crate::profiles::{self, Dice};
use crate::reference::Reference;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
/// ioctl(2), where arguments have two words and where they have one.
const IOCTL: [(u32, u32); 2] = [(X86_64, 16), (X86, 54)];

fn arg(op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index: 1, value, value_two, op: format!("SCMP_CMP_{op}") }
}

/// A rule for ioctl(2) for each condition, which answers `errno`, or lets the call through.
fn profile(rules: impl IntoIterator<Item = (SeccompArg, Option<u32>)>) -> Seccomp {
    let rule = |(arg, errno): (SeccompArg, Option<u32>)| SeccompRule {
        names: vec!["ioctl".into()],
        action: if errno.is_some() { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" }.into(),
        errno_ret: errno,
        args: vec![arg],
    };
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        architectures: vec!["SCMP_ARCH_X86".into()],
        syscalls: rules.into_iter().map(rule).collect(),
        ..Seccomp::default()
    }
}

fn call(arch: usize, value: u64) -> Call {
    let (audit, number) = IOCTL[arch];
    Call { audit, number, args: [3, value, 3, 3, 3, 3], big_endian: false }
}

#[test]
fn two_thousand_values_fit() {
    for spread in [1_u64, 2, 3, 0x10_0001] {
        for high in [0_u64, 1 << 32, 0xffff_ffff << 32] {
            let value = |at: u64| high + 7 + at * spread;
            let mut profile = profile((0..2000).map(|at| (arg("EQ", value(at), 0), None)));
            // Beside all that an engine's own profile asks.
            profile.syscalls.extend(
                profiles::docker()
                    .syscalls
                    .into_iter()
                    .filter(|rule| !rule.names.iter().any(|name| name == "ioctl")),
            );
            let program = ours(&profile, Arch::X86_64).program;
            println!("spread {spread:#x}, high {high:#x}: {} instructions", program.len());
            assert!(program.len() <= 4096);
            let mut most = 0;
            for at in 0..2000 {
                for (asked, held) in [
                    (value(at), true),
                    (value(at) - 1, spread == 1 && at > 0),
                    (value(at) ^ (1 << 40), false),
                ] {
                    let (answer, steps) = run(&program, &call(0, asked));
                    assert_eq!(answer, if held { ALLOW } else { EPERM }, "{asked:#x}");
                    most = most.max(steps);
                }
                // Where an argument has 32 bits, none of the values above them is reached.
                let (answer, _) = run(&program, &call(1, value(at) & 0xffff_ffff));
                assert_eq!(answer, if high == 0 { ALLOW } else { EPERM });
            }
            assert!(most <= 40, "{most} steps");
        }
    }
}

/// Rules for one argument with values that meet often: equal ones, masked ones, and some that
/// compare otherwise among them.
fn random(dice: &mut Dice, count: usize, plain: bool) -> Seccomp {
    let highs = [0, 0, 1 << 32, 7 << 32, 0xffff_ffff << 32];
    let masks = [0xff, 0xff00, 0xffff_0000_0000, 0xff00_0000_00ff, u64::MAX, 0x8000_0000_0000_0001];
    let span = count * (1 + dice.below(3));
    let quarrels = dice.below(2) == 0;
    let mut rules = Vec::new();
    for _ in 0..count {
        let value = *dice.pick(&highs) | dice.below(span) as u64;
        let op = if plain { 0 } else { dice.below(20) };
        let condition = match op {
            0..14 => arg("EQ", value, 0),
            14..18 => {
                let mask = *dice.pick(&masks);
                arg("MASKED_EQ", mask, value & mask)
            }
            18 => arg("NE", value, 0),
            _ => arg("GT", value, 0),
        };
        // Two answers for one condition are a fault of the profile.
        let same = |(other, _): &(SeccompArg, Option<u32>)| {
            (&other.op, other.value, other.value_two) == (&condition.op, condition.value, condition.value_two)
        };
        if !rules.iter().any(same) {
            rules.push((condition, quarrels.then(|| 2 + dice.below(5) as u32)));
        }
    }
    profile(rules)
}

/// Values of rules, and their neighbours, with high words of all kinds.
fn asked(dice: &mut Dice, profile: &Seccomp) -> u64 {
    let rule = dice.pick(&profile.syscalls);
    let arg = &rule.args[0];
    let value = if arg.op.ends_with("MASKED_EQ") { arg.value_two } else { arg.value };
    match dice.below(6) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ (1 << (32 + dice.below(32))),
        3 => value & 0xffff_ffff,
        _ => value,
    }
}

fn errno(rule: &SeccompRule) -> u32 {
    if rule.action == "SCMP_ACT_ALLOW" { ALLOW } else { 0x0005_0000 | rule.errno_ret.unwrap_or(1) }
}

#[test]
fn big_random_profiles_keep_their_meaning() {
    let mut questions = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let count = 20 + dice.below(700);
        let profile = random(&mut dice, count, seed % 3 == 0);
        let program = ours(&profile, Arch::X86_64).program;
        for _ in 0..1000 {
            let value = asked(&mut dice, &profile);
            let call = call(0, value);
            let got = run(&program, &call).0;
            let want: Vec<u32> =
                meaning::holding(&profile.syscalls, "ioctl", &call.args).into_iter().map(errno).collect();
            questions += usize::from(!want.is_empty());
            let right = if want.is_empty() { got == EPERM } else { want.contains(&got) };
            assert!(right, "seed {seed}: {value:#x}: {got:#x}, not of {want:#x?}");
        }
    }
    assert!(questions > 20_000, "only {questions} questions met a rule");
}

#[test]
fn big_random_profiles_answer_as_libseccomp() {
    let Some(mut reference) = Reference::start() else { return };
    let mut compared = 0;
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let count = 20 + dice.below(200);
        let mut profile = random(&mut dice, count, true);
        // Values above 32 bits mean little to the narrow architecture, and libseccomp reads them
        // otherwise.
        let arches = 1 + seed as usize % 2;
        if arches == 2 {
            profile.syscalls.retain(|rule| rule.args[0].value >> 32 == 0);
        }
        let Ok(theirs) = reference.compile("x86_64", &profile) else { continue };
        compared += 1;
        let program = ours(&profile, Arch::X86_64).program;
        for _ in 0..1000 {
            let arch = dice.below(arches);
            let value = asked(&mut dice, &profile);
            let call = call(arch, if arch == 1 { value & 0xffff_ffff } else { value });
            assert_eq!(run(&program, &call).0, run(&theirs, &call).0, "seed {seed}: {call:x?}");
        }
    }
    assert!(compared >= 30, "only {compared} profiles could be compared");
}
