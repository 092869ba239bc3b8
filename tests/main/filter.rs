//! What the actions and flags of `linux.seccomp` do to real processes, reported by `probe.c`.
//!
//! Needs a C compiler, which every machine that builds this has; the test machine does not.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bundle, Env, on_test_machine};

/// uname(2), which nothing here needs: x86_64, x86; a number that no kernel has.
const UNAME: &str = "63";
const UNAME_32: &str = "32:122";
const NEW: &str = "1000";

/// Puts the probe into the bundle, with `words` for its arguments; `None`, with the reason, where
/// it cannot be built.
fn probe(env: &Env, words: &[&str]) -> Option<Bundle> {
    if on_test_machine() || cfg!(not(target_arch = "x86_64")) {
        println!("skipped: no C compiler here, or another architecture");
        return None;
    }
    if !env.has("cc", "gcc") {
        return None;
    }
    let bundle = env.bundle(&[&["/probe"], words].concat());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/main/probe.c");
    let status = Command::new("cc")
        .args(["-O1", "-static", "-pthread", "-o"])
        .arg(bundle.rootfs("probe"))
        .arg(source)
        .status()
        .unwrap();
    assert!(status.success(), "{source} is not compiled");
    Some(bundle)
}

fn all_architectures() -> Value {
    json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
}

/// Allows all but uname, which gets `action`.
fn uname(action: &str, errno: Option<u32>) -> Value {
    let mut rule = json!({"names": ["uname"], "action": format!("SCMP_ACT_{action}")});
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": all_architectures(), "syscalls": [rule]})
}

#[test]
fn every_action_does_what_it_says() {
    let Some(env) = Env::new() else { return };
    let Some(mut bundle) = probe(&env, &["call", UNAME, UNAME_32]) else { return };
    // EFAULT: the call itself complains of address 0.
    let table = [
        ("ALLOW", None, "-14"),
        ("LOG", None, "-14"),
        ("ERRNO", None, "-1"),
        ("ERRNO", Some(0), "0"),
        ("ERRNO", Some(38), "-38"),
        ("ERRNO", Some(4095), "-4095"),
        ("TRACE", None, "-38"), // nobody traces
        ("TRACE", Some(7), "-38"),
        ("TRAP", None, "signal 31"),
        ("KILL", None, "signal 31"),
        ("KILL_THREAD", None, "signal 31"),
        ("KILL_PROCESS", None, "signal 31"),
    ];
    for (action, errno, want) in table {
        bundle = bundle.set("linux/seccomp", uname(action, errno));
        env.run(&bundle).ok().prints(&format!("{UNAME} {want}\n{UNAME_32} {want}"));
    }
}

/// What the kernel would take for something else, or refuse without a reason, is refused with its
/// place.
#[test]
fn values_that_the_kernel_reads_differently_are_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others hand it on") {
        return;
    }
    let wait = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let table = [
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
            "linux.seccomp.defaultErrnoRet",
        ),
        (uname("ERRNO", Some(4096)), "linux.seccomp.syscalls[0].errnoRet"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": wait}), "linux.seccomp.flags[0]"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_KILL"}]}),
            "linux.seccomp.syscalls[0].names",
        ),
    ];
    for (profile, place) in table {
        env.create("web", &env.bundle(&["true"]).set("linux/seccomp", profile)).fails().says(place);
    }
}

#[test]
fn a_thread_is_killed_or_its_process() {
    let Some(env) = Env::new() else { return };
    let Some(mut bundle) = probe(&env, &["thread", UNAME]) else { return };
    for (action, code, want) in [
        ("ALLOW", 0, "the thread goes on\nthe process goes on"),
        ("KILL_THREAD", 0, "the process goes on"),
        ("KILL", 0, "the process goes on"),
        ("KILL_PROCESS", 128 + libc::SIGSYS, ""),
        ("TRAP", 128 + libc::SIGSYS, ""),
    ] {
        bundle = bundle.set("linux/seccomp", uname(action, None));
        env.run(&bundle).exits(code).prints(want);
    }
}

#[test]
fn a_trap_reports_the_system_call() {
    let Some(env) = Env::new() else { return };
    let Some(bundle) = probe(&env, &["trap", UNAME]) else { return };
    let bundle = bundle.set("linux/seccomp", uname("TRAP", None));
    // SYS_SECCOMP is code 1; AUDIT_ARCH_X86_64.
    env.run(&bundle).ok().prints("signal 31 code 1 syscall 63 errno 0 arch c000003e");
}

#[test]
fn each_architecture_is_judged_by_its_own_part() {
    let Some(env) = Env::new() else { return };
    // The same number is another call elsewhere: 63 is dup2 on x86, 122 setfsuid on x86_64. x32 has
    // uname at 63.
    let calls = [UNAME, "122", UNAME_32, "32:63", "0x4000003f"];
    let Some(bundle) = probe(&env, &[&["call"], &calls[..]].concat()) else { return };
    let mut profile = uname("ERRNO", Some(22));
    let run = |profile: &Value| {
        let bundle = env.run_with(&bundle, profile);
        bundle.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let all = run(&profile);
    assert_eq!([&all[0], &all[2], &all[4]], ["-22", "-22", "-22"], "{all:?}");
    assert!(all[1] != "-22" && all[3] != "-22", "{all:?}");
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    let native = run(&profile);
    assert_eq!(native[0], "-22");
    assert_eq!([&native[2], &native[3], &native[4]], ["signal 31"; 3], "{native:?}");
}

#[test]
fn calls_newer_than_the_profile_are_unknown() {
    let Some(env) = Env::new() else { return };
    let words = ["call", NEW, "32:1000", "0x400003e8", "0x40000999", "0xffffffff", UNAME];
    let Some(bundle) = probe(&env, &words) else { return };
    let docker = include_str!("../seccomp/profiles/docker.json");
    let mut profile: Value = serde_json::from_str(docker).unwrap();
    let names = profile["syscalls"][0]["names"].as_array_mut().unwrap();
    names.retain(|name| name != "uname");
    let run = |profile: &Value| env.run_with(&bundle, profile);
    assert_eq!(run(&profile), "1000 -38\n32:1000 -38\n0x400003e8 -38\n0x40000999 -38\n0xffffffff -38\n63 -1");
    // What is not listed kills, whatever its number; -1 is no call.
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    assert_eq!(
        run(&profile),
        "1000 -38\n32:1000 signal 31\n0x400003e8 signal 31\n0x40000999 signal 31\n0xffffffff -1\n63 -1"
    );
    profile["defaultErrnoRet"] = json!(22);
    assert_eq!(run(&profile).lines().last(), Some("63 -22"));
}

#[test]
fn jumps_over_many_rules_land() {
    let Some(env) = Env::new() else { return };
    // uname, and before it in the tree a call followed by far more than 255 instructions.
    let Some(bundle) = probe(&env, &["call", UNAME, "62", "64"]) else { return };
    let args: Vec<Value> =
        (1..300).map(|value| json!({"index": 0, "value": value * 3, "op": "SCMP_CMP_EQ"})).collect();
    let rule = |names: &[&str], args: &[Value]| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": args});
    let mut profile = uname("ERRNO", Some(22));
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    profile["syscalls"].as_array_mut().unwrap().push(rule(&["kill", "semget"], &args));
    // Its own answers: nobody is signal 0's target but the group; a set of no semaphores is none.
    assert_eq!(env.run_with(&bundle, &profile), "63 -22\n62 0\n64 -22");
    let args: Vec<Value> =
        (0..4000).map(|value| json!({"index": 0, "value": value * 2, "op": "SCMP_CMP_EQ"})).collect();
    profile["syscalls"].as_array_mut().unwrap().push(rule(&["kill"], &args));
    if env.ours("the words are ours") {
        let bundle = probe(&env, &["call", UNAME]).unwrap().set("linux/seccomp", profile);
        env.run(&bundle).fails().says("linux.seccomp.syscalls: the filter needs more than 4096 instructions");
    }
}

#[test]
fn flags_reach_the_kernel() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc has no TSYNC and sets SPEC_ALLOW since 1.2 only") {
        return;
    }
    // A process has one listener: what plays an older kernel is there before the watcher.
    if env.is_older() {
        return;
    }
    let Some(bundle) = probe(&env, &["call", UNAME]) else { return };
    let watcher = bundle.rootfs("probe");
    let nowhere = env.dir().join("nowhere");
    let flag = |word: &str| format!("SECCOMP_FILTER_FLAG_{word}");
    let all = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"].map(flag);
    let some = &all[..3];
    let table = [
        ("LOG", None, "4"),
        ("LOG", Some(vec![]), "0"),
        ("LOG", Some(vec![flag("TSYNC")]), "1"),
        ("LOG", Some(vec![flag("LOG")]), "2"),
        ("LOG", Some(vec![flag("SPEC_ALLOW")]), "4"),
        ("LOG", Some(some.to_vec()), "7"),
        // One filter with a listener is all a process may have, and the watcher's is there: this
        // one is seen, and refused.
        ("NOTIFY", Some(all.to_vec()), "3f"),
        ("NOTIFY", Some(vec![flag("WAIT_KILLABLE_RECV")]), "28"),
    ];
    for (action, flags, want) in table {
        let mut profile = uname(action, None);
        if let Some(flags) = flags {
            profile["flags"] = json!(flags);
        }
        profile["listenerPath"] = json!(nowhere);
        let mut bundle = env.adopt(bundle.path().to_owned()).set("linux/seccomp", profile);
        bundle.config["process"]["args"] = json!(["/probe", "call", UNAME]);
        bundle.write();
        let (id, binary) = (env.id(), env.binary().to_str().unwrap().to_owned());
        let root = env.root();
        let words =
            ["watch", &binary, "--root", root.to_str().unwrap(), "run", "--bundle", bundle.str(), &id];
        let said = env.program(watcher.to_str().unwrap(), &words).run();
        assert_eq!(said.stdout.lines().next(), Some(&*format!("flags {want}")), "{said:?}");
        if action == "NOTIFY" {
            said.fails().says("load linux.seccomp");
        } else {
            said.ok();
        }
    }
}

impl Env {
    /// What a container with this profile prints.
    fn run_with(&self, bundle: &Bundle, profile: &Value) -> String {
        let mut config = bundle.config.clone();
        config["linux"]["seccomp"] = profile.clone();
        let text = serde_json::to_vec(&config).unwrap();
        std::fs::write(bundle.path().join("config.json"), text).unwrap();
        self.runtime(&["run", "--bundle", bundle.str(), &self.id()]).ok().text().to_owned()
    }
}
