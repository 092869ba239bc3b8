//! The system call filter: compiled from `linux.seccomp`, or supplied by an annotation that
//! replaces it.

use super::{Judge, annotated};
use crate::security::seccomp::{self, Arch, Filter, UnknownCalls};
use crate::spec::{self, Spec};
use crate::sys::base64;
use crate::sys::seccomp::SockFilter;

/// A compiled filter: an array of `struct sock_filter` in base64. Source: crun(1).
const READY: &str = "run.oci.seccomp_bpf_data";

/// The receiver of the notify descriptor, instead of `listenerPath`. Source: crun(1).
const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The maximum number of instructions in the kernel, BPF_MAXINSNS.
const MOST: usize = 4096;

pub(super) fn plan(spec: &Spec, judge: &mut Judge) -> Option<Filter> {
    if let Some(text) = spec.annotations.get(READY) {
        let program = ready(text).map_err(|words| judge.fault(format!("annotations.{READY}"), words)).ok()?;
        return Some(Filter { program, flags: 0, listener: None, warnings: Vec::new() });
    }
    compiled(spec.linux.as_ref()?.seccomp.as_ref()?, spec, judge)
}

fn compiled(profile: &spec::Seccomp, spec: &Spec, judge: &mut Judge) -> Option<Filter> {
    let Some(native) = Arch::native() else {
        judge.fault("linux.seccomp", "not supported on this architecture");
        return None;
    };
    let unknown = if annotated(spec, "run.oci.seccomp_fail_unknown_syscall", "1") {
        UnknownCalls::Refused
    } else {
        UnknownCalls::LeftOut
    };
    match seccomp::compile(profile, native, unknown) {
        Ok(mut filter) => {
            let_start(profile, judge);
            if let Some(listener) = &mut filter.listener {
                if let Some(path) = spec.annotations.get(RECEIVER) {
                    listener.path.clone_from(path);
                }
                if listener.path.is_empty() {
                    judge.fault(
                        "linux.seccomp.listenerPath",
                        "seccomp listenerPath is not set; SCMP_ACT_NOTIFY needs a listener",
                    );
                }
            }
            judge.details.extend(filter.warnings.iter().map(|warning| format!("linux.seccomp: {warning}")));
            Some(filter)
        }
        Err(faults) => {
            for seccomp::InvalidField { path, reason } in faults {
                judge.fault(format_args!("linux.seccomp.{path}"), reason);
            }
            None
        }
    }
}

/// System calls of the container's process under the filter: it reports that it is ready, waits for
/// the start, executes the program.
const NEEDED: [&str; 3] = ["read", "write", "execve"];

/// Refuses a profile that does not allow one of [`NEEDED`]: the start would fail half way.
fn let_start(profile: &spec::Seccomp, judge: &mut Judge) {
    for call in NEEDED {
        if let Some((path, action)) = refusal(profile, call) {
            let words = format!(
                "{action} refuses {call}; until its program runs, the container's process calls {} under the filter: allow them",
                NEEDED.join(", ")
            );
            judge.fault(format!("linux.seccomp.{path}"), words);
        }
    }
}

/// The field and action of the profile that refuse `call`, whatever its arguments are.
fn refusal<'a>(profile: &'a spec::Seccomp, call: &str) -> Option<(String, &'a str)> {
    let refuses = |action: &str| !matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_NOTIFY");
    let mut depends = false;
    for (at, rule) in profile.syscalls.iter().enumerate() {
        let Some(place) = rule.names.iter().position(|name| name == call) else { continue };
        if rule.args.is_empty() {
            // This rule decides, since it has no conditions.
            let path = format!("syscalls[{at}].names[{place}]");
            return refuses(&rule.action).then_some((path, rule.action.as_str()));
        }
        depends = true;
    }
    let default = profile.default_action.as_str();
    (!depends && refuses(default)).then(|| ("defaultAction".to_owned(), default))
}

/// Decodes the filter; the kernel checks the instructions.
fn ready(text: &str) -> Result<Vec<SockFilter>, String> {
    let bytes = base64::decode(text).ok_or("is not base64")?;
    let (each, rest) = bytes.as_chunks::<8>();
    if each.is_empty() || !rest.is_empty() || each.len() > MOST {
        return Err(format!("holds {} bytes; a filter is 1 to {MOST} instructions of 8 bytes", bytes.len()));
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| SockFilter {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    Ok(each.iter().map(instruction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_of_the_start_are_allowed() {
        let allowed = r#"{"names":["read","write","execve"],"action":"SCMP_ACT_ALLOW"}"#;
        let sixth = r#""args":[{"index":0,"value":6,"op":"SCMP_CMP_EQ"}]"#;
        let table = [
            ("ALLOW", String::new(), [None; 3]),
            ("LOG", String::new(), [None; 3]),
            ("ERRNO", allowed.to_owned(), [None; 3]),
            ("ERRNO", String::new(), [Some("defaultAction"); 3]),
            (
                "ALLOW",
                r#"{"names":["fork","write"],"action":"SCMP_ACT_TRACE"}"#.into(),
                [None, Some("syscalls[0].names[1]"), None],
            ),
            ("ERRNO", allowed.replace("ALLOW", "NOTIFY"), [None; 3]),
            // Depends on the arguments of the call.
            (
                "ERRNO",
                format!(r#"{{"names":["read","write","execve"],"action":"SCMP_ACT_ALLOW",{sixth}}}"#),
                [None; 3],
            ),
            ("ALLOW", format!(r#"{{"names":["read"],"action":"SCMP_ACT_KILL",{sixth}}}"#), [None; 3]),
            ("KILL", format!(r#"{allowed},{{"names":["read"],"action":"SCMP_ACT_KILL"}}"#), [None; 3]),
        ];
        for (default, rules, want) in table {
            let text = format!(r#"{{"defaultAction":"SCMP_ACT_{default}","syscalls":[{rules}]}}"#);
            let profile = serde_json::from_str(&text).unwrap();
            let found = NEEDED.map(|call| refusal(&profile, call).map(|(path, _)| path));
            assert_eq!(found, want.map(|path| path.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn a_ready_filter_is_whole_instructions() {
        // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
        let [allow] = ready("BgAAAAAA/38=").unwrap()[..] else { panic!("one instruction") };
        assert_eq!((allow.code, allow.jt, allow.jf, allow.k), (6, 0, 0, 0x7fff_0000));
        let long = "AAAA".repeat(8 * (MOST + 3) / 3 / 8 * 8);
        for bad in ["", "BgAAAAAA/3", "BgAAAAAA", "?", &long] {
            assert!(ready(bad).is_err(), "{bad:.20}");
        }
    }
}
