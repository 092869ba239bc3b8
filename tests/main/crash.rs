//! The runtime killed at each step of create: `delete --force` always leaves nothing.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Env, until};

/// Steps at which the runtime itself stops.
const RUNTIME: &[&str] = &["recorded", "cgroup", "cloned", "hooks", "created"];

/// Steps at which the container's process waits.
const CHILD: &[&str] = &["child-cloned", "child-mounts", "child-pivot", "child-waiting"];

fn stopped(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

#[test]
fn delete_cleans_up_after_a_create_killed_at_each_step() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.holds() {
        return;
    }
    let hook = json!({"path": "/bin/true"});
    for user in [false, true] {
        let bundle = env.bundle(&["sleep", "100"]).push("hooks/createRuntime", hook.clone());
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let bundle = if user {
            bundle
                .namespace("user", None)
                .set("linux/uidMappings", mapping.clone())
                .set("linux/gidMappings", mapping)
        } else {
            bundle
        };
        bundle.write();
        for step in RUNTIME.iter().chain(CHILD) {
            let id = env.id();
            let running =
                env.call(&["create", "-b", bundle.str(), &id]).env("EMERGENCE_RUNC_HOLD", step).start();
            let pid = running.pid();
            if RUNTIME.contains(step) {
                until(&format!("create stops at {step}"), || stopped(pid));
            } else {
                let record = env.root().join(&id).join("state.json");
                until(&format!("create comes to {step}"), || {
                    fs::read_to_string(&record)
                        .is_ok_and(|text| text.contains("start_time\":") && !text.contains("\"init\":null"))
                });
                // Until the child has come to its step, too.
                std::thread::sleep(Duration::from_millis(20));
            }
            // While it is created nothing hangs.
            env.runtime(&["state", &id]).ok();
            env.runtime(&["list"]).ok();
            env.runtime(&["delete", &id]).fails();
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            running.wait();
            env.runtime(&["state", &id]).ok();
            env.delete(&id);
            env.runtime(&["state", &id]).fails().says("container does not exist");
        }
    }
}

#[test]
fn a_creation_can_be_deleted_by_force_while_it_is_at_work() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.holds() {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    for step in CHILD {
        let id = env.id();
        let running = env.call(&["create", "-b", bundle.str(), &id]).env("EMERGENCE_RUNC_HOLD", step).start();
        let record = env.root().join(&id).join("state.json");
        // The cgroup identifies its process until the record names it.
        until("the process or its cgroup is noted", || {
            fs::read_to_string(&record)
                .is_ok_and(|text| !text.contains("\"init\":null") || text.contains("\"owns_group\":true"))
        });
        env.delete(&id);
        running.wait().fails();
    }
}

#[test]
fn a_cgroup_that_is_in_use_is_left_to_its_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun shares a cgroup") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    env.launch("first", &bundle);
    env.runtime(&["create", "-b", bundle.str(), "second"]).fails().says("cgroup is not empty");
    if env.holds() {
        let running =
            env.call(&["create", "-b", bundle.str(), "third"]).env("EMERGENCE_RUNC_HOLD", "recorded").start();
        until("create stops", || stopped(running.pid()));
        kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::KILL).unwrap();
        running.wait();
        env.delete("third");
    }
    assert_eq!(env.state("first")["status"], "running");
    env.delete("first");
}

#[test]
fn a_broken_record_can_be_removed_by_force_only() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the record is private to each") {
        return;
    }
    let directory = env.root().join("broken");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("state.json"), "{").unwrap();
    env.runtime(&["state", "broken"]).fails().says("state.json");
    env.runtime(&["list"]).ok().says("broken");
    env.runtime(&["delete", "broken"]).fails().says("state.json");
    env.runtime(&["delete", "--force", "broken"]).ok().says("found of the container: no cgroup, no process");
    assert!(!directory.exists());
}

#[test]
fn pid_files_are_written_atomically() {
    let Some(env) = Env::new() else { return };
    if !env.holds() {
        return;
    }
    let directory = env.dir().join("pids");
    fs::create_dir(&directory).unwrap();
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let file = directory.join("pid");
    let call = env.call(&["create", "-b", bundle.str(), "--pid-file", file.to_str().unwrap(), "web"]);
    let held = call.env("EMERGENCE_RUNC_HOLD", "pid-file").start();
    until("the runtime is held", || stopped(held.pid()));
    env.program("kill", &["-9", &held.pid().to_string()]).run().ok();
    held.wait().exits(128 + 9);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    env.delete("web");
}
