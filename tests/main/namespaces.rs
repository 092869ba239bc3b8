//! New, inherited and joined namespaces: config-linux.md, "Namespaces".

use std::fs;

use serde_json::json;

use crate::support::Env;

/// Kind in config.json, name in /proc/PID/ns.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn link(pid: impl std::fmt::Display, name: &str) -> String {
    let path = format!("/proc/{pid}/ns/{name}");
    fs::read_link(&path).unwrap_or_else(|e| panic!("{path}: {e}")).to_string_lossy().into_owned()
}

#[test]
fn new_ones_differ_from_the_hosts() {
    let Some(env) = Env::new() else { return };
    let bundle =
        KINDS.iter().fold(env.bundle(&["sleep", "100"]), |bundle, (kind, _)| bundle.namespace(kind, None));
    env.create("web", &bundle).ok();
    for (kind, name) in KINDS {
        assert_ne!(link(env.pid("web"), name), link("self", name), "{kind}");
    }
    assert_eq!(link(env.pid("web"), "user"), link("self", "user"), "not asked for");
    env.delete("web");
}

#[test]
fn those_not_named_are_inherited() {
    let Some(env) = Env::new() else { return };
    for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
        let bundle = env.bundle(&["sleep", "100"]).without_namespace(kind);
        let bundle = if kind == "uts" {
            bundle.edit(|config| drop(config.as_object_mut().unwrap().remove("hostname")))
        } else {
            bundle
        };
        env.create("web", &bundle).ok();
        assert_eq!(link(env.pid("web"), name), link("self", name), "{kind}");
        env.delete("web");
    }
}

#[test]
fn joined_ones_are_the_same() {
    let Some(env) = Env::new() else { return };
    let first =
        KINDS.iter().fold(env.bundle(&["sleep", "100"]), |bundle, (kind, _)| bundle.namespace(kind, None));
    env.launch("first", &first);
    let pid = env.pid("first");
    for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
        if kind == "cgroup"
            && (env.differs("runc", "1.1 refuses it") || env.differs("crun", "fails on the mount"))
        {
            continue;
        }
        let bundle = env.bundle(&["sleep", "100"]).namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
        let id = env.id();
        env.launch(&id, &bundle);
        assert_eq!(link(env.pid(&id), name), link(pid, name), "{kind}");
        env.delete(&id);
    }
    assert_eq!(env.state("first")["status"], "running", "the joined namespaces outlive the joiners");
    env.delete("first");
}

#[test]
fn processes_of_a_joined_pid_namespace_are_seen() {
    let Some(env) = Env::new() else { return };
    env.launch("first", &env.bundle(&["sleep", "12345"]));
    let path = format!("/proc/{}/ns/pid", env.pid("first"));
    let output = env.run(&env.bundle(&["ps"]).namespace("pid", Some(&path))).ok();
    assert!(output.stdout.contains("sleep 12345"), "{output:?}");
    env.delete("first");
}

#[test]
fn a_namespace_of_another_kind_is_refused() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]).namespace("network", Some("/proc/self/ns/ipc"));
    env.create("web", &bundle).fails();
    let bundle = env.bundle(&["true"]).namespace("network", Some("/nowhere/net"));
    env.create("web", &bundle).fails();
    let bundle = env.bundle(&["true"]).namespace("ipc", Some("/etc/passwd"));
    env.create("web", &bundle).fails();
}

#[test]
fn unknown_and_doubled_kinds_are_refused() {
    let Some(env) = Env::new() else { return };
    env.create("web", &env.bundle(&["true"]).push("linux/namespaces", json!({"type": "colour"}))).fails();
    if !env.differs("crun", "ignores the second") {
        env.create("web", &env.bundle(&["true"]).push("linux/namespaces", json!({"type": "pid"}))).fails();
    }
}

#[test]
fn pid_one_and_a_loopback_of_its_own() {
    let Some(env) = Env::new() else { return };
    env.run(&env.script("echo $$")).ok().prints("1");
    let output = env.run(&env.bundle(&["ip", "-o", "link"])).ok();
    let names: Vec<_> = output.stdout.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert!(names.contains(&"lo") && !names.iter().any(|name| name.starts_with("eth")), "{names:?}");
    let lo = env.run(&env.bundle(&["ip", "-o", "link", "show", "lo"])).ok();
    if env.flavour() != "crun" {
        assert!(lo.stdout.contains("UP"), "loopback is up: {lo:?}");
    }
}

#[test]
fn time_namespace_with_offsets() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 has no time namespace") || env.differs("crun", "1.8 fails") {
        return;
    }
    let bundle = env.bundle(&["cat", "/proc/uptime"]).namespace("time", None).set(
        "linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 10, "nanosecs": 0}}),
    );
    let Some(output) = env.ok_since("5.6", env.run(&bundle)) else { return };
    let inside: f64 = output.text().split(' ').next().unwrap().parse().unwrap();
    let host = fs::read_to_string("/proc/uptime").unwrap();
    let outside: f64 = host.split(' ').next().unwrap().parse().unwrap();
    assert!((inside - outside - 1_000_000.0).abs() < 60.0, "{inside} inside, {outside} outside");
}

#[test]
fn cgroup_namespace_hides_the_path() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["grep", "^0::", "/proc/self/cgroup"]);
    env.run(&bundle.namespace("cgroup", None)).ok().prints("0::/");
    let bundle = env.bundle(&["grep", "^0::", "/proc/self/cgroup"]).without_namespace("cgroup");
    let output = env.run(&bundle).ok();
    assert!(output.text().starts_with(&format!("0::{}/", env.cgroup_parent())), "{output:?}");
}
