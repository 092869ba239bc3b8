//! ps: runc-ps(8).

use serde_json::Value;

use crate::support::{Env, until};

/// The numbers that `ps --format json` lists.
fn numbers(env: &Env, id: &str) -> Vec<i64> {
    let text = env.runtime(&["ps", "--format", "json", id]).ok().stdout;
    let list: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    list.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

#[test]
fn every_process_of_the_container_and_no_other() {
    let Some(env) = Env::new() else { return };
    if !env.has("ps", "procps") {
        return;
    }
    env.launch("web", &env.script("sleep 101 & exec sleep 102"));
    until("both run", || numbers(&env, "web").len() == 2);
    let found = numbers(&env, "web");
    assert!(found.contains(&i64::from(env.pid("web"))), "{found:?}");
    // procps cuts no column when it writes to a file.
    let table = env.runtime(&["ps", "web"]).ok().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].split_whitespace().any(|name| name == "PID"), "{table}");
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1..].iter().all(|line| line.contains("sleep 10")), "{table}");
    env.delete("web");
}

#[test]
fn options_after_the_id_are_for_ps() {
    let Some(env) = Env::new() else { return };
    if !env.has("ps", "procps") || env.differs("crun", "1.8 has no options for ps") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let pid = env.pid("web");
    let table = env.runtime(&["ps", "web", "-e", "-o", "pid,comm"]).ok().stdout;
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["PID", "COMMAND", &pid.to_string(), "sleep"]);
    let table = env.runtime(&["ps", "web", "aux"]).ok().stdout;
    assert!(table.starts_with("USER") && table.lines().count() == 2, "{table}");
    // Even what is an option of ours in front of the id.
    let table = env.runtime(&["ps", "web", "-f", "-e"]).ok().stdout;
    assert!(table.starts_with("UID") && table.lines().count() == 2, "{table}");
    env.runtime(&["ps", "web", "-e", "-o", "comm"]).fails().says("PID");
    env.runtime(&["ps", "web", "--no-such-option"]).fails();
    env.runtime(&["ps", "--no-such-option", "web"]).fails();
    env.delete("web");
}

#[test]
fn created_paused_and_stopped() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc prints null for none, crun fails") {
        return;
    }
    env.runtime(&["ps", "web"]).fails().says("container does not exist");
    env.create("web", &env.bundle(&["sleep", "100"])).ok();
    let pid = i64::from(env.pid("web"));
    assert_eq!(numbers(&env, "web"), [pid]);
    env.runtime(&["pause", "web"]).ok();
    assert_eq!(numbers(&env, "web"), [pid]);
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["ps", "--format", "json", "web"]).ok().prints("[]");
    env.delete("web");
}
