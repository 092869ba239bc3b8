//! Calls newer than the profile: `ENOSYS`, where runc answers so. The table is what runc 1.1.5 was
//! seen to do on x86_64.

use emergence_runc::security::seccomp::Arch;
use emergence_runc::spec::Seccomp;
use serde_json::json;

use crate::differential::ours;
use crate::machine::{Call, X32, X86, X86_64, run};
use crate::profiles;

const ENOSYS: u32 = 0x0005_0026;
const EPERM: u32 = 0x0005_0001;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;

fn answer(profile: &Seccomp, audit: u32, number: u32) -> u32 {
    run(&ours(profile, Arch::X86_64).program, &Call { audit, number, args: [0; 6], big_endian: false }).0
}

/// Names `faccessat2` (439 everywhere), and `uname` (63, on x86 122) with the default action.
fn profile(default: &str, architectures: &[&str]) -> Seccomp {
    let architectures: Vec<_> = architectures.iter().map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    serde_json::from_value(json!({
        "defaultAction": format!("SCMP_ACT_{default}"), "architectures": architectures,
        "syscalls": [{"names": ["read", "faccessat2"], "action": "SCMP_ACT_ALLOW"}],
    }))
    .unwrap()
}

#[test]
fn newer_system_calls_return_enosys() {
    let all: &[&str] = &["X86_64", "X86", "X32"];
    let table: [(&str, &[&str], u32, u32, u32); 22] = [
        ("ERRNO", all, X86_64, 438, EPERM),
        ("ERRNO", all, X86_64, 439, ALLOW),
        ("ERRNO", all, X86_64, 440, ENOSYS),
        ("ERRNO", all, X86_64, X32 - 1, ENOSYS),
        ("ERRNO", all, X86_64, X32 | 439, ALLOW),
        ("ERRNO", all, X86_64, X32 | 511, EPERM), // x32's read is 0, but its ioctl, 514, is not named
        ("ERRNO", all, X86_64, u32::MAX, ENOSYS),
        ("ERRNO", all, X86, 440, ENOSYS),
        ("ERRNO", all, X86, u32::MAX, ENOSYS),
        ("ERRNO", &["X86_64"], X86_64, 440, ENOSYS),
        // An architecture that is not listed kills; x32 is one. A tracer's -1 is no call of x32.
        ("ERRNO", &["X86_64"], X86_64, X32 | 1, KILL),
        ("ERRNO", &["X86_64", "X86"], X86_64, X32 | 999, KILL),
        ("ERRNO", &["X86_64"], X86_64, u32::MAX - 1, KILL),
        ("ERRNO", &["X86_64"], X86_64, u32::MAX, EPERM),
        ("ERRNO", &["X86_64"], X86, 440, KILL),
        ("KILL_PROCESS", all, X86_64, 440, ENOSYS),
        ("KILL_PROCESS", all, X86_64, 438, 0x8000_0000),
        ("TRAP", all, X86_64, 440, ENOSYS),
        // Not where the default lets it through, or asks a tracer, who can refuse by himself.
        ("ALLOW", all, X86_64, 440, ALLOW),
        ("LOG", all, X86_64, 440, 0x7ffc_0000),
        ("TRACE", all, X86_64, 440, 0x7ff0_0001),
        // Where runc, which looks at listed architectures only, leaves the default: the machine's
        // own needs no word.
        ("ERRNO", &[], X86_64, 440, ENOSYS),
    ];
    for (default, architectures, audit, number, want) in table {
        // x32 counts from its own highest, 439 too, but its own numbers start at 512.
        let want = if number == X32 | 511 { ENOSYS } else { want };
        let got = answer(&profile(default, architectures), audit, number);
        assert_eq!(got, want, "{default} {architectures:?} {audit:#x} {number:#x}: {got:#x}");
    }
}

#[test]
fn a_named_call_counts_with_any_action() {
    // As the default, refused otherwise, and with an error number as default that is ENOSYS itself.
    for (action, errno, default_errno, at, behind) in [
        ("SCMP_ACT_ERRNO", None, None, EPERM, ENOSYS),
        ("SCMP_ACT_ERRNO", Some(22), None, 0x0005_0016, ENOSYS),
        ("SCMP_ACT_KILL", None, Some(22), KILL, ENOSYS),
        ("SCMP_ACT_ERRNO", Some(1), Some(38), EPERM, ENOSYS),
    ] {
        let mut profile = profile("ERRNO", &["X86_64"]);
        profile.default_errno_ret = default_errno;
        let names = vec!["futex_waitv".to_owned()]; // 449
        let rule = emergence_runc::spec::SeccompRule {
            names,
            action: action.into(),
            errno_ret: errno,
            args: vec![],
        };
        profile.syscalls.push(rule);
        assert_eq!(answer(&profile, X86_64, 449), at);
        assert_eq!(answer(&profile, X86_64, 450), behind);
    }
}

#[test]
fn s390x_reports_an_unknown_call_as_number_0() {
    let profile = profile("ERRNO", &[]);
    let ask = |number| {
        let program = ours(&profile, Arch::S390x).program;
        run(&program, &Call { audit: 0x8000_0016, number, args: [0; 6], big_endian: true }).0
    };
    assert_eq!([0, 1, 2, 3, 438, 439, 440].map(ask), [ENOSYS, EPERM, EPERM, ALLOW, EPERM, ALLOW, ENOSYS]);
}

#[test]
fn system_calls_missing_in_libseccomp_are_known() {
    // From Linux 6.5 to 6.7, in Docker's profile; libseccomp 2.5 knows calls up to 5.17.
    for (name, number) in
        [("cachestat", 451), ("fchmodat2", 452), ("map_shadow_stack", 453), ("futex_wake", 454)]
    {
        let docker = profiles::docker();
        assert!(docker.syscalls[0].names.iter().any(|named| named == name), "{name}");
        assert_eq!(answer(&docker, X86_64, number), ALLOW, "{name}");
        assert_eq!(answer(&docker, X86, number), ALLOW, "{name} on x86");
    }
}
