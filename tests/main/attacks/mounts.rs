//! The host's file systems and mounts, changed through what the container mounts or has mounted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::capabilities;
use crate::support::{Bundle, Env};

/// A tmpfs in the test's mount namespace, which represents a file system of the host.
fn file_system(env: &Env) -> PathBuf {
    let path = env.dir().join("host");
    fs::create_dir(&path).unwrap();
    env.mount("tmpfs".as_ref(), &path, &["-t", "tmpfs", "-o", "size=1m"]);
    path
}

/// What the host sees of its mounts, and whether it can still write to that file system.
fn seen(env: &Env, path: &Path) -> String {
    let write = env.shell(&format!("echo new >{}/new", path.display()));
    assert_eq!(write.code, 0, "the host cannot write any more: {write:?}");
    env.mount_table()
}

/// A file system that is read-only is so for everybody who has it mounted, and stays so.
#[test]
fn a_remount_does_not_change_the_hosts_file_system() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others change it where bind is missing") {
        return;
    }
    let path = file_system(&env);
    let source = path.to_str().unwrap();
    let before = seen(&env, &path);
    let script = "touch /m/inside 2>/dev/null && echo written; true";
    let remount = |options: &[&str]| {
        env.script(script).mount("/m", "bind", source, &["rbind"]).mount("/m", "none", "none", options)
    };
    for options in
        [&["bind", "remount", "ro"][..], &["remount", "rbind", "ro"], &["ro", "remount", "bind", "private"]]
    {
        env.run(&remount(options)).ok().prints("");
        assert_eq!(seen(&env, &path), before, "{options:?}");
    }
    let by_type = env.script(script).mount("/m", "bind", source, &["bind"]).mount(
        "/m",
        "bind",
        "none",
        &["remount", "ro"],
    );
    env.run(&by_type).ok().prints("");
    assert_eq!(seen(&env, &path), before);
    for options in [&["remount", "ro"][..], &["remount", "sync"], &["remount", "size=4k"], &["remount"]] {
        let output = env.run(&remount(options)).fails().says("].options: remount without bind");
        assert_eq!(output.stdout, "");
        assert_eq!(seen(&env, &path), before, "{options:?}");
    }
}

/// Of what else is the host's: the root file system, sysfs and mqueue without namespaces of their
/// own, cgroups.
#[test]
fn a_remount_of_a_file_system_shared_with_the_host_is_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others change it") {
        return;
    }
    let refused = |bundle: Bundle, destination: &str| {
        let bundle = bundle.mount(destination, "none", "none", &["remount", "nosuid"]);
        env.run(&bundle).fails().says("].options: remount without bind");
    };
    refused(env.bundle(&["true"]), "/");
    refused(env.bundle(&["true"]), "/tmp");
    refused(env.bundle(&["true"]), "/sys/fs/cgroup");
    refused(env.bundle(&["true"]).without_namespace("network"), "/sys");
    refused(env.bundle(&["true"]).without_namespace("ipc"), "/dev/mqueue");
    refused(env.bundle(&["true"]).without_namespace("pid"), "/proc");
    let root = env.script("touch /new 2>/dev/null || echo refused").mount(
        "/",
        "none",
        "none",
        &["bind", "remount", "ro"],
    );
    env.run(&root).ok().prints("refused");
    fs::write(root.rootfs("new"), "").unwrap();
}

/// A link of the image has the host's file system mounted where config.json has the container's
/// own.
#[test]
fn a_link_does_not_lead_a_remount_to_the_hosts_file_system() {
    let Some(env) = Env::new() else { return };
    let path = file_system(&env);
    let before = seen(&env, &path);
    let bundle = env.bundle(&["true"]);
    symlink("own", bundle.rootfs("volume")).unwrap();
    let bundle = bundle
        .mount("/own", "tmpfs", "tmpfs", &["size=64k"])
        .mount("/volume", "bind", path.to_str().unwrap(), &["bind"])
        .mount("/own", "tmpfs", "tmpfs", &["remount", "ro", "size=128k"]);
    let _either_is_right = env.run(&bundle);
    assert_eq!(seen(&env, &path), before);
}

const MOUNT_ANEW: &str = "unshare -mrpf mount -t proc proc /tmp 2>/dev/null && echo procfs; \
    unshare -mrpfn mount -t sysfs sysfs /tmp 2>/dev/null && echo sysfs; true";

/// The kernel lets a user namespace mount a procfs without masks only where it sees one already.
/// Without pivot_root the host's stay below the root.
#[test]
fn without_pivot_root_no_unmasked_procfs_can_be_mounted() {
    let Some(env) = Env::new() else { return };
    let run = |bundle: Bundle| {
        let bundle = bundle.set("process/capabilities", capabilities(&["CAP_SETFCAP"]));
        bundle.write();
        env.runtime(&["run", "--no-pivot", "-b", bundle.str(), &env.id()]).ok().prints("");
    };
    // One more, at an unusual place.
    let hidden = env.dir().join("hidden");
    fs::create_dir(&hidden).unwrap();
    env.mount("proc".as_ref(), &hidden, &["-t", "proc"]);
    env.mount("proc".as_ref(), &hidden, &["-t", "proc"]);
    let host = env.mount_table();
    run(env.script(MOUNT_ANEW));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env
        .script(MOUNT_ANEW)
        .namespace("user", None)
        .set("linux/uidMappings", map.clone())
        .set("linux/gidMappings", map);
    env.program("chown", &["-R", "100000:100000", bundle.rootfs("").to_str().unwrap()]).run().ok();
    if env.ours("others cover what they cannot unmount, but not twice") {
        run(bundle);
    }
    assert_eq!(env.mount_table(), host);
}

/// What is unmounted and moved for it is not passed on to the host, whose mounts are shared with
/// the container's on request.
#[test]
fn without_pivot_root_the_hosts_mounts_do_not_change() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others move their root over the host's") {
        return;
    }
    // A covered mount below the host's procfs, as systemd's for binfmt_misc is: it has no path of
    // its own.
    let covered = Path::new("/proc/sys/fs/binfmt_misc");
    env.mount("tmpfs".as_ref(), covered, &["-t", "tmpfs"]);
    env.mount("tmpfs".as_ref(), covered, &["-t", "tmpfs"]);
    // The mount that a root file system is on becomes private, in which case nothing could reach
    // the host; here that is not the mount that /proc is on.
    let bundle = env.bundle(&["true"]);
    env.mount(bundle.path(), bundle.path(), &["--bind"]);
    env.program("mount", &["--make-rshared", "/"]).run().ok();
    let host = env.mount_table();
    let mut bundles = vec![bundle, env.bundle(&["true"])];
    for propagation in ["shared", "rshared", "slave", "private", "unbindable"] {
        for at in 0..bundles.len() {
            let bundle = bundles.remove(0).set("linux/rootfsPropagation", json!(propagation));
            bundle.write();
            env.runtime(&["run", "--no-pivot", "-b", bundle.str(), &env.id()]).ok();
            assert_eq!(env.mount_table(), host, "{propagation}, bundle {at}");
            bundles.push(bundle);
        }
    }
}
