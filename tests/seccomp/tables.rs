//! The tables of call numbers, name by name, against libseccomp's.

use std::collections::BTreeMap;

use emergence_runc::security::seccomp::Arch;
use emergence_runc::spec::{Seccomp, SeccompRule};

use crate::differential::ours;
use crate::machine::{Call, X32, X86, X86_64, run};
use crate::reference::Reference;

/// Every name that some architecture has, by our tables' source.
fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    names.extend(syscalls::x86_64::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::x86::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::aarch64::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::arm::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::riscv64::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::powerpc64::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::s390x::Sysno::iter().map(|call| call.name()));
    names.extend(syscalls::loongarch64::Sysno::iter().map(|call| call.name()));
    names.extend(["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"]);
    names.iter_mut().for_each(|name| *name = name.trim_start_matches("r#"));
    names.sort_unstable();
    names.dedup();
    names
}

/// The number of each name: its place answers with its own error number.
fn numbers(native: Arch, word: &str, audit: u32, bit: u32, names: &[&str]) -> BTreeMap<String, u32> {
    let rule = |(at, name): (usize, &&str)| SeccompRule {
        names: vec![(*name).to_owned()],
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(1 + at as u32),
        args: Vec::new(),
    };
    let profile = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        architectures: vec![word.to_owned()],
        syscalls: names.iter().enumerate().map(rule).collect(),
        ..Seccomp::default()
    };
    let program = ours(&profile, native).program;
    let private = (0..16).map(|number| 0x000f_0000 + number);
    let all = (0..1100).map(|number| number | bit).chain(private);
    let named = all.filter_map(|number| {
        let call = Call { audit, number, args: [0xffff_ffff; 6], big_endian: native == Arch::S390x };
        let answer = run(&program, &call).0;
        (answer >> 16 == 5).then(|| (names[(answer & 0xffff) as usize - 1].to_owned(), number))
    });
    named.collect()
}

#[test]
fn every_call_has_libseccomps_number() {
    let Some(mut reference) = Reference::start() else { return };
    let names = names();
    let table = [
        ("x86_64", Arch::X86_64, "X86_64", X86_64, 0),
        ("x86", Arch::X86_64, "X86", X86, 0),
        ("x32", Arch::X86_64, "X32", X86_64, X32),
        ("aarch64", Arch::Aarch64, "AARCH64", 0xc000_00b7, 0),
        ("arm", Arch::Aarch64, "ARM", 0x4000_0028, 0),
        ("riscv64", Arch::Riscv64, "RISCV64", 0xc000_00f3, 0),
        ("ppc64le", Arch::Ppc64le, "PPC64LE", 0xc000_0015, 0),
        ("s390x", Arch::S390x, "S390X", 0x8000_0016, 0),
    ];
    let mut differ = Vec::new();
    for (arch, native, word, audit, bit) in table {
        let ours = numbers(native, &format!("SCMP_ARCH_{word}"), audit, bit, &names);
        let theirs = reference.numbers(arch, &names);
        let mut same = 0;
        for (name, theirs) in names.iter().zip(theirs) {
            let mine = ours.get(*name).copied();
            match u32::try_from(theirs).ok() {
                _ if theirs == -1 => {} // newer than this libseccomp
                // socketcall(2) and ipc(2): libseccomp names them for the calls that they carry.
                Some(102 | 117) if !matches!(*name, "socketcall" | "ipc") && audit != X86_64 => {}
                their if their == mine => same += 1,
                their => differ.push(format!("{arch}: {name} {mine:?}, libseccomp {their:?}")),
            }
        }
        println!("{arch}: {same} alike");
        assert!(same > 400, "{arch}: only {same} could be compared");
    }
    assert!(differ.is_empty(), "{differ:#?}");
}
