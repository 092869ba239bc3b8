//! User namespaces that are joined, and what of the host or of other namespaces their containers
//! use: Kubernetes' pods.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Bundle, Env, until};

const BASE: u32 = 300_000;

/// Which namespaces a container has of another one.
struct Pod {
    pid: i32,
}

impl Pod {
    /// A container `first` with a user namespace whose root is the host's `BASE`.
    fn launch(env: &Env) -> Self {
        env.launch("first", &new_user(env, env.bundle(&["sleep", "1000"])));
        Self { pid: env.pid("first") }
    }

    /// The bundle in the pod's user namespace, without maps of its own.
    fn join(&self, env: &Env, bundle: Bundle) -> Bundle {
        let bundle = new_user(env, bundle).edit(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
        });
        bundle.namespace("user", Some(&format!("/proc/{}/ns/user", self.pid)))
    }
}

fn new_user(env: &Env, bundle: Bundle) -> Bundle {
    let owner = format!("{BASE}:{BASE}");
    env.program("chown", &["-hR", &owner, bundle.rootfs("").to_str().unwrap()]).run().ok();
    let mapping = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    let bundle = bundle.namespace("user", None);
    bundle.set("linux/uidMappings", mapping.clone()).set("linux/gidMappings", mapping)
}

/// A directory that only root may enter, with a file, a directory and a link in it.
fn private_directory(env: &Env) -> PathBuf {
    let directory = env.dir().join("private");
    fs::create_dir_all(directory.join("directory")).unwrap();
    for file in ["file", "directory/file"] {
        fs::write(directory.join(file), format!("{file}\n")).unwrap();
    }
    symlink("/etc/group", directory.join("link")).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

/// As a volume of a pod below /var/lib/kubelet/pods, of mode 0700.
#[test]
fn sources_that_only_the_runtime_may_open() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 wants mappings all the same") {
        return;
    }
    let directory = private_directory(&env);
    let pod = Pod::launch(&env);
    let source = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    type Change = fn(&Env, &Pod, Bundle) -> Bundle;
    let table: [(&str, Change); 2] = [
        ("new", |env, _, bundle| new_user(env, bundle)),
        ("joined", |env, pod, bundle| pod.join(env, bundle)),
    ];
    for (name, user) in table {
        let bundle = env.script("cat /file /directory/file; head -n 1 /link; readlink /link");
        let bundle = bundle.mount("/file", "bind", &source("file"), &["bind", "ro"]);
        let bundle = bundle.mount("/directory", "bind", &source("directory"), &["rbind"]);
        let link = env.ours("1.8 does not copy links").then(|| source("link"));
        let bundle = match &link {
            Some(link) => bundle.mount("/link", "bind", link, &["bind", "copy-symlink"]),
            None => bundle,
        };
        let bundle = user(&env, &pod, bundle);
        let output = env.run(&bundle);
        if link.is_some() {
            output.ok().prints("file\ndirectory/file\nroot:x:0:\n/etc/group");
        } else {
            assert!(output.stdout.starts_with("file\ndirectory/file\n"), "{name}: {output:?}");
        }
    }
    env.delete("first");
}

/// The root file system itself, its terminal, masks, devices, and `exec`.
#[test]
fn a_root_file_system_that_only_the_runtime_may_reach() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others cannot") {
        return;
    }
    let pod = Pod::launch(&env);
    let table: [fn(&Env, &Pod, Bundle) -> Bundle; 2] =
        [|env, _, bundle| new_user(env, bundle), |env, pod, bundle| pod.join(env, bundle)];
    for user in table {
        for propagation in ["", "rslave", "rshared"] {
            let bundle = env.script("tty; cat /etc/group /secret; stat -c %t:%T /dev/null");
            fs::write(bundle.rootfs("secret"), "secret").unwrap();
            let bundle = user(&env, &pod, bundle)
                .set("process/terminal", json!(true))
                .set("linux/maskedPaths", json!(["/secret"]))
                .set("linux/rootfsPropagation", json!(propagation));
            fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o700)).unwrap();
            bundle.write();
            let id = env.id();
            let said = env.runtime(&["run", "-b", bundle.str(), &id]).ok().stdout.replace('\r', "");
            assert!(said.contains("/dev/pts/0\nroot:x:0:\nuser:x:1000:\n1:3"), "{said}");
        }
        let bundle = user(&env, &pod, env.bundle(&["sleep", "1000"]));
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o700)).unwrap();
        env.launch("web", &bundle);
        env.runtime(&["exec", "web", "sh", "-c", "id -u; ls /proc/1/root | grep -c etc"]).ok().prints("0\n1");
        env.delete("web");
    }
    env.delete("first");
}

/// Its network namespace is one that was made before and belongs to the host, as CNI makes it.
#[test]
fn a_network_namespace_that_the_user_namespace_does_not_own() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "it cannot mount sysfs") || env.differs("crun", "1.8 fails on the mount") {
        return;
    }
    env.launch("net", &env.bundle(&["sleep", "1000"]));
    let pod = Pod::launch(&env);
    let path = format!("/proc/{}/ns/net", env.pid("net"));
    let want = fs::read_link(&path).unwrap();
    let script = "readlink /proc/self/ns/net; ls -d /sys/class; touch /sys/x 2>/dev/null || echo read-only";
    let sysfs = ["nosuid", "noexec", "nodev", "ro"];
    let want = format!("{}\n/sys/class\nread-only", want.display());
    let with_sysfs = || env.script(script).without_mount("/sys").mount("/sys", "sysfs", "sysfs", &sysfs);
    env.run(&pod.join(&env, with_sysfs()).namespace("network", Some(&path))).ok().prints(&want);
    env.run(&new_user(&env, with_sysfs()).namespace("network", Some(&path))).ok().prints(&want);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let want = format!("{}\n/sys/class\nread-only", host.display());
    env.run(&new_user(&env, with_sysfs()).without_namespace("network")).ok().prints(&want);
    env.run(&pod.join(&env, with_sysfs()).without_namespace("network")).ok().prints(&want);

    let all = ["network", "ipc", "uts"];
    let joins = all.iter().fold(pod.join(&env, env.bundle(&["sleep", "1000"])), |bundle, kind| {
        let name = if *kind == "network" { "net" } else { kind };
        bundle.namespace(kind, Some(&format!("/proc/{}/ns/{name}", pod.pid)))
    });
    let joins = joins.edit(|config| drop(config.as_object_mut().unwrap().remove("hostname")));
    env.launch("second", &joins);
    env.runtime(&["exec", "second", "readlink", "/proc/self/ns/net"]).ok();
    for id in ["second", "net", "first"] {
        env.delete(id);
    }
}

/// The mount gets the maps of the namespace that is joined.
#[test]
fn an_idmapped_mount_without_maps_of_its_own() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others want mappings") {
        return;
    }
    let source = env.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text").unwrap();
    fs::set_permissions(env.dir().join("source"), fs::Permissions::from_mode(0o700)).unwrap();
    let pod = Pod::launch(&env);
    for kind in ["bind", "rbind"] {
        let options = [kind, if kind == "bind" { "idmap" } else { "ridmap" }];
        let bundle = env.script("stat -c '%u %g' /m/file; cat /m/file");
        let bundle = pod.join(&env, bundle.mount("/m", "bind", source.to_str().unwrap(), &options));
        let Some(output) = env.ok_since("5.12", env.run(&bundle)) else { break };
        output.prints("0 0\ntext");
    }
    env.delete("first");
    let bundle = env.bundle(&["true"]).mount("/m", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    env.create("web", &bundle).fails().says("mounts[").says("needs a user namespace");
}

/// The host's path of the source leads to what the earlier mount covers.
#[test]
fn a_source_inside_of_an_earlier_mount() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "1.8 opens it too early") || env.differs("runc", "1.1 opens it too early") {
        return;
    }
    let shown = env.dir().join("shown");
    fs::create_dir_all(shown.join("sub")).unwrap();
    fs::write(shown.join("sub/file"), "shown\n").unwrap();
    let user = |user: bool, bundle: Bundle| if user { new_user(&env, bundle) } else { bundle };
    for own_user in [false, true] {
        let bundle = user(own_user, env.script("cat /x/file; ls /y"));
        let at = bundle.rootfs("data").to_str().unwrap().to_owned();
        fs::create_dir_all(bundle.rootfs("data/sub")).unwrap();
        fs::write(bundle.rootfs("data/sub/file"), "covered\n").unwrap();
        let bundle = bundle.mount("/data", "bind", shown.to_str().unwrap(), &["bind"]);
        let bundle = bundle.mount("/x", "bind", &format!("{at}/sub"), &["bind"]);
        let bundle = bundle.mount("/fresh", "tmpfs", "tmpfs", &[]);
        let bundle = bundle.mount("/y", "bind", "rootfs/fresh", &["rbind"]);
        env.run(&bundle).ok().prints("shown");
        let maps = json!([{"containerID": 0, "hostID": BASE + 5, "size": 1000}]);
        for maps in [Some(maps), None] {
            if maps.is_none() && !own_user {
                continue;
            }
            let bundle = user(own_user, env.script("stat -c %u /x/file"));
            let bundle = bundle.mount("/data", "bind", shown.to_str().unwrap(), &["bind"]);
            let mut mount: Value = json!({"destination": "/x", "type": "bind", "source": "rootfs/data/sub",
                "options": ["bind", "idmap"]});
            if let Some(maps) = &maps {
                mount["uidMappings"] = maps.clone();
                mount["gidMappings"] = maps.clone();
            }
            let want = match (own_user, &maps) {
                (true, Some(_)) => "5",
                (true, None) => "0",
                (false, _) => "300005",
            };
            let Some(output) = env.ok_since("5.12", env.run(&bundle.push("mounts", mount))) else { return };
            output.prints(want);
        }
    }
    // A link of the image below it leads nowhere outside.
    let bundle = new_user(&env, env.script("cat /x"));
    let bundle = bundle.mount("/data", "bind", shown.to_str().unwrap(), &["bind"]);
    symlink(env.dir().join("shown/sub/file"), shown.join("link")).unwrap();
    if env.ours("the others follow it") {
        env.run(&bundle.mount("/x", "bind", "rootfs/data/link", &["bind"])).fails().says("no such file");
    }
}

#[test]
fn more_binds_than_files_may_be_open() {
    let Some(env) = Env::new() else { return };
    let hook = env.dir().join("hook");
    fs::write(
        &hook,
        format!("#!/bin/sh\nulimit -Sn >>{0}/seen; ulimit -Hn >>{0}/seen\n", env.dir().display()),
    )
    .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    for own_user in [false, true] {
        for limit in ["-Sn", "-n"] {
            fs::write(env.dir().join("seen"), "").unwrap();
            fs::set_permissions(env.dir().join("seen"), fs::Permissions::from_mode(0o666)).unwrap();
            let mut bundle = env.script("cat /m299; ulimit -Sn; ulimit -Hn");
            bundle = bundle.edit(|config| drop(config["process"].as_object_mut().unwrap().remove("rlimits")));
            for at in 0..300 {
                bundle = bundle.mount(&format!("/m{at}"), "bind", "/etc/hostname", &["bind"]);
                // Each needs a descriptor until the end; a bind mount can be opened late.
                if limit == "-Sn" {
                    bundle = bundle.mount(&format!("/t{at}"), "tmpfs", "tmpfs", &["ro"]);
                }
            }
            let hooks = json!([{"path": hook}]);
            let bundle = if own_user { new_user(&env, bundle) } else { bundle };
            let bundle = bundle.set("hooks/createRuntime", hooks.clone()).set("hooks/createContainer", hooks);
            bundle.write();
            let (soft, hard) = (256, if limit == "-n" { 256 } else { 1024 });
            let script = format!(
                "ulimit -Sn {soft} && ulimit -Hn {hard} && $RUNTIME --root $ROOT run -b {} {}",
                bundle.str(),
                env.id()
            );
            let name = fs::read_to_string("/etc/hostname").unwrap();
            env.shell(&script).ok().prints(&format!("{name}{soft}\n{hard}"));
            let seen = fs::read_to_string(env.dir().join("seen")).unwrap();
            assert_eq!(seen, format!("{soft}\n{hard}\n").repeat(2), "of the hooks");
        }
    }
}

/// Many containers have the same user outside, which may have 200 keys.
#[test]
fn an_exhausted_key_quota_prevents_no_start() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "it fails") {
        return;
    }
    const USER: u32 = 481_516;
    let (filled, ends) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let filler = std::thread::spawn(move || {
        // This thread alone: the calls go straight to the kernel.
        rustix::thread::set_thread_res_uid(
            rustix::thread::Uid::from_raw(USER),
            rustix::thread::Uid::from_raw(USER),
            rustix::thread::Uid::from_raw(USER),
        )
        .unwrap();
        let error = (0..10_000).find_map(|number| {
            let name = std::ffi::CString::new(format!("key{number}")).unwrap();
            // SAFETY: both strings end in NUL, and there is no payload.
            let key = unsafe {
                libc::syscall(
                    libc::SYS_add_key,
                    c"keyring".as_ptr(),
                    name.as_ptr(),
                    0,
                    0,
                    libc::KEY_SPEC_THREAD_KEYRING,
                )
            };
            (key < 0).then(std::io::Error::last_os_error)
        });
        filled.0.send(error.and_then(|error| error.raw_os_error())).unwrap();
        // The keys live as long as the thread.
        let _ended = ends.1.recv();
    });
    assert_eq!(filled.1.recv().unwrap(), Some(libc::EDQUOT));
    let mapping = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let bundle = env.bundle(&["sleep", "1000"]);
    let owner = format!("{USER}:{USER}");
    env.program("chown", &["-hR", &owner, bundle.rootfs("").to_str().unwrap()]).run().ok();
    let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
    let bundle = bundle.set("linux/gidMappings", mapping).without_mount("/dev/pts");
    let output = env.create("web", &bundle).ok();
    env.runtime(&["start", "web"]).ok();
    let entered = env.runtime(&["exec", "web", "id", "-u"]).ok();
    assert!(entered.stdout.contains('0'), "{entered:?}");
    if env.ours("the words are ours") {
        output.says("key quota");
        entered.says("key quota");
    }
    env.delete("web");
    drop(ends.0);
    filler.join().unwrap();
}

/// Somebody has moved the container's processes and removed its cgroup.
#[test]
fn exec_finds_a_container_that_was_moved_to_another_cgroup() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "1.8 fails") {
        return;
    }
    let bundle = env.bundle(&["sleep", "1000"]);
    env.launch("web", &bundle);
    let (parent, old, pid) = (env.cgroup_parent(), bundle.cgroup().to_owned(), env.pid("web"));
    let script = format!(
        "cd /sys/fs/cgroup{parent} && mkdir -p moved/deep && echo {pid} >moved/deep/cgroup.procs && rmdir /sys/fs/cgroup{old}"
    );
    env.shell(&script).ok();
    let entered = env.runtime(&["exec", "web", "cat", "/proc/self/cgroup"]).ok();
    assert!(entered.stdout.contains("0::/../moved/deep\n"), "as its cgroup namespace sees it: {entered:?}");
    if env.ours("the others look for it in the container's cgroup") {
        env.runtime(&["exec", "--cgroup", "/", "web", "true"]).fails();
    }
    env.delete("web");
    until("the cgroup is empty", || {
        env.shell(&format!("cd /sys/fs/cgroup{parent} && rmdir moved/deep moved")).code == 0
    });
}
