//! Names that are exchanged while they are used: CVE-2021-30465, CVE-2019-19921, CVE-2024-45310,
//! CVE-2025-31133.
//!
//! Another container with a share in the same directory can do that. Whether `create` then succeeds
//! is a matter of luck; what it does outside of the root file system, or leaves unprotected, is
//! not.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::Exchange;
use crate::support::{Env, on_test_machine};

/// So many tries find a way that is open for a moment, with each of the patches of tests/mutations.
fn rounds() -> usize {
    if on_test_machine() { 25 } else { 60 }
}

/// A bind mount, and a directory made for a mount, below a name that is now a directory, now a link
/// to a directory of the host.
#[test]
fn a_destination_that_becomes_a_link_does_not_lead_outside() {
    let Some(env) = Env::new() else { return };
    let source = env.dir().join("source");
    let outside = env.dir().join("outside");
    fs::create_dir(&source).unwrap();
    fs::create_dir_all(outside.join("x")).unwrap();
    let seen = env.dir().join("seen");
    let bundle = env.bundle(&["true"]);
    fs::create_dir_all(bundle.rootfs("a/x")).unwrap();
    symlink(&outside, bundle.rootfs("l")).unwrap();
    // In the container's mount namespace, before pivot_root: what is mounted where on the host's
    // paths.
    let look =
        format!("grep ' {} ' /proc/self/mountinfo >>{}; true", outside.join("x").display(), seen.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/usr/bin:/bin"]});
    let bundle = bundle
        .mount("/a/x", "bind", source.to_str().unwrap(), &["bind"])
        .mount("/a/made", "tmpfs", "tmpfs", &[])
        .push("hooks/createContainer", hook);
    let exchange = Exchange::of(&bundle.rootfs("a"), &bundle.rootfs("l"));
    for _ in 0..rounds() {
        let id = env.id();
        if env.create(&id, &bundle).code == 0 {
            env.delete(&id);
        }
        let _ = fs::remove_dir(bundle.rootfs("a/made"));
    }
    drop(exchange);
    assert_eq!(fs::read_to_string(&seen).unwrap_or_default(), "", "mounted on a directory of the host");
    let made = fs::read_dir(&outside).unwrap().count();
    assert_eq!(made, 1, "made in a directory of the host");
}

/// Between mounting /dev and creating its nodes: they would be created in the root file system on
/// disk, where others who share it find a device that their own rules forbid.
#[test]
fn no_device_is_made_on_disk_when_dev_is_exchanged() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others look the name up again") {
        return;
    }
    let bundle = env.bundle(&["true"]);
    fs::create_dir(bundle.rootfs("dev2")).unwrap();
    for (directory, name) in [("dev", "pts"), ("dev", "shm"), ("dev", "mqueue"), ("dev2", "pts")] {
        fs::create_dir(bundle.rootfs(directory).join(name)).unwrap();
    }
    let exchange = Exchange::of(&bundle.rootfs("dev"), &bundle.rootfs("dev2"));
    for _ in 0..rounds() {
        let id = env.id();
        if env.create(&id, &bundle).code == 0 {
            env.delete(&id);
        }
    }
    drop(exchange);
    for directory in ["dev", "dev2"] {
        for name in ["null", "zero", "tty", "fd", "stdin", "ptmx"] {
            let path = bundle.rootfs(directory).join(name);
            assert!(fs::symlink_metadata(&path).is_err(), "{} was made", path.display());
        }
    }
}

/// The masks of /proc come after its mounting, by names that lead to it or elsewhere.
#[test]
fn no_mask_is_lost_when_proc_is_exchanged() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others look the name up again") {
        return;
    }
    let script = "for at in /proc /other; do test -e $at/keys && stat -c '%n %F' $at/keys; done; true";
    let bundle = env.script(script).set("linux/readonlyPaths", json!([]));
    fs::create_dir(bundle.rootfs("other")).unwrap();
    let exchange = Exchange::of(&bundle.rootfs("proc"), &bundle.rootfs("other"));
    for _ in 0..rounds() {
        let output = env.run(&bundle);
        assert!(!output.stdout.contains("regular"), "not masked: {}", output.stdout);
    }
    drop(exchange);
}
