//! The same question to our filter and to libseccomp's: every call number, every architecture, arguments around every boundary.

use std::collections::{BTreeMap, BTreeSet};

use emergence_runc::security::seccomp::{Arch, Filter, SockFilter, compile};
use emergence_runc::spec::Seccomp;

use crate::machine::{Call, constants, run};
use crate::meaning;
use crate::profiles::{self, Dice, Recipe};
use crate::reference::Reference;

const ENOSYS: u32 = 0x0005_0000 | 38;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const X32: u32 = 0x4000_0000;

fn ours(profile: &Seccomp, native: Arch) -> Filter {
    compile(profile, native, false).expect("a profile without faults")
}

/// Numbers worth asking: all that have a call, and what lies around every number either program compares with.
fn numbers(programs: [&[SockFilter]; 2], bit: u32) -> BTreeSet<u32> {
    let near =
        programs.into_iter().flat_map(constants).flat_map(|k| [k.wrapping_sub(1), k, k.wrapping_add(1)]);
    (0..1100).map(|number| number | bit).chain(near).chain([u32::MAX, u32::MAX - 1, X32 - 1, X32]).collect()
}

/// Arguments from the constants of the programs, as low and as high words.
fn arguments(words: &[u32], dice: &mut Dice) -> [u64; 6] {
    let word = |dice: &mut Dice| {
        let near = [u32::MAX, 0, 0, 1][dice.below(4)];
        if dice.below(4) == 0 { 0 } else { dice.pick(words).wrapping_add(near) }
    };
    [(); 6].map(|()| (u64::from(word(dice)) << 32) | u64::from(word(dice)))
}

/// What the newest call of a profile is, from the outside: runc puts its answer to later ones in front of libseccomp's.
fn newest(profile: &Seccomp, native: Arch, audit: u32, bit: u32) -> Option<u32> {
    let default = profile.default_action.as_str();
    let errno = profile.default_errno_ret.unwrap_or(1);
    if matches!(default, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE")
        || (default == "SCMP_ACT_ERRNO" && errno == 38)
    {
        return None;
    }
    // A profile that allows the same names and traces the rest shows the numbers.
    let mut shown = profile.clone();
    shown.default_action = "SCMP_ACT_TRACE".into();
    shown.default_errno_ret = Some(999);
    for rule in &mut shown.syscalls {
        rule.args.clear();
        rule.errno_ret = None;
        rule.action = "SCMP_ACT_ALLOW".into();
    }
    let program = ours(&shown, native).program;
    (0..1100)
        .map(|number| number | bit)
        .filter(|number| {
            let call = Call { audit, number: *number, args: [7; 6], big_endian: false };
            run(&program, &call).0 == 0x7fff_0000
        })
        .max()
}

struct Space {
    audit: u32,
    bit: u32,
    big_endian: bool,
}

/// Asks both; `None` when they agree, else the first call they differ on.
fn difference(
    profile: &Seccomp,
    native: Arch,
    reference: &[SockFilter],
    spaces: &[Space],
    dice: &mut Dice,
) -> Option<String> {
    let program = ours(profile, native).program;
    let words: Vec<u32> =
        constants(reference).chain(constants(&program)).filter(|k| *k < X32 || *k > 0xff00_0000).collect();
    let words = if words.is_empty() { vec![0] } else { words };
    let x32 = spaces.iter().any(|space| space.bit != 0);
    for space in spaces {
        let newest = newest(profile, native, space.audit, space.bit);
        let named: BTreeSet<u32> = constants(&program).chain(constants(reference)).collect();
        for number in numbers([&program, reference], space.bit) {
            if x32 && space.audit == X86_64 && (number & X32) != space.bit {
                continue; // the other space's
            }
            for _ in 0..if named.contains(&number) { 60 } else { 1 } {
                let mut args = arguments(&words, dice);
                if matches!(space.audit, X86 | ARM) {
                    args = args.map(|arg| arg & 0xffff_ffff); // all that the kernel hands over
                }
                let call = Call { audit: space.audit, number, args, big_endian: space.big_endian };
                let mut want = run(reference, &call).0;
                if newest.is_some_and(|newest| number > newest) {
                    want = ENOSYS;
                }
                let got = run(&program, &call).0;
                if got != want {
                    return Some(format!("{call:x?}: {got:#x}, libseccomp {want:#x}"));
                }
            }
        }
    }
    None
}

/// Whether more than one comparison by order concerns one call. libseccomp 2.5 joins such comparisons into one tree and can then answer
/// against the profile: `a >= 0x2_0000_0003` is allowed for 0x1_0000_0003 where `a <= 0x1_0000_0001` stands beside it, and
/// `a > 1 and b <= 2` fails for a of 0x1_0000_0000. `meaning` covers these.
fn tangled(profile: &Seccomp) -> bool {
    let mut seen = BTreeMap::new();
    for rule in &profile.syscalls {
        for name in &rule.names {
            for _ in rule.args.iter().filter(|arg| !arg.op.ends_with("EQ") && !arg.op.ends_with("NE")) {
                *seen.entry(name).or_insert(0) += 1;
            }
        }
    }
    seen.values().any(|count| *count > 1)
}

fn x86_spaces(profile: &Seccomp) -> Vec<Space> {
    let lists = |arch: &str| profile.architectures.iter().any(|word| word == arch);
    let mut spaces = vec![Space { audit: X86_64, bit: 0, big_endian: false }];
    if lists("SCMP_ARCH_X86") {
        spaces.push(Space { audit: X86, bit: 0, big_endian: false });
    }
    if lists("SCMP_ARCH_X32") {
        spaces.push(Space { audit: X86_64, bit: X32, big_endian: false });
    }
    spaces
}

#[test]
fn engine_profile() {
    let (Some(profile), Some(mut reference)) = (profiles::engine(), Reference::start()) else { return };
    let theirs = reference.compile("x86_64", &profile).unwrap();
    let found = difference(&profile, Arch::X86_64, &theirs, &x86_spaces(&profile), &mut Dice(1));
    assert_eq!(found, None);
}

#[test]
fn random_profiles() {
    let Some(mut reference) = Reference::start() else { return };
    // Not accept and semop: for x86 libseccomp 2.5 leaves out socketcall(2) and ipc(2) where no call of its own exists.
    let names = [
        "read",
        "openat",
        "ioctl",
        "socket",
        "shmat",
        "clone",
        "statx",
        "execve",
        "personality",
        "futex",
        "prctl",
    ];
    let (mut compared, mut refused, mut different) = (0, 0, Vec::new());
    for seed in 0..6000 {
        let mut dice = Dice(seed);
        // Values above 32 bits mean little to the narrow architectures, and each reads them its own way.
        let wide = seed % 2 == 0;
        let architectures: &[&str] = if wide { &["X86_64"] } else { &["X86_64", "X86", "X32"] };
        let profile =
            profiles::random(&mut dice, &Recipe { names: &names, architectures, quarrels: false, wide });
        if tangled(&profile) {
            continue;
        }
        let Ok(theirs) = reference.compile("x86_64", &profile) else {
            refused += 1;
            continue;
        };
        compared += 1;
        if let Some(found) = difference(&profile, Arch::X86_64, &theirs, &x86_spaces(&profile), &mut dice) {
            different.push((seed, found, profile));
        }
    }
    println!("{compared} compared, {refused} refused by libseccomp, {} differ", different.len());
    for (seed, found, profile) in different.iter().take(5) {
        println!("seed {seed}: {found}\n  {}", serde_json::to_string(profile).unwrap());
    }
    assert!(compared >= 2000, "only {compared} profiles could be compared");
    assert!(different.is_empty());
}

#[test]
fn other_architectures() {
    let (Some(engine), Some(mut reference)) = (profiles::engine(), Reference::start()) else { return };
    let table = [
        ("aarch64", Arch::Aarch64, vec![0xc000_00b7, ARM]),
        ("riscv64", Arch::Riscv64, vec![0xc000_00f3]),
        ("ppc64le", Arch::Ppc64le, vec![0xc000_0015]),
        ("s390x", Arch::S390x, vec![0x8000_0016]),
    ];
    let names =
        ["read", "openat", "ioctl", "socket", "shmget", "clone", "statx", "execve", "personality", "prctl"];
    for (name, native, audits) in table {
        let space = |audit: &u32| Space { audit: *audit, bit: 0, big_endian: name == "s390x" };
        let spaces: Vec<Space> = audits.iter().map(space).collect();
        let architectures = if spaces.len() > 1 { vec!["SCMP_ARCH_ARM".to_owned()] } else { Vec::new() };
        let recipe = Recipe { names: &names, architectures: &[], quarrels: false, wide: spaces.len() == 1 };
        let random = (0..300)
            .map(|seed| profiles::random(&mut Dice(seed), &recipe))
            .filter(|profile| !tangled(profile));
        for mut profile in random.chain([engine.clone()]) {
            profile.architectures.clone_from(&architectures);
            let Ok(theirs) = reference.compile(name, &profile) else { continue };
            let found = difference(&profile, native, &theirs, &spaces, &mut Dice(7));
            assert_eq!(found, None, "{name}: {}", serde_json::to_string(&profile).unwrap());
        }
    }
}

#[test]
fn random_profiles_keep_their_meaning() {
    let calls = [("read", 0), ("ioctl", 16), ("clone", 56), ("execve", 59), ("openat", 257)];
    let names = calls.map(|(name, _)| name);
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let recipe = Recipe { names: &names, architectures: &[], quarrels: true, wide: true };
        let mut profile = profiles::random(&mut dice, &recipe);
        profile.default_action = "SCMP_ACT_LOG".into(); // no ENOSYS behind the newest call, and no rule equals it
        profile.default_errno_ret = None;
        profile.syscalls.retain(|rule| rule.action != "SCMP_ACT_LOG");
        profile.syscalls.iter_mut().for_each(|rule| rule.errno_ret = None);
        let program = ours(&profile, Arch::X86_64).program;
        let words: Vec<u32> = constants(&program).chain([0]).collect();
        for (name, number) in calls {
            for _ in 0..100 {
                let call =
                    Call { audit: X86_64, number, args: arguments(&words, &mut dice), big_endian: false };
                let rule = meaning::rule(&profile.syscalls, name, &call.args);
                let want = match rule.map(|rule| rule.action.as_str()) {
                    None => 0x7ffc_0000,
                    Some("SCMP_ACT_KILL") => 0,
                    Some("SCMP_ACT_KILL_PROCESS") => 0x8000_0000,
                    Some("SCMP_ACT_TRAP") => 0x0003_0000,
                    Some("SCMP_ACT_ERRNO") => 0x0005_0001,
                    Some("SCMP_ACT_TRACE") => 0x7ff0_0001,
                    Some("SCMP_ACT_ALLOW") => 0x7fff_0000,
                    Some("SCMP_ACT_NOTIFY") => 0x7fc0_0000,
                    Some(other) => panic!("{other}"),
                };
                let got = run(&program, &call).0;
                assert_eq!(got, want, "seed {seed}: {name} {call:x?}: {profile:?}");
            }
        }
    }
}

#[test]
fn paths_are_short() {
    let (Some(profile), Some(mut reference)) = (profiles::engine(), Reference::start()) else { return };
    let theirs = reference.compile("x86_64", &profile).unwrap();
    let program = ours(&profile, Arch::X86_64).program;
    let steps = |program: &[SockFilter]| {
        let ask = |number| run(program, &Call { audit: X86_64, number, args: [0; 6], big_endian: false });
        let mut steps: Vec<usize> =
            (0..450).map(ask).filter(|(answer, _)| *answer == 0x7fff_0000).map(|(_, steps)| steps).collect();
        steps.sort_unstable();
        (steps[steps.len() / 2], steps[steps.len() - 1])
    };
    let ((ours, our_worst), (other, other_worst)) = (steps(&program), steps(&theirs));
    println!(
        "instructions {} / {}; median path {ours} / {other}; longest {our_worst} / {other_worst}",
        program.len(),
        theirs.len()
    );
    assert!(ours * 3 <= other, "median path {ours}, libseccomp's {other}");
}
