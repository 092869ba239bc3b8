//! What an image, a hook or an odd configuration may try: nothing of the host is made, run, read or lost by it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Bundle, Env};

/// More parents than any test folder is deep.
const UP: &str = "../../../../../../../../../..";

#[test]
fn a_link_over_a_missing_name_makes_nothing_outside() {
    let Some(env) = Env::new() else { return };
    let outside = env.dir().join("outside");
    let bundle = env.bundle(&["true"]).mount("/data/x", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.mount("/file", "bind", "/etc/hostname", &["bind"]);
    symlink(format!("missing/{UP}{}", outside.display()), bundle.rootfs("data")).unwrap();
    symlink(format!("gone/{UP}{}/file", outside.display()), bundle.rootfs("file")).unwrap();
    env.run(&bundle).ok();
    assert!(!outside.exists());
}

#[test]
fn links_to_descriptors_run_nothing_of_the_host() {
    let Some(env) = Env::new() else { return };
    let program = env.dir().join("host-busybox");
    fs::copy("/bin/busybox", &program).unwrap();
    let names: Vec<_> = (3..16).map(|number| format!("/fd{number}")).collect();
    let script = names.iter().fold(String::new(), |script, name| format!("{script} {name} echo broken out;"));
    let bundle = env.script(&script);
    for (number, name) in (3..16).zip(&names) {
        symlink(format!("/proc/self/fd/{number}/{UP}{}", program.display()), bundle.rootfs(name)).unwrap();
    }
    env.run(&bundle).exits(127);
    let mut bundle = bundle;
    for name in &names {
        bundle = bundle.set("process/args", json!([name, "echo", "broken out"]));
        env.run(&bundle).fails().prints("");
        let id = env.id();
        env.create(&id, &bundle).fails();
    }
}

#[test]
fn links_to_descriptors_read_nothing_of_the_host() {
    let Some(env) = Env::new() else { return };
    let passwd = env.dir().join("host-passwd");
    fs::write(&passwd, "root:x:0:0:root:/of-the-host:/bin/sh\n").unwrap();
    let bundle = env.bundle(&["printenv", "HOME"]).set("process/args", json!(["sh", "-c", "echo $HOME"]));
    for number in 3..16 {
        let _ = fs::remove_file(bundle.rootfs("etc/passwd"));
        let link = format!("/proc/self/fd/{number}/{UP}{}", passwd.display());
        symlink(link, bundle.rootfs("etc/passwd")).unwrap();
        let id = env.id();
        let output = env.launch(&id, &bundle);
        env.wait_for(&id, "stopped");
        assert_eq!(output.later(), "/\n", "descriptor {number}");
        env.delete(&id);
    }
}

#[test]
fn the_runtimes_program_cannot_be_written_to() {
    use std::os::fd::AsRawFd;
    let Some(env) = Env::new() else { return };
    env.own_program();
    let bundle = env.bundle(&["/self", "--version"]);
    symlink("/proc/self/exe", bundle.rootfs("self")).unwrap();
    let id = env.id();
    env.create(&id, &bundle).ok();
    let held = rustix::fs::open(
        format!("/proc/{}/exe", env.pid(&id)),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let held = held.unwrap();
    env.runtime(&["start", &id]);
    env.delete(&id);
    let opened = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", held.as_raw_fd()));
    assert_eq!(opened.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn the_number_for_no_id_does_not_mean_root() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["id", "-u"]).set("process/user/uid", json!(u32::MAX));
    env.run(&bundle).fails().says("process.user.uid");
}

#[test]
fn a_device_of_the_image_gets_its_mode() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["stat", "-c", "%a %t", "/dev/null"]).without_mount("/dev");
    let bundle = bundle.without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let node = bundle.rootfs("dev/null");
    env.program("mknod", &["-m", "600", node.to_str().unwrap(), "c", "1", "3"]).run().ok();
    env.run(&bundle).ok().prints("666 1");
}

#[test]
fn a_passwd_of_terabytes_holds_nobody_up() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("echo $HOME");
    fs::File::create(bundle.rootfs("etc/passwd")).unwrap().set_len(8 << 40).unwrap();
    if env.ours("the others need the whole file") {
        env.run(&bundle).ok().prints("/");
    }
}

#[test]
fn masks_stay_on_proc_when_its_name_is_exchanged() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others look the names up again") {
        return;
    }
    let script = "for at in /proc /other; do test ! -r $at/self/status || echo reached; done";
    for change in ["mkdir proc", "ln -s tmp proc", "ln -s other/self proc", "true"] {
        let bundle = env.script(script);
        let hooks =
            hook(&env, &bundle, &format!("cd {} && mv proc other && {change}", bundle.rootfs("").display()));
        let bundle = bundle.edit(|config| config["hooks"] = json!({"createRuntime": hooks}));
        let output = env.run(&bundle).fails().says("/proc");
        assert_eq!(output.stdout, "", "{change}");
    }
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
        let line = format!("timeout 5 $RUNTIME delete --force {kind}");
        let hooks = hook(&env, &bundle, &line);
        let bundle = bundle.edit(|config| config["hooks"] = json!({ kind: hooks }));
        if env.create(kind, &bundle).code == 0 {
            let began = Instant::now();
            env.runtime(&["start", kind]).ok();
            assert!(began.elapsed() < Duration::from_secs(4), "the hook and start waited for each other");
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
fn an_id_that_no_folder_can_have_is_unknown() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others refuse it") {
        return;
    }
    let id = "x".repeat(1024);
    env.runtime(&["state", &id]).fails().says("does not exist");
    env.runtime(&["delete", "--force", &id]).ok();
}

#[test]
fn a_bundle_whose_path_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let path = env.dir().join(std::ffi::OsStr::from_bytes(b"b\xff"));
    fs::rename(bundle.path(), &path).unwrap();
    let output = env.call(&["run", "odd"]).cwd(&path).run();
    if env.ours("the others differ") {
        output.fails().says("not UTF-8");
    }
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
