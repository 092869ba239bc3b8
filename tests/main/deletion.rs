//! `delete` against other commands at work, records that cannot be read or are broken, and kernel
//! errors at each step: nothing is forgotten.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Bundle, Env, Output, on_test_machine, patience, until};

/// So many seconds; more on the emulated machine.
fn seconds(count: u32) -> Duration {
    patience() * count / 20
}

fn stopped(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

fn go_on(pid: i32) {
    // It may have ended.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::CONT);
}

fn alive(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn until_dead(pid: i32) {
    until(&format!("process {pid} has ended"), || !alive(pid));
}

/// Runs the runtime under strace, which has the `count`th of these calls fail. `None`: there are
/// fewer.
fn with_failure(env: &Env, call: &str, error: &str, count: usize, args: &[&str]) -> Option<Output> {
    let trace = env.dir().join("run/trace");
    let inject = format!("inject={call}:error={error}:when={count}");
    let options = ["-qq", "-o", trace.to_str().unwrap(), "-e", &format!("trace={call}"), "-e", &inject];
    let output = env.strace(&options, args).run();
    fs::read_to_string(&trace).unwrap().contains("INJECTED").then_some(output)
}

/// Either the command says that it failed, and the container is as it was, or the container is
/// gone.
fn all_or_nothing(env: &Env, output: &Output, pid: i32, what: &str) -> bool {
    if output.code == 0 {
        until(&format!("{what}: process {pid} has ended"), || !alive(pid));
        env.runtime(&["state", "web"]).fails().says("container does not exist");
        return false;
    }
    // Once all is ended, the directory is removed last: it may be empty.
    let known = env.root().join("web/state.json").exists() || !alive(pid);
    assert!(known && env.root().join("web").exists(), "{what}: forgotten: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{what}: {output:?}");
    true
}

#[test]
fn an_unreadable_record_is_no_broken_one() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the record is private to each") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.launch("web", &bundle);
    let mut pid = env.pid("web");
    for descriptors in 3..12 {
        let script = format!("ulimit -n {descriptors}; exec $RUNTIME --root $ROOT delete --force web");
        let output = env.shell(&script);
        if descriptors == 4 {
            assert_ne!(output.code, 0, "{output:?}");
            assert!(alive(pid), "{output:?}");
            assert_eq!(env.state("web")["status"], "running");
        }
        if !all_or_nothing(&env, &output, pid, &format!("{descriptors} descriptors")) {
            env.launch("web", &bundle);
            pid = env.pid("web");
        }
    }
    env.delete("web");
}

#[test]
fn a_failing_call_does_not_make_delete_forget_a_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.has("strace", "strace") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.launch("web", &bundle);
    let mut pid = env.pid("web");
    let mut failures = vec![
        ("openat", "EMFILE"),
        ("openat", "EIO"),
        ("read", "ENOMEM"),
        ("flock", "EINTR"),
        ("fstat", "EIO"),
    ];
    if on_test_machine() {
        // The calls are the same there, and take long.
        failures.truncate(1);
    }
    for (call, error) in failures {
        for count in 1.. {
            let Some(output) = with_failure(&env, call, error, count, &["delete", "--force", "web"]) else {
                break;
            };
            all_or_nothing(&env, &output, pid, &format!("{call} {count} fails with {error}"));
            if !alive(pid) {
                env.delete("web");
                env.launch("web", &bundle);
                pid = env.pid("web");
            }
        }
        if env.runtime(&["state", "web"]).code != 0 {
            env.delete("web");
            env.launch("web", &bundle);
            pid = env.pid("web");
        }
    }
    env.delete("web");
}

/// What is not known is not said: a running container is never called stopped.
#[test]
fn a_failing_call_does_not_make_a_running_container_stopped() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.has("strace", "strace") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "100"]));
    for (call, error) in
        [("openat", "EMFILE"), ("read", "EIO")].into_iter().skip(usize::from(on_test_machine()))
    {
        for count in 1.. {
            let Some(output) = with_failure(&env, call, error, count, &["state", "web"]) else { break };
            if output.code == 0 {
                let state: Value = serde_json::from_str(&output.stdout).unwrap();
                assert_eq!(state["status"], "running", "{call} {count} fails with {error}");
            }
            let Some(output) = with_failure(&env, call, error, count, &["delete", "web"]) else { continue };
            assert_ne!(output.code, 0, "a running container was deleted: {output:?}");
        }
    }
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

/// A directory that was made and could not be opened would block the id for ever.
#[test]
fn a_create_in_which_an_open_fails_leaves_its_id_free() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.has("strace", "strace") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    for count in 1.. {
        let create = ["create", "-b", bundle.str(), "web"];
        let Some(output) = with_failure(&env, "openat", "EMFILE", count, &create) else { break };
        if output.code == 0 {
            env.delete("web");
        }
        assert!(!env.root().join("web").exists(), "open {count}: {output:?}");
        assert_eq!(env.cgroups().len(), 0, "open {count}: {output:?}");
    }
    env.delete("web");
}

/// Changes the state file of a running container, and deletes it by force: its process ends.
fn broken(env: &Env, bundle: &Bundle, what: &str, change: impl FnOnce(&mut Value) -> Option<Vec<u8>>) {
    env.launch("web", bundle);
    let pid = env.pid("web");
    let file = env.root().join("web/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let bytes = change(&mut record).unwrap_or_else(|| serde_json::to_vec(&record).unwrap());
    fs::write(&file, bytes).unwrap();
    env.runtime(&["state", "web"]).fails().says("state.json");
    env.runtime(&["delete", "web"]).fails().says("state.json");
    assert!(alive(pid), "{what}");
    env.runtime(&["delete", "--force", "web"]).ok().says("state.json");
    until(&format!("{what}: process {pid} has ended"), || !alive(pid));
    assert!(!env.root().join("web").exists(), "{what}");
    assert_eq!(env.cgroups().len(), 0, "{what}");
}

#[test]
fn processes_named_by_a_broken_record_are_killed() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the record is private to each") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    broken(&env, &bundle, "wrong type", |record| {
        record["creator"] = json!("x");
        None
    });
    broken(&env, &bundle, "missing member", |record| {
        record.as_object_mut().unwrap().remove("bundle");
        None
    });
    broken(&env, &bundle, "only the group", |record| {
        Some(serde_json::to_vec(&json!({"group": record["group"]})).unwrap())
    });
    broken(&env, &bundle, "only the process", |record| {
        Some(serde_json::to_vec(&json!({"init": record["init"]})).unwrap())
    });
    broken(&env, &bundle, "cut off", |record| {
        let text = serde_json::to_vec(record).unwrap();
        Some(text[..text.len() - 10].to_vec())
    });
    // Then it is config.json's copy that names the cgroup.
    broken(&env, &bundle, "empty", |_| Some(Vec::new()));
    broken(&env, &bundle, "garbage", |_| Some(vec![0xff; 100]));
}

#[test]
fn a_broken_record_that_names_anothers_cgroup_does_it_no_harm() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the record is private to each") {
        return;
    }
    env.launch("other", &env.bundle(&["sleep", "100"]));
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let pid = env.pid("web");
    let read = |id: &str| -> Value {
        serde_json::from_slice(&fs::read(env.root().join(id).join("state.json")).unwrap()).unwrap()
    };
    let mut record = read("web");
    let cgroup = record["group"].clone();
    record["group"] = read("other")["group"].clone();
    record["creator"] = json!("x");
    fs::write(env.root().join("web/state.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    env.runtime(&["delete", "--force", "web"]).ok().says("container other has it");
    until_dead(pid);
    assert_eq!(env.state("other")["status"], "running");
    env.delete("other");
    // Nobody knows any more which cgroup it had.
    for name in env.cgroups() {
        fs::remove_dir(name).unwrap_or_else(|error| panic!("{cgroup}: {error}"));
    }
}

/// `delete --force` has read the record when the creation goes on: what it makes then must not be
/// forgotten.
#[test]
fn delete_waits_for_a_creation_to_end() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.holds() {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    for step in ["recorded", "cgroup", "cloned"] {
        let create =
            env.call(&["create", "-b", bundle.str(), "web"]).env("EMERGENCE_RUNC_HOLD", step).start();
        until("create is held", || stopped(create.pid()));
        let delete = env.call(&["delete", "--force", "web"]).env("EMERGENCE_RUNC_HOLD", "delete").start();
        let end = Instant::now() + patience() / 60;
        while Instant::now() < end && !stopped(delete.pid()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        go_on(create.pid());
        create.wait();
        until("delete is held or has ended", || stopped(delete.pid()) || !alive(delete.pid()));
        go_on(delete.pid());
        delete.wait().ok();
        env.runtime(&["state", "web"]).fails().says("container does not exist");
        until(&format!("{step}: no cgroup is left"), || env.cgroups().is_empty());
    }
}

/// A `run` that is stopped (SIGSTOP) keeps the lock.
#[test]
fn a_stopped_runtime_does_not_keep_its_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.holds() {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    for step in ["cloned", "created"] {
        let run =
            env.call(&["run", "-d", "-b", bundle.str(), "web"]).env("EMERGENCE_RUNC_HOLD", step).start();
        until("run is held", || stopped(run.pid()));
        env.runtime(&["delete", "--force", "web"]).ok().says("it keeps container web locked");
        run.wait().exits(128 + 9);
        env.runtime(&["state", "web"]).fails().says("container does not exist");
        until(&format!("{step}: no cgroup is left"), || env.cgroups().is_empty());
    }
}

/// While a hook of the creation takes its time.
#[test]
fn no_command_waits_for_a_long_creation() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") {
        return;
    }
    let pid_of_hook = env.dir().join("run/hook");
    let script = format!("echo $$ >{}; exec sleep 100", pid_of_hook.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]});
    let bundle = env.bundle(&["sleep", "100"]).push("hooks/createRuntime", hook);
    bundle.write();
    let create = env.call(&["create", "-b", bundle.str(), "web"]).start();
    until("the hook runs", || fs::read_to_string(&pid_of_hook).is_ok_and(|text| text.ends_with('\n')));
    let hook = fs::read_to_string(&pid_of_hook).unwrap().trim().parse().unwrap();
    let begun = Instant::now();
    assert_eq!(env.state("web")["status"], "creating");
    env.runtime(&["list"]).ok();
    for command in ["start", "pause", "delete"] {
        env.runtime(&[command, "web"]).fails();
    }
    env.runtime(&["kill", "web", "WINCH"]).ok();
    assert!(begun.elapsed() < seconds(4), "{:?}", begun.elapsed());
    env.delete("web");
    create.wait().exits(128 + 9);
    assert!(begun.elapsed() < seconds(15), "{:?}", begun.elapsed());
    env.runtime(&["state", "web"]).fails().says("container does not exist");
    // The hook is no process of the container.
    match kill_process(Pid::from_raw(hook).unwrap(), Signal::KILL) {
        // Where it ends with the creation it is gone already.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("kill the hook: {error}"),
    }
}

#[test]
fn a_hook_of_the_creation_may_ask_for_its_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") {
        return;
    }
    let said = env.dir().join("run/said");
    let runtime = format!("{} --root {}", env.binary().display(), env.root().display());
    for (last, fails) in [("state web", false), ("delete --force web", true), ("kill web KILL", true)] {
        let script = format!(
            "{{ {runtime} state web; {runtime} list -q; {runtime} delete web; {runtime} pause web; {runtime} {last}; echo last $?; }} >{} 2>&1",
            said.display()
        );
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]});
        let bundle = env.bundle(&["sleep", "100"]).push("hooks/createRuntime", hook);
        bundle.write();
        let begun = Instant::now();
        let output = env.runtime(&["create", "-b", bundle.str(), "web"]);
        assert!(begun.elapsed() < seconds(5), "{last}: {:?}", begun.elapsed());
        let said = fs::read_to_string(&said).unwrap();
        assert!(
            said.contains("\"status\":\"creating\"") || said.contains("\"status\": \"creating\""),
            "{said}"
        );
        assert!(said.contains("cannot delete container web"), "{said}");
        assert!(said.contains("still being created") && said.contains("last 0"), "{said}");
        assert_eq!(output.code != 0, fails, "{last}: {output:?}");
        if fails {
            env.runtime(&["state", "web"]).fails().says("container does not exist");
        }
        env.delete("web");
    }
}

/// An unprivileged user could put a container there whose hooks run as root.
#[test]
fn a_state_directory_that_others_may_change_is_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others use it") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.launch("web", &bundle);
    let set = |owner: &str, mode: &str| {
        let root = env.root();
        env.program("chown", &[owner, root.to_str().unwrap()]).run().ok();
        env.program("chmod", &[mode, root.to_str().unwrap()]).run().ok();
    };
    for (owner, mode, words) in [
        ("1000:0", "700", "belongs to user 1000"),
        ("0:0", "777", "written to by every user"),
        ("0:0", "1777", "written to by every user"),
        ("0:100", "775", "written to by group 100"),
    ] {
        set(owner, mode);
        for args in [&["state", "web"][..], &["list"], &["kill", "web"], &["delete", "--force", "web"]] {
            env.runtime(args).fails().says(words);
        }
        env.create("more", &bundle).fails().says(words);
    }
    for (owner, mode) in [("0:0", "770"), ("0:100", "755"), ("0:0", "711")] {
        set(owner, mode);
        assert_eq!(env.state("web")["status"], "running");
    }
    env.delete("web");
}

#[test]
fn an_id_longer_than_a_file_name_is_refused_first() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others say it in other words") {
        return;
    }
    let bundle = env.bundle(&["true"]);
    let long = "x".repeat(256);
    env.create(&long, &bundle).fails().says("256 characters").says("allows file names of 255");
    assert!(!Path::new(&env.root()).exists(), "nothing is made");
    env.runtime(&["state", &long]).fails().says("container does not exist");
    env.runtime(&["delete", "--force", &long]).ok();
    let longest = "y".repeat(255);
    env.create(&longest, &bundle).ok();
    env.delete(&longest);
}

/// A process that is in the container's cgroup, but not its child, is the parent of one of its processes: while it is stopped, nobody
/// waits for that one, so the pid namespace cannot end.
#[test]
fn a_stopped_parent_does_not_hold_up_the_end() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "1000"]).namespace("cgroup", None));
    let members = env.cgroups().pop().unwrap().join("cgroup.procs");
    let init = env.pid("web").to_string();
    let parent = env.program("nsenter", &["-t", &init, "-p", "sleep", "1000"]).privileged().start();
    let children = format!("/proc/{0}/task/{0}/children", parent.pid());
    until("it has a child inside", || !fs::read_to_string(&children).unwrap().is_empty());
    fs::write(&members, parent.pid().to_string()).unwrap();
    kill_process(Pid::from_raw(parent.pid()).unwrap(), Signal::STOP).unwrap();
    let begin = Instant::now();
    env.runtime(&["delete", "--force", "web"]).ok();
    assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
    parent.wait();
}
