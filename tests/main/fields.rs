//! Fields, options and annotations that have no room elsewhere: each is seen to work inside, or
//! from outside.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::support::{Env, until};

/// What a test of ours alone says of the others.
const OURS: &str = "a field or option that Debian's versions lack";

#[test]
fn memory_policy() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    let output = env.run(&env.script("cat /proc/self/numa_maps").set("linux/memoryPolicy", policy)).ok();
    assert!(output.stdout.contains("bind"), "{}", output.stdout);
}

#[test]
fn network_devices_move_in_with_their_addresses() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    // In a network namespace of the test's own, so that nothing of the host's is touched.
    let bundle = env
        .script("ip -o addr show dev inside; ip -o link show dev inside")
        .set("linux/netDevices", json!({"ertest0": {"name": "inside"}}));
    bundle.write();
    let output = env.shell(&format!(
        "exec unshare -n sh -ec 'ip link add ertest0 type veth peer name ertest1; \
         ip addr add 192.0.2.7/24 dev ertest0; ip link set ertest0 up; \
         $RUNTIME --root $ROOT run -b {} net; ! ip link show ertest0 2>/dev/null'",
        bundle.str()
    ));
    let output = output.ok();
    assert!(output.stdout.contains("192.0.2.7/24"), "{}", output.stdout);
    assert!(output.stdout.contains("UP"), "{}", output.stdout);
}

#[test]
fn a_missing_network_device_is_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let bundle = env.bundle(&["true"]).set("linux/netDevices", json!({"nosuch0": {}}));
    env.run(&bundle).fails().says("linux.netDevices.nosuch0");
}

#[test]
fn idmapped_with_all_below() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let outer = env.dir().join("outer");
    fs::create_dir_all(outer.join("below")).unwrap();
    env.program("mount", &["-t", "tmpfs", "tmpfs", outer.join("below").to_str().unwrap()]).run().ok();
    fs::write(outer.join("file"), "").unwrap();
    let mapping = json!([{"containerID": 0, "hostID": 7000, "size": 10}]);
    for (option, below) in [("idmap", "0"), ("ridmap", "7000")] {
        let mount = json!({
            "destination": "/m", "type": "bind", "source": outer, "options": ["rbind", option],
            "uidMappings": mapping, "gidMappings": mapping,
        });
        let bundle = env.script("stat -c %u /m/file /m/below").push("mounts", mount);
        if let Some(output) = env.ok_since("5.12", env.run(&bundle)) {
            output.prints(&format!("7000\n{below}"));
        }
    }
    env.program("umount", &[outer.join("below").to_str().unwrap()]).run().ok();
}

#[test]
fn idmapped_by_the_containers_own_mapping() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let source = env.dir().join("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env
        .script("stat -c %u /m/file; touch /m/made")
        .namespace("user", None)
        .set("linux/uidMappings", mapping.clone())
        .set("linux/gidMappings", mapping)
        .mount("/m", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    env.program("chown", &["-hR", "100000:100000", bundle.rootfs("").to_str().unwrap()]).run().ok();
    // The host's root owns the file, and so does the container's, though another number.
    let Some(output) = env.ok_since("5.12", env.run(&bundle)) else { return };
    output.prints("0");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(source.join("made")).unwrap().uid(), 0);
}

#[test]
fn symbolic_links_as_sources_and_destinations() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let source = env.dir().join("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "through").unwrap();
    let link = env.dir().join("link");
    symlink(&source, &link).unwrap();
    let link = link.to_str().unwrap();
    let plain = env.script("cat /m/file").mount("/m", "bind", link, &["bind"]);
    env.run(&plain).ok().prints("through");
    let copied = env.script("readlink /m").mount("/m", "bind", link, &["bind", "copy-symlink"]);
    env.run(&copied).ok().prints(source.to_str().unwrap());
    // The link itself is mounted, on a link: neither is followed.
    let bundle =
        env.script("readlink /m").mount("/m", "bind", link, &["bind", "src-nofollow", "dest-nofollow"]);
    symlink("/elsewhere", bundle.rootfs("m")).unwrap();
    env.run(&bundle).ok().prints(source.to_str().unwrap());
}

#[test]
fn a_mount_is_changed_by_remount() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    let bundle = env
        .script("grep ' /t ' /proc/self/mountinfo")
        .mount("/t", "tmpfs", "tmpfs", &["size=64k"])
        .mount("/t", "tmpfs", "tmpfs", &["remount", "ro", "nosuid", "size=128k"]);
    let output = env.run(&bundle).ok();
    assert!(output.stdout.contains("ro,nosuid") && output.stdout.contains("size=128k"), "{}", output.stdout);
}

#[test]
fn without_pivot_root() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("ls /; cat /proc/self/mountinfo | wc -l");
    bundle.write();
    let output = env.runtime(&["run", "--no-pivot", "-b", bundle.str(), "moved"]).ok();
    assert!(output.stdout.contains("proc") && !output.stdout.contains("boot"), "{}", output.stdout);
}

#[test]
fn the_pidfd_goes_over_a_socket() {
    let Some(env) = Env::new() else { return };
    if !env.ours(OURS) {
        return;
    }
    for annotated in [false, true] {
        let path = env.dir().join(format!("pidfd{annotated}"));
        let listener = UnixListener::bind(&path).unwrap();
        let bundle = env.bundle(&["sleep", "100"]);
        let bundle =
            if annotated { bundle.set("annotations/run.oci.pidfd_receiver", json!(path)) } else { bundle };
        bundle.write();
        let id = env.id();
        let mut args = vec!["create", "-b", bundle.str()];
        if !annotated {
            args.extend(["--pidfd-socket", path.to_str().unwrap()]);
        }
        args.push(&id);
        env.runtime(&args).ok();
        let (socket, _) = listener.accept().unwrap();
        let mut name = [0; 64];
        let (pidfd, _) =
            emergence_runc::sys::fd::recv_fd(std::os::fd::AsFd::as_fd(&socket), &mut name).unwrap();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", env.pid(&id))), "{info}");
        env.delete(&id);
    }
}

#[test]
fn a_session_keyring_of_its_own() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("cat /proc/keys").edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
    });
    bundle.write();
    // root sees its keyrings of the whole host, so each has a name of its own.
    let [new, none] = ["new", "none"].map(|kind| format!("{kind}-{}", std::process::id()));
    let own = env.runtime(&["run", "-b", bundle.str(), &new]).ok();
    assert!(own.stdout.contains(&format!("_ses.{new}")), "{}", own.stdout);
    let inherited = env.runtime(&["run", "--no-new-keyring", "-b", bundle.str(), &none]).ok();
    assert!(!inherited.stdout.contains(&format!("_ses.{none}")), "{}", inherited.stdout);
}

#[test]
fn annotations_redirect_what_hooks_say() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun's annotation") {
        return;
    }
    let (out, err) = (env.dir().join("out"), env.dir().join("err"));
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo said; echo failed >&2"]});
    let bundle = env
        .bundle(&["true"])
        .push("hooks/createRuntime", hook.clone())
        .push("hooks/createContainer", hook)
        .edit(|config| {
            config["annotations"] = json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err});
        });
    env.run(&bundle).ok();
    assert_eq!(fs::read_to_string(out).unwrap(), "said\nsaid\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "failed\nfailed\n");
}

#[test]
fn an_annotation_keeps_the_groups() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun's annotation") {
        return;
    }
    for (value, want) in [("0", "Groups:"), ("1", "Groups:\t7 8")] {
        let bundle = env.script("grep Groups: /proc/self/status | sed 's/ *$//;s/\\t$//'").edit(|config| {
            config["annotations"] = json!({"run.oci.keep_original_groups": value});
        });
        bundle.write();
        let script = format!("setpriv --groups 7,8 $RUNTIME --root $ROOT run -b {} groups", bundle.str());
        env.shell(&script).ok().prints(want);
    }
    // In a new user namespace they stay too, though none of them has a name there.
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env.bundle(&["sleep", "1000"]).namespace("user", None).edit(|config| {
        config["annotations"] = json!({"run.oci.keep_original_groups": "1"});
        config["linux"]["uidMappings"] = mapping.clone();
        config["linux"]["gidMappings"] = mapping;
    });
    bundle.write();
    env.shell(&format!("setpriv --groups 7,8 $RUNTIME --root $ROOT run -d -b {} kept", bundle.str())).ok();
    let groups = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim().to_owned()
    };
    assert_eq!(groups(env.pid("kept")), "7 8");
    let file = env.dir().join("run/kept.pid");
    let script = format!(
        "setpriv --groups 9 $RUNTIME --root $ROOT exec -d --pid-file {} kept sleep 1000",
        file.display()
    );
    env.shell(&script).ok();
    assert_eq!(groups(std::fs::read_to_string(&file).unwrap().parse().unwrap()), "9");
    env.delete("kept");
}

fn filtered(profile: Value) -> impl FnOnce(&mut Value) {
    move |config| config["linux"]["seccomp"] = profile
}

#[test]
fn system_calls_are_filtered() {
    let Some(env) = Env::new() else { return };
    let deny = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    for no_new_privileges in [true, false] {
        let bundle = env
            .script("touch /tmp/f && chmod 700 /tmp/f 2>&1; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status")
            .mount("/tmp", "tmpfs", "tmpfs", &[])
            .set("process/noNewPrivileges", json!(no_new_privileges))
            .edit(filtered(deny.clone()));
        let output = env.run(&bundle).ok();
        assert!(output.stdout.contains("not implemented"), "{}", output.stdout);
        assert!(output.stdout.contains("Seccomp:\t2"), "{}", output.stdout);
        // CAP_SYS_ADMIN, which loads the filter, is not left behind.
        assert!(output.stdout.contains("CapEff:\t0000000020000420"), "{}", output.stdout);
    }
}

#[test]
fn a_ready_filter_replaces_the_profile() {
    let Some(env) = Env::new() else { return };
    const NAME: &str = "run.oci.seccomp_bpf_data";
    let instruction = |code: u16, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([0, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    // Load the number of the call; is it uname's: EPERM; else: allow.
    let uname = libc::SYS_uname as u32;
    let program = [(0x20, 0, 0), (0x15, 1, uname), (0x06, 0, 0x0005_0001), (0x06, 0, 0x7fff_0000)];
    let program: Vec<u8> = program.iter().flat_map(|(code, jf, k)| instruction(*code, *jf, *k)).collect();
    fs::write(env.dir().join("program"), program).unwrap();
    let text = env.shell(&format!("base64 -w0 {}", env.dir().join("program").display())).ok().stdout;
    let with = |text: &str| {
        let killing = json!({"defaultAction": "SCMP_ACT_KILL"});
        let bundle = env.script("uname; echo goes on").edit(filtered(killing));
        bundle.edit(|config| config["annotations"] = json!({NAME: text}))
    };
    // Busybox prints nothing when the kernel does not report its name.
    env.run(&with(text.trim())).ok().prints("goes on");
    if env.ours("the words are ours") {
        env.run(&with("AAAA")).fails().says(&format!("annotations.{NAME}: holds 3 bytes"));
    }
}

#[test]
fn a_bad_profile_is_named_by_its_path() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the JSON path is ours") {
        return;
    }
    let bad =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_X"}]});
    env.run(&env.bundle(&["true"]).edit(filtered(bad))).fails().says("linux.seccomp.syscalls[0].action");
}

#[test]
fn a_listener_gets_the_notify_descriptor_and_the_state() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the order of our own start") {
        return;
    }
    let path = env.dir().join("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "mine",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let bundle = env.bundle(&["sleep", "100"]).edit(filtered(profile));
    bundle.write();
    let id = env.id();
    let running = env.call(&["create", "-b", bundle.str(), &id]).start();
    let (socket, _) = listener.accept().unwrap();
    let mut text = vec![0; 1 << 16];
    let (fd, length) =
        emergence_runc::sys::fd::recv_fd(std::os::fd::AsFd::as_fd(&socket), &mut text).unwrap();
    let document: Value = serde_json::from_slice(&text[..length]).unwrap();
    assert_eq!(document["metadata"], "mine");
    assert_eq!(document["fds"], json!(["seccompFd"]));
    assert_eq!(document["state"]["id"], id.as_str());
    let target = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    assert!(target.to_string_lossy().contains("seccomp"), "{target:?}");
    running.wait().ok();
    assert_eq!(document["pid"], env.pid(&id));
    env.delete(&id);
}

#[test]
fn orphans_of_the_container_are_reaped() {
    let Some(env) = Env::new() else { return };
    // Without a pid namespace no process in the container reaps; `run` does, unless an option
    // forbids it.
    let bundle = env.script("(sleep 0.2 &) ; exec sleep 0.5").without_namespace("pid").without_mount("/proc");
    env.run(&bundle).ok();
    until("no zombie is left", || {
        !env.program("ps", &["-eo", "stat,ppid,comm"]).run().stdout.lines().any(|line| {
            line.starts_with('Z')
                && line.ends_with("sleep <defunct>")
                && line.contains(&format!(" {} ", std::process::id()))
        })
    });
}

#[test]
fn files_and_directories_do_not_cover_each_other() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    for (source, destination, words) in
        [("/etc", "/etc/passwd", "not a directory"), ("/etc/passwd", "/etc", "is a directory")]
    {
        let bundle = env.bundle(&["true"]).mount(destination, "bind", source, &["bind"]);
        let output = env.run(&bundle).fails().says(words);
        assert!(output.stderr.contains("(mounts["), "{}", output.stderr);
    }
}
