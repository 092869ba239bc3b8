//! mounts add and mounts remove: crun(1). The container is hostile: no change to its names leads
//! outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Env, Output, until};

/// Writes a list of mounts, and gives its path.
fn list(env: &Env, mounts: &Value) -> String {
    let path = env.dir().join("mounts.json");
    fs::write(&path, serde_json::to_vec(mounts).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn add(env: &Env, mounts: &Value) -> Output {
    env.runtime(&["mounts", "add", "web", &list(env, mounts)])
}

fn remove(env: &Env, mounts: &Value) -> Output {
    env.runtime(&["mounts", "remove", "web", &list(env, mounts)])
}

/// The mount table of the container's process.
fn table(env: &Env) -> String {
    fs::read_to_string(format!("/proc/{}/mountinfo", env.pid("web"))).unwrap()
}

/// The line about a place in the container.
fn line(env: &Env, place: &str) -> Option<String> {
    table(env).lines().rev().find(|line| line.split(' ').nth(4) == Some(place)).map(str::to_owned)
}

/// What the container's process sees at a path.
fn inside(env: &Env, path: &str) -> PathBuf {
    format!("/proc/{}/root{path}", env.pid("web")).into()
}

/// Whether something of the directory `source` is mounted; mountinfo shows its path from where its
/// file system begins.
fn shows(table: &str, source: &str) -> bool {
    let parts: Vec<&str> = source.rsplitn(3, '/').collect();
    table.contains(&format!("{}/{} ", parts[1], parts[0]))
}

/// A directory of the host with one file.
fn source(env: &Env) -> String {
    let path = env.dir().join("source");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "of the host\n").unwrap();
    path.to_str().unwrap().to_owned()
}

/// The process inside has none of the caller's descriptors.
#[test]
fn the_callers_descriptors_stay_outside() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") || !env.has("strace", "strace") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let mounts = json!([{"destination": "/a", "type": "tmpfs", "source": "tmpfs"}]);
    let (list, trace) = (list(&env, &mounts), env.dir().join("run/trace"));
    // It enters the container by setns(2).
    let script = format!(
        "exec 9</etc/passwd; exec strace -f -qq -o {} -e trace=setns -e inject=setns:delay_enter=1000000 $RUNTIME --root $ROOT mounts add web {list}",
        trace.display()
    );
    let call = env.program("/bin/sh", &["-c", &script]).env("RUNTIME", env.binary()).env("ROOT", env.root());
    let running = call.privileged().start();
    let entering = || -> Option<String> {
        let calls = fs::read_to_string(&trace).ok()?;
        let mut callers = calls.lines().filter_map(|line| line.split_whitespace().next());
        let command = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        callers.find(|pid| command(pid) == "emergence-runc\0init\0").map(str::to_owned)
    };
    until("it enters", || entering().is_some());
    let pid = entering().unwrap();
    let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let names: Vec<_> = names.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(names.len() > 3 && !names.contains(&PathBuf::from("/etc/passwd")), "{names:?}");
    running.wait().ok();
    env.delete("web");
}

#[test]
fn mounts_are_added_and_removed_in_a_running_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let before = table(&env);
    let host = env.mount_table();
    let mounts = json!([
        {"destination": "/deep/data", "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]},
        {"destination": "/one", "source": format!("{source}/file"), "options": ["bind"]},
        {"destination": "/deep/t", "type": "tmpfs", "source": "mine", "options": ["size=64k", "ro", "noexec"]},
        {"destination": "/own", "type": "proc"},
        {"destination": "/queue", "type": "mqueue"},
        {"destination": "/kernel", "type": "sysfs", "options": ["ro"]}
    ]);
    add(&env, &mounts).ok().prints("");
    assert_eq!(fs::read_to_string(inside(&env, "/deep/data/file")).unwrap(), "of the host\n");
    assert_eq!(fs::read_to_string(inside(&env, "/one")).unwrap(), "of the host\n");
    assert!(line(&env, "/deep/data").unwrap().contains(" ro,nosuid"));
    let tmpfs = line(&env, "/deep/t").unwrap();
    assert!(tmpfs.contains(" ro,noexec") && tmpfs.contains("tmpfs mine rw,size=64k"), "{tmpfs}");
    // The container's own processes and devices, not the host's.
    let numbers = fs::read_dir(inside(&env, "/own")).unwrap().flatten();
    let numbers = numbers.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 1);
    let devices: Vec<_> = fs::read_dir(inside(&env, "/kernel/class/net"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(devices, ["lo"]);
    assert_eq!(env.mount_table(), host, "the host sees nothing of it");
    remove(&env, &mounts).ok().prints("");
    assert_eq!(table(&env), before);
    env.delete("web");
}

#[test]
fn created_and_paused_containers_take_mounts_and_stopped_ones_do_not() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    let mounts = json!({"mounts": [{"destination": "/data", "source": source, "options": ["rbind"]}]});
    let bundle = env.bundle(&["cat", "/data/file"]);
    env.runtime(&["mounts", "add", "web", &list(&env, &mounts)]).fails().says("container does not exist");
    let created = env.create("web", &bundle).ok();
    env.runtime(&["pause", "web"]).ok();
    add(&env, &mounts).ok();
    env.runtime(&["resume", "web"]).ok();
    env.runtime(&["start", "web"]).ok();
    env.wait_for("web", "stopped");
    assert_eq!(created.later(), "of the host\n");
    add(&env, &mounts).fails().says("container not running");
    remove(&env, &mounts).fails().says("container not running");
    env.delete("web");
}

#[test]
fn a_failure_undoes_earlier_creations() {
    let Some(env) = Env::new() else { return };
    if !env.ours("a promise that crun does not make") {
        return;
    }
    let source = source(&env);
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let before = table(&env);
    let good = json!([
        {"destination": "/a", "source": source, "options": ["bind"]},
        {"destination": "/a", "type": "tmpfs", "options": ["ro"]},
        {"destination": "/f", "source": format!("{source}/file"), "options": ["bind"]}
    ]);
    type Case = (Value, &'static str);
    let table_of_faults: [Case; 9] = [
        (json!({"destination": "/t", "type": "tmpfs", "options": ["size=much"]}), "mounts[3]"),
        (json!({"destination": "/t", "type": "nofs"}), "no such device"),
        (json!({"destination": "/bin/sh/x", "source": source, "options": ["bind"]}), "not a directory"),
        (json!({"destination": "/bin/busybox", "source": source, "options": ["bind"]}), "not a directory"),
        (
            json!({"destination": "/t", "source": "/nowhere/at/all", "options": ["bind"]}),
            "no such file or directory",
        ),
        (json!({"destination": "/t"}), "mounts[3].type"),
        (json!({"destination": "/", "type": "tmpfs"}), "mounts[3].destination"),
        (json!({"destination": "/t", "type": "cgroup"}), "mounts[3].type"),
        (json!({"destination": "/a", "type": "none", "options": ["remount", "ro"]}), "mounts[3].options"),
    ];
    for (bad, words) in table_of_faults {
        let mut mounts = good.clone();
        mounts.as_array_mut().unwrap().push(bad);
        add(&env, &mounts).fails().says(words);
        assert_eq!(table(&env), before, "{words}");
    }
    // Nothing is unmounted when not all can be.
    add(&env, &good).ok();
    let with = table(&env);
    let mut mounts = good.clone();
    mounts.as_array_mut().unwrap().push(json!({"destination": "/tmp"}));
    remove(&env, &mounts).fails().says("/tmp (mounts[3]): nothing is mounted there");
    assert_eq!(table(&env), with);
    remove(&env, &json!([{"destination": "/missing"}])).fails().says("no such file or directory");
    remove(&env, &json!([{"destination": "/"}])).fails().says("mounts[0].destination");
    remove(&env, &json!([{"source": "/x"}])).fails().says("mounts[0]");
    remove(&env, &good).ok();
    assert_eq!(table(&env), before);
    env.delete("web");
}

#[test]
fn links_of_the_container_lead_nowhere_outside() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    let outside = env.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    let bundle = env.bundle(&["sleep", "100"]);
    symlink(&outside, bundle.rootfs("absolute")).unwrap();
    symlink("../../../../../../../../..", bundle.rootfs("up")).unwrap();
    symlink("/proc/self/root/../../..", bundle.rootfs("magic")).unwrap();
    env.launch("web", &bundle);
    let host = env.mount_table();
    let below = outside.to_str().unwrap();
    for (place, real) in
        [("/absolute/x", format!("{below}/x")), ("/up/x", "/x".into()), ("/absolute", below.into())]
    {
        let mounts = json!([{"destination": place, "source": source, "options": ["bind"]}]);
        add(&env, &mounts).ok();
        let there = line(&env, &real).unwrap_or_else(|| panic!("{real}: {}", table(&env)));
        assert!(shows(&there, &source), "{there}");
        remove(&env, &mounts).ok();
        assert!(!shows(&table(&env), &source), "{place}");
    }
    // What follows the kernel's own links is refused.
    add(&env, &json!([{"destination": "/magic/x", "source": source, "options": ["bind"]}])).fails();
    assert!(!shows(&table(&env), &source));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(env.mount_table(), host);
    env.delete("web");
}

#[test]
fn names_that_change_all_the_time_lead_nowhere_outside() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    let outside = env.dir().join("outside");
    fs::create_dir_all(outside.join("x")).unwrap();
    // A directory and a link to a directory of the host take turns at one name.
    let script = format!(
        "mkdir -p /a /b/x; ln -s {} /l; echo > /tmp/ready; while :; do mv /a /c; mv /l /a; mv /a /l; mv /c /a; done",
        outside.to_str().unwrap()
    );
    let bundle = env.script(&script);
    env.launch("web", &bundle);
    until("the names change", || bundle.rootfs("tmp/ready").exists());
    let host = env.mount_table();
    let mounts = json!([{"destination": "/a/x", "source": source, "options": ["bind"]}]);
    for _ in 0..40 {
        // It may fail; but where it succeeds, it is inside.
        if add(&env, &mounts).code == 0 {
            assert!(shows(&table(&env), &source));
        }
        remove(&env, &mounts);
    }
    assert_eq!(env.mount_table(), host);
    assert_eq!(fs::read_dir(outside.join("x")).unwrap().count(), 0);
    env.delete("web");
}

#[test]
fn in_a_user_namespace_the_mounts_are_the_containers() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    std::os::unix::fs::chown(format!("{source}/file"), Some(1000), Some(1000)).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env
        .bundle(&["sleep", "100"])
        .namespace("user", None)
        .set("linux/uidMappings", map.clone())
        .set("linux/gidMappings", map);
    env.program("chown", &["-R", "100000:100000", bundle.rootfs("").to_str().unwrap()]).run().ok();
    env.launch("web", &bundle);
    let before = table(&env);
    let mapped = json!([{"destination": "/mapped", "source": source, "options": ["bind", "idmap"]}]);
    let mounts = json!([
        {"destination": "/new/data", "source": source, "options": ["bind", "ro"]},
        {"destination": "/t", "type": "tmpfs"},
        {"destination": "/own", "type": "proc"}
    ]);
    use std::os::unix::fs::MetadataExt;
    if env.ok_since("5.12", add(&env, &mapped)).is_some() {
        assert_eq!(fs::metadata(inside(&env, "/mapped/file")).unwrap().uid(), 101_000);
        remove(&env, &mapped).ok();
    }
    add(&env, &mounts).ok();
    assert_eq!(fs::metadata(inside(&env, "/new")).unwrap().uid(), 100_000, "made as the container's root");
    assert_eq!(fs::metadata(inside(&env, "/t")).unwrap().uid(), 100_000);
    assert_eq!(fs::read_to_string(inside(&env, "/new/data/file")).unwrap(), "of the host\n");
    remove(&env, &mounts).ok();
    assert_eq!(table(&env), before);
    env.delete("web");
}

#[test]
fn a_rootless_user_adds_mounts_to_its_container() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let source = source(&env);
    env.launch("web", &env.bundle(&["sleep", "100"]));
    until("the program runs", || {
        fs::read_to_string(format!("/proc/{}/cmdline", env.pid("web"))).unwrap().starts_with("sleep")
    });
    let before = table(&env);
    let mounts = json!([
        {"destination": "/data", "source": source, "options": ["bind"]},
        {"destination": "/t", "type": "tmpfs"}
    ]);
    add(&env, &mounts).ok();
    assert_eq!(fs::read_to_string(inside(&env, "/data/file")).unwrap(), "of the host\n");
    remove(&env, &mounts).ok();
    assert_eq!(table(&env), before);
    env.delete("web");
}

#[test]
fn a_container_on_the_hosts_mounts_is_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun before 1.20 has no mounts") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]).without_namespace("mount").edit(|config| {
        config["mounts"] = json!([]);
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("maskedPaths");
        linux.remove("readonlyPaths");
    });
    env.launch("web", &bundle);
    add(&env, &json!([{"destination": "/t", "type": "tmpfs"}])).fails().says("no mount namespace of its own");
    env.delete("web");
}

#[test]
fn broken_files_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let file = env.dir().join("broken.json");
    let path = file.to_str().unwrap();
    env.runtime(&["mounts", "add", "web", path]).fails().says("no such file or directory");
    for (text, words) in [("", "EOF"), ("[{]", "line 1 column"), ("{}", "mounts"), ("7", "invalid type")] {
        fs::write(&file, text).unwrap();
        env.runtime(&["mounts", "add", "web", path]).fails().says("broken.json").says(words);
    }
    fs::write(&file, "[]").unwrap();
    env.runtime(&["mounts", "add", "web", path]).ok();
    env.delete("web");
}
