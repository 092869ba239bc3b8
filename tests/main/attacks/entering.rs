//! The runtime's processes on their way into a container, watched by one that is there:
//! CVE-2016-9962, CVE-2019-5736's kin.
//!
//! With CAP_SYS_PTRACE and no user namespace of its own a container may look into all that it sees,
//! by /proc/PID/root, cwd, fd and mem.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::{actor, capabilities};
use crate::support::{Bundle, Env, on_test_machine, until};

/// How often the runtime enters while it is watched.
fn rounds() -> usize {
    if on_test_machine() { 30 } else { 100 }
}

/// A file of the host that no container has.
fn marker(env: &Env) -> PathBuf {
    let marker = env.dir().join("marker");
    fs::write(&marker, "").unwrap();
    marker
}

/// A container that watches all processes that it sees.
fn watching(env: &Env, part: &str, rights: &[&str]) -> Bundle {
    let part =
        if part == "look" { format!("look-into-all {}", marker(env).display()) } else { part.to_owned() };
    let bundle = actor::playing(env.bundle(&[]).namespace("cgroup", None), &part);
    bundle.set("process/capabilities", capabilities(rights))
}

/// Starts it as `web`, and waits until it watches.
fn launch(env: &Env, bundle: &Bundle) {
    env.launch("web", bundle);
    until("the attacker watches", || bundle.rootfs("tmp/looking").exists());
}

/// Asserts that it has found nothing.
fn found_nothing(bundle: &Bundle) {
    for found in ["seen", "memory", "seized"] {
        let what = fs::read_to_string(bundle.rootfs(&format!("tmp/{found}")));
        assert!(what.is_err(), "{found}: {what:?}");
    }
}

/// Launches it, and enters it again and again.
fn enter_often(env: &Env, bundle: &Bundle, count: usize) {
    launch(env, bundle);
    for _ in 0..count {
        // A tracer may have its end; what it has got of it is the question.
        let _ = env.runtime(&["exec", "web", "true"]);
    }
    found_nothing(bundle);
    env.delete("web");
}

#[test]
fn a_tracer_finds_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let bundle = watching(&env, "look", &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    enter_often(&env, &bundle, rounds());
}

#[test]
fn root_without_capabilities_finds_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let bundle = watching(&env, "look", &[]);
    enter_often(&env, &bundle, rounds());
}

#[test]
fn root_of_a_user_namespace_finds_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let all = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    let bundle = watching(&env, "look", &all).namespace("user", None);
    env.program("chown", &["-hR", "100000:100000", bundle.rootfs("").to_str().unwrap()]).run().ok();
    let bundle = bundle.set("linux/uidMappings", mapping.clone()).set("linux/gidMappings", mapping);
    enter_often(&env, &bundle, rounds());
}

/// Containers of a pod share a pid namespace: what is there watches how the next one is made.
#[test]
fn a_process_of_the_same_pid_namespace_finds_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let tracer = &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"][..];
    for (part, rights) in [("look", &[][..]), ("look", tracer), ("seize-all", tracer)] {
        let bundle = watching(&env, part, rights);
        launch(&env, &bundle);
        let joined = format!("/proc/{}/ns/pid", env.pid("web"));
        let other = env
            .bundle(&["true"])
            .namespace("pid", Some(&joined))
            .set("process/capabilities", capabilities(&[]));
        for _ in 0..rounds() / 4 {
            env.run(&other).ok();
        }
        found_nothing(&bundle);
        env.delete("web");
    }
}

/// A mount of proc shows the container's pid namespace, which its maker therefore enters.
#[test]
fn a_process_finds_no_file_of_the_host_while_mounts_are_added() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let bundle = watching(&env, "look", &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    launch(&env, &bundle);
    let list = env.dir().join("mounts.json");
    // Several at once: each is a moment to be seen in.
    let mounts: Vec<_> = (0..6).map(|at| json!({"destination": format!("/p{at}"), "type": "proc"})).collect();
    fs::write(&list, json!(mounts).to_string()).unwrap();
    for _ in 0..rounds() / 4 {
        env.runtime(&["mounts", "add", "web", list.to_str().unwrap()]).ok();
    }
    found_nothing(&bundle);
    env.delete("web");
}

/// A tracer controls the traced process, with its rights.
#[test]
fn a_tracer_cannot_attach_to_a_process_with_more_rights() {
    let Some(env) = Env::new() else { return };
    // Filters as engines have them, which allow a process more; without no_new_privs they are
    // loaded by who has rights.
    let refusing = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["clone3", "mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    ]});
    for (filter, no_new_privileges) in [(json!(null), false), (refusing.clone(), false), (refusing, true)] {
        let bundle = watching(&env, "seize-all", &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
        let bundle =
            bundle.set("linux/seccomp", filter).set("process/noNewPrivileges", json!(no_new_privileges));
        enter_often(&env, &bundle, rounds() / 2);
    }
}
