//! `--debug` and `--log-level trace`: which step a container's start has reached, and where its
//! time went.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bundle, Env, Output};

fn bundle(env: &Env, args: &[&str]) -> Bundle {
    env.bundle(args).set("process/env", json!(["PATH=/bin"]))
}

/// That the lines are there, in this order.
#[track_caller]
fn in_order(log: &str, lines: &[&str]) {
    let mut rest = log;
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} (any more) in:\n{log}"));
        rest = &rest[at + line.len()..];
    }
}

/// Without --debug, nothing is logged.
#[track_caller]
fn quiet(said: Output) {
    assert_eq!(said.stderr, "");
}

#[test]
fn debug_reports_each_step_in_order() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let bundle = bundle(&env, &["true"])
        .set("hostname", json!("inside"))
        .set("hooks", json!({"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]}))
        .set(
            "linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}),
        );
    bundle.write();
    let path = bundle.str().to_owned();
    let said = env.runtime(&["--debug", "run", "-b", &path, "web"]).ok();
    in_order(
        &said.stderr,
        &[
            "run web: emergence-runc ",
            "of configuration are read",
            "namespaces: new pid",
            "cgroup: /sys/fs/cgroup/",
            r#"program: \"true\" as user 0:0"#,
            "seccomp filter flags: 2 (",
            "/web is created",
            "nsexec container setup: new pid",
            "affinity: 0x",
            r#"set hostname \"inside\""#,
            "mount proc on /proc (mounts[0])",
            "run createRuntime hook #0: hooks.createRuntime[0] /bin/true",
            "pivot_root",
            "set process.capabilities",
            "affinity: 0x",
            "child process in init()",
            "the program runs",
            "container web is removed",
            "run poststop hook #0: hooks.poststop[0] /bin/true",
        ],
    );
    assert!(!said.stderr.contains("in the user namespace"), "there is none: {}", said.stderr);
    assert!(!said.stderr.contains("took_us"), "times are for trace: {}", said.stderr);
    quiet(env.runtime(&["run", "-b", &path, "web"]).ok());
}

#[test]
fn the_last_steps_before_an_error_are_reported() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let mounts = json!({"destination": "/bin/busybox/x", "type": "tmpfs", "source": "tmpfs"});
    let bundle = bundle(&env, &["true"]).push("mounts", mounts);
    bundle.write();
    let path = bundle.str().to_owned();
    let log = env.dir().join("log");
    let words =
        ["--debug", "--log", log.to_str().unwrap(), "--log-format", "json", "create", "-b", &path, "web"];
    let said = env.runtime(&words).fails();
    assert_eq!(said.stderr.lines().count(), 1, "standard error has the error alone: {}", said.stderr);
    let text = fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["level"], "error");
    assert!(lines.iter().rev().skip(1).all(|line| line["level"] == "debug"), "{text}");
    in_order(&text, &["mount proc on /proc (mounts[0])", "web is removed", "/bin/busybox/x"]);
}

#[test]
fn trace_has_the_time_of_each_stage() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc has no times") {
        return;
    }
    // A time namespace must not shift the child's clock.
    let bundle = bundle(&env, &["true"])
        .namespace("time", None)
        .set("linux/timeOffsets", json!({"monotonic": {"secs": 1_000_000}}));
    bundle.write();
    let path = bundle.str().to_owned();
    let words = ["--log-level", "trace", "--log-format", "json", "run", "-b", &path, "web"];
    let Some(said) = env.ok_since("5.6", env.runtime(&words)) else { return };
    let lines: Vec<Value> = said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |line: &Value, field: &str| -> u64 {
        line[field].as_str().unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    };
    assert!(lines.iter().any(|line| line["level"] == "trace"), "{}", said.stderr);
    let total: u64 = lines.iter().map(|line| number(line, "took_us")).sum();
    let last = lines.iter().map(|line| number(line, "at_us")).max().unwrap();
    assert_eq!(total, last, "the parts are the whole: {}", said.stderr);
    assert!((1..1_000_000_000).contains(&last), "{last}");
}

#[test]
fn exec_sets_cpus_before_and_after() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let bundle = bundle(&env, &["sleep", "1000"]);
    env.launch("web", &bundle.set("process/execCPUAffinity", json!({"initial": "0", "final": "0"})));
    let said = env.runtime(&["--debug", "exec", "web", "true"]).ok();
    in_order(
        &said.stderr,
        &[
            "exec web: ",
            "nsexec[",
            "nsexec container setup: the container's pid",
            "]: affinity: 0x1",
            "set process.execCPUAffinity.final",
            "set process.capabilities",
            "]: affinity: 0x1",
            "setns_init: about to exec",
        ],
    );
    quiet(env.runtime(&["exec", "web", "true"]).ok());
    env.delete("web");
}

#[test]
fn filter_flags_are_reported_as_runc_tells_them() {
    let Some(env) = Env::new() else { return };
    for (flags, want) in [
        (None, 4),
        (Some(json!([])), 0),
        (Some(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0),
        (
            Some(json!([
                "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                "SECCOMP_FILTER_FLAG_TSYNC"
            ])),
            6,
        ),
    ] {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
        if let Some(flags) = flags {
            profile["flags"] = flags;
        }
        let bundle = bundle(&env, &["true"]).set("linux/seccomp", profile);
        bundle.write();
        let said = env.runtime(&["--debug", "run", "-b", bundle.str(), "web"]).ok();
        let told = said.stderr.split_once("seccomp filter flags: ").expect(&said.stderr).1;
        assert!(told.starts_with(&want.to_string()), "{want}: {told}");
    }
}

#[test]
fn each_changed_limit_is_reported() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") || !env.controllers(&["pids"]) {
        return;
    }
    env.launch("web", &bundle(&env, &["sleep", "1000"]));
    let said = env.runtime(&["--debug", "update", "--pids-limit", "50", "web"]).ok();
    in_order(&said.stderr, &["update web: ", "linux.resources.pids.limit: ", "50", "/pids.max"]);
    let said = env.runtime(&["--debug", "kill", "--all", "web", "KILL"]).ok();
    in_order(&said.stderr, &["kill web: ", "signal 9 is sent to every process"]);
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn the_cause_of_a_containers_end_is_reported() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let bundle = bundle(&env, &["sleep", "1000"]);
    bundle.write();
    let path = bundle.str().to_owned();
    let created = env.runtime(&["--debug", "create", "-b", &path, "web"]).ok();
    assert!(!created.stderr.contains("the program runs"), "{}", created.stderr);
    in_order(&env.runtime(&["--debug", "start", "web"]).ok().stderr, &["start web: ", "the program runs"]);
    in_order(
        &env.runtime(&["--debug", "kill", "web", "CONT"]).ok().stderr,
        &["kill web: ", "signal 18 is sent to process "],
    );
    in_order(
        &env.runtime(&["--debug", "delete", "--force", "web"]).ok().stderr,
        &["delete web: ", "is killed", "container web is removed"],
    );
}
