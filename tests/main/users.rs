//! User namespaces made by root: config-linux.md, "User namespace mappings".

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::{Bundle, Env};

const BASE: u32 = 100_000;

/// The container's root is the host's `BASE`; the root file system belongs to it.
fn mapped(env: &Env, script: &str) -> Bundle {
    let bundle = env.script(script);
    let owner = format!("{BASE}:{BASE}");
    env.program("chown", &["-hR", &owner, bundle.rootfs("").to_str().unwrap()]).run().ok();
    let mapping = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    bundle
        .namespace("user", None)
        .namespace("cgroup", None)
        .set("linux/uidMappings", mapping.clone())
        .set("linux/gidMappings", mapping)
}

#[test]
fn maps_are_seen_inside() {
    let Some(env) = Env::new() else { return };
    let output = env.run(&mapped(&env, "cat /proc/self/uid_map /proc/self/gid_map; id -u")).ok();
    let words: Vec<_> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "100000", "65536", "0"]);
}

#[test]
fn the_process_is_a_rootless_user_outside() {
    let Some(env) = Env::new() else { return };
    let bundle = mapped(&env, "exec sleep 100").set("process/user", json!({"uid": 7, "gid": 8}));
    env.launch("web", &bundle);
    let status = fs::read_to_string(format!("/proc/{}/status", env.pid("web"))).unwrap();
    assert!(status.contains("Uid:\t100007\t") && status.contains("Gid:\t100008\t"), "{status}");
    assert_ne!(
        fs::read_link(format!("/proc/{}/ns/user", env.pid("web"))).unwrap(),
        fs::read_link("/proc/self/ns/user").unwrap()
    );
    env.delete("web");
}

/// After unshare(2) without a fork, the runtime's first child is PID 1 of the new pid namespace,
/// which cannot clone a sibling.
#[test]
fn the_process_may_be_the_first_of_the_callers_pid_namespace() {
    let Some(env) = Env::new() else { return };
    // This procfs would belong to another user namespace's pid namespace.
    let bundle = mapped(&env, "echo $$").without_namespace("pid").set("mounts", json!([]));
    bundle.write();
    let runtime =
        ["--root", env.root().to_str().unwrap(), "run", "-b", bundle.str(), "web"].map(str::to_owned);
    let args = ["-p".to_owned(), env.binary().to_str().unwrap().to_owned()].into_iter().chain(runtime);
    let args: Vec<_> = args.collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    env.program("unshare", &args).run().ok().prints("1");
}

#[test]
fn files_belong_to_the_mapped_ids() {
    let Some(env) = Env::new() else { return };
    let bundle = mapped(&env, "touch /tmp/mine; stat -c '%u %g' /tmp/mine /dev/pts /etc/passwd");
    env.run(&bundle).ok().prints("0 0\n0 0\n0 0");
    let file = fs::metadata(bundle.rootfs("tmp/mine")).unwrap();
    assert_eq!((file.uid(), file.gid()), (BASE, BASE));
}

#[test]
fn devices_work_in_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    let script =
        "echo x >/dev/null && head -c 3 /dev/zero | wc -c; stat -c '%F %t:%T' /dev/null /dev/urandom";
    let output = env.run(&mapped(&env, script)).ok();
    assert_eq!(output.stdout, "3\ncharacter special file 1:3\ncharacter special file 1:9\n");
}

#[test]
fn capabilities_and_mounts_of_the_containers_root() {
    let Some(env) = Env::new() else { return };
    let all = json!(["CAP_SYS_ADMIN", "CAP_CHOWN"]);
    let script = "mount -t tmpfs none /tmp && echo mounted; chown 5:5 /var && stat -c %u /var";
    let bundle = mapped(&env, script)
        .set("process/capabilities", json!({"bounding": all, "permitted": all, "effective": all}));
    env.run(&bundle).ok().prints("mounted\n5");
}

/// The runtime sets it, for the process that is root in the namespace.
#[test]
fn the_oom_score_in_a_user_namespace() {
    for env in [Env::new(), Env::rootless()].into_iter().flatten() {
        let score = 700; // higher than that of the test, so that an ordinary user may set it
        for round in 0..5 {
            let script = "cat /proc/self/oom_score_adj";
            let bundle = if env.is_rootless() { env.script(script) } else { mapped(&env, script) };
            let bundle = bundle.set("process/oomScoreAdj", json!(score + round));
            env.run(&bundle).ok().prints(&(score + round).to_string());
        }
    }
}

#[test]
fn kernel_parameters_in_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    let bundle = mapped(&env, "cat /proc/sys/net/ipv4/ip_forward")
        .set("linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    env.run(&bundle).ok().prints("1");
}

#[test]
fn masks_hold_in_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    let script =
        "wc -c </secret; umount /secret 2>/dev/null || echo held; touch /kept/x 2>/dev/null || echo refused";
    let bundle = mapped(&env, script);
    fs::write(bundle.rootfs("secret"), "secret").unwrap();
    fs::create_dir(bundle.rootfs("kept")).unwrap();
    std::os::unix::fs::chown(bundle.rootfs("kept"), Some(BASE), Some(BASE)).unwrap();
    let bundle =
        bundle.set("linux/maskedPaths", json!(["/secret"])).set("linux/readonlyPaths", json!(["/kept"]));
    env.run(&bundle).ok().prints("0\nheld\nrefused");
}

#[test]
fn bad_mappings_are_refused() {
    let Some(env) = Env::new() else { return };
    let bundle = mapped(&env, "true").edit(|config| config["linux"]["uidMappings"] = json!([]));
    if !env.differs("crun", "maps by itself") && !env.differs("runc", "1.1 hangs on it or not, by version") {
        env.create("web", &bundle).fails();
    }
    let overlapping = json!([
        {"containerID": 0, "hostID": BASE, "size": 10},
        {"containerID": 5, "hostID": BASE + 100, "size": 10},
    ]);
    let bundle = mapped(&env, "true").set("linux/uidMappings", overlapping);
    env.create("web", &bundle).fails();
}

#[test]
fn mappings_without_a_user_namespace_are_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others ignore them") {
        return;
    }
    let mapping = json!([{"containerID": 0, "hostID": BASE, "size": 10}]);
    env.create("web", &env.bundle(&["true"]).set("linux/uidMappings", mapping)).fails();
}

#[test]
fn a_user_namespace_can_be_joined() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 wants mappings all the same") {
        return;
    }
    env.launch("first", &mapped(&env, "exec sleep 100"));
    let pid = env.pid("first");
    let bundle = mapped(&env, "readlink /proc/self/ns/user; id -u")
        .namespace("user", Some(&format!("/proc/{pid}/ns/user")))
        .edit(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
        });
    let want = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    env.run(&bundle).ok().prints(&format!("{}\n0", want.display()));
    env.delete("first");
}

#[test]
fn the_cgroup_is_given_to_who_can_use_it() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun leaves it root's") {
        return;
    }
    let script = "mkdir /sys/fs/cgroup/mine 2>/dev/null && echo made; stat -c %u /sys/fs/cgroup/cgroup.procs; \
        echo 1 >/sys/fs/cgroup/cgroup.freeze 2>/dev/null && echo froze; [ ! -d /sys/fs/cgroup/payload ] || stat -c %u /sys/fs/cgroup/payload";
    let bundle = |own: bool, options: &[&str]| {
        let bundle = mapped(&env, script).without_mount("/sys/fs/cgroup");
        let bundle = if own { bundle } else { bundle.without_namespace("cgroup") };
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", options)
    };
    env.run(&bundle(true, &["nosuid"])).ok().prints("made\n0");
    env.run(&bundle(true, &["ro"])).ok().prints("65534");
    env.run(&bundle(false, &["nosuid"])).ok().prints("65534");
    let delegated =
        bundle(true, &["nosuid"]).set("annotations", json!({"run.oci.delegate-cgroup": "payload"}));
    env.run(&delegated).ok().prints("made\n0\n0");
}
