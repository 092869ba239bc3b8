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
    // startContainer runs in the container, where the directory must be mounted to be seen.
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
        // runtime.md: the pid is there in "created" and "running", and for runtime's hooks it is
        // the host's.
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

/// A hook of the host that writes its working directory and its environment into `dir`.
fn surroundings(dir: &Path, kind: &str) -> Value {
    let script =
        format!("{{ pwd; env | grep -v -E '^(PWD|OLDPWD|SHLVL|_)='; }} | sort >{}/{kind}", dir.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// Without `env`, hooks have the environment of the runtime, startContainer that of the process
/// with HOME. An empty list is an empty environment. createContainer begins in the root file
/// system, startContainer in the process's directory, the others in the bundle.
#[test]
fn environment_and_directory_of_hooks_that_name_none() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc gives createContainer nothing, crun starts it in the bundle") {
        return;
    }
    let dir = env.dir().join("said");
    let path = dir.to_str().unwrap();
    let all = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for (named, terminal) in [(None, false), (Some(json!([])), false), (None, true)] {
        fs::create_dir(&dir).unwrap();
        let bundle = env.bundle(&["true"]).mount(path, "bind", path, &["bind", "rw"]);
        let bundle = bundle
            .set("process/env", json!(["PATH=/bin", "OF_IMAGE=1"]))
            .set("process/cwd", json!("/var"))
            .set("process/terminal", json!(terminal))
            // The last mount must not be where a hook begins.
            .mount("/mnt", "tmpfs", "tmpfs", &[]);
        fs::write(bundle.rootfs("etc/passwd"), "root:x:0:0:root:/home-of-root:/bin/sh\n").unwrap();
        let bundle = all.into_iter().fold(bundle, |bundle, kind| {
            let mut hook = surroundings(&dir, kind);
            if let Some(named) = &named {
                // busybox's shell has a PATH of its own.
                hook["env"] = named.clone();
            }
            bundle.push(&format!("hooks/{kind}"), hook)
        });
        bundle.write();
        let call = env.call(&["run", "--bundle", bundle.str(), &env.id()]);
        call.env("XDG_RUNTIME_DIR", "/of/caller").env("OF_IMAGE", "no").run().ok();
        for kind in all {
            let said = fs::read_to_string(dir.join(kind)).unwrap();
            let has = |line: &str| said.lines().any(|said| said == line);
            let directory = match kind {
                "createContainer" => format!("{}/rootfs", bundle.str()),
                "startContainer" => "/var".to_owned(),
                _ => bundle.str().to_owned(),
            };
            assert!(has(&directory), "{kind}: {said}");
            let inherits = named.is_none();
            let of_process = kind == "startContainer";
            assert_eq!(has("XDG_RUNTIME_DIR=/of/caller"), inherits && !of_process, "{kind}: {said}");
            assert_eq!(has("OF_IMAGE=no"), inherits && !of_process, "{kind}: {said}");
            assert_eq!(has("OF_IMAGE=1"), inherits && of_process, "{kind}: {said}");
            assert_eq!(has("HOME=/home-of-root"), inherits && of_process, "{kind}: {said}");
            if !inherits {
                let variables = said.lines().filter(|line| line.contains('=') && !line.starts_with("PATH="));
                assert_eq!(variables.count(), 0, "{kind}: {said}");
            }
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// The error of a failing hook of any kind has the hook's output, and none of a hook that
/// succeeded.
#[test]
fn output_of_a_failing_hook_is_in_the_error() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let hook = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 2});
    let table = [
        ("echo out; echo err >&2; exit 3", "exit status", "it printed: out; err"),
        ("echo slow; sleep 20", "its timeout", "it printed: slow"),
        ("echo hit; kill -9 $$", "signal", "it printed: hit"),
        ("exit 3", "exit status", ""),
        (
            "i=0; while [ $i -lt 2000 ]; do echo many $i; i=$((i+1)); done; exit 1",
            "exit status",
            "many 0; many 1; many 2;",
        ),
    ];
    for kind in BEFORE {
        for (script, how, printed) in table {
            for terminal in [false, true] {
                let bundle = env.bundle(&["true"]).set("process/terminal", json!(terminal));
                let bundle = bundle.push(&format!("hooks/{kind}"), hook("echo nothing"));
                let bundle = bundle.push(&format!("hooks/{kind}"), hook(script));
                let output = env.run(&bundle).fails();
                let output = output.says(&format!("hooks.{kind}[1]")).says(how).says(printed);
                assert!(!output.stderr.contains("nothing"), "{output:?}");
                assert_eq!(output.stderr.contains("it printed"), !printed.is_empty(), "{output:?}");
                assert!(output.stderr.len() < 6000 && output.stderr.lines().count() == 1, "{output:?}");
            }
        }
    }
    // By `create` and `start`, too.
    let failing = hook("echo of create; exit 3");
    let bundle = env.bundle(&["true"]).push("hooks/createContainer", failing);
    env.create("web", &bundle).fails().says("it printed: of create");
    let bundle = env.bundle(&["true"]).push("hooks/startContainer", hook("echo of start; exit 3"));
    env.create("web", &bundle).ok();
    env.runtime(&["start", "web"]).fails().says("hooks.startContainer[0]").says("it printed: of start");
    env.delete("web");
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
