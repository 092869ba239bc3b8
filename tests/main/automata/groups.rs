//! Groups of programs under our own pid 1: restarts by strategy, signals, orphans, the status at the end.

use std::fs;

use emergence_runc::emergence::automaton::Form;
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
fn the_last_status_is_that_of_who_failed() {
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
fn strategies_say_who_is_started_again() {
    let Some(world) = World::new() else { return };
    // b fails once; who else begins twice depends on the strategy.
    let b =
        "echo b; [ -e /tmp/b ] || { touch /tmp/b; sleep 0.3; exit 1; }; sleep 0.5; kill -TERM 1; sleep 100";
    let other = |name: &str| format!("echo {name}; sleep 100");
    for (strategy, want) in
        [("one_for_one", [1, 2, 1]), ("one_for_all", [2, 2, 2]), ("rest_for_one", [1, 2, 2])]
    {
        let (a, c) = (other("a"), other("c"));
        let members = [("a", "permanent", a.as_str()), ("b", "permanent", b), ("c", "permanent", c.as_str())];
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
