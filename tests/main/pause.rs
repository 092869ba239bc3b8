//! pause and resume, and what the other commands do to a container whose processes are stopped or
//! fork continuously: runc(8).

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Bundle, Env, until};

/// A container may take this long to end, whatever its processes do. An emulated machine is slower.
fn moment() -> Duration {
    Duration::from_secs(if std::env::var_os("EMERGENCE_TEST_MACHINE").is_some() { 10 } else { 2 })
}

/// A script that counts as fast as it can into a file of its root.
fn counter(env: &Env) -> Bundle {
    env.script("i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done")
}

fn count(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.rootfs("tmp/count")).unwrap_or_default()
}

fn stop(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    until("the process has stopped", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")
    });
}

/// What is done to the cgroup of container `id`, by hand.
fn freeze_by_hand(env: &Env, bundle: &Bundle, below: &str, word: &str) {
    let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    env.shell(&format!("echo {word} > /sys/fs/cgroup{group}{below}/cgroup.freeze")).ok();
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let Some(env) = Env::new() else { return };
    let bundle = counter(&env);
    env.launch("web", &bundle);
    until("it counts", || !count(&bundle).is_empty());
    env.runtime(&["pause", "web"]).ok().prints("");
    assert_eq!(env.state("web")["status"], "paused");
    assert!(env.runtime(&["list"]).ok().stdout.contains(" paused "));
    let pid = env.pid("web");
    assert!(pid > 0);
    let before = count(&bundle);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(&bundle), before, "nothing goes on");
    env.runtime(&["resume", "web"]).ok().prints("");
    assert_eq!(env.state("web")["status"], "running");
    assert_eq!(env.pid("web"), pid);
    until("it counts again", || count(&bundle) != before);
    env.delete("web");
}

#[test]
fn pausing_again_and_again_leaves_no_doubt() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.script("while :; do sleep 0; done"));
    for _ in 0..30 {
        env.runtime(&["pause", "web"]).ok();
        assert_eq!(env.state("web")["status"], "paused");
        env.runtime(&["resume", "web"]).ok();
        assert_eq!(env.state("web")["status"], "running");
    }
    env.delete("web");
}

#[test]
fn wrong_states_have_runcs_messages() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun has other words") {
        return;
    }
    env.runtime(&["pause", "web"]).fails().says("container does not exist");
    env.runtime(&["resume", "web"]).fails().says("container does not exist");
    env.launch("web", &env.bundle(&["sleep", "100"]));
    env.runtime(&["resume", "web"]).fails().says("container not paused");
    env.runtime(&["pause", "web"]).ok();
    env.runtime(&["pause", "web"]).fails().says("container not running");
    env.runtime(&["start", "web"]).fails().says("cannot start a container in the paused state");
    env.runtime(&["delete", "web"]).fails().says("paused");
    assert_eq!(env.state("web")["status"], "paused", "none of these changes anything");
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["pause", "web"]).fails().says("container not running");
    env.runtime(&["resume", "web"]).fails().says("container not paused");
    env.delete("web");
}

#[test]
fn a_created_container_can_be_paused_and_then_not_started() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others wait") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.create("web", &bundle).ok();
    env.runtime(&["pause", "web"]).ok();
    assert_eq!(env.state("web")["status"], "paused");
    let before = Instant::now();
    env.runtime(&["start", "web"]).fails().says("paused");
    assert!(before.elapsed() < moment());
    env.runtime(&["resume", "web"]).ok();
    assert_eq!(env.state("web")["status"], "created");
    env.runtime(&["start", "web"]).ok();
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn frozen_from_above_is_paused_too_and_cannot_be_resumed() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others look at the container's own switch") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.launch("web", &bundle);
    freeze_by_hand(&env, &bundle, "/..", "1");
    env.wait_for("web", "paused");
    env.runtime(&["resume", "web"]).fails().says("a cgroup above");
    freeze_by_hand(&env, &bundle, "/..", "0");
    env.wait_for("web", "running");
    env.delete("web");
}

#[test]
fn a_container_without_a_cgroup_cannot_be_paused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("--cgroup-manager disabled is crun's and ours, the words are ours") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    env.runtime(&["--cgroup-manager", "disabled", "run", "-d", "-b", bundle.str(), "web"]).ok();
    env.runtime(&["pause", "web"]).fails().says("has no cgroup of its own, so it cannot be paused");
    env.runtime(&["resume", "web"]).fails().says("container not paused");
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn kill_and_delete_reach_what_stands_still() {
    let Some(env) = Env::new() else { return };
    type Still = fn(&Env, &Bundle, i32);
    let table: [(&str, Still); 3] = [
        ("paused", |env, _, _| drop(env.runtime(&["pause", "web"]).ok())),
        ("frozen by hand below", |env, bundle, _| {
            let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap();
            env.shell(&format!("mkdir /sys/fs/cgroup{group}/below")).ok();
            freeze_by_hand(env, bundle, "/below", "1");
            freeze_by_hand(env, bundle, "", "1");
        }),
        ("stopped", |_, _, pid| stop(pid)),
    ];
    for (name, still) in table {
        for end in [&["kill", "web", "KILL"][..], &["delete", "--force", "web"][..]] {
            let bundle = env.script("sleep 100 & sleep 100");
            env.launch("web", &bundle);
            still(&env, &bundle, env.pid("web"));
            let before = Instant::now();
            env.runtime(end).ok();
            if end[0] == "kill" {
                env.wait_for("web", "stopped");
                env.runtime(&["delete", "web"]).ok();
            }
            assert!(before.elapsed() < moment(), "{name}, {end:?}: {:?}", before.elapsed());
            env.runtime(&["state", "web"]).fails();
        }
    }
}

#[test]
fn cgroup_v1_does_not_delay_a_kill() {
    let Some(env) = Env::new() else { return };
    if std::env::var_os("EMERGENCE_TEST_MACHINE").is_none() {
        println!(
            "skipped: the freezer of version 1 may be the host's; only a machine made for the tests lends it"
        );
        return;
    }
    let bundle =
        env.bundle(&["sleep", "100"]).set("linux/resources", json!({})).without_mount("/sys/fs/cgroup");
    bundle.write();
    let script = format!(
        "umount -R /sys/fs/cgroup; mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/freezer
         mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer || exit 9
         r() {{ $RUNTIME --root $ROOT \"$@\"; }}
         is() {{ for try in $(seq 100); do r state web | grep -q \"\\\"$1\\\"\" && return; sleep 0.1; done; echo not $1; exit 1; }}
         set -e
         r run -d -b {0} web; r pause web; is paused; r resume web; is running
         r pause web; r kill web KILL; is stopped; r delete web
         r run -d -b {0} web; r pause web; r delete --force web
         r create -b {0} web; r pause web; if r start web; then exit 2; fi; r delete --force web
         find /sys/fs/cgroup -name 'c[0-9]*'",
        bundle.str()
    );
    let output = env.program("unshare", &["-m", "sh", "-c", &script]);
    let output = output.env("RUNTIME", env.binary()).env("ROOT", env.root()).run();
    output.ok().prints("").says("cannot start a container in the paused state");
}

#[test]
fn a_signal_waits_until_the_container_goes_on() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script(
        "trap 'echo got > /tmp/count; exit' TERM; echo ready > /tmp/count; while :; do usleep 1000; done",
    );
    env.launch("web", &bundle);
    until("the trap is set", || count(&bundle) == "ready\n");
    env.runtime(&["pause", "web"]).ok();
    env.runtime(&["kill", "web", "TERM"]).ok();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(count(&bundle), "ready\n");
    assert_eq!(env.state("web")["status"], "paused");
    env.runtime(&["resume", "web"]).ok();
    until("the signal has come", || count(&bundle) == "got\n");
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn a_forking_container_can_be_killed() {
    let Some(env) = Env::new() else { return };
    // Each of a few processes forks as fast as it can, and what it forks ends at once: many
    // numbers, few processes.
    let bundle = env.script("f() { while :; do (:) & (:); done; }; f & f & f & f");
    let commands: [&[&[&str]]; 3] = [
        &[&["pause", "web"], &["resume", "web"], &["pause", "web"], &["delete", "--force", "web"]],
        &[&["kill", "web", "KILL"], &["delete", "--force", "web"]],
        &[&["kill", "--all", "web", "TERM"], &["delete", "--force", "web"]],
    ];
    for list in commands {
        env.launch("web", &bundle);
        std::thread::sleep(Duration::from_millis(50));
        for command in list {
            let before = Instant::now();
            env.runtime(command).ok();
            assert!(before.elapsed() < moment(), "{command:?}: {:?}", before.elapsed());
        }
    }
}

#[test]
fn start_hears_of_a_process_that_dies_under_its_hooks() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc 1.1 takes it for a start") {
        return;
    }
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo here > /tmp/count; sleep 100"]});
    let bundle = env.bundle(&["sleep", "100"]).push("hooks/startContainer", hook);
    env.create("web", &bundle).ok();
    let start = env.call(&["start", "web"]).start();
    until("the hook runs", || count(&bundle) == "here\n");
    env.runtime(&["kill", "web", "KILL"]).ok();
    start.wait().fails().says("killed while its startContainer hooks ran");
    env.delete("web");
    // In the foreground, too.
    fs::remove_file(bundle.rootfs("tmp/count")).unwrap();
    let run = env.call(&["run", "-b", bundle.str(), "web"]).start();
    until("the hook runs", || count(&bundle) == "here\n");
    env.runtime(&["kill", "web", "KILL"]).ok();
    run.wait().fails().says("killed while its startContainer hooks ran");
    env.runtime(&["state", "web"]).fails();
}

#[test]
fn a_second_container_of_the_same_name_outlives_the_first_ones_clean_up() {
    let Some(env) = Env::new() else { return };
    if !env.holds() {
        return;
    }
    // One that runs in the foreground, one that is being created: another command deletes each and
    // creates another in its place.
    for (create, held) in
        [(false, None), (true, Some("cgroup")), (true, Some("hooks")), (true, Some("recorded"))]
    {
        let bundle = env.bundle(&["sleep", "100"]);
        let hook = json!({"path": "/bin/true"});
        let bundle = bundle.push("hooks/createRuntime", hook);
        bundle.write();
        let verb = if create { "create" } else { "run" };
        let call = env.call(&[verb, "-b", bundle.str(), "web"]);
        let first = match held {
            Some(step) => call.env("EMERGENCE_RUNC_HOLD", step),
            None => call,
        };
        let first = first.start();
        let stopped = |pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") T "))
        };
        if create {
            until("the first is held", || stopped(first.pid()));
        } else {
            until("the first runs", || env.runtime(&["state", "web"]).stdout.contains("running"));
            // So that it cleans up only after the second is there.
            stop(first.pid());
        }
        env.delete("web");
        env.launch("web", &bundle);
        kill_process(Pid::from_raw(first.pid()).unwrap(), Signal::CONT).unwrap();
        first.wait();
        assert_eq!(env.state("web")["status"], "running", "{held:?}");
        env.delete("web");
    }
}
