//! The systemd cgroup driver: containers as transient units.
//!
//! Needs systemd as process 1 and cgroup 2 with controllers: elsewhere a test says so and is
//! skipped; with `EMERGENCE_TEST_MACHINE` set, as on the machine made for it, it fails.

mod limits;
mod user;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Bundle, Env, Output, until};

pub(crate) fn machine() -> Option<Env> {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !Path::new("/run/systemd/system").exists() || !controllers.contains("memory") {
        let is_machine = std::env::var_os("EMERGENCE_TEST_MACHINE").is_some();
        assert!(!is_machine, "no systemd, or no controllers: {controllers}");
        println!("skipped: needs systemd as process 1, and cgroup 2 with controllers");
        return None;
    }
    Env::new()
}

/// One container with the systemd driver: its id, its unit, its bundle.
struct Unit<'a> {
    env: &'a Env,
    id: String,
    name: String,
    bundle: Bundle,
}

impl<'a> Unit<'a> {
    /// A unit in `slice`, with a name of this test.
    fn new(env: &'a Env, slice: &str, script: &str) -> Self {
        let id = env.id();
        let prefix = env.cgroup_parent().trim_start_matches('/').to_owned();
        let bundle = env.script(script).set("linux/cgroupsPath", json!(format!("{slice}:{prefix}:{id}")));
        Self { env, name: format!("{prefix}-{id}.scope"), id, bundle }
    }

    fn set(mut self, place: &str, value: Value) -> Self {
        self.bundle = self.bundle.set(place, value);
        self
    }

    fn annotation(mut self, name: &str, value: &str) -> Self {
        self.bundle = self.bundle.edit(|config| config["annotations"][name] = json!(value));
        self
    }

    fn call(&self, args: &[&str]) -> Output {
        self.env.runtime(&[&["--systemd-cgroup"], args].concat())
    }

    fn create(&self) -> Output {
        self.bundle.write();
        self.call(&["create", "--bundle", self.bundle.str(), &self.id])
    }

    fn launch(&self) -> Output {
        let output = self.create().ok();
        self.call(&["start", &self.id]).ok();
        output
    }

    fn run(&self) -> Output {
        self.bundle.write();
        self.call(&["run", "--bundle", self.bundle.str(), &self.id])
    }

    /// Without the driver's name: what was made knows itself.
    fn delete(&self) {
        self.env.delete(&self.id);
        self.is_gone();
    }

    fn show(&self, property: &str) -> String {
        let output =
            self.env.program("systemctl", &["show", "-P", property, &self.name]).privileged().run().ok();
        output.text().to_owned()
    }

    /// The cgroup that systemd names.
    fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup{}", self.show("ControlGroup")))
    }

    fn file(&self, name: &str) -> String {
        let path = self.dir().join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }

    /// No unit and, anywhere, no cgroup of its name.
    #[track_caller]
    fn is_gone(&self) {
        // A slice has its unit by its name alone.
        let (property, gone) = if self.name.ends_with(".slice") {
            ("ActiveState", "inactive")
        } else {
            ("LoadState", "not-found")
        };
        assert_eq!(self.show(property), gone, "{}", self.name);
        let found = self.env.program("find", &["/sys/fs/cgroup", "-name", &self.name]).privileged().run();
        assert_eq!(found.text(), "");
        let leftovers =
            ["system.control", "transient"].map(|kind| format!("/run/systemd/{kind}/{}", self.name));
        for left in leftovers.iter().flat_map(|path| [path.clone(), format!("{path}.d")]) {
            assert!(!Path::new(&left).exists(), "{left}");
        }
    }
}

fn reload(env: &Env) {
    env.program("systemctl", &["daemon-reload"]).privileged().run().ok();
}

/// A process's line of cgroup 2: other tests may have mounted hierarchies of version 1 meanwhile.
fn group_of(pid: i32) -> String {
    let all = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    all.lines().find(|line| line.starts_with("0:")).unwrap_or_default().to_owned()
}

#[test]
fn limits_are_properties_and_outlive_a_reload() {
    let Some(env) = machine() else { return };
    let unit = Unit::new(&env, "system.slice", "sleep 100")
        .set(
            "linux/resources/memory",
            json!({"limit": 33_554_432, "swap": 50_331_648, "reservation": 16_777_216}),
        )
        .set(
            "linux/resources/cpu",
            json!({"shares": 2048, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"}),
        )
        .set("linux/resources/pids", json!({"limit": 40}))
        .set("linux/resources/unified", json!({"memory.high": "30M"}))
        .set("linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 2_097_152}]));
    unit.launch();
    let properties = [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Description", &format!("emergence-runc container {}", unit.id)),
        ("MemoryMax", "33554432"),
        ("MemorySwapMax", "16777216"),
        ("MemoryLow", "16777216"),
        ("MemoryHigh", "31457280"),
        ("CPUWeight", "174"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "40"),
        ("DevicePolicy", "strict"),
    ];
    for (name, want) in properties {
        assert_eq!(unit.show(name), want, "{name}");
    }
    let files = [
        ("memory.max", "33554432"),
        ("memory.swap.max", "16777216"),
        ("memory.low", "16777216"),
        ("memory.high", "31457280"),
        ("cpu.weight", "174"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "40"),
        ("hugetlb.2MB.max", "2097152"),
    ];
    for _ in 0..2 {
        for (name, want) in files {
            assert_eq!(unit.file(name), want, "{name}");
        }
        assert_eq!(unit.file("cgroup.procs"), env.pid(&unit.id).to_string());
        reload(&env);
    }
    unit.delete();
}

#[test]
fn a_unit_lives_where_cgroups_path_says() {
    let Some(env) = machine() else { return };
    // A slice of a slice, which is made as needed; the root; the default.
    for (slice, below) in [
        ("emergencetest-a-b.slice", "/emergencetest.slice/emergencetest-a.slice/emergencetest-a-b.slice/"),
        ("-", "/"),
        ("", "/system.slice/"),
    ] {
        let unit = Unit::new(&env, slice, "grep ^0: /proc/self/cgroup; exec sleep 100");
        for own in [true, false] {
            let bundle = env.script("grep ^0: /proc/self/cgroup; exec sleep 100");
            let bundle = bundle.set("linux/cgroupsPath", unit.bundle.config["linux"]["cgroupsPath"].clone());
            let bundle =
                if own { bundle.namespace("cgroup", None) } else { bundle.without_namespace("cgroup") };
            let unit = Unit { env: &env, id: unit.id.clone(), name: unit.name.clone(), bundle };
            let output = unit.launch();
            let group = format!("{below}{}", unit.name);
            assert_eq!(unit.show("ControlGroup"), group);
            let of_host = group_of(env.pid(&unit.id));
            assert_eq!(of_host, format!("0::{group}"));
            let want = if own { "0::/\n".to_owned() } else { format!("0::{group}\n") };
            until("the container has looked", || output.later() == want);
            unit.delete();
        }
    }
    env.program("systemctl", &["stop", "emergencetest.slice"]).privileged().run().ok();
    let mut unit = Unit::new(&env, "", "grep ^0: /proc/self/cgroup");
    unit.bundle =
        unit.bundle.edit(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    unit.bundle = unit.bundle.without_namespace("cgroup");
    unit.name = format!("emergence-{}.scope", unit.id);
    unit.run().ok().prints(&format!("0::/system.slice/{}", unit.name));
    unit.is_gone();
}

#[test]
fn a_slice_can_be_the_unit() {
    let Some(env) = machine() else { return };
    let mut unit =
        Unit::new(&env, "", "exec sleep 100").set("linux/resources/memory", json!({"limit": 33_554_432}));
    unit.name = "emergencetest-own.slice".into();
    unit.bundle =
        unit.bundle.set("linux/cgroupsPath", json!("ignored.slice:ignored:emergencetest-own.slice"));
    unit.launch();
    assert_eq!(unit.show("ControlGroup"), "/emergencetest.slice/emergencetest-own.slice");
    assert_eq!(unit.file("cgroup.procs"), env.pid(&unit.id).to_string());
    assert_eq!((unit.show("MemoryMax").as_str(), unit.file("memory.max").as_str()), ("33554432", "33554432"));
    unit.delete();
    env.program("systemctl", &["stop", "emergencetest.slice"]).privileged().run().ok();
}

#[test]
fn invalid_unit_names_are_refused_before_anything_is_created() {
    let Some(env) = machine() else { return };
    for path in
        ["/a/b", "a:b", "a:b:c:d", "nothing:p:n", "a/b.slice:p:n", "a--b.slice:p:n", "system.slice:p:"]
    {
        let unit = Unit::new(&env, "", "true").set("linux/cgroupsPath", json!(path));
        unit.create().fails().says("linux.cgroupsPath: ");
        assert!(!env.root().join(&unit.id).exists());
    }
    for (name, value) in [
        ("org.systemd.property.TimeoutStopUSec", "uint64"),
        ("org.systemd.property.CollectMode", "'x"),
        ("org.systemd.property.a b", "1"),
        ("org.systemd.property.Slice", "'a.slice'"),
        ("run.oci.systemd.subgroup", "../x"),
        ("run.oci.delegate-cgroup", "/x"),
    ] {
        let unit = Unit::new(&env, "", "true").annotation(name, value);
        unit.create().fails().says("annotations[").says(name);
        assert!(!env.root().join(&unit.id).exists());
    }
    // What only systemd can judge: nothing is left of the container that waited for it.
    for (name, value) in [("NoSuchProperty", "1"), ("TasksMax", "'many'"), ("CollectMode", "'never'")] {
        let unit = Unit::new(&env, "", "true").annotation(&format!("org.systemd.property.{name}"), value);
        unit.create().fails().says(&unit.name);
        assert!(!env.root().join(&unit.id).exists());
        unit.is_gone();
    }
}

#[test]
fn annotations_set_properties() {
    let Some(env) = machine() else { return };
    let unit = Unit::new(&env, "", "exec sleep 100")
        .annotation("org.systemd.property.TimeoutStopUSec", "uint64 123456789")
        .annotation("org.systemd.property.RuntimeMaxSec", "1000")
        .annotation("org.systemd.property.CollectMode", "'inactive'")
        .annotation("org.systemd.property.Documentation", "['https://example.com']")
        .annotation("org.systemd.property.Description", "'mine'")
        .annotation("org.systemd.property.TasksMax", "uint64 77");
    unit.launch();
    let properties = [
        ("TimeoutStopUSec", "2min 3.456789s"),
        ("RuntimeMaxUSec", "16min 40s"),
        ("CollectMode", "inactive"),
        ("Documentation", "https://example.com"),
        ("Description", "mine"),
        ("TasksMax", "77"),
    ];
    for (name, want) in properties {
        assert_eq!(unit.show(name), want, "{name}");
    }
    unit.delete();
}

#[test]
fn cgroups_below_the_scope() {
    let Some(env) = machine() else { return };
    let script = "grep ^0: /proc/self/cgroup; exec sleep 100";
    for (subgroup, delegated, of_host, inside) in [
        (Some("inner"), None, "/inner", "0::/\n"),
        (None, Some("payload"), "/payload", "0::/payload\n"),
        (Some("in/ner"), Some("payload"), "/in/ner/payload", "0::/payload\n"),
    ] {
        let mut unit =
            Unit::new(&env, "", script).set("linux/resources/memory", json!({"limit": 33_554_432}));
        unit.bundle = unit.bundle.namespace("cgroup", None);
        for (name, value) in [("run.oci.systemd.subgroup", subgroup), ("run.oci.delegate-cgroup", delegated)]
        {
            if let Some(value) = value {
                unit = unit.annotation(name, value);
            }
        }
        let output = unit.launch();
        let found = group_of(env.pid(&unit.id));
        assert_eq!(found, format!("0::{}{of_host}", unit.show("ControlGroup")));
        until("the container has looked", || output.later() == inside);
        let limited = unit.dir().join(subgroup.unwrap_or_default());
        assert_eq!(fs::read_to_string(limited.join("memory.max")).unwrap(), "33554432\n");
        unit.call(&["update", "--memory", "48m", &unit.id]).ok();
        assert_eq!(fs::read_to_string(limited.join("memory.max")).unwrap(), "50331648\n");
        assert_eq!(unit.show("MemoryMax"), "50331648");
        unit.call(&["exec", &unit.id, "grep", "^0:", "/proc/self/cgroup"]).ok().prints(inside.trim());
        unit.call(&["pause", &unit.id]).ok();
        assert_eq!(env.state(&unit.id)["status"], "paused");
        unit.call(&["resume", &unit.id]).ok();
        assert_eq!(env.state(&unit.id)["status"], "running");
        unit.delete();
    }
    // The plain driver has no scope, but delegates as well.
    let id = env.id();
    let bundle = env.script(script).namespace("cgroup", None);
    let bundle = bundle
        .set("annotations", json!({"run.oci.delegate-cgroup": "payload", "run.oci.systemd.subgroup": "not"}));
    let output = env.launch(&id, &bundle);
    until("the container has looked", || output.later() == "0::/payload\n");
    let found = group_of(env.pid(&id));
    assert_eq!(found, format!("0::{}/payload", bundle.config["linux"]["cgroupsPath"].as_str().unwrap()));
    env.delete(&id);
}

#[test]
fn device_rules_hold_and_outlive_a_reload() {
    let Some(env) = machine() else { return };
    let look = "cat /dev/null && echo null; (head -c1 /dev/k >/dev/null) 2>&1 | grep -o 'not permitted'; head -c1 /dev/z | wc -c;";
    let script = format!(
        "mknod /dev/k c 1 11; mknod /dev/z c 1 12; {look} while [ ! -e /tmp/go ]; do usleep 10000; done; {look} echo end"
    );
    // 1:11 is kmsg. 1:12 has no driver: reading it fails with another error, or returns nothing.
    let unit = Unit::new(&env, "", &script)
        .set("linux/resources/devices", json!([{"allow": false, "access": "rwm"}]))
        .set(
            "process/capabilities",
            json!({"bounding": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"]}),
        );
    let output = unit.launch();
    reload(&env);
    fs::write(unit.bundle.rootfs("tmp/go"), "").unwrap();
    until("the container has looked twice", || output.later().contains("end"));
    assert_eq!(output.later(), "null\nnot permitted\n0\nnull\nnot permitted\n0\nend\n");
    unit.delete();
}

#[test]
fn a_unit_ends_with_its_container() {
    let Some(env) = machine() else { return };
    let unit = Unit::new(&env, "", "exit 9");
    unit.run().exits(9);
    unit.is_gone();
    // One that has ended before it is deleted.
    let unit = Unit::new(&env, "", "exit 0");
    unit.launch();
    env.wait_for(&unit.id, "stopped");
    until("systemd has ended the unit", || unit.show("LoadState") == "not-found");
    env.runtime(&["delete", &unit.id]).ok();
    unit.is_gone();
    // One that systemd has stopped: with SIGTERM, which the first process of a pid namespace
    // ignores, then with SIGKILL.
    let unit = Unit::new(&env, "", "exec sleep 100").annotation("org.systemd.property.TimeoutStopSec", "1");
    unit.launch();
    env.program("systemctl", &["stop", &unit.name]).privileged().run().ok();
    env.wait_for(&unit.id, "stopped");
    env.runtime(&["delete", &unit.id]).ok();
    unit.is_gone();
    // Processes that outlive the first one, in cgroups that it created.
    let script = "mount -t cgroup2 none /tmp && mkdir -p /tmp/x/y && sh -c 'echo 0 >/tmp/x/y/cgroup.procs; exec sleep 100' & exec sleep 100";
    let all = json!(["CAP_SYS_ADMIN"]);
    let mut unit = Unit::new(&env, "", script)
        .set("process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    unit.bundle = unit.bundle.namespace("cgroup", None);
    unit.launch();
    until("the container has a cgroup of its own", || unit.dir().join("x/y").exists());
    unit.delete();
}

#[test]
fn two_containers_cannot_be_one_unit() {
    let Some(env) = machine() else { return };
    let unit = Unit::new(&env, "", "exec sleep 100");
    unit.launch();
    let id = env.id();
    unit.call(&["create", "--bundle", unit.bundle.str(), &id])
        .fails()
        .says(&unit.name)
        .says("has a unit of this name");
    assert_eq!(env.state(&unit.id)["status"], "running");
    assert_eq!(unit.show("ActiveState"), "active");
    unit.delete();
    // A failed unit of the same name, which stays until it is reset, is not a container.
    let fail = [
        "-q",
        "--scope",
        "-p",
        "RuntimeMaxSec=1",
        "-p",
        "TimeoutStopSec=1",
        "-p",
        "CollectMode=inactive",
        "-u",
        &unit.name,
    ];
    env.program("systemd-run", &[&fail[..], &["sleep", "100"]].concat()).privileged().run();
    until("the unit has failed", || unit.show("ActiveState") == "failed");
    unit.launch();
    unit.delete();
}

#[test]
fn twenty_at_once() {
    let Some(env) = machine() else { return };
    let units: Vec<_> = (0..20).map(|_| Unit::new(&env, "system.slice", "exec sleep 1000")).collect();
    let all = |args: &dyn Fn(&Unit) -> Vec<String>| {
        let calls: Vec<_> = units
            .iter()
            .map(|unit| env.call(&args(unit).iter().map(String::as_str).collect::<Vec<_>>()).start())
            .collect();
        calls.into_iter().for_each(|call| drop(call.wait().ok()));
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    units.iter().for_each(|unit| unit.bundle.write());
    all(&|unit| words(&["--systemd-cgroup", "create", "--bundle", unit.bundle.str(), &unit.id]));
    assert!(units.iter().all(|unit| unit.show("ActiveState") == "active"));
    all(&|unit| words(&["start", &unit.id]));
    all(&|unit| words(&["delete", "--force", &unit.id]));
    units.iter().for_each(Unit::is_gone);
}

#[test]
fn delete_cleans_up_after_a_create_killed_at_each_step() {
    let Some(env) = machine() else { return };
    if !env.holds() {
        return;
    }
    let stopped = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    let other = Unit::new(&env, "", "exec sleep 1000");
    other.launch();
    for step in ["recorded", "cgroup", "cloned", "scope", "hooks", "created"] {
        let mut unit = Unit::new(&env, "", "exec sleep 100");
        unit.bundle = unit.bundle.push("hooks/createRuntime", json!({"path": "/bin/true"}));
        unit.bundle.write();
        let call = env.call(&["--systemd-cgroup", "create", "-b", unit.bundle.str(), &unit.id]);
        let running = call.env("EMERGENCE_RUNC_HOLD", step).start();
        let pid = running.pid();
        until(&format!("create stops at {step}"), || stopped(pid));
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        running.wait();
        unit.delete();
        // One that never came to make its unit, and would have had another's: that one lives on.
        if matches!(step, "recorded" | "cgroup") {
            let id = env.id();
            let call = env.call(&["--systemd-cgroup", "create", "-b", other.bundle.str(), &id]);
            let running = call.env("EMERGENCE_RUNC_HOLD", step).start();
            until(&format!("create stops at {step}"), || stopped(running.pid()));
            kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::KILL).unwrap();
            running.wait();
            env.delete(&id);
        }
    }
    assert_eq!(env.state(&other.id)["status"], "running");
    other.delete();
}
