//! Mounts, devices, masks: config.md "Mounts", config-linux.md "Devices", "Default Devices",
//! "Masked Paths".

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Bundle, Env, Output};

/// One line of /proc/self/mountinfo, as far as the tests look (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(crate) struct Mounted {
    pub options: Vec<String>,
    pub propagation: String,
    pub kind: String,
    pub data: Vec<String>,
}

impl Mounted {
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.data).any(|found| found == option)
    }
}

/// What `cat /proc/self/mountinfo` said; of several mounts on one place, the last.
pub(crate) fn table(output: &Output) -> BTreeMap<String, Mounted> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ").unwrap();
        let left: Vec<_> = left.split(' ').collect();
        let right: Vec<_> = right.split(' ').collect();
        let mounted = Mounted {
            options: list(left[5]),
            propagation: left[6..].join(" "),
            kind: right[0].to_owned(),
            data: list(right[2]),
        };
        (left[4].to_owned(), mounted)
    };
    output.stdout.lines().map(parse).collect()
}

pub(crate) fn mountinfo(env: &Env) -> Bundle {
    env.bundle(&["cat", "/proc/self/mountinfo"])
}

/// A directory of the host with one file.
pub(crate) fn source(env: &Env, name: &str) -> PathBuf {
    let path = env.dir().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), format!("from {name}\n")).unwrap();
    path
}

#[test]
fn bind_read_only_and_read_write() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    let path = source.to_str().unwrap();
    let script =
        "cat /data/file; touch /data/new && echo written; touch /ro/new2 2>/dev/null || echo refused";
    let bundle = env.script(script).mount("/data", "bind", path, &["bind", "rw"]).mount(
        "/ro",
        "none",
        path,
        &["bind", "ro"],
    );
    env.run(&bundle).ok().prints("from src\nwritten\nrefused");
    assert!(source.join("new").exists() && !source.join("new2").exists());
}

#[test]
fn bind_of_a_file_and_of_a_relative_source() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    let bundle = env.script("cat /deep/down/one /two").mount(
        "/deep/down/one",
        "bind",
        source.join("file").to_str().unwrap(),
        &["bind"],
    );
    fs::write(bundle.path().join("beside"), "beside\n").unwrap();
    let bundle = bundle.mount("/two", "bind", "beside", &["bind", "ro"]);
    env.run(&bundle).ok().prints("from src\nbeside");
    assert!(bundle.rootfs("deep/down/one").is_file(), "a file's place is a file");
}

#[test]
fn recursive_bind_takes_what_is_mounted_below() {
    let Some(env) = Env::new() else { return };
    let outer = source(&env, "outer");
    let inner = source(&env, "inner");
    fs::create_dir(outer.join("sub")).unwrap();
    env.mount(&inner, &outer.join("sub"), &["--bind"]);
    let path = outer.to_str().unwrap();
    let bundle = env
        .script("cat /r/sub/file; cat /flat/sub/file 2>/dev/null || echo nothing")
        .mount("/r", "bind", path, &["rbind"])
        .mount("/flat", "bind", path, &["bind"]);
    env.run(&bundle).ok().prints("from inner\nnothing");
}

#[test]
fn recursive_read_only() {
    let Some(env) = Env::new() else { return };
    let outer = source(&env, "outer");
    let inner = source(&env, "inner");
    fs::create_dir(outer.join("sub")).unwrap();
    env.mount(&inner, &outer.join("sub"), &["--bind"]);
    let path = outer.to_str().unwrap();
    let bundle = mountinfo(&env).mount("/r", "bind", path, &["rbind", "rro"]).mount(
        "/t",
        "bind",
        path,
        &["rbind", "ro"],
    );
    let found = table(&env.run(&bundle).ok());
    assert!(found["/r"].has("ro") && found["/r/sub"].has("ro"), "{found:#?}");
    assert!(found["/t"].has("ro") && found["/t/sub"].has("rw"), "ro is for the top alone: {found:#?}");
}

#[test]
fn flags_of_bind_mounts() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    let path = source.to_str().unwrap();
    let table_of = [
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
    ];
    for (option, want) in table_of {
        let found = table(&env.run(&mountinfo(&env).mount("/m", "bind", path, &["rbind", option])).ok());
        assert!(found["/m"].has(want), "{option}: {:?}", found["/m"]);
    }
    let all = ["bind", "ro", "nosuid", "nodev", "noexec"];
    let found = table(&env.run(&mountinfo(&env).mount("/m", "bind", path, &all)).ok());
    assert!(all[1..].iter().all(|flag| found["/m"].has(flag)), "{:?}", found["/m"]);
}

#[test]
fn tmpfs_takes_flags_and_data() {
    let Some(env) = Env::new() else { return };
    let options = ["nosuid", "nodev", "noexec", "size=64k", "mode=1770", "uid=5", "gid=7"];
    let script = "stat -c '%a %u %g' /t; cat /proc/self/mountinfo";
    let output = env.run(&env.script(script).mount("/t", "tmpfs", "tmpfs", &options)).ok();
    let (first, rest) = output.stdout.split_once('\n').unwrap();
    assert_eq!(first, "1770 5 7");
    let line = rest.lines().find(|line| line.contains(" /t ")).unwrap();
    for want in ["nosuid", "nodev", "noexec", "size=64k"] {
        assert!(line.contains(want), "{want} in {line}");
    }
}

#[test]
fn tmpfs_copies_up() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("cat /etc/passwd | head -n1; touch /etc/new; ls -l /etc/link | grep -c passwd");
    symlink("passwd", bundle.rootfs("etc/link")).unwrap();
    let bundle = bundle.mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup"]);
    env.run(&bundle).ok().prints("root:x:0:0:root:/root:/bin/sh\n1");
    assert!(!bundle.rootfs("etc/new").exists());
}

#[test]
fn data_the_file_system_refuses_is_an_error() {
    let Some(env) = Env::new() else { return };
    env.create("web", &env.bundle(&["true"]).mount("/t", "tmpfs", "tmpfs", &["size=nonsense"])).fails();
    env.create("web", &env.bundle(&["true"]).mount("/t", "nosuchfs", "x", &[])).fails();
    env.create("web", &env.bundle(&["true"]).mount("/t", "bind", "/no/such/source", &["bind"])).fails();
}

#[test]
fn order_is_kept() {
    let Some(env) = Env::new() else { return };
    let (one, two) = (source(&env, "one"), source(&env, "two"));
    fs::create_dir(one.join("below")).unwrap();
    let bundle = env
        .script("cat /m/file /m/below/file")
        .mount("/m", "tmpfs", "tmpfs", &[])
        .mount("/m", "bind", one.to_str().unwrap(), &["bind"])
        .mount("/m/below", "bind", two.to_str().unwrap(), &["bind"]);
    env.run(&bundle).ok().prints("from one\nfrom two");
}

#[test]
fn relative_destinations_count_from_the_root() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    let bundle =
        env.script("cat /rel/ative/file").mount("rel/ative", "bind", source.to_str().unwrap(), &["bind"]);
    env.run(&bundle).ok().prints("from src");
}

#[test]
fn devices_of_every_container() {
    let Some(env) = Env::new() else { return };
    let script = "for n in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$n; done
        for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done
        echo x >/dev/null; head -c 4 /dev/zero | md5sum | cut -c1-8";
    let output = env.run(&env.script(script)).ok();
    let want = "/dev/null 666 1:3\n/dev/zero 666 1:5\n/dev/full 666 1:7\n/dev/random 666 1:8\n/dev/urandom 666 1:9\n\
        /dev/tty 666 5:0\nfd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n\
        ptmx pts/ptmx\nf1d3ff84\n";
    assert_eq!(output.stdout, want);
}

#[test]
fn devices_asked_for() {
    let Some(env) = Env::new() else { return };
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 11, "gid": 12},
        {"path": "/opt/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/deep/er", "type": "c", "major": 1, "minor": 5},
    ]);
    let script =
        "stat -c '%a %u %g %t:%T %F' /dev/mine; stat -c '%a %F' /opt/pipe; stat -c '%t:%T' /dev/deep/er";
    let bundle = env.script(script).set("linux/devices", devices);
    env.run(&bundle).ok().prints("640 11 12 1:3 character special file\n600 fifo\n1:5");
}

#[test]
fn masked_and_read_only_paths() {
    let Some(env) = Env::new() else { return };
    let script = "wc -c </secret; ls -A /hidden | wc -l; cat /kept/file; touch /kept/new 2>/dev/null || echo refused; touch /hidden/x 2>/dev/null || echo refused";
    let bundle = env.script(script);
    fs::write(bundle.rootfs("secret"), "secret").unwrap();
    for directory in ["hidden", "kept"] {
        fs::create_dir(bundle.rootfs(directory)).unwrap();
        fs::write(bundle.rootfs(directory).join("file"), directory).unwrap();
    }
    let bundle = bundle
        .set("linux/maskedPaths", json!(["/secret", "/hidden", "/not/there"]))
        .set("linux/readonlyPaths", json!(["/kept", "/not/there/either"]));
    env.run(&bundle).ok().prints("0\n0\nkeptrefused\nrefused");
}

/// Masked directories share one file system, in which nothing can be made: no directory shows what
/// was made in another.
#[test]
fn masked_directories_are_empty_and_stay_so() {
    let Some(env) = Env::new() else { return };
    let script = "
        for at in a b c; do
            ls -A /hidden/$at | wc -l
            touch /hidden/$at/x 2>/dev/null || echo refused
            mount -o remount,bind,rw /hidden/$at && touch /hidden/$at/x 2>/dev/null || echo refused
            grep \" /hidden/$at \" /proc/self/mountinfo | sed 's/.* - //' | cut -d , -f 1
        done
        stat -c %d /hidden/a /hidden/b /hidden/c | sort -u | wc -l
        umount /hidden/b && cat /hidden/b/file; ls -A /hidden/a /hidden/c | grep -c file";
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let bundle = ["bounding", "effective", "permitted"].iter().fold(env.script(script), |bundle, set| {
        bundle.set(&format!("process/capabilities/{set}"), all.clone())
    });
    for directory in ["hidden/a", "hidden/b", "hidden/c"] {
        fs::create_dir_all(bundle.rootfs(directory)).unwrap();
        fs::write(bundle.rootfs(directory).join("file"), "shown\n").unwrap();
    }
    let bundle = bundle.set("linux/maskedPaths", json!(["/hidden/a", "/hidden/b", "/hidden/c"]));
    let each = "0\nrefused\nrefused\ntmpfs tmpfs ro\n".repeat(3);
    assert_eq!(env.run(&bundle).stdout, format!("{each}1\nshown\n0\n"));
}

#[test]
fn masks_are_not_led_astray() {
    let Some(env) = Env::new() else { return };
    // A device of another kind planted as /dev/null must not be bound over what is masked.
    let bundle = env
        .script("cat /secret")
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue");
    fs::write(bundle.rootfs("secret"), "secret").unwrap();
    fs::write(bundle.rootfs("dev/null"), "planted\n").unwrap();
    let bundle = bundle.set("linux/maskedPaths", json!(["/secret"]));
    let output = env.run(&bundle);
    assert!(!output.stdout.contains("planted") && !output.stdout.contains("secret"), "{output:?}");
}

#[test]
fn proc_is_masked_by_default() {
    let Some(env) = Env::new() else { return };
    let script = "echo 1 2>/dev/null >/proc/sys/kernel/sysrq || echo refused
        for file in kcore keys timer_list; do test ! -e /proc/$file || head -c 1 /proc/$file | wc -c; done | sort -u";
    env.run(&env.script(script)).ok().prints("refused\n0");
}

#[test]
fn read_only_root() {
    let Some(env) = Env::new() else { return };
    let script =
        "touch /new 2>/dev/null || echo refused; touch /dev/shm/x && echo shm; touch /data/x && echo data";
    let source = source(&env, "src");
    let bundle = env.script(script).set("root/readonly", json!(true)).mount(
        "/data",
        "bind",
        source.to_str().unwrap(),
        &["bind"],
    );
    env.run(&bundle).ok().prints("refused\nshm\ndata");
}

#[test]
fn root_propagation() {
    let Some(env) = Env::new() else { return };
    for (value, want) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        if value != "private" && env.differs("runc", "1.1 makes it private on the way") {
            continue;
        }
        let output = env.run(&mountinfo(&env).set("linux/rootfsPropagation", json!(value))).ok();
        let found = table(&output);
        let root = &found["/"].propagation;
        assert!(if want.is_empty() { root.is_empty() } else { root.contains(want) }, "{value}: {root:?}");
    }
}

#[test]
fn propagation_of_one_mount() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    env.mount(&source, &source, &["--bind"]);
    env.program("mount", &["--make-shared", source.to_str().unwrap()]).run().ok();
    for (option, want) in [
        ("private", ""),
        ("slave", "master:"),
        ("shared", "shared:"),
        ("rslave", "master:"),
        ("unbindable", "unbindable"),
    ] {
        if option != "private"
            && option != "shared"
            && env.differs("crun", "cuts the propagation before it binds")
        {
            continue;
        }
        let bundle = mountinfo(&env).mount("/m", "bind", source.to_str().unwrap(), &["bind", option]);
        let bundle =
            if option == "shared" { bundle.set("linux/rootfsPropagation", json!("shared")) } else { bundle };
        let found = table(&env.run(&bundle).ok());
        let got = &found["/m"].propagation;
        assert!(if want.is_empty() { got.is_empty() } else { got.contains(want) }, "{option}: {got:?}");
    }
}

#[test]
fn mounts_of_the_host_do_not_show() {
    let Some(env) = Env::new() else { return };
    let found = table(&env.run(&mountinfo(&env)).ok());
    for place in found.keys() {
        let known = ["/", "/proc", "/dev", "/sys"]
            .iter()
            .any(|known| place == known || place.starts_with(&format!("{known}/")));
        assert!(known, "{place} is mounted: {found:#?}");
    }
    assert_eq!(found["/proc"].kind, "proc");
    assert_eq!(found["/dev/pts"].kind, "devpts");
    assert_eq!(found["/sys"].kind, "sysfs");
    assert!(found["/sys"].has("ro"));
}

#[test]
fn cgroup_mount_with_and_without_a_namespace() {
    let Some(env) = Env::new() else { return };
    // Without a namespace the whole hierarchy shows, with one only the container's own cgroup.
    let script = "here=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
        grep -c '^1$' $here/cgroup.procs; mkdir $here/x 2>/dev/null || echo refused";
    for bundle in
        [env.script(script).namespace("cgroup", None), env.script(script).without_namespace("cgroup")]
    {
        env.run(&bundle).ok().prints("1\nrefused");
    }
}

#[test]
fn without_a_network_namespace_sysfs_comes_from_the_host() {
    let Some(env) = Env::new() else { return };
    // In a user namespace without its own network namespace the kernel refuses a new sysfs;
    // runtimes bind the host's.
    let bundle = env
        .script("test -d /sys/class && echo sys")
        .without_namespace("network")
        .without_mount("/sys/fs/cgroup")
        .without_mount("/sys")
        .mount("/sys", "bind", "/sys", &["rbind", "ro", "nosuid", "nodev", "noexec"]);
    env.run(&bundle).ok().prints("sys");
}

#[test]
fn no_descriptor_of_the_host_is_open_inside() {
    let Some(env) = Env::new() else { return };
    env.run(&env.script("ls /proc/1/fd; true")).ok().prints("0\n1\n2");
}

#[test]
fn the_root_file_system_is_left_as_it_was() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["true"]);
    let before = fs::metadata(bundle.rootfs("tmp")).unwrap();
    env.run(&bundle).ok();
    let after = fs::metadata(bundle.rootfs("tmp")).unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    assert_eq!(after.permissions().mode() & 0o7777, 0o1777);
    assert_eq!(fs::read_dir(bundle.rootfs("dev")).unwrap().count(), 0, "the devices were on the tmpfs");
}

#[test]
fn idmapped_bind() {
    let Some(env) = Env::new() else { return };
    if !env.ours("Debian's have none") {
        return;
    }
    let source = source(&env, "src");
    std::os::unix::fs::chown(source.join("file"), Some(1000), Some(1000)).unwrap();
    let mapping = json!([{"containerID": 1000, "hostID": 5000, "size": 1}]);
    let mount = json!({
        "destination": "/m", "type": "bind", "source": source, "options": ["bind", "idmap"],
        "uidMappings": mapping, "gidMappings": mapping,
    });
    let bundle = env.script("stat -c '%u %g' /m/file").push("mounts", mount);
    let Some(output) = env.ok_since("5.12", env.run(&bundle)) else { return };
    output.prints("5000 5000");
}

/// A file that is open for writing would keep the file system from becoming read-only.
#[test]
fn a_root_with_created_mount_points_becomes_read_only() {
    let Some(env) = Env::new() else { return };
    let source = env.dir().join("hosts");
    fs::write(&source, "of the host\n").unwrap();
    let source = source.to_str().unwrap();
    let bundle = env
        .script("cat /made/hosts /linked; echo >/file 2>/dev/null || echo read-only")
        .set("root/readonly", json!(true))
        .mount("/made/hosts", "bind", source, &["bind", "ro"])
        .mount("/linked", "bind", source, &["bind", "ro"])
        .mount("/made/directory", "tmpfs", "tmpfs", &[]);
    symlink("made/target", bundle.rootfs("linked")).unwrap();
    env.run(&bundle).ok().prints("of the host\nof the host\nread-only");
}
