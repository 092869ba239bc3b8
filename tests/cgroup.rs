//! Cgroups as the kernel makes them.
//!
//! Needs root and cgroup v2. Where /sys/fs/cgroup is not v2 alone, each test runs itself again in a
//! mount namespace of its own with v2 mounted there. Without root a test is skipped with a word,
//! but fails where CI is set. The limits' test needs the controllers pids, memory, cpu and io, and
//! says so where they are missing; `CGROUP_CONTROLLERS=1` makes that a failure.

#![allow(clippy::unwrap_used)] // clippy knows only functions marked #[test] as tests, not their helpers

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emergence_runc::cgroup::{Driver, Group, Layout, devices, layout, limits};
use emergence_runc::error::Kind;
use emergence_runc::spec::resources::{DeviceRule, Resources};

/// Whether the rest of the test is to run in this process. If not, it has been run in another one,
/// and passed.
fn on_cgroup2(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root");
        eprintln!("{test}: skipped, it needs root");
        return false;
    }
    if matches!(layout().unwrap(), Layout::Unified { .. }) {
        return true;
    }
    assert!(std::env::var_os("CGROUP_TEST_INSIDE").is_none(), "cgroup v2 was mounted, but not found");
    let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("CGROUP_TEST_INSIDE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in a mount namespace of its own: {status}");
    false
}

/// A name of this test's own below the root, removed with all below it at the end.
struct Place {
    group: Group,
    path: PathBuf,
    top: Group,
}

impl Place {
    fn new(test: &str) -> Self {
        let top = format!("/emergence-test-{}-{test}", std::process::id());
        let place =
            |path: &str| Group::place(&layout().unwrap(), Driver::Plain, path, "web").unwrap().unwrap();
        let group = place(&format!("{top}/web"));
        let path = group.unified.as_ref().unwrap().path();
        Self { group, path, top: place(&top) }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap().trim().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = self.top.remove();
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// A process that does nothing, and does not outlive its test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// The signal that ended it.
    fn ended_by(&mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // One that a failing test left frozen ends later.
        let _ = self.0.try_wait();
    }
}

fn has_controllers(test: &str, needed: &[&str]) -> bool {
    let here = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let missing: Vec<_> =
        needed.iter().filter(|name| !here.split_whitespace().any(|there| there == **name)).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CGROUP_CONTROLLERS").is_none(), "{test} needs {missing:?}, here is {here}");
        eprintln!("{test}: in part skipped, this host has no {missing:?} in cgroup v2");
    }
    missing.is_empty()
}

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

#[test]
fn created_and_removed() {
    if !on_cgroup2("created_and_removed") {
        return;
    }
    let place = Place::new("made");
    let made = place.group.create().unwrap().unwrap();
    assert!(place.path.is_dir());
    assert!(made.dir_fd().is_some());
    let controllers = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    assert_eq!(
        controllers(&place.path),
        controllers(Path::new("/sys/fs/cgroup")),
        "every controller is handed down"
    );
    // A second one in the same place, empty, is taken over and not ours to remove.
    place.group.create().unwrap().unwrap().undo().unwrap();
    assert!(place.path.is_dir());
    made.undo().unwrap();
    assert!(!place.path.exists() && !place.path.parent().unwrap().exists(), "parents that we made go too");
}

#[test]
fn used_or_frozen_is_refused() {
    if !on_cgroup2("used_or_frozen_is_refused") {
        return;
    }
    let place = Place::new("used");
    place.group.create().unwrap().unwrap();
    let below = place.group.clone().below(&[], "deep/er").unwrap();
    below.create().unwrap().unwrap();
    let mut child = Sleeper::new();
    below.join(child.pid()).unwrap();
    let error = place.group.create().unwrap_err();
    assert!(error.to_string().contains("container's cgroup is not empty: 1 process(es) found"), "{error}");
    assert_eq!(place.group.pids().unwrap(), [child.pid()]);
    place.group.kill().unwrap();
    assert_eq!(child.ended_by(), Some(9));
    place.group.freeze().unwrap();
    let error = place.group.create().unwrap_err();
    assert!(error.to_string().contains("container's cgroup unexpectedly frozen"), "{error}");
    place.group.thaw().unwrap();
    place.group.create().unwrap().unwrap();
}

#[test]
fn removed_with_all_in_it() {
    if !on_cgroup2("removed_with_all_in_it") {
        return;
    }
    let place = Place::new("removed");
    place.group.create().unwrap().unwrap();
    let mut children = [Sleeper::new(), Sleeper::new()];
    // First of all: once controllers are handed on, no process may enter. Neither are they while it
    // is in.
    place.group.join(children[0].pid()).unwrap();
    let mut deep = place.group.clone();
    for _ in 0..30 {
        deep = deep.below(&[], "a").unwrap();
        fs::create_dir_all(deep.unified.as_ref().unwrap().path().with_file_name("b")).unwrap();
    }
    deep.create().unwrap().unwrap();
    deep.join(children[1].pid()).unwrap();
    place.group.freeze().unwrap();
    assert!(place.group.is_frozen().unwrap());
    place.group.remove().unwrap();
    assert!(!place.path.exists());
    assert!(place.path.parent().unwrap().exists(), "what is above stays");
    for child in &mut children {
        assert_eq!(child.ended_by(), Some(9));
    }
    place.group.remove().unwrap();
    place.group.kill().unwrap();
    assert_eq!(place.group.pids().unwrap(), [0i32; 0]);
    assert!(!place.group.is_frozen().unwrap());
}

#[test]
fn frozen_and_signalled() {
    if !on_cgroup2("frozen_and_signalled") {
        return;
    }
    let place = Place::new("frozen");
    place.group.create().unwrap().unwrap();
    let mut child = Sleeper::new();
    place.group.join(child.pid()).unwrap();
    place.group.freeze().unwrap();
    assert!(place.read("cgroup.events").contains("frozen 1"));
    place.group.signal(rustix::process::Signal::TERM).unwrap();
    // The kernel wakes the process for a moment, to look at its signal.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !place.group.is_frozen().unwrap() {
        assert!(std::time::Instant::now() < end, "as it was before");
    }
    place.group.thaw().unwrap();
    assert_eq!(child.ended_by(), Some(15));
}

#[test]
fn files_that_cannot_be_removed_are_named() {
    if !on_cgroup2("files_that_cannot_be_removed_are_named") {
        return;
    }
    let place = Place::new("named");
    place.group.create().unwrap().unwrap();
    let mut child = Sleeper::new();
    place.group.join(child.pid()).unwrap();
    // Killed, it is an unreaped zombie: that must not prevent the removal.
    place.group.remove().unwrap();
    assert_eq!(child.ended_by(), Some(9));
    // A file system bound over the directory cannot be removed.
    place.group.create().unwrap().unwrap();
    let path = place.path.to_str().unwrap();
    assert!(Command::new("mount").args(["--bind", path, path]).status().unwrap().success());
    let error = place.group.remove().unwrap_err();
    assert!(Command::new("umount").arg(path).status().unwrap().success());
    assert!(error.to_string().contains("although it has no processes"), "{error}");
    assert_eq!(error.errno(), Some(libc::EBUSY));
}

#[test]
fn devices_are_denied() {
    if !on_cgroup2("devices_are_denied") {
        return;
    }
    let place = Place::new("devices");
    let made = place.group.create().unwrap().unwrap();
    // /dev/mem and the like: kmsg (1:11) is everywhere and in no default rule.
    let reads = |device: &str| {
        let script = format!("echo $$ > {}/cgroup.procs && exec 3<{device}", place.path.display());
        Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(reads("/dev/null") && reads("/dev/kmsg"), "no program, no rule");
    let program = |rules: &[DeviceRule]| devices::compile(&devices::rules(rules).unwrap()).unwrap();
    made.guard_devices(program(&[]).as_ref()).unwrap();
    assert!(reads("/dev/null") && reads("/dev/zero") && reads("/dev/urandom"));
    assert!(!reads("/dev/kmsg"));
    let kmsg = |access: &str| DeviceRule {
        allow: true,
        kind: "c".into(),
        major: Some(1),
        minor: Some(11),
        access: access.into(),
    };
    made.replace_device_program(program(&[kmsg("r")]).as_ref()).unwrap();
    assert!(reads("/dev/kmsg"));
    made.replace_device_program(program(&[kmsg("w")]).as_ref()).unwrap();
    assert!(!reads("/dev/kmsg"), "the former program is gone");
    made.replace_device_program(program(&[DeviceRule { allow: true, ..DeviceRule::default() }]).as_ref())
        .unwrap();
    assert!(reads("/dev/kmsg"), "everything is allowed");
}

/// The real verifier takes what the compiler makes of many kinds of rules.
#[test]
fn verifier_takes_programs() {
    if !on_cgroup2("verifier_takes_programs") {
        return;
    }
    let place = Place::new("verifier");
    let made = place.group.create().unwrap().unwrap();
    let lists = [
        r#"[{"allow":true},{"allow":false,"type":"b","major":8}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":1,"access":"w"},{"allow":false,"minor":7}]"#,
        r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"},{"allow":true,"type":"c","major":2147483647,"minor":2147483647}]"#,
        r#"[{"allow":false,"access":"m"},{"allow":true,"type":"c","major":10,"minor":30},{"allow":true,"type":"c","major":10,"minor":1},
            {"allow":true,"type":"c","major":10,"minor":9},{"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]"#,
    ];
    for list in lists {
        let rules: Vec<DeviceRule> = serde_json::from_str(list).unwrap();
        let program = devices::compile(&devices::rules(&rules).unwrap()).unwrap();
        made.replace_device_program(program.as_ref()).unwrap();
    }
}

#[test]
fn missing_controller_is_named() {
    if !on_cgroup2("missing_controller_is_named") {
        return;
    }
    let place = Place::new("missing");
    let made = place.group.create().unwrap().unwrap();
    let apply = |json: &str| made.apply(&limits::limits(&resources(json)).unwrap());
    let error = apply(r#"{"unified":{"nonesuch.max":"1"}}"#).unwrap_err();
    let words =
        "linux.resources.unified[\"nonesuch.max\"]: the nonesuch controller is not available in cgroup";
    assert!(error.to_string().starts_with(words), "{error}");
    assert_eq!(error.kind(), Kind::Unsupported);
    // Every other file of cgroup.* is the runtime's.
    assert!(limits::limits(&resources(r#"{"unified":{"cgroup.nonesuch":"1"}}"#)).is_err());
    let error = apply(r#"{"unified":{"cgroup.max.depth":"nought"}}"#).unwrap_err();
    assert!(error.to_string().ends_with("cgroup.max.depth: invalid argument"), "{error}");
    apply(r#"{"unified":{"cgroup.max.depth":"7"}}"#).unwrap();
    assert_eq!(place.read("cgroup.max.depth"), "7");
}

#[test]
fn below_a_threaded_group_is_refused() {
    if !on_cgroup2("below_a_threaded_group_is_refused") {
        return;
    }
    let place = Place::new("threaded");
    // By hand: a cgroup that was handed controllers can't become threaded.
    let thread = place.path.with_file_name("thread");
    fs::create_dir_all(&thread).unwrap();
    fs::write(thread.join("cgroup.type"), "threaded").unwrap();
    let refused = match place.group.create() {
        Err(error) => error.to_string(),
        // No controller is on the way, so nothing was asked; a process can't enter all the same.
        Ok(made) => {
            assert_eq!(
                place.group.join(std::process::id() as i32).unwrap_err().errno(),
                Some(libc::EOPNOTSUPP)
            );
            made.unwrap().why_not_joinable().unwrap()
        }
    };
    assert!(refused.contains("a cgroup above it is threaded"), "{refused}");
}

#[test]
fn given_to_a_user() {
    if !on_cgroup2("given_to_a_user") {
        return;
    }
    let place = Place::new("given");
    let made = place.group.create().unwrap().unwrap();
    made.delegate(1234).unwrap();
    let owner = |file: &str| fs::metadata(place.path.join(file)).unwrap().uid();
    assert_eq!([owner(""), owner("cgroup.procs"), owner("cgroup.subtree_control")], [1234; 3]);
    assert_eq!(owner("cgroup.freeze"), 0);
}

#[test]
fn a_rootless_user_may_run_without_cgroups() {
    if !on_cgroup2("a_rootless_user_may_run_without_cgroups") {
        return;
    }
    let place = Place::new("without");
    // In a thread, as the kernel keeps user ids by thread and the other tests need root.
    let (refused, tolerated) = std::thread::scope(|scope| {
        let ask = || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1234)).unwrap();
            (place.group.create().map(drop), place.group.create_if_permitted().map(|made| made.is_none()))
        };
        scope.spawn(ask).join().unwrap()
    });
    assert_eq!(refused.unwrap_err().errno(), Some(libc::EACCES));
    assert!(tolerated.unwrap());
}

#[test]
fn limits_reach_the_kernel() {
    if !on_cgroup2("limits_reach_the_kernel")
        || !has_controllers("limits_reach_the_kernel", &["pids", "memory", "cpu", "io"])
    {
        return;
    }
    let place = Place::new("limits");
    let made = place.group.create().unwrap().unwrap();
    let apply = |json: &str| made.apply(&limits::limits(&resources(json)).unwrap());
    apply(
        r#"{"memory":{"limit":67108864,"swap":100663296,"reservation":33554432},"pids":{"limit":20},
            "cpu":{"shares":1024,"quota":50000,"period":100000,"burst":10000,"cpus":"0","mems":"0"},
            "blockIO":{"weight":500},"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "unified":{"memory.high":"50331648"}}"#,
    )
    .unwrap();
    let table = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("pids.max", "20"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("hugetlb.2MB.max", "4194304"),
    ];
    for (file, value) in table {
        assert_eq!(place.read(file), value, "{file}");
    }
    // A quota below the present burst only fits once the burst is smaller.
    apply(r#"{"cpu":{"quota":5000,"period":100000,"burst":1000}}"#).unwrap();
    assert_eq!(
        (place.read("cpu.max").as_str(), place.read("cpu.max.burst").as_str()),
        ("5000 100000", "1000")
    );
    apply(r#"{"cpu":{"quota":-1},"memory":{"limit":-1},"pids":{"limit":-1}}"#).unwrap();
    assert_eq!(
        [place.read("cpu.max"), place.read("memory.max"), place.read("pids.max")],
        ["max 100000", "max", "max"]
    );

    // What a process had before it came is not counted here, so this one begins inside.
    let script = format!("echo $$ > {}/cgroup.procs && exec sleep 1000", place.path.display());
    let mut child = Sleeper(Command::new("sh").args(["-c", &script]).spawn().unwrap());
    let start = Instant::now();
    while place.read("memory.current") == "0" {
        assert!(start.elapsed() < Duration::from_secs(10), "the process uses no memory");
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = apply(r#"{"memory":{"limit":1,"checkBeforeUpdate":true}}"#).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.memory.checkBeforeUpdate: the new limit is 1 bytes"),
        "{error}"
    );
    assert_eq!(place.read("memory.max"), "max");
    // A cgroup with processes of its own hands no controller down, and the limit's error says so.
    let below = place.group.clone().below(&[], "inner").unwrap().create().unwrap().unwrap();
    let error =
        below.apply(&limits::limits(&resources(r#"{"pids":{"limit":1}}"#)).unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.pids.limit: the pids controller is not available"), "{error}");
    assert!(error.contains("it has processes of its own"), "{error}");
    place.group.kill().unwrap();
    assert_eq!(child.ended_by(), Some(9));
}
