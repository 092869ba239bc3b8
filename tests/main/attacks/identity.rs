//! Rights that a process has beyond what was asked: inheritable capabilities (CVE-2022-29162,
//! CVE-2022-27650), groups of the runtime's caller (CVE-2022-2995), a user that was read as root
//! (CVE-2026-30892, CVE-2016-3697), variables of the image in hooks (CVE-2025-23266).

use std::fs;

use serde_json::json;

use super::capabilities;
use crate::support::{Bundle, Env, Output};

const SETS: &str = "grep -E 'Cap(Inh|Amb)' /proc/self/status | cut -f 2";
const NONE: &str = "0000000000000000\n0000000000000000";

#[test]
fn no_capability_is_inheritable() {
    let Some(env) = Env::new() else { return };
    // A caller's own may be, and must not be handed down.
    let with_inheritable =
        |args: &[&str]| env.program("setpriv", &[&["--inh-caps", "+kill,+net_raw"], args].concat()).run();
    let bundle = env.script(SETS);
    bundle.write();
    let (program, root) = (env.binary().to_str().unwrap(), env.root());
    let root = root.to_str().unwrap();
    with_inheritable(&[program, "--root", root, "run", "-b", bundle.str(), "one"]).ok().prints(NONE);
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let exec = [program, "--root", root, "exec", "--cap", "CAP_SYS_ADMIN", "--cap", "CAP_NET_RAW"];
    with_inheritable(&[&exec[..], &["web", "sh", "-c", SETS]].concat()).ok().prints(NONE);
    env.delete("web");
}

/// The five sets, each once; a runtime that leaves them alone shows those of root.
const ALL_SETS: &str = "grep -E '^Cap' /proc/self/status | cut -f 2 | sort -u";

/// A config.json, or a process.json for such a container, that is silent on capabilities, or on
/// each of the sets, grants none.
#[test]
fn a_config_without_capabilities_grants_none() {
    const ZERO: &str = "0000000000000000";
    let mapping = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    let Some(env) = Env::new() else { return };
    let silent = |args: &[&str]| {
        env.bundle(args).edit(|config| {
            config["process"].as_object_mut().unwrap().remove("capabilities");
            config["process"]["noNewPrivileges"] = json!(false);
        })
    };
    let mapped = |bundle: Bundle| {
        let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
        bundle.set("linux/gidMappings", mapping.clone())
    };
    type Change<'a> = &'a dyn Fn(Bundle) -> Bundle;
    let changes: [(&str, Change<'_>); 6] = [
        ("plain", &|bundle| bundle),
        ("null", &|bundle| bundle.set("process/capabilities", json!(null))),
        ("empty", &|bundle| bundle.set("process/capabilities", json!({}))),
        ("filter", &|bundle| bundle.set("linux/seccomp", filter.clone())),
        ("user namespace", &mapped),
        ("another user", &|bundle| bundle.set("process/user", json!({"uid": 1000, "gid": 1000}))),
    ];
    let document = env.dir().join("process.json");
    let process = json!({"args": ["sh", "-c", ALL_SETS], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    fs::write(&document, process.to_string()).unwrap();
    for (name, change) in changes {
        println!("{name}");
        env.run(&change(silent(&["sh", "-c", ALL_SETS]))).ok().prints(ZERO);
        env.launch("web", &change(silent(&["sleep", "1000"])));
        env.runtime(&["exec", "web", "sh", "-c", ALL_SETS]).ok().prints(ZERO);
        env.runtime(&["exec", "--process", document.to_str().unwrap(), "web"]).ok().prints(ZERO);
        // Only what is named is added, and none of it is inheritable.
        let exec = ["exec", "--user", "0", "--cap", "CAP_KILL", "web", "sh", "-c", ALL_SETS];
        env.runtime(&exec).ok().prints("0000000000000000\n0000000000000020");
        env.delete("web");
    }
    let by_set = |set: &str| json!({set: ["CAP_KILL"]});
    for (set, want) in
        [("bounding", "0000000000000000\n0000000000000020"), ("permitted", ZERO), ("effective", ZERO)]
    {
        // execve(2) of root takes what is permitted from the bounding set.
        env.run(&silent(&["sh", "-c", ALL_SETS]).set("process/capabilities", by_set(set))).ok().prints(want);
    }
}

#[test]
fn a_config_without_capabilities_grants_a_rootless_user_none() {
    let Some(env) = Env::rootless() else { return };
    let silent = |args: &[&str]| {
        env.bundle(args).edit(|config| {
            config["process"].as_object_mut().unwrap().remove("capabilities");
        })
    };
    env.run(&silent(&["sh", "-c", ALL_SETS])).ok().prints("0000000000000000");
    env.launch("web", &silent(&["sleep", "1000"]));
    env.runtime(&["exec", "web", "sh", "-c", ALL_SETS]).ok().prints("0000000000000000");
    env.delete("web");
}

/// `id -G` of a runtime that is called with further groups.
fn groups(env: &Env, words: &[&str]) -> Output {
    let root = env.root();
    let call = ["--groups", "0,4,27,65533", env.binary().to_str().unwrap(), "--root", root.to_str().unwrap()];
    env.program("setpriv", &[&call[..], words].concat()).run()
}

#[test]
fn groups_of_the_caller_are_not_kept() {
    let Some(env) = Env::new() else { return };
    let user = json!({"uid": 1000, "gid": 1000});
    let mapping = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let plain = |args: &[&str]| env.bundle(args).set("process/user", user.clone());
    let mapped = |args: &[&str]| {
        let bundle = plain(args).namespace("user", None).set("linux/uidMappings", mapping.clone());
        bundle.set("linux/gidMappings", mapping.clone())
    };
    for in_user_namespace in [false, true] {
        let make = |args: &[&str]| if in_user_namespace { mapped(args) } else { plain(args) };
        let bundle = make(&["id", "-G"]);
        bundle.write();
        groups(&env, &["run", "-b", bundle.str(), &env.id()]).ok().prints("1000");
        env.launch("web", &make(&["sleep", "1000"]));
        groups(&env, &["exec", "web", "id", "-G"]).ok().prints("1000");
        groups(&env, &["exec", "-u", "7:8", "-g", "9", "web", "id", "-G"]).ok().prints("8 9");
        env.delete("web");
    }
}

/// Once a single id is mapped without rights, no process inside may drop a group that denies it
/// something.
#[test]
fn a_rootless_user_cannot_set_groups() {
    let Some(env) = Env::rootless() else { return };
    env.run(&env.bundle(&["cat", "/proc/self/setgroups"])).ok().prints("deny");
}

#[test]
fn the_user_of_exec_is_read_as_written() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "1000"]).set("process/user", json!({"uid": 1000, "gid": 1000}));
    // An image may call its root by any name, a number too (CVE-2016-3697).
    fs::write(
        bundle.rootfs("etc/passwd"),
        "1:x:0:0::/:/bin/sh\n99999999999:x:0:0::/:/bin/sh\nx:x:0:0::/:/bin/sh\n",
    )
    .unwrap();
    env.launch("web", &bundle);
    let exec = |user: &str| env.runtime(&["exec", "--user", user, "web", "sh", "-c", "id -u; id -g"]);
    exec("1").ok().prints("1\n1000");
    exec("1:2").ok().prints("1\n2");
    exec("4294967294").ok().prints("4294967294\n1000");
    exec("0").ok().prints("0\n1000");
    let odd = [
        "",
        ":",
        ":0",
        "1:",
        "1:2:3",
        "-1",
        "-0",
        "+1",
        " 1",
        "1 ",
        "1,2",
        "0x1",
        "1e3",
        "1.0",
        "x",
        "root",
        "1x",
        "x1",
        "99999999999",
        "4294967295",
        "4294967296",
        "8589934592:1",
        "1:4294967296",
        "18446744073709551616",
        "１",
    ];
    for user in odd {
        let output = env.runtime(&[
            &format!("--log={}", env.dir().join("run/log").display()),
            "exec",
            &format!("--user={user}"),
            "web",
            "id",
            "-u",
        ]);
        output.fails().prints("");
    }
    for groups in ["-1", "4294967296", "4294967295", "x", ""] {
        env.runtime(&["exec", &format!("--additional-gids={groups}"), "web", "id", "-G"]).fails().prints("");
    }
    env.delete("web");
}

/// setresuid(2) takes (uid_t) -1 as: leave it as it is.
#[test]
fn the_id_4294967295_does_not_mean_root() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["id", "-u"]).set("process/user/uid", json!(u32::MAX));
    env.run(&bundle).fails().says("process.user.uid");
}

/// A hook is a program of the host: with LD_PRELOAD of the image it would run the image's code
/// outside.
#[test]
fn variables_of_the_image_do_not_reach_hooks() {
    let Some(env) = Env::new() else { return };
    let said = env.dir().join("said");
    let line = |kind: &str| {
        format!("echo {kind} $(env | grep -e ^LD_PRELOAD -e ^LD_AUDIT -e ^EVIL) >>{}", said.display())
    };
    // In the container the directory must be seen.
    let directory = env.dir().to_str().unwrap().to_owned();
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let bundle = env.bundle(&["true"]).mount(&directory, "bind", &directory, &["rbind", "rw"]).set(
        "process/env",
        json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_AUDIT=/proc/self/cwd/evil.so", "EVIL=1"]),
    );
    let bundle = kinds.iter().fold(bundle, |bundle, kind| {
        let hook =
            json!({"path": "/bin/sh", "args": ["sh", "-c", line(kind)], "env": ["PATH=/usr/bin:/bin"]});
        bundle.push(&format!("hooks/{kind}"), hook)
    });
    bundle.write();
    // Hooks that name an environment do not get that of the runtime's caller either.
    let call =
        env.call(&["run", "-b", bundle.str(), "web"]).env("LD_PRELOADED_BY", "caller").env("EVIL", "2");
    call.run().ok();
    assert_eq!(fs::read_to_string(&said).unwrap(), kinds.join("\n") + "\n");

    // Without one, those that run outside of the container have the caller's; never the image's.
    fs::remove_file(&said).unwrap();
    let outside = kinds.iter().filter(|kind| **kind != "startContainer");
    let bundle = bundle.edit(|config| {
        let hooks = config["hooks"].as_object_mut().unwrap();
        hooks.remove("startContainer");
        hooks.values_mut().for_each(|list| drop(list[0].as_object_mut().unwrap().remove("env")));
    });
    bundle.write();
    env.call(&["run", "-b", bundle.str(), "web"]).env("EVIL", "2").run().ok();
    let want: String = outside.map(|kind| format!("{kind} EVIL=2\n")).collect();
    assert_eq!(fs::read_to_string(&said).unwrap(), want);
}

#[test]
fn capabilities_that_were_not_granted_cannot_be_gained() {
    let Some(env) = Env::new() else { return };
    let script = "grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status | cut -f 2 | sort -u";
    let bundle = env.script(script).set("process/capabilities", capabilities(&["CAP_KILL"]));
    let bundle = bundle.set("process/noNewPrivileges", json!(true));
    env.run(&bundle).ok().prints("0000000000000020\n1");
}
