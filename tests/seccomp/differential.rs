//! The same question to our filter and to libseccomp's: every call number, every architecture,
//! arguments around every boundary.

use std::collections::{BTreeMap, BTreeSet};

use emergence_runc::security::seccomp::{Arch, Filter, SockFilter, UnknownCalls, compile};
use emergence_runc::spec::Seccomp;

use crate::machine::{Call, X32, X86, X86_64, constants, run};
use crate::profiles::{self, Dice, Recipe};
use crate::reference::Reference;

const ENOSYS: u32 = 0x0005_0000 | 38;
const ARM: u32 = 0x4000_0028;

/// The filter of a profile without faults.
pub(crate) fn ours(profile: &Seccomp, native: Arch) -> Filter {
    compile(profile, native, UnknownCalls::LeftOut).expect("a profile without faults")
}

/// Numbers to try: those of all system calls, and the neighbours of every number that either
/// program compares with.
fn numbers(programs: [&[SockFilter]; 2], bit: u32) -> BTreeSet<u32> {
    let near =
        programs.into_iter().flat_map(constants).flat_map(|k| [k.wrapping_sub(1), k, k.wrapping_add(1)]);
    let other_space = (0..600).map(|number| number | X32);
    let ends = [u32::MAX, u32::MAX - 1, X32 - 1, X32, 1 << 31];
    (0..1100).map(|number| number | bit).chain(other_space).chain(near).chain(ends).collect()
}

/// Arguments from the constants of the programs, as low and as high words.
pub(crate) fn arguments(words: &[u32], dice: &mut Dice) -> [u64; 6] {
    let word = |dice: &mut Dice| {
        let near = [u32::MAX, 0, 0, 1][dice.below(4)];
        if dice.below(4) == 0 { 0 } else { dice.pick(words).wrapping_add(near) }
    };
    [(); 6].map(|()| (u64::from(word(dice)) << 32) | u64::from(word(dice)))
}

/// What either program compares with, as words of arguments.
pub(crate) fn words(programs: [&[SockFilter]; 2]) -> Vec<u32> {
    let argument = |k: &u32| *k < X32 || *k > 0xff00_0000;
    programs.into_iter().flat_map(constants).filter(argument).chain([0]).collect()
}

/// What the newest call of a profile is, from the outside: runc puts its answer to later ones in
/// front of libseccomp's.
fn newest(profile: &Seccomp, native: Arch, space: &Space) -> Option<u32> {
    let default = profile.default_action.as_str();
    if matches!(default, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE") {
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
    let named = |number: &u32| run(&program, &space.call(*number, [7; 6])).0 == 0x7fff_0000;
    (0..1100).map(|number| number | space.bit).filter(named).max()
}

/// The call numbers of one architecture.
struct Space {
    audit: u32,
    /// x32's, or 0.
    bit: u32,
    big_endian: bool,
}

impl Space {
    fn call(&self, number: u32, args: [u64; 6]) -> Call {
        Call { audit: self.audit, number, args, big_endian: self.big_endian }
    }

    /// Whether the number is x32's here where this is x86_64, or the other way round.
    fn is_foreign(&self, number: u32) -> bool {
        self.audit == X86_64 && (number >= X32) != (self.bit == X32)
    }
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
    let words = words([reference, &program]);
    let has_x32 = spaces.iter().any(|space| space.bit != 0);
    for space in spaces {
        let newest = newest(profile, native, space);
        let named: BTreeSet<u32> = constants(&program).chain(constants(reference)).collect();
        for number in numbers([&program, reference], space.bit) {
            if has_x32 && space.is_foreign(number) {
                continue; // asked in its own space
            }
            let hidden = newest.is_some_and(|newest| {
                number > newest && !space.is_foreign(number) || space.big_endian && number == 0
            });
            for _ in 0..if named.contains(&number) { 60 } else { 1 } {
                let mut args = arguments(&words, dice);
                if matches!(space.audit, X86 | ARM) {
                    args = args.map(|arg| arg & 0xffff_ffff); // all that the kernel hands over
                }
                let call = space.call(number, args);
                let want = if hidden { ENOSYS } else { run(reference, &call).0 };
                let got = run(&program, &call).0;
                if got != want {
                    return Some(format!("{call:x?}: {got:#x}, libseccomp {want:#x}"));
                }
            }
        }
    }
    None
}

/// Whether more than one comparison by order concerns one call. libseccomp 2.5 joins such
/// comparisons into one tree and can then answer against the profile: `a >= 0x2_0000_0003` is
/// allowed for 0x1_0000_0003 where `a <= 0x1_0000_0001` is listed next to it, and `a > 1 and b <=
/// 2` fails for a of 0x1_0000_0000. `quarrels::random_profiles_keep_their_meaning` covers these.
pub(crate) fn tangled(profile: &Seccomp) -> bool {
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
    spaces.push(Space { audit: X86, bit: 0, big_endian: false });
    if lists("SCMP_ARCH_X32") {
        spaces.push(Space { audit: X86_64, bit: X32, big_endian: false });
    }
    if !lists("SCMP_ARCH_X86") {
        spaces.remove(1);
    }
    spaces
}

#[test]
fn engines_profiles() {
    let Some(mut reference) = Reference::start() else { return };
    for (name, profile) in profiles::engines() {
        let profile = reference.known(&profile);
        let choices: [&[&str]; 4] = [&["X86_64", "X86", "X32"], &["X86_64", "X86"], &["X86_64", "X32"], &[]];
        for architectures in choices {
            let mut profile = profile.clone();
            profile.architectures = architectures.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
            let theirs = reference.compile("x86_64", &profile).unwrap();
            let found = difference(&profile, Arch::X86_64, &theirs, &x86_spaces(&profile), &mut Dice(1));
            assert_eq!(found, None, "{name} {architectures:?}");
        }
    }
}

#[test]
fn random_profiles() {
    let Some(mut reference) = Reference::start() else { return };
    // Not accept and semop: for x86 libseccomp 2.5 leaves out socketcall(2) and ipc(2) where no
    // call of its own exists.
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
        // Values above 32 bits mean little to the narrow architectures, and each reads them its own
        // way.
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
    let Some(mut reference) = Reference::start() else { return };
    let table = [
        ("aarch64", Arch::Aarch64, vec![0xc000_00b7, ARM]),
        ("riscv64", Arch::Riscv64, vec![0xc000_00f3]),
        ("ppc64le", Arch::Ppc64le, vec![0xc000_0015]),
        ("s390x", Arch::S390x, vec![0x8000_0016]),
    ];
    let names =
        ["read", "openat", "ioctl", "socket", "shmget", "clone", "statx", "execve", "personality", "prctl"];
    let engines = profiles::engines().map(|(_, profile)| reference.known(&profile));
    for (name, native, audits) in table {
        let space = |audit: &u32| Space { audit: *audit, bit: 0, big_endian: name == "s390x" };
        let spaces: Vec<Space> = audits.iter().map(space).collect();
        let architectures = if spaces.len() > 1 { vec!["SCMP_ARCH_ARM".to_owned()] } else { Vec::new() };
        let recipe = Recipe { names: &names, architectures: &[], quarrels: false, wide: spaces.len() == 1 };
        let random = (0..300)
            .map(|seed| profiles::random(&mut Dice(seed), &recipe))
            .filter(|profile| !tangled(profile));
        let mut compared = 0;
        for mut profile in random.chain(engines.clone()) {
            profile.architectures.clone_from(&architectures);
            let Ok(theirs) = reference.compile(name, &profile) else { continue };
            let found = difference(&profile, native, &theirs, &spaces, &mut Dice(7));
            assert_eq!(found, None, "{name}: {}", serde_json::to_string(&profile).unwrap());
            compared += 1;
        }
        println!("{name}: {compared} compared");
        assert!(compared > 100, "{name}: only {compared} could be compared");
    }
}
