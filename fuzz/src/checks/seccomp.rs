//! A seccomp profile: a filter that the kernel takes and that says what the profile says, or
//! faults.

use emergence_runc::security::seccomp::{Arch, Filter, InvalidField, SockFilter, UnknownCalls, compile};
use emergence_runc::spec::{Seccomp, SeccompArg};

use super::machine::{Call, run};
use super::{Dice, meaning, one_line};

const NATIVES: [Arch; 7] =
    [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Riscv64, Arch::Ppc64le, Arch::S390x, Arch::Loongarch64];

/// Calls of x86-64 that the answers are compared for.
const CALLS: [(&str, u32); 8] = [
    ("read", 0),
    ("open", 2),
    ("ioctl", 16),
    ("clone", 56),
    ("execve", 59),
    ("ptrace", 101),
    ("personality", 135),
    ("openat", 257),
];
const X86_64: u32 = 0xc000_003e;
/// BPF_MAXINSNS.
pub const LONGEST: usize = 4096;

pub fn check(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<Seccomp>(bytes) else { return };
    for native in NATIVES {
        for unknown in [UnknownCalls::LeftOut, UnknownCalls::Refused] {
            match compile(&profile, native, unknown) {
                Ok(filter) => good(&profile, native, &filter),
                Err(faults) => {
                    assert!(!faults.is_empty(), "refused without a reason");
                    for InvalidField { path, reason } in &faults {
                        one_line(&format!("linux.seccomp.{path}: {reason}"));
                    }
                }
            }
        }
    }
}

fn good(profile: &Seccomp, native: Arch, filter: &Filter) {
    sound(&filter.program);
    filter.warnings.iter().for_each(|words| one_line(words));
    if native == Arch::X86_64 {
        same_answers(profile, &filter.program);
    }
}

/// As the kernel checks it: no jump leaves the program, every way ends in an answer, loads are of
/// whole words of seccomp_data.
pub fn sound(program: &[SockFilter]) {
    assert!((1..=LONGEST).contains(&program.len()), "{} instructions", program.len());
    for (at, SockFilter { code, jt, jf, k }) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        let inside = |skipped: usize| assert!(skipped < left, "instruction {at} jumps out of the program");
        match code {
            0x06 => {}
            0x20 => assert!(*k < 64 && k % 4 == 0, "instruction {at} loads from {k}"),
            0x54 => {}
            0x05 => inside(*k as usize),
            0x15 | 0x25 | 0x35 => [jt, jf].into_iter().for_each(|skipped| inside(usize::from(*skipped))),
            _ => panic!("instruction {at} has code {code:#x}"),
        }
        assert!(*code == 0x06 || left > 0, "the program runs over its end");
    }
}

/// Our filter against the profile read rule by rule.
fn same_answers(profile: &Seccomp, program: &[SockFilter]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ program.len() as u64);
    let args: Vec<&SeccompArg> = profile.syscalls.iter().flat_map(|rule| &rule.args).collect();
    let named = |name: &str| profile.syscalls.iter().any(|rule| rule.names.iter().any(|other| other == name));
    for (name, number) in CALLS.into_iter().filter(|(name, _)| named(name)) {
        for _ in 0..20 {
            let mut around = || match dice.pick(&args).map(|arg| (arg.value, arg.value_two)) {
                Some((one, two)) => {
                    let value = if dice.next().is_multiple_of(2) { one } else { two };
                    [value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, dice.next()]
                        [(dice.next() % 5) as usize]
                }
                None => dice.next(),
            };
            let args = [(); 6].map(|()| around());
            let call = Call { audit: X86_64, number, args, big_endian: false };
            let (got, wanted) = (run(program, &call).0, wanted(profile, name, &args));
            let text = || serde_json::to_string(profile).unwrap_or_default();
            assert!(wanted.contains(&got), "{name}{args:x?}: {got:#x}, not of {wanted:#x?}: {}", text());
        }
    }
}

/// What the profile may say to a call that it names: one of several rules that hold answers.
fn wanted(profile: &Seccomp, name: &str, args: &[u64; 6]) -> Vec<u32> {
    let default = answer(&profile.default_action, profile.default_errno_ret);
    // Rules with the default's answer say nothing.
    let rules = profile.syscalls.iter().filter(|rule| answer(&rule.action, rule.errno_ret) != default);
    let holding = meaning::holding(rules, name, args);
    match holding.is_empty() {
        true => vec![default],
        false => holding.into_iter().map(|rule| answer(&rule.action, rule.errno_ret)).collect(),
    }
}

/// seccomp(2), "SECCOMP_RET_…"; EPERM where a number belongs and none is given.
fn answer(action: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        _ => 0,
    }
}
