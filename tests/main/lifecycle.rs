//! create, start, state, kill, delete, run, list: runtime-spec's runtime.md, "Lifecycle" and
//! "Operations", and runc(8).

use std::fs;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::support::{Env, Output, until};

#[test]
fn create_start_kill_delete() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "100"]).set("annotations/org.example.colour", json!("blue"));
    let pid_file = env.dir().join("pid");
    bundle.write();
    env.runtime(&["create", "-b", bundle.str(), "--pid-file", pid_file.to_str().unwrap(), "web"]).ok();

    let state = env.state("web");
    assert_eq!(state["id"], "web");
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.str());
    assert_eq!(state["annotations"]["org.example.colour"], "blue");
    let version = state["ociVersion"].as_str().unwrap();
    assert!(version.starts_with("1."), "{version}");
    let pid = state["pid"].as_i64().unwrap();
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), pid.to_string());
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!command.starts_with("sleep"), "the program must wait for start: {command:?}");

    env.runtime(&["start", "web"]).ok();
    assert_eq!(env.state("web")["status"], "running");
    assert_eq!(env.pid("web"), pid as i32, "the pid stays");
    until("the program runs", || {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap() == ["sleep", "100", ""].join("\0")
    });

    env.runtime(&["delete", "web"]).fails();
    assert_eq!(env.state("web")["status"], "running", "delete of a running container changes nothing");
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["delete", "web"]).ok();
    env.runtime(&["state", "web"]).fails();
}

#[test]
fn state_has_members_in_order() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the order of the members is runc's; crun has another") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]).set("annotations/a", json!("b"));
    env.create("web", &bundle).ok();
    let text = env.runtime(&["state", "web"]).ok().stdout;
    let places = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
        .map(|name| text.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {text}")));
    assert!(places.is_sorted(), "{text}");
    assert_eq!(env.state("web")["rootfs"], bundle.rootfs("").to_str().unwrap().trim_end_matches('/'));
    let created = env.state("web")["created"].as_str().unwrap().to_owned();
    assert!(
        created.contains('T') && (created.ends_with('Z') || created.contains('+')),
        "RFC 3339: {created}"
    );
    env.delete("web");
}

#[test]
fn stopped_state_has_pid_zero_or_none() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["true"]));
    env.wait_for("web", "stopped");
    let state = env.state("web");
    assert!(state["pid"] == 0 || state["pid"].is_null(), "{state}");
    env.runtime(&["start", "web"]).fails();
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn start_only_once() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "100"]));
    env.runtime(&["start", "web"]).fails();
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    let Some(env) = Env::new() else { return };
    env.create("web", &env.bundle(&["sleep", "100"])).ok();
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn a_created_container_can_be_deleted_with_force() {
    let Some(env) = Env::new() else { return };
    env.create("web", &env.bundle(&["sleep", "100"])).ok();
    env.delete("web");
    env.runtime(&["state", "web"]).fails();
}

#[test]
fn signals_by_name_and_number() {
    let Some(env) = Env::new() else { return };
    // The trap is set before "ready" is printed; the shell as pid 1 gets only signals that it
    // handles.
    for (signal, trap) in
        [("TERM", "TERM"), ("SIGHUP", "HUP"), ("10", "USR1"), ("usr2", "USR2"), ("SIGINT", "INT")]
    {
        if signal == "usr2" && env.differs("crun", "takes upper case only") {
            continue;
        }
        let id = env.id();
        let script = format!("trap 'echo got; exit 3' {trap}; echo ready; while :; do usleep 10000; done");
        let output = env.launch(&id, &env.script(&script));
        until("the trap is set", || output.later().contains("ready"));
        env.runtime(&["kill", &id, signal]).ok();
        env.wait_for(&id, "stopped");
        assert_eq!(output.later(), "ready\ngot\n", "{signal}");
        env.runtime(&["delete", &id]).ok();
    }
}

#[test]
fn kill_without_a_signal_is_term() {
    let Some(env) = Env::new() else { return };
    let output = env.launch(
        "web",
        &env.script("trap 'echo term; exit' TERM; echo ready; while :; do usleep 10000; done"),
    );
    until("the trap is set", || output.later().contains("ready"));
    env.runtime(&["kill", "web"]).ok();
    env.wait_for("web", "stopped");
    assert_eq!(output.later(), "ready\nterm\n");
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn real_time_signals() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc and crun name few of them") {
        return;
    }
    for signal in ["RTMIN+3", "SIGRTMIN+3", "37"] {
        let id = env.id();
        let output = env
            .launch(&id, &env.script("trap 'echo got; exit' 37; echo ready; while :; do usleep 10000; done"));
        until("the trap is set", || output.later().contains("ready"));
        env.runtime(&["kill", &id, signal]).ok();
        env.wait_for(&id, "stopped");
        assert_eq!(output.later(), "ready\ngot\n", "{signal}");
        env.runtime(&["delete", &id]).ok();
    }
}

#[test]
fn kill_is_refused() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "100"]));
    if !env.differs("crun", "takes an unknown signal for 0") {
        env.runtime(&["kill", "web", "NONSENSE"]).fails();
    }
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["kill", "web", "KILL"]).fails();
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn kill_all_reaches_every_process() {
    let Some(env) = Env::new() else { return };
    // Without a pid namespace of its own, the init's death does not end the others.
    let bundle = env.script("sleep 1000 & echo $!; exec sleep 1000").without_namespace("pid");
    let output = env.launch("web", &bundle);
    until("the child's pid is printed", || output.later().ends_with('\n'));
    let child = output.later().trim().to_owned();
    env.runtime(&["kill", "--all", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    until("the child is gone", || {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn delete_takes_processes_that_outlive_the_init() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun leaves them, runc 1.1 their cgroup") {
        return;
    }
    let bundle = env.script("sleep 1000 </dev/null >/dev/null 2>&1 & exit 0").without_namespace("pid");
    env.launch("web", &bundle);
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn unknown_ids() {
    let Some(env) = Env::new() else { return };
    for args in [&["state", "none"][..], &["start", "none"], &["kill", "none"], &["delete", "none"]] {
        let output = env.runtime(args).fails();
        if env.flavour() != "crun" {
            output.says("container does not exist");
        }
    }
    env.runtime(&["delete", "--force", "none"]).ok();
}

#[test]
fn one_id_one_container() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "100"]);
    env.create("web", &bundle).ok();
    let pid = env.pid("web");
    let other = env.bundle(&["sleep", "200"]);
    env.create("web", &other).fails();
    assert_eq!(env.pid("web"), pid, "the first is untouched");
    assert_eq!(env.state("web")["status"], "created");
    env.delete("web");
}

#[test]
fn ids_are_judged_first() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let long = "a".repeat(1025);
    let mut bad = vec!["../up", "a/b", "..", ".", "", "a b", "ä", "a\nb"];
    if env.flavour() == "emergence-runc" {
        bad.push(&long);
    }
    if env.flavour() == "crun" {
        bad = vec!["../up", "a/b"];
    }
    for id in bad {
        env.runtime(&["run", "--bundle", bundle.str(), id]).fails();
    }
    for id in ["a", "web.1", "A_b-c+d", "0"] {
        env.runtime(&["run", "--bundle", bundle.str(), id]).ok();
    }
    assert!(!env.dir().join("run/up").exists(), "no directory beside the root");
}

#[test]
fn run_ends_as_the_program_does() {
    let Some(env) = Env::new() else { return };
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("(sleep 1; exit 3) & wait $!", 3)]
    {
        env.run(&env.script(script)).exits(code);
    }
    // A program in a pid namespace of its own can't kill itself with a signal it does not handle.
    for (signal, code) in [("KILL", 128 + 9), ("TERM", 128 + 15)] {
        env.run(&env.script(&format!("kill -{signal} $$")).without_namespace("pid")).exits(code);
    }
}

#[test]
fn run_passes_standard_input_and_output() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("cat; echo err >&2");
    bundle.write();
    let file = env.dir().join("input");
    fs::write(&file, "hello\n").unwrap();
    let input = fs::File::open(&file).unwrap();
    let output = env.call(&["run", "-b", bundle.str(), "web"]).stdin(input.into()).run().ok();
    assert_eq!(output.stdout, "hello\n");
    assert_eq!(output.stderr, "err\n");
}

#[test]
fn run_takes_the_bundle_from_the_working_directory() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["echo", "here"]);
    bundle.write();
    env.call(&["run", "web"]).cwd(bundle.path()).run().ok().prints("here");
}

#[test]
fn run_takes_another_config() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "has no --config") {
        return;
    }
    let bundle = env.bundle(&["echo", "other"]);
    bundle.write();
    let other = bundle.path().join("other.json");
    fs::rename(bundle.path().join("config.json"), &other).unwrap();
    let args = ["run", "--config", other.to_str().unwrap(), "--bundle", bundle.str(), "web"];
    env.runtime(&args).ok().prints("other");
}

#[test]
fn run_detached() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    let pid_file = env.dir().join("pid");
    let pid_argument = pid_file.to_str().unwrap();
    env.runtime(&["run", "--detach", "--pid-file", pid_argument, "-b", bundle.str(), "web"]).ok();
    assert_eq!(env.state("web")["status"], "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap().trim(), env.pid("web").to_string());
    env.delete("web");
}

#[test]
fn run_keeps_the_stopped_container_when_asked() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "1.8 has no --keep") {
        return;
    }
    let bundle = env.script("exit 4");
    bundle.write();
    env.runtime(&["run", "--keep", "-b", bundle.str(), "web"]).exits(4);
    assert_eq!(env.state("web")["status"], "stopped");
    env.runtime(&["delete", "web"]).ok();
}

/// 34 is the first real-time signal for programs, which musl uses for itself.
#[test]
fn run_forwards_signals() {
    let Some(env) = Env::new() else { return };
    for (at, number) in [libc::SIGTERM, 34, 64].into_iter().enumerate() {
        let script = format!("trap 'echo got; exit 5' {number}; echo ready; while :; do usleep 10000; done");
        let bundle = env.script(&script);
        bundle.write();
        let running = env.call(&["run", "-b", bundle.str(), &format!("web{at}")]).start();
        until("the trap is set", || running.stdout().contains("ready"));
        // SAFETY: two integers; the process has not been waited for.
        assert_eq!(unsafe { libc::kill(running.pid(), number) }, 0);
        running.wait().exits(5).prints("ready\ngot");
    }
}

#[test]
fn list_shows_every_container() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "100"]);
    env.create("one", &bundle).ok();
    env.launch("two", &env.bundle(&["sleep", "100"]));
    let names = env.runtime(&["list", "-q"]).ok().stdout;
    let mut names: Vec<_> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);

    let list: Value = serde_json::from_str(&env.runtime(&["list", "--format", "json"]).ok().stdout).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    let one = list.iter().find(|entry| entry["id"] == "one").unwrap();
    assert_eq!(one["status"], "created");
    assert_eq!(one["bundle"], bundle.str());
    assert_eq!(one["pid"], env.pid("one"));

    let table = env.runtime(&["list"]).ok().stdout;
    let row = table.lines().find(|line| line.starts_with("two")).expect("a row for two");
    assert!(row.contains("running") && row.contains(&env.pid("two").to_string()), "{row}");
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    if env.flavour() != "crun" {
        assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    }
    env.delete("one");
    env.delete("two");
}

#[test]
fn list_of_nothing() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others differ among themselves") {
        return;
    }
    env.runtime(&["list"]).fails();
    fs::create_dir(env.root()).unwrap();
    env.runtime(&["list", "-q"]).ok().prints("");
}

#[test]
fn broken_bundles_are_refused_and_leave_nothing() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]);
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    env.runtime(&["create", "-b", bundle.str(), "web"]).fails().says("config.json");
    fs::write(bundle.path().join("config.json"), "{\"ociVersion\": \"1.0.2\",").unwrap();
    env.runtime(&["create", "-b", bundle.str(), "web"]).fails();
    env.runtime(&["create", "-b", "/nowhere/at/all", "web"]).fails();
    let bundle = bundle.set("root/path", json!("missing"));
    env.create("web", &bundle).fails();
    env.runtime(&["state", "web"]).fails();
}

#[test]
fn faults_of_the_config_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("JSON paths in errors") {
        return;
    }
    type Case = (&'static str, Value, &'static str);
    let table: [Case; 8] = [
        ("process/args", json!("true"), "process.args"),
        ("process/cwd", json!("relative"), "process.cwd"),
        ("process/rlimits", json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]), "process.rlimits[0]"),
        ("linux/namespaces", json!([{"type": "pidd"}]), "linux.namespaces[0]"),
        ("mounts", json!([{"destination": "/x", "type": "bind"}]), "mounts[0]"),
        ("ociVersion", json!("2.0.0"), "ociVersion"),
        ("process/user/uid", json!(-1), "process.user"),
        ("linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
    ];
    for (place, value, want) in table {
        env.create("web", &env.bundle(&["true"]).set(place, value)).fails().says(want);
    }
}

#[test]
fn log_file_takes_errors_as_json_lines() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "finds a missing bundle before it opens the log") {
        return;
    }
    let log = env.dir().join("log");
    let log_argument = log.to_str().unwrap();
    env.runtime(&["--log", log_argument, "--log-format", "json", "create", "-b", "/nowhere", "web"]).fails();
    let text = fs::read_to_string(log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("/nowhere"), "{last}");
    assert!(last["time"].as_str().unwrap().contains('T'), "{last}");
}

#[test]
fn fifty_at_once() {
    let Some(env) = Env::new() else { return };
    let bundles: Vec<_> = (0..50).map(|n| env.bundle(&["echo", &n.to_string()])).collect();
    let running: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            bundle.write();
            env.call(&["run", "-b", bundle.str(), &env.id()]).start()
        })
        .collect();
    for (n, one) in running.into_iter().enumerate() {
        one.wait().ok().prints(&n.to_string());
    }
}

#[test]
fn one_of_many_creates_with_one_id_wins() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "two may win") || env.differs("runc", "two may win") {
        return;
    }
    let bundles: Vec<_> = (0..8).map(|_| env.bundle(&["sleep", "100"])).collect();
    let running: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            bundle.write();
            env.call(&["create", "-b", bundle.str(), "web"]).start()
        })
        .collect();
    let won = running.into_iter().map(|one| one.wait()).filter(|output| output.code == 0).count();
    assert_eq!(won, 1);
    assert_eq!(env.state("web")["status"], "created");
    env.delete("web");
}

#[test]
fn delete_cleans_up_after_a_create_killed_at_any_moment() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    for round in 0..40_u64 {
        let id = env.id();
        let running = env.call(&["create", "-b", bundle.str(), &id]).start();
        std::thread::sleep(std::time::Duration::from_micros(round * 150));
        let pid = rustix::process::Pid::from_raw(running.pid()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        running.wait();
        env.delete(&id);
    }
}

/// The runtime, called by a process that ignores these signals.
fn run_ignoring(env: &Env, signals: &str, words: &[&str]) -> Output {
    // Not /bin/sh: dash does not ignore SIGCHLD.
    let script = format!("trap '' {signals}; exec \"$RUNTIME\" --root \"$ROOT\" \"$@\"");
    let call = env.program("bash", &[&["-c", &script, "bash"], words].concat());
    call.env("RUNTIME", env.binary()).env("ROOT", env.root()).run()
}

/// Whatever signals the caller ignores, no program in the container ignores them: a shell could not
/// even reset them.
#[test]
fn a_caller_that_ignores_signals() {
    let Some(env) = Env::new() else { return };
    if !env.has("bash", "bash") {
        return;
    }
    let ignored = "HUP INT QUIT PIPE TERM USR1 CHLD RTMIN RTMIN+5 RTMAX";
    let ignoring = |words: &[&str]| run_ignoring(&env, ignored, words);
    const SHOW: &[&str] = &["grep", "-E", "^Sig(Ign|Cgt|Blk)", "/proc/self/status"];
    let none = ["SigBlk", "SigIgn", "SigCgt"].map(|name| format!("{name}:\t{:016x}\n", 0)).concat();
    let bundle = env.bundle(SHOW);
    let hook = format!("grep SigIgn /proc/self/status >{}", env.dir().join("run/hooked").display());
    let bundle =
        bundle.set("hooks/createContainer", json!([{"path": "/bin/sh", "args": ["sh", "-c", hook]}]));
    bundle.write();
    assert_eq!(ignoring(&["run", "-b", bundle.str(), "web"]).ok().stdout, none);
    let hooked = fs::read_to_string(env.dir().join("run/hooked")).unwrap();
    assert!(hooked.contains(&format!("SigIgn:\t{:016x}\n", 0)), "{hooked}");
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    assert_eq!(ignoring(&[&["exec", "web"], SHOW].concat()).ok().stdout, none);
    env.delete("web");
}

/// Ignored signals are inherited through execve(2); with SIGCHLD among them, the kernel reaps the
/// runtime's children by itself.
#[test]
fn a_caller_that_ignores_sigchld() {
    let Some(env) = Env::new() else { return };
    if !env.has("bash", "bash") {
        return;
    }
    let ignoring = |words: &[&str]| run_ignoring(&env, "CHLD", words);
    let marker = env.dir().join("run/hooked");
    let hook = |kind: &str| {
        let script = format!("cat >/dev/null; echo {kind} >>{}; exit 0", marker.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mut bundles = vec![env.script("exit 7"), env.script("exit 7").namespace("user", None)];
    bundles[1].config["linux"]["uidMappings"] = mapping.clone();
    bundles[1].config["linux"]["gidMappings"] = mapping;
    for bundle in bundles {
        let bundle = ["prestart", "createRuntime", "poststart", "poststop"]
            .iter()
            .fold(bundle, |bundle, kind| bundle.set(&format!("hooks/{kind}"), hook(kind)));
        bundle.write();
        ignoring(&["run", "-b", bundle.str(), "web"]).exits(7);
        let hooked = fs::read_to_string(&marker).unwrap();
        assert_eq!(
            hooked.split_whitespace().collect::<Vec<_>>(),
            ["prestart", "createRuntime", "poststart", "poststop"]
        );
        fs::remove_file(&marker).unwrap();
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    ignoring(&["exec", "web", "sh", "-c", "exit 9"]).exits(9);
    ignoring(&["exec", "web", "nothing"]).exits(255).says("not found");
    let file = env.dir().join("run/mounts.json");
    fs::write(&file, r#"{"mounts":[{"destination":"/mnt","type":"tmpfs","source":"tmpfs"}]}"#).unwrap();
    ignoring(&["mounts", "add", "web", file.to_str().unwrap()]).ok();
    ignoring(&["delete", "--force", "web"]).ok();
}

/// The status is "created" while the start fifo has a reader, and the execve closes it a moment
/// after the result.
#[test]
fn start_returns_only_when_the_status_is_running() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the fifo is ours") {
        return;
    }
    env.create("web", &env.bundle(&["sleep", "1000"])).ok();
    let pid = env.pid("web");
    let reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(env.root().join("web/start.fifo"))
        .unwrap();
    let starting = env.call(&["start", "web"]).start();
    let runs = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sleep");
    until("the program runs", runs);
    let command = pidfd_open(Pid::from_raw(starting.pid()).unwrap(), PidfdFlags::empty()).unwrap();
    let moment = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
    let ended = poll(&mut [PollFd::new(&command, PollFlags::IN)], Some(&moment)).unwrap();
    assert_eq!(ended, 0, "start returned while the status is {}", env.state("web")["status"]);
    drop(reader);
    starting.wait().ok();
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}
