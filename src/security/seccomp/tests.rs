//! Tables of names and numbers.

use super::arch::Arch;
use super::syscalls::Name;
use super::{InvalidField, UnknownCalls, compile};
use crate::spec::Seccomp;

fn faults(profile: &str) -> Vec<InvalidField> {
    let profile: Seccomp = serde_json::from_str(profile).unwrap();
    compile(&profile, Arch::X86_64, UnknownCalls::Refused).err().unwrap_or_default()
}

#[test]
fn faults_name_their_place() {
    let allow = |rest: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rest}}}"#);
    let rule = |rest: &str| allow(&format!(r#""syscalls":[{{"names":["read"],{rest}}}]"#));
    let table = [
        (r#"{"defaultAction":"ALLOW"}"#.to_owned(), "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.to_owned(), "defaultAction"),
        (allow(r#""defaultErrnoRet":1"#), "defaultErrnoRet"),
        (allow(r#""architectures":["SCMP_ARCH_X86","SCMP_ARCH_VAX"]"#), "architectures[1]"),
        (allow(r#""flags":["TSYNC"]"#), "flags[0]"),
        (allow(r#""listenerMetadata":"x""#), "listenerMetadata"),
        (rule(r#""action":"KILL""#), "syscalls[0].action"),
        (rule(r#""action":"SCMP_ACT_KILL","errnoRet":1"#), "syscalls[0].errnoRet"),
        (rule(r#""action":"SCMP_ACT_ERRNO","errnoRet":4096"#), "syscalls[0].errnoRet"),
        (rule(r#""action":"SCMP_ACT_TRACE","errnoRet":65536"#), "syscalls[0].errnoRet"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65535}"#.to_owned(), "defaultErrnoRet"),
        (allow(r#""syscalls":[{"names":[],"action":"SCMP_ACT_KILL"}]"#), "syscalls[0].names"),
        (
            allow(r#""flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#),
            "flags[1]",
        ),
        (
            rule(r#""action":"SCMP_ACT_KILL","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]"#),
            "syscalls[0].args[0].index",
        ),
        (
            rule(r#""action":"SCMP_ACT_KILL","args":[{"index":5,"value":1,"op":"=="}]"#),
            "syscalls[0].args[0].op",
        ),
        (allow(r#""syscalls":[{"names":["read","raed"],"action":"SCMP_ACT_KILL"}]"#), "syscalls[0].names[1]"),
    ];
    for (profile, want) in table {
        let found = faults(&profile);
        assert_eq!(found.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), [want], "{profile}");
    }
}

#[test]
fn flags_are_what_seccomp_takes() {
    let flags = |words: Option<&str>, action: &str| {
        let list = words.map_or(String::new(), |words| format!(r#""flags":[{words}],"#));
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW",{list}"syscalls":[{{"names":["read"],"action":"{action}"}}]}}"#
        );
        compile(&serde_json::from_str(&text).unwrap(), Arch::X86_64, UnknownCalls::LeftOut).unwrap().flags
    };
    let word = |flag: &str| format!(r#""SECCOMP_FILTER_FLAG_{flag}""#);
    let (tsync, wait) = (word("TSYNC"), word("WAIT_KILLABLE_RECV"));
    let some = format!("{tsync},{},{}", word("LOG"), word("SPEC_ALLOW"));
    let all = format!("{some},{wait}");
    let (log, notify) = ("SCMP_ACT_LOG", "SCMP_ACT_NOTIFY");
    let table = [
        ("no list", None, log, 4),
        ("no list, with a listener", None, notify, 4 | 8),
        ("an empty list", Some(""), log, 0),
        ("a listener", Some(""), notify, 8),
        ("both use the result", Some(tsync.as_str()), notify, 1 | 8 | 16),
        ("waiting", Some(wait.as_str()), notify, 8 | 32),
        ("all without a listener", Some(some.as_str()), log, 1 | 2 | 4),
        ("all, with a listener", Some(all.as_str()), notify, 1 | 2 | 4 | 8 | 16 | 32),
    ];
    for (name, words, action, want) in table {
        assert_eq!(flags(words, action), want, "{name}");
    }
}

#[test]
fn numbers() {
    let number = |arch: Arch, name: &str| arch.number(Name::find(name).unwrap());
    let table = [
        (Arch::X86_64, "read", Some(0)),
        (Arch::X86_64, "socketcall", None),
        (Arch::X86, "socketcall", Some(102)),
        (Arch::X86, "break", Some(17)),
        (Arch::X32, "ioctl", Some(0x4000_0202)),
        (Arch::X32, "openat", Some(0x4000_0101)),
        (Arch::X32, "uselib", None),
        (Arch::Aarch64, "openat", Some(56)),
        (Arch::Aarch64, "newfstatat", Some(79)),
        (Arch::Aarch64, "clock_gettime64", None),
        (Arch::Arm, "set_tls", Some(0x000f_0005)),
        (Arch::Riscv64, "riscv_flush_icache", Some(259)),
        (Arch::Ppc64le, "openat", Some(286)),
        (Arch::S390x, "openat", Some(288)),
        (Arch::Loongarch64, "openat", Some(56)),
    ];
    for (arch, name, want) in table {
        assert_eq!(number(arch, name), want, "{name} on {arch:?}");
    }
    assert_eq!(Name::find("raed"), None);
}

#[test]
fn a_program_may_be_too_long() {
    // No two are adjacent, because those would be one range.
    let args: Vec<String> =
        (0..4000).map(|at| format!(r#"{{"index":0,"value":{},"op":"SCMP_CMP_EQ"}}"#, 2 * at)).collect();
    let rule = |count: usize| {
        let args = args[..count].join(",");
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"],"action":"SCMP_ACT_KILL","args":[{args}]}}]}}"#
        )
    };
    assert_eq!(faults(&rule(3000)), []);
    assert_eq!(faults(&rule(4000)).len(), 1);
}

#[test]
fn every_name_can_be_found() {
    for name in Name::all() {
        assert_eq!(Name::find(name.as_str()), Some(name), "{}", name.as_str());
    }
}

#[test]
fn allowed_system_calls_of_a_filter_are_known_beforehand() {
    let table = [
        (r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, true),
        (r#"{"defaultAction":"SCMP_ACT_LOG"}"#, true),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#, false),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["setsid"],"action":"SCMP_ACT_ALLOW"}]}"#,
            true,
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setsid"],"action":"SCMP_ACT_KILL"}]}"#,
            false,
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setsid"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":1,"value":4294967303,"op":"SCMP_CMP_EQ"}]}]}"#,
            false,
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setsid"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":1,"value":4294967304,"op":"SCMP_CMP_EQ"}]}]}"#,
            true,
        ),
    ];
    let Some(native) = Arch::native() else { return };
    for (profile, want) in table {
        let filter = compile(&serde_json::from_str(profile).unwrap(), native, UnknownCalls::Refused).unwrap();
        assert_eq!(filter.lets_through(&[(libc::SYS_setsid, [0, 0x1_0000_0007])]), want, "{profile}");
    }
}
