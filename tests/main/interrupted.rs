//! A signal arrives while the runtime is inside a system call: no command fails by that.
//!
//! A traced process gets even signals that it ignores, so strace can have one pending at every
//! call. Outside of tests it is a supervisor's signal, a freezer or a live patch of the kernel that
//! interrupts.

use serde_json::json;

use crate::support::{Env, Output};

/// Runs the runtime with a signal pending at every second of the first 60 calls of each kind; with
/// `children`, at theirs too.
fn interrupted(env: &Env, children: bool, args: &[&str]) -> Output {
    let trace = env.dir().join("run/trace");
    let trace = trace.to_str().unwrap();
    let mut options =
        vec!["-qq", "-o", trace, "-e", "trace=all", "-e", "inject=all:signal=SIGCHLD:when=1..60+2"];
    if children {
        options.push("-f");
    }
    env.strace(&options, args).privileged().run()
}

#[test]
fn a_signal_at_each_call_stops_no_command() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.has("strace", "strace") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    interrupted(&env, false, &["create", "-b", bundle.str(), "web"]).ok();
    for args in [
        &["start", "web"][..],
        &["state", "web"],
        &["list"],
        &["ps", "web"],
        &["exec", "-d", "web", "sleep", "0"],
        &["pause", "web"],
        &["resume", "web"],
        &["kill", "web", "KILL"],
        &["delete", "--force", "web"],
    ] {
        interrupted(&env, false, args).ok();
    }
}

#[test]
fn a_signal_at_each_call_of_the_child_stops_no_command() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that the others do not make") || !env.has("strace", "strace") {
        return;
    }
    let bundle = env.bundle(&["true"]).push("hooks/createContainer", json!({"path": "/bin/true"}));
    bundle.write();
    // strace waits for every process that it follows: none may outlive the command.
    interrupted(&env, true, &["run", "-b", bundle.str(), "once"]).ok();
    env.launch("web", &env.bundle(&["sleep", "100"]));
    interrupted(&env, true, &["exec", "web", "true"]).ok();
    env.delete("web");
}
