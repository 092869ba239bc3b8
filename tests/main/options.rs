//! Mount options: config.md "Linux mount options", mount(8), mount_setattr(2). Each takes effect,
//! or is refused by its JSON path.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::mounts::{Mounted, mountinfo, table};
use crate::support::{Bundle, Env};

/// A tmpfs in the test's mount namespace, which represents a file system of the host.
fn host_mount(env: &Env, name: &str, options: &str) -> PathBuf {
    let path = env.dir().join(name);
    fs::create_dir(&path).unwrap();
    env.mount("tmpfs".as_ref(), &path, &["-t", "tmpfs", "-o", options]);
    path
}

/// Another one, on the directory `below` in it.
fn host_mount_below(env: &Env, outer: &Path, options: &str) {
    let path = outer.join("below");
    env.program("mkdir", &[path.to_str().unwrap()]).privileged().run().ok();
    env.mount("tmpfs".as_ref(), &path, &["-t", "tmpfs", "-o", options]);
}

/// How a mount on /m with these options shows in the container.
fn bound(env: &Env, source: &str, options: &[&str]) -> Mounted {
    let options: Vec<_> = ["bind"].iter().chain(options).copied().collect();
    table(&env.run(&mountinfo(env).mount("/m", "bind", source, &options)).ok()).remove("/m").unwrap()
}

/// How a plain bind mount on /m shows after a remount with these options.
fn remounted(env: &Env, source: &str, options: &[&str]) -> Mounted {
    let options: Vec<_> = ["bind", "remount"].iter().chain(options).copied().collect();
    let bundle = mountinfo(env).mount("/m", "bind", source, &["bind"]).mount("/m", "none", "none", &options);
    table(&env.run(&bundle).ok()).remove("/m").unwrap()
}

fn times(mounted: &Mounted) -> &str {
    let named = |name: &&&str| mounted.options.iter().any(|option| option == **name);
    ["noatime", "relatime"].iter().find(named).map_or("strictatime", |name| name)
}

#[test]
fn access_times_are_those_that_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others take what mount(2) makes of it") {
        return;
    }
    let sources = ["relatime", "noatime", "strictatime"].map(|name| (name, host_mount(&env, name, name)));
    // What becomes of each source.
    let table = [
        ("rw", ["relatime", "noatime", "strictatime"]),
        ("relatime", ["relatime"; 3]),
        ("noatime", ["noatime"; 3]),
        ("strictatime", ["strictatime"; 3]),
        ("atime", ["relatime", "relatime", "strictatime"]),
        ("nostrictatime", ["relatime", "noatime", "relatime"]),
        ("norelatime", ["relatime", "noatime", "strictatime"]),
        ("nodiratime", ["relatime", "noatime", "strictatime"]),
    ];
    for (option, want) in table {
        for ((name, source), want) in sources.iter().zip(want) {
            let source = source.to_str().unwrap();
            assert_eq!(times(&bound(&env, source, &[option])), want, "{option} over {name}");
            assert_eq!(times(&remounted(&env, source, &[option])), want, "remount,{option} over {name}");
        }
    }
    let noatime = sources[1].1.to_str().unwrap();
    assert!(bound(&env, noatime, &["nodiratime"]).has("nodiratime"));
    // As the kernel, mount(2): relatime gives way.
    for both in [["relatime", "noatime"], ["noatime", "relatime"]] {
        assert_eq!(times(&bound(&env, noatime, &both)), "noatime");
    }
    let diratime = host_mount(&env, "nodiratime", "nodiratime");
    assert!(bound(&env, diratime.to_str().unwrap(), &["relatime"]).has("nodiratime"));
    assert!(!bound(&env, diratime.to_str().unwrap(), &["diratime"]).has("nodiratime"));
}

#[test]
fn recursive_access_times_are_those_that_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("Debian's crun differs in most") || env.is_older() {
        return;
    }
    let outer = host_mount(&env, "outer", "noatime");
    host_mount_below(&env, &outer, "strictatime,nodiratime");
    let expected = [
        ("rnorelatime", "relatime"),
        ("rrelatime", "relatime"),
        ("ratime", "relatime"),
        ("rnostrictatime", "relatime"),
        ("rnoatime", "noatime"),
        ("rstrictatime", "strictatime"),
    ];
    for (option, want) in expected {
        let bundle = mountinfo(&env).mount("/m", "bind", outer.to_str().unwrap(), &["rbind", option]);
        let found = table(&env.run(&bundle).ok());
        assert_eq!((times(&found["/m"]), times(&found["/m/below"])), (want, want), "{option}");
        assert!(found["/m/below"].has("nodiratime"), "{option}");
        let bundle = mountinfo(&env).mount("/m", "bind", outer.to_str().unwrap(), &["rbind"]);
        let found = table(&env.run(&bundle.mount("/m", "", "", &["bind", "remount", option])).ok());
        assert_eq!((times(&found["/m"]), times(&found["/m/below"])), (want, want), "remount,{option}");
    }
}

#[test]
fn restrictions_of_the_source_stay_unless_an_option_clears_them() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others clear what is not named") {
        return;
    }
    let all = ["ro", "nosuid", "nodev", "noexec"];
    let source = host_mount(&env, "restricted", &all.join(","));
    let source = source.to_str().unwrap();
    let clearing = [("rw", "ro"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("relatime", "")];
    for (option, cleared) in clearing {
        for found in [bound(&env, source, &[option]), remounted(&env, source, &[option])] {
            for restriction in all {
                // The file system of the source is read-only too.
                let has = found.options.iter().any(|option| option == restriction);
                assert_eq!(has, restriction != cleared, "{option}: {restriction} in {found:?}");
            }
        }
    }
}

/// Each fault names the field and the option.
#[test]
fn invalid_fields_of_a_mount_are_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others ignore these") {
        return;
    }
    let source = env.dir().to_str().unwrap().to_owned();
    let refused = |kind: &str, options: &[&str], words: &str| {
        let bundle = env.bundle(&["true"]).mount("/m", kind, &source, options);
        let at = bundle.config["mounts"].as_array().unwrap().len() - 1;
        env.run(&bundle).fails().says(&format!("mounts[{at}].options: ")).says(words);
    };
    for option in ["sync", "dirsync", "lazytime", "nolazytime", "mand", "nomand", "iversion", "noiversion"] {
        refused("bind", &["rbind", option], &format!("{option} is an option of the file system"));
        refused("cgroup", &[option], &format!("{option} is an option of the file system"));
    }
    refused("tmpfs", &["iversion"], "iversion: tmpfs has no such option");
    refused("proc", &["iversion"], "iversion: proc has no such option");
    refused("bind", &["bind", "noatime", "strictatime"], "noatime and strictatime exclude each other");
    refused("tmpfs", &["strictatime", "noatime"], "noatime and strictatime exclude each other");
    refused("bind", &["bind", "rnoatime", "rstrictatime"], "rnoatime and rstrictatime exclude each other");
    for kind in ["tmpfs", "proc", "cgroup"] {
        refused(kind, &["copy-symlink"], "copy-symlink is for a new bind mount only");
        refused(kind, &["src-nofollow"], "src-nofollow is for a new bind mount only");
        refused(kind, &["idmap"], "idmapped mounts are for new bind mounts only");
    }
    for kind in ["bind", "proc", "cgroup"] {
        refused(kind, &["tmpcopyup"], "tmpcopyup is for a new tmpfs only");
    }
    let mapped = json!({
        "destination": "/m", "type": "tmpfs", "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]
    });
    env.run(&env.bundle(&["true"]).push("mounts", mapped)).fails().says("].uidMappings: idmapped mounts");
}

#[test]
fn configurations_of_engines_are_accepted() {
    let Some(env) = Env::new() else { return };
    let source = env.dir().to_str().unwrap().to_owned();
    let lists: [&[&str]; 8] = [
        &["bind", "defaults", "async", "loud"],
        &["bind", "silent"],
        // Docker, containerd, podman.
        &["rbind", "rprivate", "rw"],
        &["rbind", "rprivate", "ro"],
        &["bind", "rprivate", "nosuid", "nodev", "noexec", "rw"],
        &["rbind", "rslave", "rw"],
        &["rw", "bind"],
        &["rbind", "ro", "relatime"],
    ];
    for options in lists {
        env.run(&env.bundle(&["true"]).mount("/m", "bind", &source, options)).ok();
    }
    let tmpfs: [&[&str]; 4] = [
        &["rprivate", "nosuid", "nodev", "tmpcopyup"],
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k", "rprivate", "rw"],
        &["defaults", "async", "silent", "loud", "lazytime", "sync", "dirsync", "noiversion", "nomand"],
    ];
    for options in tmpfs {
        env.run(&env.bundle(&["true"]).mount("/m", "tmpfs", "tmpfs", options)).ok();
    }
}

#[test]
fn options_of_a_file_system_take_effect_on_a_new_one() {
    let Some(env) = Env::new() else { return };
    for propagation in [&[][..], &["private"]] {
        for option in ["sync", "dirsync", "lazytime"] {
            let options: Vec<_> = [option].iter().chain(propagation).copied().collect();
            let found = table(&env.run(&mountinfo(&env).mount("/m", "tmpfs", "tmpfs", &options)).ok());
            assert!(found["/m"].data.iter().any(|has| has == option), "{options:?}: {:?}", found["/m"]);
        }
    }
}

/// What runc and crun do.
#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let Some(env) = Env::new() else { return };
    let modes = [("private", 0o750), ("shared", 0o3777), ("plain", 0o755)];
    let with_directories = |options: &[&str], place: &str| -> String {
        let bundle = env.script(&format!("stat -c '%a %u %g' /{place}"));
        for (name, mode) in modes {
            fs::create_dir(bundle.rootfs(name)).unwrap();
            chown(bundle.rootfs(name), Some(5), Some(6)).unwrap();
            fs::set_permissions(bundle.rootfs(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        env.run(&bundle.mount(&format!("/{place}"), "tmpfs", "tmpfs", options)).ok().text().to_owned()
    };
    for (name, mode) in modes {
        for options in [&[][..], &["size=64k"], &["private"], &["ro"], &["size=1m,nr_inodes=10"]] {
            assert_eq!(with_directories(options, name), format!("{mode:o} 0 0"), "{name} {options:?}");
        }
        assert_eq!(with_directories(&["mode=711"], name), "711 0 0");
        assert_eq!(with_directories(&["size=64k,mode=711", "private"], name), "711 0 0");
        assert_eq!(with_directories(&["uid=3", "gid=4"], name), format!("{mode:o} 3 4"));
        assert_eq!(with_directories(&["tmpcopyup", "mode=700", "uid=3", "gid=4"], name), "700 3 4");
        if env.ours("others copy no owner of the directory itself") {
            assert_eq!(with_directories(&["tmpcopyup"], name), format!("{mode:o} 5 6"));
        }
    }
    for options in [&[][..], &["size=64k"], &["private"], &["tmpcopyup"], &["tmpcopyup", "size=64k"]] {
        assert_eq!(with_directories(options, "missing"), "1777 0 0", "{options:?}");
        assert_eq!(with_directories(options, "missing/too"), "1777 0 0", "{options:?}");
    }
    assert_eq!(with_directories(&["tmpcopyup", "mode=700"], "missing"), "700 0 0");
}

#[test]
fn a_rootless_user_writes_to_a_new_tmpfs() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("touch /new/file && stat -c %u /new/file");
    let bundle = bundle.set("process/user", json!({"uid": 1000, "gid": 1000}));
    let bundle = bundle.mount("/new", "tmpfs", "tmpfs", &["rprivate", "nosuid", "nodev", "tmpcopyup"]);
    env.run(&bundle).ok().prints("1000");
}

#[test]
fn mounts_add_gives_a_tmpfs_the_mode_of_what_it_covers() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    fs::create_dir(bundle.rootfs("private")).unwrap();
    fs::set_permissions(bundle.rootfs("private"), fs::Permissions::from_mode(0o750)).unwrap();
    env.launch("web", &bundle);
    let list = env.dir().join("mounts.json");
    let mounts =
        json!([{"destination": "/private", "type": "tmpfs"}, {"destination": "/new", "type": "tmpfs"}]);
    fs::write(&list, mounts.to_string()).unwrap();
    env.runtime(&["mounts", "add", "web", list.to_str().unwrap()]).ok();
    let mode = |path: &str| {
        let path = format!("/proc/{}/root{path}", env.pid("web"));
        fs::metadata(path).unwrap().mode() & 0o7777
    };
    assert_eq!((mode("/private"), mode("/new")), (0o750, 0o1777));
    env.delete("web");
}

/// A user namespace keeps what the host's mounts have: options not given are unchanged, and options
/// that cannot be set are an error.
#[test]
fn a_rootless_user_cannot_undo_what_the_host_has_set() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("others differ in words") {
        return;
    }
    let source = host_mount(&env, "locked", "noatime,nosuid,nodev,ro");
    let source = source.to_str().unwrap();
    let found = bound(&env, source, &["noexec"]);
    assert!(
        ["ro", "noatime", "nosuid", "nodev", "noexec"].iter().all(|option| found.has(option)),
        "{found:?}"
    );
    for option in ["relatime", "rw", "suid", "dev"] {
        let bundle = env.bundle(&["true"]).mount("/m", "bind", source, &["bind", option]);
        env.run(&bundle)
            .fails()
            .says("set the options of mounts[")
            .says("in a user namespace the kernel keeps");
    }
    // What changes nothing is no fault.
    bound(&env, source, &["noatime", "nosuid", "exec"]);
}

fn on_own(env: &Env, kind: &str, before: &[&str], after: &[&str]) -> Bundle {
    let after: Vec<_> = ["remount"].iter().chain(after).copied().collect();
    mountinfo(env).mount("/m", kind, kind, before).mount("/m", kind, kind, &after)
}

/// A file system that the container has made is its own to change; what is not named stays.
#[test]
fn a_remount_changes_the_containers_own_file_system() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others clear what is not named") {
        return;
    }
    let one = |bundle: Bundle| table(&env.run(&bundle).ok()).remove("/m").unwrap();
    let found =
        one(on_own(&env, "tmpfs", &["nosuid", "noatime", "size=64k"], &["ro", "noexec", "size=128k"]));
    for option in ["nosuid", "noatime", "noexec"] {
        assert!(found.options.iter().any(|has| has == option), "{found:?}");
    }
    assert!(found.options[0] == "ro" && found.data[0] == "ro" && found.has("size=128k"), "{found:?}");
    // A read-only tmpfs becomes so at the end only; this comes after it all the same.
    let found = one(on_own(&env, "tmpfs", &["ro"], &["rw"]));
    assert!(found.options[0] == "rw" && found.data[0] == "rw", "{found:?}");
    let found = one(on_own(&env, "tmpfs", &[], &["sync", "lazytime", "nodiratime"]));
    assert!(["sync", "lazytime", "nodiratime"].iter().all(|option| found.has(option)), "{found:?}");
    let found = one(on_own(&env, "tmpfs", &["sync"], &["async", "slave"]));
    assert!(!found.has("sync"), "{found:?}");
    let found = one(on_own(&env, "proc", &[], &["hidepid=1", "nosuid"]));
    assert!(
        found.has("nosuid") && found.data.iter().any(|option| option.starts_with("hidepid=")),
        "{found:?}"
    );
    let output = env.run(&on_own(&env, "tmpfs", &[], &["size=nonsense"])).fails();
    output.says("change the file system at /m (mounts[").says("does tmpfs accept its options size=nonsense?");
}

#[test]
fn a_remount_that_cannot_be_is_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others ignore what they cannot do") {
        return;
    }
    let source = env.dir().to_str().unwrap().to_owned();
    let refused = |options: &[&str], field: &str, words: &str| {
        let bundle = env
            .bundle(&["true"])
            .mount("/m", "bind", &source, &["bind"])
            .mount("/m", "none", "none", options);
        let at = bundle.config["mounts"].as_array().unwrap().len() - 1;
        env.run(&bundle).fails().says(&format!("mounts[{at}].{field}: ")).says(words);
    };
    for option in ["tmpcopyup", "copy-symlink", "src-nofollow", "idmap", "ridmap"] {
        refused(&["bind", "remount", "ro", option], "options", "new");
    }
    refused(&["bind", "remount", "size=1k"], "options", "which a remount with bind does not change");
    refused(&["bind", "remount", "sync"], "options", "sync is an option of the file system");
    refused(&["bind", "remount", "noatime", "strictatime"], "options", "exclude each other");
    let nothing = env.bundle(&["true"]).mount("/tmp", "none", "none", &["bind", "remount", "ro"]);
    env.run(&nothing).fails().says("].destination: remount: nothing is mounted on /tmp");
    let own = env.bundle(&["true"]).mount("/m", "tmpfs", "tmpfs", &[]);
    let other = own.mount("/m", "proc", "proc", &["remount", "ro"]);
    env.run(&other).fails().says("at this destination is a tmpfs; write that, or none");
    for option in ["iversion", "idmap", "tmpcopyup"] {
        env.run(&on_own(&env, "tmpfs", &[], &[option])).fails().says("].options: ").says(option);
    }
}

/// The kernel only says that an argument is invalid.
#[test]
fn options_that_a_file_system_refuses_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    for options in [&["size=nonsense"][..], &["size=nonsense", "private"], &["mode=711", "nosuchoption"]] {
        let output = env.run(&env.bundle(&["true"]).mount("/m", "tmpfs", "tmpfs", options)).fails();
        output
            .says("mount tmpfs on /m (mounts[")
            .says("invalid argument; does tmpfs accept its options ")
            .says(options[0]);
    }
    let long = format!("nosuchoption={}", "x".repeat(3000));
    let output = env.run(&env.bundle(&["true"]).mount("/m", "tmpfs", "tmpfs", &[&long])).fails();
    assert!(output.stderr.len() < 500, "{}", output.stderr);
}

/// Propagation and recursive options are applied in a remount too.
#[test]
fn a_remount_carries_out_all_its_options() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others ignore some") {
        return;
    }
    let outer = host_mount(&env, "outer", "rw");
    host_mount_below(&env, &outer, "rw");
    let run = |options: &[&str]| {
        let options: Vec<_> = ["bind", "remount"].iter().chain(options).copied().collect();
        let bundle = mountinfo(&env).mount("/m", "bind", outer.to_str().unwrap(), &["rbind"]);
        env.run(&bundle.mount("/m", "", "", &options))
    };
    let found = table(&run(&["ro", "unbindable"]).ok());
    assert!(found["/m"].has("ro") && found["/m/below"].options[0] == "rw", "{found:#?}");
    assert!(found["/m"].propagation.contains("unbindable") && found["/m/below"].propagation.is_empty());
    let found = table(&run(&["rshared"]).ok());
    assert!(found["/m"].propagation.contains("shared") && found["/m/below"].propagation.contains("shared"));
    if let Some(output) = env.ok_since("5.12", run(&["rro", "rnoexec"])) {
        let found = table(&output);
        assert!(
            ["/m", "/m/below"]
                .iter()
                .all(|place| found[*place].options[0] == "ro" && found[*place].has("noexec"))
        );
    }
}
