//! Hooks: config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Bundle, Env};

const BEFORE: [&str; 4] = ["prestart", "createRuntime", "createContainer", "startContainer"];

/// A hook of the host that writes its name, and the state it is given, into `dir`.
fn hook(dir: &Path, name: &str) -> Value {
    let script = format!(
        "echo {name} >>{0}/order; cat >{0}/{name}.json; readlink /proc/self/ns/mnt >{0}/{name}.ns",
        dir.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn all_hooks(env: &Env, bundle: Bundle) -> Bundle {
    let dir = env.dir().join("hooks");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    // startContainer runs in the container, where the folder must be mounted to be seen.
    let path = dir.to_str().unwrap();
    let bundle = bundle.mount(path, "bind", path, &["bind", "rw"]);
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        .into_iter()
        .fold(bundle, |bundle, name| bundle.push(&format!("hooks/{name}"), hook(&dir, name)))
}

fn order(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.dir().join("hooks/order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn six_kinds_in_order_with_the_state() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 calls poststart in create")
        || env.differs("crun", "gives startContainer / for the bundle")
    {
        return;
    }
    let bundle = all_hooks(&env, env.bundle(&["sleep", "100"]).set("annotations/key", json!("value")));
    env.create("web", &bundle).ok();
    assert_eq!(order(&env), ["prestart", "createRuntime", "createContainer"]);
    let pid = env.pid("web");
    env.runtime(&["start", "web"]).ok();
    crate::support::until("poststart ran", || order(&env).len() == 5);
    assert_eq!(order(&env)[3..], ["startContainer", "poststart"]);
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["delete", "web"]).ok();
    assert_eq!(order(&env)[5..], ["poststop"]);

    let statuses = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (name, status) in statuses {
        let text = fs::read_to_string(env.dir().join(format!("hooks/{name}.json"))).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text:?}"));
        assert_eq!(state["id"], "web", "{name}");
        assert_eq!(state["bundle"], bundle.str(), "{name}");
        assert_eq!(state["annotations"]["key"], "value", "{name}");
        assert!(state["ociVersion"].is_string(), "{name}");
        assert_eq!(state["status"], status, "{name}: {state}");
        // runtime.md: the pid is there in "created" and "running", and for runtime's hooks it is the host's.
        if matches!(name, "createRuntime" | "prestart" | "poststart") {
            assert_eq!(state["pid"], pid, "{name}");
        }
    }
    let host = env.program("readlink", &["/proc/self/ns/mnt"]).run().ok().text().to_owned();
    let namespace = |name: &str| {
        fs::read_to_string(env.dir().join(format!("hooks/{name}.ns"))).unwrap().trim().to_owned()
    };
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(namespace(name), host, "{name} runs in the runtime's namespaces");
    }
    assert_ne!(namespace("createContainer"), host, "createContainer runs in the container's");
    assert_eq!(namespace("startContainer"), namespace("createContainer"));
}

#[test]
fn run_calls_them_all() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 calls poststart before the start")
        || env.differs("crun", "does not wait for startContainer")
    {
        return;
    }
    let bundle = all_hooks(&env, env.bundle(&["sleep", "0.3"]));
    env.run(&bundle).ok();
    assert_eq!(
        order(&env),
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    );
}

#[test]
fn arguments_and_environment_are_the_hooks_own() {
    let Some(env) = Env::new() else { return };
    let out = env.dir().join("out");
    let script = format!("echo \"$0 $1\" >{0}; env | grep -v -E '^(PWD|SHLVL|_)=' >>{0}", out.display());
    let entry = json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["ONLY=this", "PATH=/usr/bin:/bin"]});
    env.run(&env.bundle(&["true"]).push("hooks/createRuntime", entry)).ok();
    let text = fs::read_to_string(out).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.remove(0), "zero one");
    lines.sort_unstable();
    assert_eq!(lines, ["ONLY=this", "PATH=/usr/bin:/bin"]);
}

#[test]
fn hooks_of_one_kind_keep_their_order() {
    let Some(env) = Env::new() else { return };
    let out = env.dir().join("out");
    let bundle = (0..5).fold(env.bundle(&["true"]), |bundle, n| {
        let script = format!("echo {n} >>{}", out.display());
        bundle.push("hooks/createRuntime", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))
    });
    env.run(&bundle).ok();
    assert_eq!(fs::read_to_string(out).unwrap(), "0\n1\n2\n3\n4\n");
}

#[test]
fn a_failing_hook_stops_the_container() {
    let Some(env) = Env::new() else { return };
    for kind in BEFORE {
        let marker = env.dir().join("marker");
        let _ = fs::remove_file(&marker);
        let bundle = env
            .script("echo ran")
            .push(&format!("hooks/{kind}"), json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}));
        let after = json!({"path": "/bin/touch", "args": ["touch", marker]});
        let bundle = bundle.push("hooks/poststop", after);
        let output = env.run(&bundle).fails();
        assert!(!output.stdout.contains("ran"), "{kind}: the program must not run");
        if env.ours("the hook is named") {
            output.says(kind);
        }
        if env.flavour() == "emergence-runc" {
            assert!(marker.exists(), "{kind}: poststop hooks run all the same");
        }
    }
}

#[test]
fn create_with_a_failing_hook_leaves_nothing() {
    let Some(env) = Env::new() else { return };
    for kind in &BEFORE[..3] {
        let bundle = env.bundle(&["true"]).push(&format!("hooks/{kind}"), json!({"path": "/no/such/hook"}));
        env.create("web", &bundle).fails();
        env.runtime(&["state", "web"]).fails();
    }
}

#[test]
fn a_slow_hook_is_killed() {
    let Some(env) = Env::new() else { return };
    let begin = Instant::now();
    let bundle = env
        .bundle(&["true"])
        .push("hooks/createRuntime", json!({"path": "/bin/sleep", "args": ["sleep", "15.25"], "timeout": 1}));
    env.create("web", &bundle).fails();
    assert!(begin.elapsed() < Duration::from_secs(15), "the timeout is one second");
    let sleeping = env.program("sh", &["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"]).run();
    assert!(!sleeping.stdout.contains("sleep 15.25 "), "the hook was killed");
}

#[test]
fn failures_after_the_start_are_only_logged() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "keeps the container") {
        return;
    }
    let failing = json!({"path": "/bin/false"});
    let bundle = env.bundle(&["sleep", "100"]).push("hooks/poststop", failing.clone());
    env.launch("web", &bundle);
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    if env.flavour() == "emergence-runc" {
        env.runtime(&["delete", "web"]).ok().says("poststop");
    } else {
        env.runtime(&["delete", "web"]);
    }
    env.runtime(&["state", "web"]).fails();
}

#[test]
fn a_hook_that_does_not_read_the_state_is_no_failure() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "fails with a broken pipe") {
        return;
    }
    let annotation = "x".repeat(200_000); // more than a pipe holds
    let bundle = env.bundle(&["true"]).push("hooks/createRuntime", json!({"path": "/bin/true"}));
    env.run(&bundle.set("annotations/big", json!(annotation))).ok();
}

#[test]
fn relative_paths_are_refused() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 runs them") || env.differs("crun", "runs them") {
        return;
    }
    env.create("web", &env.bundle(&["true"]).push("hooks/createRuntime", json!({"path": "bin/true"})))
        .fails();
}
