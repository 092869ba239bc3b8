//! The same question to our filter and to libseccomp's: every call number, every architecture, arguments around every boundary.

use std::collections::{BTreeMap, BTreeSet};

use emergence_runc::security::seccomp::{Arch, Filter, SockFilter, compile};
use emergence_runc::spec::Seccomp;

use crate::machine::{Call, constants, run};
use crate::profiles::{self, Dice, Recipe};
use crate::reference::Reference;

const ENOSYS: u32 = 0x0005_0000 | 38;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
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
                let call = Call {
                    audit: space.audit,
                    number,
                    args: arguments(&words, dice),
                    big_endian: space.big_endian,
                };
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
    let names = [
        "read",
        "openat",
        "ioctl",
        "socket",
        "accept",
        "shmat",
        "semop",
        "clone",
        "statx",
        "execve",
        "personality",
        "_llseek",
    ];
    let architectures = ["X86", "X32", "X86_64"];
    let (mut compared, mut refused, mut different) = (0, BTreeMap::new(), Vec::new());
    let seeds = std::env::var("SEEDS").map_or(3000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let recipe = Recipe { names: &names, architectures: &architectures, quarrels: seed % 3 == 0 };
        let profile = profiles::random(&mut dice, &recipe);
        let theirs = match reference.compile("x86_64", &profile) {
            Ok(theirs) => theirs,
            Err(words) => {
                *refused.entry(words).or_insert(0) += 1;
                continue;
            }
        };
        compared += 1;
        if let Some(found) = difference(&profile, Arch::X86_64, &theirs, &x86_spaces(&profile), &mut dice) {
            different.push((seed, found, profile));
        }
    }
    println!("{compared} compared, {refused:?} refused by libseccomp, {} differ", different.len());
    for (seed, found, profile) in different.iter().take(12) {
        println!("seed {seed}: {found}\n  {}", serde_json::to_string(profile).unwrap());
    }
    assert!(compared >= 2000);
    assert!(different.is_empty());
}
