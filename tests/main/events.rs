//! events: runc-events(8). The form is that of runc's Go package types; what needs cgroup
//! controllers says so.

use serde_json::{Value, json};

use crate::support::{Env, until};

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// The data of `events --stats`.
fn stats(env: &Env, id: &str) -> Value {
    let text = env.runtime(&["events", "--stats", id]).ok().stdout;
    assert_eq!(text.lines().count(), 1, "{text}");
    let mut line = parsed(&text);
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(id)), "{text}");
    line["data"].take()
}

#[test]
fn stats_have_runcs_form() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let data = stats(&env, "web");
    for path in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/cpuset/cpu_exclusive",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
        "/memory/swap/limit",
        "/memory/kernel/failcnt",
        "/memory/kernelTCP/failcnt",
        "/pids",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
    ] {
        assert!(data.pointer(path).is_some_and(|found| !found.is_null()), "{path}: {data}");
    }
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|total| total > 0), "{data}");
    assert_eq!(data["pids"]["current"], 1, "{data}");
    if env.ours("runc 1.1 has no pressure") {
        for resource in ["cpu", "memory", "blkio"] {
            let some = &data[resource]["psi"]["some"];
            assert!(some["avg10"].is_number() && some["total"].is_u64(), "{resource}: {data}");
        }
    }
    env.delete("web");
}

#[test]
fn time_spent_is_counted() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.script("while :; do :; done"));
    let used = || stats(&env, "web")["cpu"]["usage"]["total"].as_u64().unwrap();
    let first = used();
    until("more than 50 ms are used", || used() > first + 50_000_000);
    env.delete("web");
}

#[test]
fn a_container_that_does_not_run_has_no_events() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are runc's; crun has no events") {
        return;
    }
    env.runtime(&["events", "web"]).fails().says("container does not exist");
    env.launch("web", &env.bundle(&["true"]));
    env.wait_for("web", "stopped");
    for args in [&["events", "web"][..], &["events", "--stats", "web"]] {
        env.runtime(args).fails().says("container with id web is not running");
    }
    env.runtime(&["events", "--interval", "0s", "web"])
        .fails()
        .says("duration interval must be greater than 0");
    env.delete("web");
}

#[test]
fn statistics_come_in_their_interval_until_the_container_ends() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc does not end") {
        return;
    }
    for end in [&["kill", "web", "KILL"][..], &["delete", "--force", "web"]] {
        env.launch("web", &env.bundle(&["sleep", "100"]));
        let events = env.call(&["events", "--interval", "50ms", "web"]).start();
        until("three lines", || events.stdout().lines().count() >= 3);
        env.runtime(end).ok();
        let text = events.wait().ok().stdout;
        assert!(text.lines().all(|line| parsed(line)["type"] == "stats"), "{text}");
        env.delete("web");
    }
    // The clock is not what it waits for.
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let events = env.call(&["events", "--interval", "10000h", "web"]).start();
    events.until_it_listens();
    env.runtime(&["kill", "web", "KILL"]).ok();
    events.wait().ok().prints("");
    env.delete("web");
}

#[test]
fn it_ends_when_nobody_reads() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc does not end") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "100"]));
    // Both between two lines, and while it writes.
    env.shell("$RUNTIME --root $ROOT events --interval 1h web | true").ok();
    env.shell("$RUNTIME --root $ROOT events --interval 1ms web | head -n 1 >/dev/null").ok();
    env.delete("web");
}

#[test]
fn limits_and_use_are_reported() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory", "pids", "cpu"]) {
        return;
    }
    let limits = json!({
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 50},
        "cpu": {"quota": 20_000, "period": 100_000}
    });
    let bundle = env.script("while :; do :; done").set("linux/resources", limits);
    env.launch("web", &bundle);
    until("it is throttled", || stats(&env, "web")["cpu"]["throttling"]["throttledTime"].as_u64() > Some(0));
    let data = stats(&env, "web");
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20, "{data}");
    assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{data}");
    assert!(data["memory"]["raw"]["anon"].is_u64(), "{data}");
    assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(1), &json!(50)), "{data}");
    assert!(data["cpu"]["throttling"]["periods"].as_u64() > Some(0), "{data}");
    env.delete("web");
}

#[test]
fn kills_for_memory_are_reported_at_once() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["memory"]) {
        return;
    }
    // The kernel kills what takes too much; the container goes on, and the second time ends with
    // it.
    let eat = "head -c 200000000 /dev/zero | tail";
    let script = format!("read go < /tmp/one; {eat}; read go < /tmp/two; {eat}");
    let bundle =
        env.script(&script).set("linux/resources", json!({"memory": {"limit": 24 << 20, "swap": 24 << 20}}));
    for name in ["tmp/one", "tmp/two"] {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            bundle.rootfs(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    }
    env.launch("web", &bundle);
    let events = env.call(&["events", "--interval", "10000h", "web"]).start();
    events.until_it_listens();
    std::fs::write(bundle.rootfs("tmp/one"), "go\n").unwrap();
    until("the first kill is told", || events.stdout().lines().count() == 1);
    assert_eq!(parsed(&events.stdout()), json!({"type": "oom", "id": "web"}));
    assert_eq!(env.state("web")["status"], "running");
    std::fs::write(bundle.rootfs("tmp/two"), "go\n").unwrap();
    let text = events.wait().ok().stdout;
    assert!(text.lines().count() >= 2 && text.lines().all(|line| parsed(line)["type"] == "oom"), "{text}");
    env.delete("web");
}
