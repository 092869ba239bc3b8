//! What a hook or an odd configuration may do: nothing hangs, and nothing of the host is lost by
//! it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::support::{Bundle, Env, patience};

#[test]
fn a_device_of_the_image_gets_its_mode() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["stat", "-c", "%a %t", "/dev/null"]).without_mount("/dev");
    let bundle = bundle.without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let node = bundle.rootfs("dev/null");
    env.program("mknod", &["-m", "600", node.to_str().unwrap(), "c", "1", "3"]).run().ok();
    env.run(&bundle).ok().prints("666 1");
}

/// A configuration whose mounts are made in the runtime's own mount namespace.
fn without_own_mounts(bundle: Bundle) -> Bundle {
    let bundle = bundle.without_namespace("mount");
    bundle.set("linux/maskedPaths", json!([])).set("linux/readonlyPaths", json!([]))
}

#[test]
fn without_a_mount_namespace_only_own_mounts_are_taken_away() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others leave mounts behind") {
        return;
    }
    let bundle = without_own_mounts(env.bundle(&["true"]));
    symlink("rootfs", bundle.path().join("link")).unwrap();
    let bundle = bundle.set("root/path", json!("link"));
    env.run(&bundle).ok(); // the end of the test finds what is left mounted

    let place = bundle.path().join("mounted");
    fs::create_dir(&place).unwrap();
    env.mount(&bundle.rootfs(""), &place, &["--bind"]);
    let bundle = bundle.set("root/path", json!("mounted"));
    env.run(&bundle).ok();
    env.program("mountpoint", &[place.to_str().unwrap()]).run().ok();

    let bundle = bundle.set("root/path", json!("/"));
    env.run(&bundle).fails().says("root.path");
}

/// A hook that runs a line of shell with the container's id at hand.
fn hook(env: &Env, bundle: &Bundle, line: &str) -> serde_json::Value {
    let path = bundle.path().join("hook");
    let runtime = format!("{} --root {}", env.binary().display(), env.root().display());
    fs::write(&path, format!("#!/bin/sh\nRUNTIME='{runtime}'\n{line}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!([{"path": path, "env": ["PATH=/usr/bin:/bin"]}])
}

#[test]
fn a_hook_may_delete_its_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others are not asked to") {
        return;
    }
    for kind in ["createRuntime", "createContainer", "poststart"] {
        let bundle = env.bundle(&["sleep", "1000"]);
        // A start that waits for its hook, which waits for the start, lasts longer than a call may.
        let line = format!("timeout {} $RUNTIME delete --force {kind}", 2 * patience().as_secs());
        let hooks = hook(&env, &bundle, &line);
        let bundle = bundle.edit(|config| config["hooks"] = json!({ kind: hooks }));
        if env.create(kind, &bundle).code == 0 {
            env.runtime(&["start", kind]).ok();
        }
        env.runtime(&["state", kind]).fails().says("does not exist");
    }
}

#[test]
fn delete_does_not_wait_for_a_hook_that_hangs() {
    let Some(env) = Env::new() else { return };
    let script = "#!/bin/sh\nexec sleep 1000\n";
    let bundle = env.bundle(&["true"]);
    fs::write(bundle.rootfs("hook"), script).unwrap();
    fs::set_permissions(bundle.rootfs("hook"), fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = json!({"startContainer": [{"path": "/hook", "env": ["PATH=/bin"]}]});
    let bundle = bundle.edit(|config| config["hooks"] = hooks);
    let id = env.id();
    env.create(&id, &bundle).ok();
    let pid = env.pid(&id);
    let start = env.call(&["start", &id]).start();
    let has_child = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    crate::support::until("the hook runs", || has_child().is_ok_and(|children| !children.is_empty()));
    env.runtime(&["delete", "--force", &id]).ok();
    start.wait();
}

#[test]
fn an_id_that_no_directory_can_have_is_unknown() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others refuse it") {
        return;
    }
    let id = "x".repeat(1024);
    env.runtime(&["state", &id]).fails().says("does not exist");
    env.runtime(&["delete", "--force", &id]).ok();
}

#[test]
fn the_path_of_a_bundle_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let Some(env) = Env::new() else { return };
    if !env.ours("others lose the bytes in their state, or refuse them") {
        return;
    }
    let path = env.dir().join(std::ffi::OsStr::from_bytes(b"b\xff"));
    let hook = |kind: &str| {
        let script = format!("cat >/dev/null; echo {kind} >>hooked");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let bundle = env
        .script("cat /mnt/own; sleep 1000")
        .mount("/mnt", "bind", "data", &["rbind", "ro"])
        .set("hooks/createRuntime", hook("created"))
        .set("hooks/poststop", hook("stopped"));
    fs::create_dir(bundle.path().join("data")).unwrap();
    fs::write(bundle.path().join("data/own"), "of the bundle\n").unwrap();
    bundle.write();
    fs::rename(bundle.path(), &path).unwrap();
    env.call(&["check"]).cwd(&path).run().ok();
    let output = env.call(&["create", "web"]).cwd(&path).run().ok();
    env.runtime(&["start", "web"]).ok();
    crate::support::until("it prints", || output.later() == "of the bundle\n");
    // JSON has no such byte.
    let shown = env.dir().join("b\u{fffd}");
    assert_eq!(env.state("web")["bundle"], shown.to_str().unwrap());
    env.runtime(&["list"]).ok();
    env.runtime(&["exec", "web", "cat", "/mnt/own"]).ok().prints("of the bundle");
    env.delete("web");
    assert_eq!(fs::read_to_string(path.join("hooked")).unwrap(), "created\nstopped\n");
    let start = env.call(&["run", "odd"]).cwd(&path).start();
    crate::support::until("it runs", || {
        let state = env.runtime(&["state", "odd"]);
        state.code == 0 && state.stdout.contains("running")
    });
    env.runtime(&["kill", "odd", "KILL"]).ok();
    start.wait().exits(137);
    fs::remove_file(path.join("config.json")).unwrap();
    env.call(&["spec"]).cwd(&path).run().ok();
}

#[test]
fn a_read_only_cgroup_file_system_leaves_nothing_behind() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let script = format!(
        "mount -o remount,bind,ro /sys/fs/cgroup && $RUNTIME --root $ROOT create -b {} web; code=$?; ls -A $ROOT; exit $code",
        bundle.str()
    );
    let output = env.program("unshare", &["-m", "sh", "-c", &script]);
    output.env("RUNTIME", env.binary()).env("ROOT", env.root()).run().fails().prints("");
}
