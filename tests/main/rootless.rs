//! An unprivileged user runs the runtime: no cgroup of its own, one mapped id or those of
//! /etc/subuid.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::{Env, NOBODY};

#[test]
fn the_default_config_runs() {
    let Some(env) = Env::rootless() else { return };
    if env.differs("crun", "maps the sub-ids without being asked") {
        return;
    }
    env.run(&env.script("id -u; cat /proc/self/uid_map | tr -s ' '"))
        .ok()
        .prints(&format!("0\n 0 {NOBODY} 1"));
}

#[test]
fn exit_status_and_life_cycle() {
    let Some(env) = Env::rootless() else { return };
    env.run(&env.script("exit 9")).exits(9);
    env.launch("web", &env.bundle(&["sleep", "100"]));
    assert_eq!(env.state("web")["status"], "running");
    env.runtime(&["delete", "web"]).fails();
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn files_belong_to_the_user() {
    let Some(env) = Env::rootless() else { return };
    let bundle = env.script("touch /tmp/mine; stat -c %u /tmp/mine");
    env.run(&bundle).ok().prints("0");
    assert_eq!(std::fs::metadata(bundle.rootfs("tmp/mine")).unwrap().uid(), NOBODY);
}

#[test]
fn sub_ids_are_mapped_by_the_helpers() {
    let Some(env) = Env::rootless() else { return };
    if env.program("newuidmap", &[]).run().code == 127 {
        println!("skipped: needs newuidmap (package uidmap)");
        return;
    }
    let mappings = json!([
        {"containerID": 0, "hostID": NOBODY, "size": 1},
        {"containerID": 1, "hostID": 200_000, "size": 65536},
    ]);
    let bundle = env
        .script("id -u; id -g; wc -l </proc/self/uid_map; chown 1000:1000 /tmp/f && stat -c '%u %g' /tmp/f")
        .set("linux/uidMappings", mappings.clone())
        .set("linux/gidMappings", mappings);
    std::fs::write(bundle.rootfs("tmp/f"), "").unwrap();
    std::os::unix::fs::chown(bundle.rootfs("tmp/f"), Some(NOBODY), Some(NOBODY)).unwrap();
    let all = json!(["CAP_CHOWN"]);
    let sets = json!({"bounding": all, "permitted": all, "effective": all});
    let bundle = bundle.set("process/capabilities", sets);
    env.run(&bundle).ok().prints("0\n0\n2\n1000 1000");
    let file = std::fs::metadata(bundle.rootfs("tmp/f")).unwrap();
    assert_eq!((file.uid(), file.gid()), (200_999, 200_999));
}

#[test]
fn ids_of_others_cannot_be_mapped() {
    let Some(env) = Env::rootless() else { return };
    let bundle =
        env.script("true").set("linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    env.create("web", &bundle).fails();
    let bundle = env.script("true").set(
        "linux/uidMappings",
        json!([
            {"containerID": 0, "hostID": NOBODY, "size": 1},
            {"containerID": 1, "hostID": 300_000, "size": 10},
        ]),
    );
    env.create("web", &bundle).fails();
}

#[test]
fn the_default_root_is_in_the_runtime_directory() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("each has its own place") {
        return;
    }
    let bundle = env.script("exec sleep 100");
    bundle.write();
    let program = env.binary().to_str().unwrap();
    env.program(program, &["create", "-b", bundle.str(), "web"]).run().ok();
    assert!(env.dir().join("run/emergence-runc/web").is_dir());
    env.program(program, &["list", "-q"]).run().ok().prints("web");
    env.program(program, &["delete", "--force", "web"]).run().ok();
    assert!(!env.dir().join("run/emergence-runc/web").exists());
}

/// Rootless engines are root in a user namespace of their own, from which a pid namespace of the
/// host cannot be entered again.
#[test]
fn root_of_a_user_namespace_makes_and_enters_containers() {
    let Some(env) = Env::rootless() else { return };
    let bundle = env.bundle(&["sleep", "1000"]).without_namespace("user").edit(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    bundle.write();
    let joins = env.bundle(&["sh", "-c", "ps | grep -c 'sleep 1000$'"]).edit(|config| {
        config["linux"] = bundle.config["linux"].clone();
    });
    let joins = joins.namespace("pid", Some("/proc/self/fd/9"));
    joins.write();
    let script = format!(
        "runtime=\"$RUNTIME --root $ROOT\"
        $runtime run -d -b {} web && $runtime exec web sh -c 'id -u; exit 4'; echo $?
        pid=$($runtime state web | grep -o '\"pid\": [0-9]*' | cut -d' ' -f2)
        cd /proc/$pid/ns && exec 9<pid && $runtime run -b {} beside; $runtime delete -f web",
        bundle.str(),
        joins.str()
    );
    let call = env.program("unshare", &["--user", "--map-root-user", "sh", "-c", &script]);
    call.env("RUNTIME", env.binary()).env("ROOT", env.root()).run().ok().prints("0\n4\n1");
}
