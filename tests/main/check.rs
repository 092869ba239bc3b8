//! `check`: all that is wrong with a bundle at once; and members that mean nothing.

use std::fs;

use serde_json::json;

use crate::support::{Bundle, Env};

/// A bundle whose config.json is this text.
fn with_text(env: &Env, text: &str) -> Bundle {
    let bundle = env.bundle(&["true"]);
    fs::write(bundle.path().join("config.json"), text).unwrap();
    bundle
}

#[test]
fn all_faults_are_reported_with_their_places() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others have no check") {
        return;
    }
    let text = r#"{
  "ociVersion": "1.0.0",
  "root": {"path": 7},
  "hostname": "x",
  "process": {
    "args": "sh", "cwd": "relative",
    "user": {"uid": -1},
    "scheduler": {"policy": "SCHED_DEADLINE"},
    "rlimits": [{"type": "RLIMIT_NONE", "hard": 1, "soft": 1}, {"hard": "x"}]
  },
  "mounts": [{"options": ["ro"]}, {"destination": "/a", "type": "bind", "source": 3}],
  "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"typ": "pid"}], "resources": {"CPU": {"shares": 5}, "cpu": {"idle": 7}},
    "memoryPolicy": {"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]}}
}"#;
    let bundle = with_text(&env, text);
    let output = env.runtime(&["check", "--bundle", bundle.str()]).exits(1);
    let file = format!("{}/config.json", bundle.str());
    let want = [
        "line 3 column 20: root.path: invalid type: integer `7`, expected a string",
        "line 6 column 13: process.args: invalid type: string \"sh\", expected a sequence",
        "line 6 column 26: process.cwd: \"relative\" is not absolute",
        "line 7 column 21: process.user.uid: invalid value: integer `-1`, expected u32",
        "process.scheduler.runtime: 0 ns",
        "process.scheduler.deadline: missing",
        "line 9 column 26: process.rlimits[0].type: \"RLIMIT_NONE\" is unknown",
        "line 9 column 64: process.rlimits[1]: missing field `type`",
        "process.rlimits[1].hard: invalid type: string \"x\", expected u64",
        "process.rlimits[1]: missing field `soft`",
        "line 11 column 14: mounts[0]: missing field `destination`",
        "mounts[1].source: invalid type: integer `3`, expected a string",
        "linux.namespaces[2]: missing field `type`",
        "linux.memoryPolicy.flags[0]: MPOL_DEFAULT takes no nodes",
        "linux.resources.cpu.idle: ",
    ];
    for words in want {
        assert!(
            output.stdout.lines().any(|line| line.starts_with(&file) && line.contains(words)),
            "{words:?} is not in {output:?}"
        );
    }
    for words in [
        "linux.resources.CPU: unknown member, which is ignored; did you mean \"cpu\"?",
        "linux.namespaces[2].typ: unknown member, which is ignored; did you mean \"type\"?",
    ] {
        let warns = |line: &str| line.starts_with("warning: ") && line.ends_with(words);
        assert!(output.stdout.lines().any(warns), "{words:?} is not in {output:?}");
    }
    assert_eq!(output.stdout.lines().count(), want.len() + 2, "{output:?}");
    output.says("15 faults");
    // The first of them ends a creation.
    env.runtime(&["create", "--bundle", bundle.str(), "web"])
        .fails()
        .says("root.path")
        .says("more; the command check reports all");
}

#[test]
fn invalid_json_is_one_fault() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others have no check") {
        return;
    }
    let bundle = with_text(&env, "{\"ociVersion\": \"1.0.0\",\n  \"root\": }");
    let output = env.runtime(&["check", "--bundle", bundle.str()]).exits(1);
    assert!(
        output.stdout.contains(": line 2 column ") && output.stdout.contains("root: expected value"),
        "{output:?}"
    );
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
}

#[test]
fn unknown_members_are_no_faults() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others have no check") {
        return;
    }
    let bundle = env
        .bundle(&["true"])
        .set("linux/resources/CPU", json!({"shares": 7}))
        .set("process/noNewPrivilege", json!(true))
        .set("com.vendor.extension", json!({}))
        .set("windows", json!({}));
    bundle.write();
    let output = env.runtime(&["check", "--bundle", bundle.str()]).ok();
    for words in [
        "CPU: unknown",
        "did you mean \"cpu\"?",
        "did you mean \"noNewPrivileges\"?",
        "com.vendor.extension: unknown",
        ": no faults",
    ] {
        assert!(output.stdout.contains(words), "{words:?} is not in {output:?}");
    }
    assert!(!output.stdout.contains("windows"), "{output:?}");
    // A creation warns of what runc would have taken for the known member, and of nothing else.
    let said = env.run(&bundle).ok().says("linux.resources.CPU").stderr;
    assert!(!said.contains("noNewPrivilege") && !said.contains("vendor"), "{said}");
}

#[test]
fn warnings_for_other_documents() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others do not warn") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let file = env.dir().join("document.json");
    let name = file.to_str().unwrap();
    let process = json!({"args": ["/bin/true"], "cwd": "/", "Env": ["A=1"], "user": {"UID": 1}});
    fs::write(&file, process.to_string()).unwrap();
    env.runtime(&["exec", "--process", name, "web"])
        .ok()
        .says("Env: unknown member")
        .says("user.UID: unknown member");
    fs::write(&file, r#"[{"destination": "/tmp", "type": "tmpfs", "Source": "tmpfs"}]"#).unwrap();
    env.runtime(&["mounts", "add", "web", name]).ok().says("[0].Source: unknown member");
    env.delete("web");
}
