//! `run` and `bundle`: both forms, parameters, ports, networks, resources, and what refusals leave.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use emergence_runc::emergence::automaton::Form;
use serde_json::{Value, json};

use super::World;

#[test]
fn both_forms_run_as_their_program_does() {
    let Some(world) = World::new() else { return };
    let script = "echo $0 $GREETING; id -u; ls /nix/store | grep -c .; exit 7";
    let init = json!({"entrypoint": ["@bb/bin/sh", "-c", script], "args": ["{word}"],
        "env": {"PATH": "@bb/bin", "GREETING": "hello {word}"}, "cwd": "/tmp", "user": "33:34"});
    let more = json!({"parameters": [{"name": "word", "type": "string", "default": "world"}]});
    for (form, how) in [("image", Form::Image), ("artifact", Form::Artifact)] {
        let reference = world.pack(form, how, init.clone(), more.clone());
        world.emergence(&["run", &reference, &world.id(form)]).exits(7).prints("world hello world\n33\n1");
        world
            .emergence(&["run", "--param", "word=x", &reference, &world.id(form)])
            .exits(7)
            .prints("x hello x\n33\n1");
        world.is_free();
    }
    for rootfs in ["bind", "overlay", "copy"] {
        let reference = format!("oci:{}:image", world.text("layout"));
        let id = world.id("r");
        let echo = ["run", "--rootfs", rootfs, &reference, &id, "--", "other"];
        world.emergence(&echo).exits(7).prints("other hello world\n33\n1");
    }
    world.is_free();
}

#[test]
fn a_closure_without_a_document_runs_the_given_program() {
    let Some(world) = World::new() else { return };
    let (path, tree, nar) = (world.busybox(), world.text("tree"), world.text("bb.nar"));
    world.emergence(&["nar", "dump", &tree, "-o", &nar]).ok();
    let hash = world.emergence(&["hash", "--format", "nix32", &tree]).ok();
    let ca = format!("fixed:r:sha256:{}", hash.text());
    let id = world.id("c");
    let (reference, shell) = (format!("nar:{nar}"), format!("{path}/bin/sh"));
    let said = ["run", "--store-path", &path, "--ca", &ca, &reference, &id];
    world.emergence(&said).exits(125).says("[doc.entrypoint]");
    assert!(!world.store().exists(), "nothing is unpacked for what cannot be started");
    world.emergence(&[&said[..], &["--", &shell, "-c", "echo here"]].concat()).ok().prints("here");
    let kept = format!("store:{path}");
    world.emergence(&["run", &kept, &id, "--", &shell, "-c", "exit 3"]).exits(3);
    world.is_free();
}

/// Nothing is read again of what the store has, unless the terms ask for it.
#[test]
fn objects_in_the_store_are_not_proved_again() {
    let Some(world) = World::new() else { return };
    let reference = world.script("kept", "echo ran");
    let report = world.emergence(&["--json", "verify", &reference]).ok();
    let report: Value = serde_json::from_str(report.text()).unwrap();
    let automaton = report["automaton"].as_str().unwrap();
    let path = world.emergence(&["import", &reference]).ok().text().to_owned();
    // A byte after the end of a program does not keep it from running.
    let file = world.store().join(&path[1..]).join("bin/busybox");
    let mut bytes = fs::read(&file).unwrap();
    bytes.push(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, &bytes).unwrap();
    let id = &world.id("kept");
    for kept in [format!("store:{path}"), format!("store:{automaton}")] {
        let program = format!("{path}/bin/true");
        world.emergence(&["run", &kept, id, "--", &program]).ok();
        world.emergence(&["verify", &kept]).exits(3).says("nar.");
    }
    world.emergence(&["check"]).exits(3).says("store.corrupt");
}

#[test]
fn ports_are_reported_to_state_and_hooks() {
    let Some(world) = World::new() else { return };
    let init = json!({"entrypoint": ["@bb/bin/sleep", "100"], "args": [], "env": {"PORT": "{port}"}});
    let more = json!({"parameters": [{"name": "port", "type": "port", "default": 8080}],
        "ports": [{"name": "http", "protocol": "tcp", "port": "{port}"}, {"name": "admin", "protocol": "udp", "port": 9000}, {"name": "s", "protocol": "sctp", "port": 65535}]});
    let reference = world.pack("ports", Form::Image, init, more);
    let hook = world.path("hook");
    fs::write(&hook, format!("#!/bin/sh\ncat >{}\n", world.text("heard"))).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let hook = hook.to_str().unwrap();
    let web = &world.id("web");
    world.emergence(&["run", "--detach", "--param", "port=9999", "--relay-hook", hook, &reference, web]).ok();
    let state = world.env.state(web);
    let ports: Value =
        serde_json::from_str(state["annotations"]["com.matrixai.relay.ports"].as_str().unwrap()).unwrap();
    let want = json!([{"name": "http", "protocol": "tcp", "port": 9999, "configurable": true},
        {"name": "admin", "protocol": "udp", "port": 9000, "configurable": false},
        {"name": "s", "protocol": "sctp", "port": 65535, "configurable": false}]);
    assert_eq!(ports, want);
    assert_eq!(state["annotations"]["com.matrixai.emergence.param.port"], "9999");
    let heard: Value = serde_json::from_slice(&fs::read(world.path("heard")).unwrap()).unwrap();
    assert_eq!(heard["annotations"], state["annotations"]);
    assert_eq!(heard["pid"], state["pid"]);
    world.env.delete(web);
    // A hook that fails stops the start.
    fs::write(hook, "#!/bin/sh\nexit 9\n").unwrap();
    for more in [&["--detach"][..], &[]] {
        let line = [&["run", "--relay-hook", hook], more, &[&reference, web]].concat();
        world.emergence(&line).exits(125).says("createRuntime").says(hook);
        assert_eq!(world.env.runtime(&["list", "-q"]).text(), "");
    }
    fs::remove_file(hook).unwrap();
    world.emergence(&["run", "--relay-hook", hook, &reference, web]).exits(125).says(hook);
    world.emergence(&["run", "--relay-hook", "hook", &reference, web]).exits(125).says("absolute path");
    world.emergence(&["gc"]).ok();
    world.is_free();
}

#[test]
fn networks_are_private_given_or_the_hosts() {
    let Some(world) = World::new() else { return };
    let script = "readlink /proc/self/ns/net; ls /sys/class/net; cat /sys/class/net/lo/flags";
    let reference = world.script("net", script);
    let [p, h, s, j] = ["p", "h", "s", "j"].map(|name| world.id(name));
    let host = fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().into_owned();
    let private = world.emergence(&["run", &reference, &p]).ok();
    let lines: Vec<&str> = private.text().lines().collect();
    assert_ne!(lines[0], host);
    // Other kinds of devices come with some kernels; lo is there and up.
    assert!(lines.contains(&"lo") && lines.last() == Some(&"0x9"), "{lines:?}");
    let shared = world.emergence(&["run", "--network", "host", &reference, &h]).ok();
    assert_eq!(shared.text().lines().next(), Some(host.as_str()));
    let sleeper = world.script("sleeper", "sleep 100");
    world.emergence(&["run", "-d", &sleeper, &s]).ok();
    let netns = format!("/proc/{}/ns/net", world.env.pid(&s));
    let joined = world.emergence(&["run", "--netns", &netns, &reference, &j]).ok();
    let there = fs::read_link(&netns).unwrap();
    assert_eq!(joined.text().lines().next(), there.to_str());
    world.env.delete(&s);
    world.emergence(&["run", "--netns", "/none/such", &reference, &j]).exits(125).says("/none/such");
    world.emergence(&["gc"]).ok();
    world.is_free();
}

#[test]
fn bundles_are_reproducible_and_atomic() {
    let Some(world) = World::new() else { return };
    let more = json!({"resources": {"memory": {"limit": 67_108_864}, "pids": {"limit": 50},
        "cpu": {"weight": 200, "max": "50000 100000"}, "io": {"weight": 300}},
        "constraints": [{"kind": "memory", "min": 1_048_576}, {"kind": "device", "path": "/dev/null"}]});
    let reference = world.pack("res", Form::Image, json!({"entrypoint": ["@bb/bin/true"]}), more);
    let (one, two) = (world.text("one"), world.text("two"));
    world.emergence(&["bundle", &reference, &one]).ok();
    world.emergence(&["bundle", &reference, &two]).ok();
    world.env.program("diff", &["-r", &one, &two]).run().ok();
    let config: Value = serde_json::from_slice(&fs::read(world.path("one/config.json")).unwrap()).unwrap();
    let resources = &config["linux"]["resources"];
    assert_eq!(resources["memory"], json!({"limit": 67_108_864, "reservation": 1_048_576}));
    assert_eq!(resources["pids"]["limit"], 50);
    assert_eq!((&resources["cpu"]["quota"], &resources["cpu"]["period"]), (&json!(50_000), &json!(100_000)));
    assert_eq!(resources["unified"], json!({"cpu.weight": "200", "io.weight": "300"}));
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/null");
    assert_eq!(resources["devices"][1]["allow"], true);
    let before = world.files();
    world.emergence(&["bundle", &reference, &one]).exits(3).says("[store.exists]");
    world.emergence(&["bundle", &reference, "/proc/none"]).fails();
    assert_eq!(world.files(), before);
}

#[test]
fn limits_are_in_force() {
    let Some(world) = World::new() else { return };
    if !world.env.controllers(&["memory", "pids", "cpu"]) {
        return;
    }
    let more = json!({"resources": {"memory": {"limit": 67_108_864}, "pids": {"limit": 50},
        "cpu": {"weight": 200, "max": "50000 100000"}}, "constraints": [{"kind": "memory", "min": 1_048_576}]});
    let script = "cd /sys/fs/cgroup; cat memory.max memory.low pids.max cpu.weight cpu.max";
    let init = json!({"entrypoint": ["@bb/bin/sh", "-c", script], "env": {"PATH": "@bb/bin"}});
    let reference = world.pack("limits", Form::Image, init, more);
    world
        .emergence(&["run", &reference, &world.id("l")])
        .ok()
        .prints("67108864\n1048576\n50\n200\n50000 100000");
}

#[test]
fn devices_are_granted_only_where_needed() {
    let Some(world) = World::new() else { return };
    let node = world.emergence(&["node"]).ok();
    let node: Value = serde_json::from_str(node.text()).unwrap();
    let there = |path: &&str| node["devices"].as_array().unwrap().iter().any(|device| device == path);
    let devices = ["/dev/fuse", "/dev/loop-control"];
    if !devices.iter().all(there) {
        println!("skipped: needs {devices:?}");
        return;
    }
    let script = "for d in /dev/fuse /dev/loop-control; do [ -c $d ] && (: <$d) && echo $d; done; exit 0";
    let init = json!({"entrypoint": ["@bb/bin/sh", "-c", script], "env": {"PATH": "@bb/bin"}});
    let needs = |path: &str| json!({"kind": "device", "path": path});
    let table = [
        ("none", json!([]), ""),
        ("one", json!([needs(devices[0])]), devices[0]),
        ("first", json!([{"anyOf": [needs("/dev/none"), needs(devices[1]), needs(devices[0])]}]), devices[1]),
        ("never", json!([{"noneOf": [needs("/dev/none")]}]), ""),
    ];
    for (tag, constraints, want) in table {
        let reference = world.pack(tag, Form::Artifact, init.clone(), json!({"constraints": constraints}));
        world.emergence(&["run", &reference, &world.id(tag)]).ok().prints(want);
    }
    world.is_free();
}

#[test]
fn refusals_leave_nothing() {
    let Some(world) = World::new() else { return };
    let parameters = json!({"parameters": [{"name": "n", "type": "integer", "default": 1}]});
    let good =
        world.pack("good", Form::Image, json!({"entrypoint": ["@bb/bin/true"], "args": ["{n}"]}), parameters);
    let needs =
        json!({"constraints": [{"kind": "memory", "min": 1u64 << 52}, {"kind": "arch", "anyOf": ["vax"]}]});
    let large = world.pack("large", Form::Image, json!({"entrypoint": ["@bb/bin/true"]}), needs);
    let odd = json!({"constraints": [{"kind": "quantum"}]});
    let odd = world.pack("odd", Form::Image, json!({"entrypoint": ["@bb/bin/true"]}), odd);
    let nobody =
        world.pack("user", Form::Image, json!({"entrypoint": ["@bb/bin/true"], "user": "alice"}), json!({}));
    let optional = json!({"constraints": [{"kind": "memory", "min": 1u64 << 52, "optional": true}]});
    let optional = world.pack("optional", Form::Image, json!({"entrypoint": ["@bb/bin/true"]}), optional);
    let policy = world.path("policy.json");
    fs::write(&policy, r#"{"allow":{"names":["other"]}}"#).unwrap();
    let node = world.path("node.json");
    fs::write(&node, json!({"arch": "vax", "memory": 1u64 << 53}).to_string()).unwrap();
    let (policy, node) = (policy.to_str().unwrap(), node.to_str().unwrap());
    let before = world.files();
    let table: [(&[&str], &str); 6] = [
        (&["--param", "n=x", &good, "c"], "[doc.parameter]"),
        (&["--param", "m=1", &good, "c"], "[doc.parameter]"),
        (&[&large, "c"], "[constraint.unmet]"),
        (&[&odd, "c"], "[constraint.unknown]"),
        (&["--policy", policy, &good, "c"], "[trust.policy]"),
        (&["--netns", "x", "--network", "host", &good, "c"], ""),
    ];
    for (args, code) in table {
        let output = world.emergence(&[&["run"], args].concat()).fails().says(code);
        assert!(code.is_empty() || output.code == 125, "{args:?}: {}", output.code);
        assert_eq!(world.files(), before, "{args:?}");
    }
    world.emergence(&["bundle", &large, &world.text("b")]).exits(5).says("vax").says("4503599627370496");
    world.emergence(&["verify", &large]).exits(5);
    assert_eq!(world.files(), before);
    world.emergence(&["verify", "--node", node, &large]).ok();
    world.emergence(&["run", &optional, &world.id("c")]).ok().says("optional");
    // What is found only when all is unpacked leaves the store, and nothing else.
    world.emergence(&["run", &nobody, &world.id("c")]).exits(125).says("[doc.entrypoint]");
    world.emergence(&["run", &good, "bad/id"]).exits(125);
    world.is_free();
}
