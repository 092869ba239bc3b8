//! Messages: a refusal of the kernel names its likely cause, and a long value does not fill the
//! screen.

use serde_json::json;

use crate::support::{Bundle, Env};

fn mapped(bundle: Bundle) -> Bundle {
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 5}]);
    let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
    bundle.set("linux/gidMappings", mapping)
}

#[test]
fn ids_that_are_not_mapped_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let without_pts = || mapped(env.bundle(&["true"])).without_mount("/dev/pts");
    env.run(&mapped(env.bundle(&["true"]))).fails().says("gid=5").says("linux.gidMappings").says(".options[");
    let groups = without_pts().set("process/user/additionalGids", json!([4, 5]));
    env.run(&groups).fails().says("process.user.additionalGids[1]").says("linux.gidMappings");
    let range = without_pts().set("linux/sysctl", json!({"net.ipv4.ping_group_range": "0 100"}));
    env.run(&range)
        .fails()
        .says("ping_group_range")
        .logs("is each group of \"0 100\" mapped in linux.gidMappings?");
    let range = without_pts().set("linux/sysctl", json!({"net.ipv4.ping_group_range": "0 4"}));
    env.run(&range).ok();
    let value = env.bundle(&["true"]).set("linux/sysctl", json!({"net.ipv4.ip_forward": "many"}));
    env.run(&value).fails().logs("does the parameter take \"many\"?");
    let missing = env.bundle(&["true"]).set("linux/sysctl", json!({"net.ipv4.no_such_thing": "1"}));
    env.run(&missing).fails().says("does this kernel have the parameter");
    let tmpfs = env.bundle(&["true"]).mount("/mnt", "tmpfs", "tmpfs", &["size=lots"]);
    env.run(&tmpfs).fails().says("mounts[").says("does tmpfs accept its options size=lots?");
}

#[test]
fn capabilities_that_cannot_be_granted_are_named() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let some = json!(["CAP_KILL", "CAP_CHOWN"]);
    let one = json!(["CAP_KILL"]);
    let table = [
        (
            json!({"bounding": some, "permitted": some, "effective": one, "ambient": one}),
            ".ambient",
            "CAP_KILL",
        ),
        (json!({"bounding": one, "permitted": some, "inheritable": some}), ".inheritable", "CAP_CHOWN"),
        (json!({"bounding": some, "permitted": one, "effective": some}), ".effective", "CAP_CHOWN"),
    ];
    for (sets, set, name) in table {
        let bundle = env.bundle(&["true"]).set("process/capabilities", sets);
        let said = env.run(&bundle).ok().says(&format!("process.capabilities{set}: left out")).stderr;
        assert!(said.contains(name) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_long_value_is_shortened() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let long = "x".repeat(70_000);
    let changes: [(&str, serde_json::Value); 9] = [
        ("process/cwd", json!(long)),
        ("process/args", json!([long])),
        ("process/args", json!([format!("/{long}")])),
        ("process/user/uid", json!(long)),
        ("process/scheduler", json!({"policy": long})),
        ("process/capabilities", json!({"bounding": [long]})),
        ("process/rlimits", json!([{"type": long, "soft": 1, "hard": 1}])),
        ("linux/sysctl", json!({long.clone(): "1"})),
        ("linux/sysctl", json!({"net.ipv4.ip_forward": long})),
    ];
    for (place, value) in changes {
        let output = env.run(&env.bundle(&["true"]).set(place, value));
        let said = &output.stderr;
        assert!(!said.is_empty() && said.len() < 3000, "{place}: {} bytes: {:.300}", said.len(), said);
        assert!(said.lines().count() == 1 && said.contains("bytes left out"), "{place}: {said}");
    }
}
