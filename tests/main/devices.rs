//! `linux.devices`, the default devices and links, over what exists already and in user namespaces:
//! config-linux.md, "Devices".

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Bundle, Env};

const BASE: u32 = 100_000;

/// Root of the container is the host's `BASE`.
fn mapped(env: &Env, bundle: Bundle) -> Bundle {
    let owner = format!("{BASE}:{BASE}");
    env.program("chown", &["-hR", &owner, bundle.rootfs("").to_str().unwrap()]).run().ok();
    let mapping = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    let bundle = bundle.namespace("user", None);
    bundle.set("linux/uidMappings", mapping.clone()).set("linux/gidMappings", mapping)
}

fn without_dev(bundle: Bundle) -> Bundle {
    ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"].into_iter().fold(bundle, Bundle::without_mount)
}

fn node(env: &Env, path: &Path, mode: &str, number: [&str; 3]) {
    let [kind, major, minor] = number;
    env.program("mknod", &["-m", mode, path.to_str().unwrap(), kind, major, minor]).run().ok();
}

fn null(path: &str) -> Value {
    json!([{"path": path, "type": "c", "major": 1, "minor": 3}])
}

/// A directory of the host with something at `x`, bound on /data.
fn bound(env: &Env, name: &str, script: &str, make: impl FnOnce(&Path)) -> (PathBuf, Bundle) {
    let directory = env.dir().join(name);
    fs::create_dir(&directory).unwrap();
    make(&directory.join("x"));
    let bundle = env.script(script).mount("/data", "bind", directory.to_str().unwrap(), &["bind", "dev"]);
    (directory.join("x"), bundle)
}

#[test]
fn an_identical_node_serves_and_one_with_another_mode_stays_as_it_is() {
    let Some(env) = Env::new() else { return };
    let script = "stat -c '%a %u %g %t:%T' /data/x; echo 1 >/data/x && echo written";
    let make = |path: &Path| node(&env, path, "640", ["c", "1", "3"]);
    let (path, bundle) = bound(&env, "same", script, make);
    let before = fs::metadata(&path).unwrap();
    env.run(&bundle.set("linux/devices", null("/data/x"))).ok().prints("640 0 0 1:3\nwritten");
    if !env.ours("the others do not see to the mode of a node that exists") {
        return;
    }
    for (name, user) in [("other", false), ("other-user", true)] {
        let (path, bundle) = bound(&env, name, script, make);
        let bundle = if user { mapped(&env, bundle) } else { bundle };
        let mut device = null("/data/x");
        device[0]["fileMode"] = json!(0o622);
        device[0]["uid"] = json!(7);
        env.run(&bundle.set("linux/devices", device)).ok().prints("622 7 0 1:3\nwritten");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    }
}

#[test]
fn a_default_device_leaves_what_config_json_mounts_there() {
    let Some(env) = Env::new() else { return };
    let script = "stat -c %t:%T /dev/random /dev/ptmx /dev/null";
    let bundle = env.script(script).mount("/dev/random", "bind", "/dev/urandom", &["bind"]);
    let bundle = bundle.mount("/dev/null", "bind", "/dev/zero", &["bind"]);
    if env.ours("the others remove the link, or fail") {
        let bundle = bundle.mount("/dev/ptmx", "bind", "/dev/full", &["bind"]);
        env.run(&bundle).ok().prints("1:9\n1:7\n1:5");
    }
}

/// Where the image's own /dev is the container's.
#[test]
fn a_default_device_covers_what_the_image_has() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others leave it as it is") {
        return;
    }
    for user in [false, true] {
        let script = "stat -c '%t:%T' /dev/null /dev/zero /dev/ptmx /dev/tty; : >/dev/null; cat /image/null";
        let bundle = without_dev(env.script(script));
        fs::create_dir(bundle.rootfs("dev/pts")).unwrap();
        fs::write(bundle.rootfs("dev/null"), "of the image").unwrap();
        symlink("null", bundle.rootfs("dev/zero")).unwrap();
        node(&env, &bundle.rootfs("dev/ptmx"), "600", ["c", "5", "2"]);
        node(&env, &bundle.rootfs("dev/tty"), "600", ["c", "5", "0"]);
        let image = bundle.rootfs("dev");
        let bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
        let bundle = bundle.mount("/image", "bind", image.to_str().unwrap(), &["bind"]);
        let bundle = if user { mapped(&env, bundle) } else { bundle };
        env.run(&bundle).ok().prints("1:3\n1:5\n5:2\n5:0\nof the image");
        assert_eq!(fs::read_to_string(bundle.rootfs("dev/null")).unwrap(), "of the image");
        assert_eq!(fs::read_link(bundle.rootfs("dev/zero")).unwrap(), Path::new("null"));
        let ptmx = fs::symlink_metadata(bundle.rootfs("dev/ptmx")).unwrap();
        assert!(ptmx.file_type().is_char_device(), "the image's node was replaced");
        // Once more: the root is what the first container has left.
        env.run(&bundle).ok();
        fs::remove_file(bundle.rootfs("dev/null")).unwrap();
        fs::create_dir(bundle.rootfs("dev/null")).unwrap();
        env.run(&bundle).fails().says("/dev/null").says("is a directory");
    }
}

/// Docker lists /dev/ptmx among the devices of a privileged container.
#[test]
fn ptmx_among_the_devices_becomes_a_link() {
    let Some(env) = Env::new() else { return };
    let device = json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]);
    env.run(&env.script("readlink /dev/ptmx").set("linux/devices", device)).ok().prints("pts/ptmx");
}

/// As `podman run --privileged -v /dev:/dev` asks for it.
#[test]
fn all_of_dev_bound_with_its_devices_named() {
    let Some(env) = Env::new() else { return };
    let devices: Vec<_> = ["null", "zero", "full", "tty"]
        .map(|name| {
            let found = fs::metadata(format!("/dev/{name}")).unwrap();
            json!({"path": format!("/dev/{name}"), "type": "c", "major": libc_major(found.rdev()),
                "minor": found.rdev() & 0xff, "fileMode": found.mode() & 0o7777, "uid": found.uid(), "gid": found.gid()})
        })
        .into();
    let bundle =
        without_dev(env.script("stat -c %t:%T /dev/null")).mount("/dev", "bind", "/dev", &["rbind", "ro"]);
    env.run(&bundle.set("linux/devices", json!(devices))).ok().prints("1:3");
}

fn libc_major(device: u64) -> u64 {
    device >> 8 & 0xfff
}

#[test]
fn a_user_namespace_gets_devices_that_differ_from_the_hosts_or_are_missing_there() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "it binds the host's") || env.differs("crun", "1.8 binds the host's") {
        return;
    }
    let script = "stat -c '%n %a %u %g %t:%T' /dev/mine /dev/zero /dev/full; head -c 2 /dev/mine | wc -c";
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604, "uid": 9},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666},
    ]);
    let want = "/dev/mine 640 7 8 1:5\n/dev/zero 604 9 0 1:5\n/dev/full 666 65534 65534 1:7\n2";
    let reads = json!(["CAP_DAC_OVERRIDE"]);
    let reads = json!({"bounding": reads, "permitted": reads, "effective": reads});
    let bundle = env.script(script).set("linux/devices", devices).set("process/capabilities", reads);
    env.run(&mapped(&env, bundle)).ok().prints(want);

    // The same in a user namespace whose maps are not in config.json.
    env.launch("first", &mapped(&env, env.bundle(&["sleep", "100"])));
    let joins = mapped(&env, env.script(script)).set("linux/devices", json!([])).edit(|config| {
        config["linux"].as_object_mut().unwrap().remove("uidMappings");
        config["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    let path = format!("/proc/{}/ns/user", env.pid("first"));
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604, "uid": 9},
    ]);
    let reads = json!(["CAP_DAC_OVERRIDE"]);
    let reads = json!({"bounding": reads, "permitted": reads, "effective": reads});
    let joins = joins.namespace("user", Some(&path)).set("linux/devices", devices);
    env.run(&joins.set("process/capabilities", reads)).ok().prints(want);
    env.delete("first");

    let unmapped = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "uid": 70_000}]);
    let bundle = mapped(&env, env.bundle(&["true"])).set("linux/devices", unmapped);
    env.create("web", &bundle).fails().says("linux.devices[0].uid: 70000 is not mapped");
}

/// A node is mounted on an empty file, which stays in the root file system.
#[test]
fn a_root_file_system_serves_again_in_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    let bundle = without_dev(env.script("stat -c %t:%T /dev/null /opt/mine"));
    let bundle = mapped(&env, bundle.set("linux/devices", null("/opt/mine")));
    for _ in 0..2 {
        if !env.ours("the others bind the host's node") {
            return;
        }
        env.run(&bundle).ok().prints("1:3\n1:3");
    }
}

/// An unprivileged user can make no node, so what the host's does not have is refused.
#[test]
fn objects_that_a_rootless_user_cannot_create_are_refused_by_name() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("the others bind the host's node") {
        return;
    }
    let table = [
        (json!({"path": "/dev/mine"}), "linux.devices[0].path: /dev/mine does not exist on the host"),
        (json!({"path": "/dev/zero"}), "linux.devices[0].path: /dev/zero of the host is another device"),
        (
            json!({"path": "/dev/null", "fileMode": 0o600}),
            "linux.devices[0].fileMode: /dev/null of the host has 0o666",
        ),
        (json!({"path": "/dev/null", "uid": 0}), "linux.devices[0].uid: /dev/null of the host belongs to 0"),
    ];
    for (device, words) in table {
        let mut device = device;
        device["type"] = json!("c");
        device["major"] = json!(1);
        device["minor"] = json!(3);
        let bundle = env.bundle(&["true"]).set("linux/devices", json!([device]));
        env.create("web", &bundle).fails().says(words);
    }
    let bundle = env.script("stat -c %t:%T /dev/null").set("linux/devices", null("/dev/null"));
    env.run(&bundle).ok().prints("1:3");
}

#[test]
fn a_mode_is_not_cut_by_the_callers_umask() {
    let Some(env) = Env::new() else { return };
    let mut device = null("/dev/mine");
    device[0]["fileMode"] = json!(0o666);
    for user in [false, true] {
        let bundle = env.script("stat -c %a /dev/mine").set("linux/devices", device.clone());
        let bundle = if user { mapped(&env, bundle) } else { bundle };
        if user && !env.ours("the others bind the host's") {
            return;
        }
        bundle.write();
        let id = env.id();
        let output = env.shell(&format!("umask 077; $RUNTIME --root $ROOT run -b {} {id}", bundle.str()));
        output.ok().prints("666");
    }
    assert_eq!(fs::metadata("/dev/null").unwrap().permissions().mode() & 0o777, 0o666);
}
