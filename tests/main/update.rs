//! `update`: what it refuses, and what it changes without controllers.

use serde_json::{Value, json};

use crate::support::{Bundle, Env, until};

/// A running container to update: its id and its bundle.
fn sleeper(env: &Env) -> (String, Bundle) {
    let (id, bundle) = (env.id(), env.bundle(&["sleep", "100"]));
    env.launch(&id, &bundle);
    (id, bundle)
}

/// Writes the limits into a file of the test and gives its name.
fn file(env: &Env, limits: &str) -> String {
    let path = env.dir().join("limits.json");
    std::fs::write(&path, limits).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn only_an_existing_container_is_updated() {
    let Some(env) = Env::new() else { return };
    env.runtime(&["update", "--pids-limit", "5", "nobody"]).fails().says("container does not exist");
    let (id, _) = sleeper(&env);
    env.runtime(&["kill", &id, "KILL"]).ok();
    env.wait_for(&id, "stopped");
    env.runtime(&["update", "--pids-limit", "5", &id]).fails().says("container not running");
    env.delete(&id);
}

#[test]
fn nothing_named_changes_nothing() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "it takes a zero for a limit") {
        return;
    }
    let id = env.id();
    let bundle = env.bundle(&["sleep", "100"]);
    env.create(&id, &bundle).ok();
    // As Docker writes it.
    let zeros = r#"{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0,"kernelTCP":0},"blockIO":{"weight":0},
        "cpu":{"shares":0,"quota":0,"period":0,"realtimeRuntime":0,"realtimePeriod":0,"cpus":"","mems":""}}"#;
    let limits = file(&env, zeros);
    env.runtime(&["update", &id]).ok();
    env.runtime(&["update", "--resources", &limits, &id]).ok();
    env.runtime(&["start", &id]).ok();
    env.runtime(&["update", "-r", &limits, &id]).ok();
    let piped = std::fs::File::open(&limits).unwrap();
    env.call(&["update", "--resources", "-", &id]).stdin(piped.into()).run().ok();
    env.delete(&id);
}

#[test]
fn faults_are_named_and_the_container_goes_on() {
    let Some(env) = Env::new() else { return };
    if !env.ours("each runtime has its own words") {
        return;
    }
    let (id, _) = sleeper(&env);
    let table = [
        ("{", "limits.json: line 1 column 1: "),
        ("", "limits.json: line 1 column 0: "),
        ("[]", "limits.json: line 1 column 2: "),
        (r#"{"memory":{"limit":"5"}}"#, "line 1 column 22: memory.limit: invalid type"),
        (r#"{"memory":{"limit":9223372036854775808}}"#, "memory.limit: invalid"),
        (r#"{"memory":{"limit":-2}}"#, "linux.resources.memory.limit: -2 bytes"),
        (r#"{"memory":{"swappiness":50}}"#, "linux.resources.memory.swappiness: "),
        (r#"{"cpu":{"period":999}}"#, "linux.resources.cpu.period: 999 µs"),
        (r#"{"cpu":{"quota":1}}"#, "linux.resources.cpu.quota: 1 µs"),
        (r#"{"cpu":{"idle":2}}"#, "linux.resources.cpu.idle: "),
        (r#"{"cpu":{"realtimePeriod":1}}"#, "linux.resources.cpu.realtimePeriod: "),
        (
            r#"{"pids":{"limit":-7},"cpu":{"idle":-1}}"#,
            "linux.resources.cpu.idle: write 0 (not idle) or 1 (idle); linux.resources.pids.limit: -7",
        ),
        (r#"{"blockIO":{"weight":5}}"#, "linux.resources.blockIO.weight: 5"),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":-1,"rate":1}]}}"#,
            "linux.resources.blockIO.throttleReadBpsDevice[0]: 8:-1",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
            "linux.resources.hugepageLimits[0].pageSize: ",
        ),
        (r#"{"network":{"classID":1}}"#, "linux.resources.network.classID: "),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "linux.resources.rdma[\"a b\"]: "),
        (r#"{"unified":{"../x.y":"1"}}"#, "linux.resources.unified[\"../x.y\"]: "),
        (r#"{"unified":{"memory":"1"}}"#, "linux.resources.unified[\"memory\"]: "),
        (
            r#"{"unified":{"cgroup.bad":"1"}}"#,
            "linux.resources.unified[\"cgroup.bad\"]: this file is for the runtime to write",
        ),
        (
            r#"{"unified":{"strange.max":"1"}}"#,
            "linux.resources.unified[\"strange.max\"]: the strange controller is not available",
        ),
        (
            r#"{"unified":{"cgroup.max.depth":"odd"}}"#,
            "linux.resources.unified[\"cgroup.max.depth\"]: write \"odd\" to ",
        ),
        (r#"{"devices":[{"allow":true,"access":"x"}]}"#, "linux.resources.devices[0].access: "),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":0}]}}"#,
            "linux.resources.blockIO.weightDevice[0]: has neither weight nor leafWeight",
        ),
        (
            r#"{"memory":{"checkBeforeUpdate":true}}"#,
            "linux.resources.memory.checkBeforeUpdate: no new limit",
        ),
        (r#"{"unified":{"memory.max":""}}"#, "linux.resources.unified[\"memory.max\"]: the value is empty"),
    ];
    for (limits, words) in table {
        let limits = file(&env, limits);
        let output = env.runtime(&["update", "--resources", &limits, &id]).exits(1).logs(words);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
    env.runtime(&["update", "--resources", "/nowhere", &id])
        .exits(1)
        .says("read /nowhere: no such file or directory");
    for (option, value) in [
        ("--memory", "x"),
        ("--memory", "-2"),
        ("--pids-limit", "many"),
        ("--cpu-period", "-1"),
        ("--blkio-weight", "70000"),
    ] {
        env.runtime(&["update", option, value, &id]).fails().says(option);
    }
    env.runtime(&["update", "--kernel-memory", "5m", &id])
        .ok()
        .says("linux.resources.memory.kernel is not recommended");
    let limits = file(&env, "{}");
    env.runtime(&["update", "-r", &limits, "--pids-limit", "5", &id]).ok().says("are ignored");
    assert_eq!(env.state(&id)["status"], "running");
    env.delete(&id);
}

#[test]
fn a_missing_controller_is_named() {
    let Some(env) = Env::new() else { return };
    let here = env.cgroup_file("/", "cgroup.controllers");
    if !env.ours("each runtime has its own words") || here.contains("pids") {
        return;
    }
    let (id, _) = sleeper(&env);
    env.runtime(&["update", "--pids-limit", "5", &id])
        .exits(1)
        .says("linux.resources.pids.limit: the pids controller is not available in cgroup");
    env.delete(&id);
}

/// A container that says again and again what comes of opening a device that has no driver: `No
/// such device or address` when it may, `Operation not permitted` when not.
fn tries_a_device(env: &Env, rules: &Value) -> Bundle {
    let script = "while :; do (: </dev/odd) 2>&1 | sed 's/.*: //'; sleep 0.05; done";
    env.script(script)
        .set(
            "linux/devices",
            json!([{"path": "/dev/odd", "type": "c", "major": 240, "minor": 7, "fileMode": 438}]),
        )
        .set("linux/resources", json!({"devices": rules}))
}

#[test]
fn other_rules_for_devices_take_the_place_of_the_former() {
    let Some(env) = Env::new() else { return };
    if !env.ours("crun 1.8 and runc leave devices alone") {
        return;
    }
    const DENIED: &str = "Operation not permitted";
    const ALLOWED: &str = "No such device or address";
    let none = json!([{"allow": false, "access": "rwm"}]);
    let bundle = tries_a_device(&env, &none);
    let id = env.id();
    let output = env.launch(&id, &bundle);
    let says = |words: &str| {
        let before = output.later().lines().count();
        // One try may have begun before the change.
        until("the container tries again", || output.later().lines().count() > before + 1);
        assert_eq!(output.later().lines().last(), Some(words));
    };
    let update =
        |limits: Value| env.runtime(&["update", "--resources", &file(&env, &limits.to_string()), &id]);
    says(DENIED);
    update(json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 240, "minor": 7, "access": "r"}]})).ok();
    says(ALLOWED);
    update(json!({"devices": []})).ok();
    says(ALLOWED);
    update(json!({"devices": [{"allow": true}]})).ok();
    says(ALLOWED);
    update(json!({"devices": none, "unified": {"cgroup.max.depth": "odd"}})).exits(1);
    says(ALLOWED);
    update(json!({"devices": none})).ok();
    says(DENIED);
    env.delete(&id);
}

#[test]
fn a_refused_mount_undoes_the_others() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others leave what they have written") {
        return;
    }
    let (id, bundle) = sleeper(&env);
    let file_of = |name: &str| env.cgroup_file(bundle.cgroup(), name);
    let limits = json!({"unified": {"cgroup.max.depth": "7", "cgroup.max.descendants": "odd"}});
    env.runtime(&["update", "-r", &file(&env, &limits.to_string()), &id])
        .exits(1)
        .says("cgroup.max.descendants: invalid argument");
    assert_eq!(
        (file_of("cgroup.max.depth"), file_of("cgroup.max.descendants")),
        ("max".into(), "max".into())
    );
    let limits = json!({"unified": {"cgroup.max.depth": "7", "cgroup.max.descendants": "8"}});
    env.runtime(&["update", "-r", &file(&env, &limits.to_string()), &id]).ok();
    assert_eq!((file_of("cgroup.max.depth"), file_of("cgroup.max.descendants")), ("7".into(), "8".into()));
    env.delete(&id);
}

#[test]
fn files_that_are_no_limits_cannot_be_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others write what they are told to") {
        return;
    }
    let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let number = other.id().to_string();
    let (id, bundle) = sleeper(&env);
    for (name, value) in [
        ("cgroup.procs", number.as_str()),
        ("cgroup.threads", &number),
        ("cgroup.kill", "1"),
        ("cgroup.freeze", "1"),
        ("cgroup.type", "threaded"),
        ("cgroup.subtree_control", "+pids"),
        ("../cgroup.procs", &number),
        ("memory.pressure", "some 150000 1000000"),
    ] {
        let unified = json!({name: value});
        let words = format!("linux.resources.unified[\"{name}\"]: ");
        let limits = file(&env, &json!({"unified": unified}).to_string());
        env.runtime(&["update", "-r", &limits, &id]).exits(1).logs(&words);
        let bundle = env.bundle(&["true"]).set("linux/resources", json!({"unified": unified}));
        env.run(&bundle).fails().logs(&words);
    }
    // Neither has the one moved in, nor has the container been stopped or ended.
    assert!(!env.cgroup_file(bundle.cgroup(), "cgroup.procs").lines().any(|pid| pid == number));
    assert_eq!(env.state(&id)["status"], "running");
    env.delete(&id);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_container_without_a_group_has_no_limits() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc has no such manager") {
        return;
    }
    let (id, bundle) = (env.id(), env.bundle(&["sleep", "100"]));
    bundle.write();
    env.runtime(&["--cgroup-manager", "disabled", "run", "--detach", "-b", bundle.str(), &id]).ok();
    env.runtime(&["update", &id]).ok();
    env.runtime(&["update", "--memory", "5m", &id])
        .exits(1)
        .says("linux.resources.memory.limit: this container has no cgroup");
    env.delete(&id);
}

#[test]
fn shares_of_caches_need_a_host_that_has_them() {
    let Some(env) = Env::new() else { return };
    if !env.ours("each runtime has its own words") {
        return;
    }
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        println!("skipped: this host has them");
        return;
    }
    const WORDS: &str = "linux.intelRdt: this host has no resctrl file system mounted";
    let (id, _) = sleeper(&env);
    env.runtime(&["update", "--l3-cache-schema", "L3:0=f", &id]).exits(1).says(WORDS);
    env.runtime(&["update", "--mem-bw-schema", "MB:0=20", "--pids-limit", "-5", &id]).exits(1).says(WORDS);
    env.delete(&id);
    for wanted in [json!({}), json!({"closID": "gold"}), json!({"enableMonitoring": true})] {
        let bundle = env.bundle(&["true"]).set("linux/intelRdt", wanted);
        env.create(&env.id(), &bundle).exits(1).says(WORDS);
        env.runtime(&["check", "--bundle", bundle.str()]).exits(1).says("fault");
    }
}
