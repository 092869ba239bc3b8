//! The kernel's own files: /proc and its parameters written through names of the image
//! (CVE-2019-16884, CVE-2025-52881), parameters of the host (CVE-2022-0811's kind), the cgroups of
//! an unprivileged user (CVE-2023-25809), messages to the kernel (CVE-2021-43784).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::support::{Bundle, Env, NOBODY};

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
            hook(&bundle, &format!("cd {} && mv proc other && {change}", bundle.rootfs("").display()));
        let bundle = bundle.edit(|config| config["hooks"] = json!({"createRuntime": hooks}));
        let output = env.run(&bundle).fails().says("/proc");
        assert_eq!(output.stdout, "", "{change}");
    }
}

/// The same where the mount is changed once more after it was made.
#[test]
fn masks_stay_on_a_proc_that_is_remounted() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others look the names up again") {
        return;
    }
    for options in [&["bind", "remount", "nosuid"][..], &["remount", "nosuid"]] {
        let bundle = env.script("for at in /proc /other; do test ! -r $at/self/status || echo reached; done");
        let hooks =
            hook(&bundle, &format!("cd {} && mv proc other && mkdir proc", bundle.rootfs("").display()));
        let bundle = bundle.edit(|config| config["hooks"] = json!({"createRuntime": hooks}));
        let output = env.run(&bundle.mount("/proc", "proc", "proc", options)).fails().says("/proc");
        assert_eq!(output.stdout, "");
    }
}

/// Each is asked for with the value that it has, so that nothing changes where it is not refused.
#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let Some(env) = Env::new() else { return };
    let value = |path: &str| fs::read_to_string(format!("/proc/sys/{path}")).unwrap().trim().to_owned();
    let refused = |bundle: Bundle, name: &str, path: &str| {
        env.create("web", &bundle.set("linux/sysctl", json!({name: value(path)}))).fails();
    };
    let names = [
        ("kernel.panic", "kernel/panic"),
        ("vm.swappiness", "vm/swappiness"),
        ("fs.file-max", "fs/file-max"),
        ("kernel.hostname", "kernel/hostname"),
        ("net.ipv4..", "kernel/panic"),
        ("kernel.shm_rmid_forced/../panic", "kernel/panic"),
    ];
    for (name, path) in names {
        if matches!(name, "kernel.hostname" | "net.ipv4..") && env.flavour() == "crun" {
            continue;
        }
        refused(env.bundle(&["true"]), name, path);
    }
    let network = env.bundle(&["true"]).without_namespace("network");
    refused(network, "net.ipv4.ip_forward", "net/ipv4/ip_forward");
    let ipc = env.bundle(&["true"]).without_namespace("ipc").without_mount("/dev/mqueue");
    refused(ipc, "kernel.shmmni", "kernel/shmmni");
}

/// A false /proc would have the value written into any file: of the image, or by a link of a
/// volume, of the host.
#[test]
fn kernel_parameters_are_written_only_to_the_real_proc() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others refuse what is bound on /proc") {
        return;
    }
    let outside = env.dir().join("outside");
    fs::write(&outside, "0").unwrap();
    let fake = env.dir().join("fake");
    fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    fs::write(fake.join("sys/net/ipv4/ip_forward"), "0").unwrap();
    symlink("/outside", fake.join("sys/net/ipv4/ip_default_ttl")).unwrap();
    let bundle = env
        .script("cat /real/sys/net/ipv4/ip_forward /real/sys/net/ipv4/ip_default_ttl")
        .without_mount("/proc")
        .mount("/proc", "bind", fake.to_str().unwrap(), &["bind", "rw"])
        .mount("/real", "proc", "proc", &[])
        .mount("/outside", "bind", outside.to_str().unwrap(), &["bind", "rw"])
        .set("linux/maskedPaths", json!([]))
        .set("linux/readonlyPaths", json!([]))
        .set("linux/sysctl", json!({"net.ipv4.ip_forward": "1", "net.ipv4.ip_default_ttl": "77"}));
    env.run(&bundle).ok().prints("1\n77");
    assert_eq!(fs::read_to_string(fake.join("sys/net/ipv4/ip_forward")).unwrap(), "0");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "0");
}

/// A rootless container may see the user's own cgroups of the host, but not change them.
#[test]
fn a_users_own_cgroups_are_not_writable_inside() {
    let Some(env) = Env::rootless() else { return };
    let own = format!("/sys/fs/cgroup{}/user", env.cgroup_parent());
    let look = "find /sys/fs/cgroup -name cgroup.procs | while read f; do (: >>$f) 2>/dev/null && echo $f; done; true";
    let bundle = env.script(look);
    for bundle in [bundle, env.script(look).without_namespace("cgroup")] {
        bundle.write();
        let script = format!(
            "mkdir -p {own}/below && chown -R {NOBODY} {own} && echo $$ >{own}/cgroup.procs && \
             setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups $RUNTIME --root $ROOT run -b {} {}; code=$?; \
             echo $$ >/sys/fs/cgroup/cgroup.procs; find {own} -depth -type d -exec rmdir {{}} +; exit $code",
            bundle.str(),
            env.id()
        );
        let output = env.program("sh", &["-c", &script]).privileged();
        output.env("RUNTIME", env.binary()).env("ROOT", env.root()).run().ok().prints("");
    }
}

/// In runc a list longer than a netlink attribute's 16 bits of length ended early, and its rest was
/// read as further attributes.
#[test]
fn values_too_long_for_netlink_are_refused() {
    let Some(env) = Env::new() else { return };
    let mapping = |at: u32| json!({"containerID": at, "hostID": 100_000 + at, "size": 1});
    let bundle = env
        .bundle(&["cat", "/proc/self/uid_map"])
        .namespace("user", None)
        .set("linux/uidMappings", (0..4000).map(mapping).collect())
        .set("linux/gidMappings", json!([mapping(0)]));
    env.run(&bundle).fails().says("linux.uidMappings: 4000 mappings").prints("");
    if !env.ours("others have no netDevices") {
        return;
    }
    for length in [16, 65_536 + 4, 131_072] {
        let name = "x".repeat(length);
        let devices = json!({"lo": {"name": name}, name.clone(): {}});
        let bundle = env.bundle(&["true"]).set("linux/netDevices", devices);
        env.run(&bundle).fails().says("linux.netDevices").says("longer than 15 bytes");
    }
}

/// A hook that runs a line of shell.
fn hook(bundle: &Bundle, line: &str) -> serde_json::Value {
    let path = bundle.path().join("hook");
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!([{"path": path, "env": ["PATH=/usr/bin:/bin"]}])
}
