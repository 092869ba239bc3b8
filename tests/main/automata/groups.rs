//! Groups of programs under our own pid 1: restarts by strategy, signals, orphans, the status at
//! the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use emergence_runc::emergence::automaton::Form;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::World;
use crate::support::until;

/// A group of scripts, each with its name and when it is started again.
fn group(world: &World, tag: &str, strategy: &str, members: &[(&str, &str, &str)]) -> String {
    let member = |(name, restart, script): &(&str, &str, &str)| json!({"name": name, "restart": restart, "entrypoint": ["@bb/bin/sh", "-c", script]});
    let members: Vec<Value> = members.iter().map(member).collect();
    let init = json!({"group": members, "strategy": strategy, "env": {"PATH": "@bb/bin"}});
    world.pack(tag, Form::Image, init, json!({}))
}

#[test]
fn the_exit_status_is_that_of_the_failed_member() {
    let Some(world) = World::new() else { return };
    let table = [
        ("fine", "one_for_one", vec![("a", "temporary", "true"), ("b", "transient", "true")], 0),
        ("failed", "one_for_one", vec![("a", "temporary", "exit 5"), ("b", "temporary", "sleep 0.2")], 5),
        ("often", "one_for_one", vec![("a", "permanent", "exit 6"), ("b", "permanent", "sleep 100")], 6),
        ("transient", "one_for_all", vec![("a", "transient", "exit 4"), ("b", "permanent", "sleep 100")], 4),
    ];
    for (tag, strategy, members, status) in table {
        let reference = group(&world, tag, strategy, &members);
        world.emergence(&["run", &reference, &world.id(tag)]).exits(status);
    }
    let missing = json!({"group": [{"name": "a", "entrypoint": ["@bb/bin/none"]}]});
    let fault = world.try_pack("none", Form::Image, missing, json!({})).unwrap_err();
    assert!(fault.to_string().ends_with("[doc.entrypoint]"), "{fault}");
    world.is_free();
}

#[test]
fn strategies_decide_which_members_restart() {
    let Some(world) = World::new() else { return };
    // b fails once, when all have begun; who else begins twice depends on the strategy, and b waits
    // for them.
    let other = |name: &str| format!("echo {name}; echo x >>/tmp/{name}; exec sleep 100");
    for (strategy, want) in
        [("one_for_one", [1, 2, 1]), ("one_for_all", [2, 2, 2]), ("rest_for_one", [1, 2, 2])]
    {
        let (a, c) = (other("a"), other("c"));
        let b = format!(
            "echo b; began() {{ until [ $(grep -c x /tmp/$1 2>/dev/null || echo 0) -ge $2 ]; do sleep 0.05; done; }}; \
             if [ -e /tmp/b ]; then began a {}; began c {}; kill -TERM 1; exec sleep 100; fi; \
             began a 1; began c 1; touch /tmp/b; exit 1",
            want[0], want[2]
        );
        let members =
            [("a", "permanent", a.as_str()), ("b", "permanent", b.as_str()), ("c", "permanent", c.as_str())];
        let reference = group(&world, strategy, strategy, &members);
        let output = world.emergence(&["run", &reference, &world.id(strategy)]);
        let count = |name: &str| output.stdout.lines().filter(|line| *line == name).count();
        assert_eq!([count("a"), count("b"), count("c")], want, "{strategy}: {output:?}");
        assert!(output.stderr.contains("b ended with status 1: started again"), "{output:?}");
    }
    world.is_free();
}

#[test]
fn signals_reach_the_programs_and_orphans_are_reaped() {
    let Some(world) = World::new() else { return };
    let trap =
        "trap 'echo usr1' USR1; trap 'echo end; exit 0' TERM; echo ready; while true; do sleep 0.05; done";
    let orphans = "(sleep 0.1 &) ; (sleep 0.1 &) ; sleep 100";
    let reference =
        group(&world, "sig", "one_for_one", &[("t", "permanent", trap), ("o", "permanent", orphans)]);
    let sig = &world.id("sig");
    let running = world.call(&["run", &reference, sig]).start();
    until("the programs run", || running.stdout().contains("ready"));
    world.env.runtime(&["kill", sig, "USR1"]).ok();
    until("the signal came", || running.stdout().contains("usr1"));
    let zombies = || {
        let list = world.env.runtime(&["ps", "-f", "json", sig]).ok();
        let pids: Vec<i32> = serde_json::from_str(&list.stdout).unwrap();
        let state = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        pids.iter().filter(|pid| state(pid).contains(") Z ")).count()
    };
    until("orphans are reaped", || zombies() == 0);
    let command = fs::read(format!("/proc/{}/cmdline", world.env.pid(sig))).unwrap();
    assert_eq!(command, b"/.emergence/init\0");
    world.env.runtime(&["kill", sig, "TERM"]).ok();
    // sleep dies of it; the other ends well.
    let output = running.wait().exits(128 + 15);
    assert!(output.stdout.contains("end"), "{output:?}");
    world.is_free();
}

#[test]
fn the_program_cannot_be_taken_for_a_command() {
    let Some(world) = World::new() else { return };
    let output = world
        .env
        .program(
            "/bin/bash",
            &["-c", "exec -a /.emergence/init \"$0\" list", world.env.binary().to_str().unwrap()],
        )
        .run();
    assert!(!output.stderr.contains("emergence init"), "{output:?}");
    let alone = world
        .env
        .program(
            "/bin/bash",
            &["-c", "exec -a /.emergence/init \"$0\"", world.env.binary().to_str().unwrap()],
        )
        .run();
    alone.exits(127).says("/.emergence/group.json");
}

#[test]
fn programs_that_are_killed_are_started_again_as_long_as_that_is_seldom() {
    let Some(world) = World::new() else { return };
    let sleep = |name: &str| format!("echo {name}; exec sleep 100");
    let (a, b, c) = (sleep("a"), sleep("b"), sleep("c"));
    let members =
        [("a", "permanent", a.as_str()), ("b", "transient", b.as_str()), ("c", "temporary", c.as_str())];
    let reference = group(&world, "kill", "one_for_one", &members);
    let id = &world.id("kill");
    let running = world.call(&["run", &reference, id]).start();
    let began = |name: &str, times: usize| {
        until(name, || running.stdout().lines().filter(|line| *line == name).count() == times);
    };
    ["a", "b", "c"].iter().for_each(|name| began(name, 1));
    // Members are the children of pid 1, in their order.
    let init = world.env.pid(id);
    let members = || -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let kill = |pid: i32| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let [_, b, c] = members()[..] else { panic!("{:?}", members()) };
    kill(c);
    until("it is gone", || members().len() == 2);
    kill(b);
    began("b", 2);
    until("they are two again", || members().len() == 2);
    // Another exit within five seconds exceeds the limit, of whichever member.
    kill(members()[0]);
    let output = running.wait().exits(128 + 9);
    let count = |name: &str| output.stdout.lines().filter(|line| *line == name).count();
    assert_eq!(["a", "b", "c"].map(count), [1, 2, 1], "{output:?}");
    assert!(output.stderr.contains("a was ended by signal 9: more than 1 restarts in 5 s"), "{output:?}");
    world.is_free();
}

#[test]
fn a_member_that_exits_while_others_are_stopped_is_restarted() {
    let Some(world) = World::new() else { return };
    // While c takes its time to end for b's new start, a fails: the second time within five
    // seconds.
    let c = "trap 'sleep 1.5; exit 0' TERM; echo c; while true; do sleep 0.05; done";
    let members = [
        ("a", "permanent", "sleep 1; exit 7"),
        ("b", "permanent", "sleep 0.3; exit 1"),
        ("c", "permanent", c),
    ];
    let reference = group(&world, "late", "rest_for_one", &members);
    world
        .emergence(&["run", &reference, &world.id("late")])
        .exits(7)
        .says("a ended with status 7: more than");
    world.is_free();
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let Some(world) = World::new() else { return };
    let deaf = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
    let reference = group(&world, "deaf", "one_for_one", &[("d", "permanent", deaf)]);
    let id = &world.id("deaf");
    let running = world.call(&["run", &reference, id]).start();
    until("it runs", || running.stdout().contains("ready"));
    let asked = Instant::now();
    world.env.runtime(&["kill", id, "TERM"]).ok();
    running.wait().exits(128 + 9);
    assert!(asked.elapsed() >= Duration::from_secs(5), "{:?}", asked.elapsed());
    world.is_free();
}

#[test]
fn a_program_that_cannot_be_executed_is_not_run_by_a_shell() {
    let Some(world) = World::new() else { return };
    let file = world.path("tree/bin/odd");
    fs::write(&file, "echo by a shell\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let member = |name: &str, program: &str| json!({"name": name, "entrypoint": [program]});
    let init = json!({"group": [member("fine", "@bb/bin/cat"), member("odd", "@bb/bin/odd")]});
    let reference = world.pack("odd", Form::Image, init, json!({}));
    let bundle = world.text("odd");
    world.emergence(&["bundle", "--rootfs", "copy", &reference, &bundle]).ok();
    // There is one where the C library looks for it.
    fs::create_dir(world.path("odd/rootfs/bin")).unwrap();
    fs::copy(world.path("tree/bin/busybox"), world.path("odd/rootfs/bin/sh")).unwrap();
    let output = world.env.runtime(&["run", "--bundle", &bundle, &world.id("odd")]).exits(127);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.contains("start odd: ") && output.stderr.contains("xec format error"),
        "{output:?}"
    );
    world.is_free();
}

#[test]
fn fifty_programs_run_as_any_user_under_a_filter() {
    let rootless = World::rootless();
    for world in [World::new(), rootless].into_iter().flatten() {
        let script = |at: usize| format!("echo {at} $(id -u); touch /x 2>/dev/null && echo written; exit 0");
        let scripts: Vec<(String, String)> = (0..50).map(|at| (format!("m{at}"), script(at))).collect();
        let members: Vec<_> =
            scripts.iter().map(|(name, script)| (name.as_str(), "transient", script.as_str())).collect();
        let reference = group(&world, "many", "one_for_one", &members);
        let bundle = world.text("run/many");
        world.emergence(&["bundle", &reference, &bundle]).ok();
        let profile = include_str!("../../seccomp/profiles/docker.json");
        let profile: Value = serde_json::from_str(profile).unwrap();
        let file = world.path("run/many/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["linux"]["seccomp"] = profile;
        config["root"]["readonly"] = json!(true);
        fs::write(&file, config.to_string()).unwrap();
        let output = world.env.runtime(&["run", "--bundle", &bundle, &world.id("many")]).ok();
        let mut lines: Vec<&str> = output.text().lines().collect();
        lines.sort_by_key(|line| line.split(' ').next().and_then(|at| at.parse::<u32>().ok()));
        let want: Vec<String> = (0..50).map(|at| format!("{at} 0")).collect();
        assert_eq!(lines, want);
        world.is_free();
    }
}
