//! Tables of constraints and machines.

use serde_json::{Value, json};

use super::*;

fn node() -> Node {
    let gpu = |model: &str, memory, device: &str| {
        json!({"vendor": "nvidia", "model": model, "memory": memory, "driver": "nvidia", "driverVersion": "535.104.05",
            "devices": [device, "/dev/nvidiactl"]})
    };
    let text = json!({
        "arch": "amd64", "os": "linux", "kernel": "6.1.0-13", "memory": 1 << 30, "disk": 1 << 20,
        "cpu": {"count": 4, "features": ["avx2", "sse4_2"]},
        "gpus": [gpu("A100", json!(40_000_000_000u64), "/dev/nvidia0"), gpu("T4", Value::Null, "/dev/nvidia1")],
        "devices": ["/dev/fuse", "/dev/kvm"], "cgroup": {"version": 2, "controllers": ["cpu", "memory"]},
        "namespaces": ["network", "user"], "lsm": ["apparmor"], "seccomp": ["errno", "user_notif"],
        "labels": {"zone": "eu"},
    });
    Node::parse(text.to_string().as_bytes(), "node").unwrap()
}

fn check(list: Value) -> Result<Vec<String>> {
    Constraints::parse(&list, "constraints")?.check(&node())
}

#[test]
fn each_kind_is_tested() {
    let table = [
        (json!({"kind": "arch", "anyOf": ["arm64", "amd64"]}), true),
        (json!({"kind": "arch", "anyOf": ["arm64"]}), false),
        (json!({"kind": "arch", "noneOf": ["amd64"]}), false),
        (json!({"kind": "arch", "anyOf": []}), false),
        (json!({"kind": "os", "anyOf": ["linux"]}), true),
        (json!({"kind": "kernel", "min": "5.10"}), true),
        (json!({"kind": "kernel", "min": "6.1"}), true),
        (json!({"kind": "kernel", "min": "6.1.1"}), false),
        (json!({"kind": "cpu", "count": 4}), true),
        (json!({"kind": "cpu", "count": 5}), false),
        (json!({"kind": "cpu", "features": ["avx2"]}), true),
        (json!({"kind": "cpu", "count": 1, "features": ["avx2", "avx512f"]}), false),
        (json!({"kind": "memory", "min": 1 << 30}), true),
        (json!({"kind": "memory", "min": (1 << 30) + 1}), false),
        (json!({"kind": "disk", "min": 1 << 20}), true),
        (json!({"kind": "disk", "min": 1u64 << 40}), false),
        (json!({"kind": "gpu"}), true),
        (json!({"kind": "gpu", "vendor": "nvidia", "count": 2}), true),
        (json!({"kind": "gpu", "vendor": "nvidia", "count": 3}), false),
        (json!({"kind": "gpu", "vendor": "amd"}), false),
        (json!({"kind": "gpu", "model": "A*"}), true),
        (json!({"kind": "gpu", "model": "H100"}), false),
        (json!({"kind": "gpu", "memory": 30_000_000_000u64}), true),
        (json!({"kind": "gpu", "memory": 30_000_000_000u64, "count": 2}), false),
        (json!({"kind": "gpu", "driver": "nvidia"}), true),
        (json!({"kind": "gpu", "driver": "nouveau"}), false),
        (json!({"kind": "gpu", "driver": "535.54"}), true),
        (json!({"kind": "gpu", "driver": "550"}), false),
        (json!({"kind": "device", "path": "/dev/kvm"}), true),
        (json!({"kind": "device", "path": "/dev/none"}), false),
        (json!({"kind": "cgroup", "controllers": ["memory"]}), true),
        (json!({"kind": "cgroup", "controllers": ["memory", "io"]}), false),
        (json!({"kind": "namespace", "allOf": ["network", "user"]}), true),
        (json!({"kind": "namespace", "allOf": ["network", "time"]}), false),
        (json!({"kind": "lsm", "anyOf": ["apparmor", "selinux"]}), true),
        (json!({"kind": "lsm", "noneOf": ["selinux"]}), true),
        (json!({"kind": "lsm", "allOf": ["selinux"]}), false),
        (json!({"kind": "seccomp"}), true),
        (json!({"kind": "seccomp", "allOf": ["user_notif"]}), true),
        (json!({"kind": "seccomp", "allOf": ["trace"]}), false),
        (json!({"kind": "label", "key": "zone"}), true),
        (json!({"kind": "label", "key": "rack"}), false),
        (json!({"kind": "label", "key": "zone", "value": "eu"}), true),
        (json!({"kind": "label", "key": "zone", "value": "us"}), false),
        (json!({"kind": "label", "key": "zone", "anyOf": ["us", "eu"]}), true),
    ];
    for (one, met) in table {
        let found = check(json!([one]));
        if met {
            assert_eq!(found.unwrap(), Vec::<String>::new(), "{one}")
        } else {
            assert_eq!(found.unwrap_err().code(), Some(Code::ConstraintUnmet), "{one}")
        }
    }
}

#[test]
fn a_machine_without_filters_has_none() {
    let needs = Constraints::parse(&json!([{"kind": "seccomp"}]), "c").unwrap();
    assert!(needs.check(&Node::default()).is_err());
}

#[test]
fn lists_nest_and_unknown_constraints_are_unmet() {
    let (yes, no) = (json!({"kind": "cpu", "count": 1}), json!({"kind": "cpu", "count": 99}));
    let odd = json!({"kind": "quantum", "qubits": 7});
    let (met, unmet, unknown) = (None, Some(Code::ConstraintUnmet), Some(Code::ConstraintUnknown));
    let table = [
        (json!([]), met),
        (json!([{"anyOf": [no, yes]}]), met),
        (json!([{"anyOf": [no, no]}]), unmet),
        (json!([{"anyOf": []}]), unmet),
        (json!([{"allOf": [yes, no]}]), unmet),
        (json!([{"allOf": [yes, yes]}]), met),
        (json!([{"noneOf": [no, no]}]), met),
        (json!([{"noneOf": [no, yes]}]), unmet),
        (json!([{"anyOf": [no, yes], "noneOf": [yes]}]), unmet),
        (json!([{"noneOf": [{"allOf": [yes, {"anyOf": [no]}]}]}]), met),
        (json!([odd]), unknown),
        (json!([{"anyOf": [odd, yes]}]), met),
        (json!([{"anyOf": [odd, no]}]), unknown),
        (json!([{"allOf": [odd, yes]}]), unknown),
        (json!([{"allOf": [odd, no]}]), unmet),
        (json!([{"noneOf": [odd, no]}]), unknown),
        (json!([{"noneOf": [odd, yes]}]), unmet),
        (json!([odd, no]), unknown),
    ];
    for (list, want) in table {
        assert_eq!(check(list.clone()).err().and_then(|fault| fault.code()), want, "{list}");
    }
}

#[test]
fn optional_ones_are_reported() {
    let checked = check(json!([
        {"kind": "cpu", "count": 99, "optional": true},
        {"kind": "quantum", "optional": true},
        {"kind": "cpu", "count": 1, "optional": true},
        {"allOf": [{"kind": "memory", "min": 1u64 << 50, "optional": true}]},
    ]));
    let checked = checked.unwrap();
    assert_eq!(checked.len(), 3, "{checked:?}");
    assert!(checked[0].contains("\"count\":99") && checked[0].contains("has 4"), "{}", checked[0]);
    assert!(checked[1].contains("quantum"), "{}", checked[1]);
}

#[test]
fn every_unmet_one_is_listed_with_what_there_is() {
    let fault = check(json!([
        {"kind": "arch", "anyOf": ["arm64"]},
        {"kind": "cpu", "count": 1},
        {"kind": "memory", "min": 1u64 << 40},
        {"kind": "cpu", "features": ["amx"]},
    ]));
    let fault = fault.unwrap_err();
    let words = fault.to_string();
    for part in ["arm64", "has amd64", "has 1073741824", "lacks amx"] {
        assert!(words.contains(part), "{words} has not {part}");
    }
    assert!(!words.contains("\"count\":1}"), "{words}");
    assert_eq!(fault.status(), 5);
    let Fault::Refused(refusal, _) = fault else { panic!() };
    assert_eq!(refusal.actual.unwrap(), "has amd64; has 1073741824; has 4, lacks amx");
}

#[test]
fn strictly_read() {
    let deep = (0..17).fold(json!({"kind": "os", "anyOf": ["linux"]}), |inner, _| json!({"allOf": [inner]}));
    let (field, syntax) = (Code::DocUnknownField, Code::JsonSyntax);
    let table = [
        (json!({}), syntax),
        (json!(["x"]), syntax),
        (json!([{}]), syntax),
        (json!([{"optional": true}]), syntax),
        (json!([{"kind": "arch"}]), syntax),
        (json!([{"kind": 7}]), syntax),
        (json!([{"kind": "arch", "anyOf": "amd64"}]), syntax),
        (json!([{"kind": "arch", "anyOf": [{"kind": "os"}]}]), syntax),
        (json!([{"kind": "arch", "value": "amd64"}]), field),
        (json!([{"kind": "memory", "min": -1}]), syntax),
        (json!([{"kind": "memory", "min": "1G"}]), syntax),
        (json!([{"kind": "memory"}]), syntax),
        (json!([{"kind": "memory", "min": 1, "max": 2}]), field),
        (json!([{"kind": "cpu"}]), syntax),
        (json!([{"kind": "gpu", "count": 0}]), syntax),
        (json!([{"kind": "gpu", "color": "x"}]), field),
        (json!([{"kind": "kernel", "min": "new"}]), syntax),
        (json!([{"kind": "device", "path": "/dev/../etc/shadow"}]), syntax),
        (json!([{"kind": "device", "path": "/etc/shadow"}]), syntax),
        (json!([{"kind": "os", "anyOf": ["linux"], "optional": 1}]), syntax),
        (json!([{"anyOf": [{"kind": "os", "anyOf": ["linux"], "optional": true}]}]), syntax),
        (json!([{"noneOf": [{"kind": "os", "anyOf": ["linux"], "optional": true}]}]), syntax),
        (json!([deep]), syntax),
        (json!([{"anyOf": [], "color": 1}]), field),
    ];
    for (list, code) in table {
        let fault = Constraints::parse(&list, "constraints").unwrap_err();
        assert_eq!(fault.code(), Some(code), "{list}: {fault}");
    }
    let fault = Constraints::parse(&json!([{"anyOf": [{"kind": "memory", "max": 2}]}]), "constraints");
    assert!(fault.unwrap_err().to_string().starts_with("constraints[0].anyOf[0].max: "));
}

#[test]
fn what_is_granted() {
    let granted = |list: Value| Constraints::parse(&list, "c").unwrap().granted(&node());
    let gpu = granted(
        json!([{"kind": "gpu", "model": "T4"}, {"kind": "memory", "min": 7}, {"kind": "memory", "min": 5}]),
    );
    assert_eq!(
        (gpu.devices, gpu.memory),
        (vec!["/dev/nvidia1".to_owned(), "/dev/nvidiactl".into()], Some(7))
    );
    let first = granted(json!([{"anyOf": [
        {"kind": "device", "path": "/dev/none"}, {"kind": "device", "path": "/dev/kvm"}, {"kind": "device", "path": "/dev/fuse"}]}]));
    assert_eq!(first.devices, ["/dev/kvm"]);
    let none =
        granted(json!([{"noneOf": [{"kind": "device", "path": "/dev/none"}]}, {"kind": "cpu", "count": 1}]));
    assert_eq!(none, Granted::default());
    let optional = granted(json!([{"kind": "device", "path": "/dev/kvm", "optional": true}]));
    assert_eq!(optional.devices, ["/dev/kvm"]);
    let half = granted(json!([{"kind": "gpu", "count": 100, "optional": true}]));
    assert_eq!(half, Granted::default(), "not a part of what is asked for");
    let both = granted(json!([{"allOf": [{"kind": "gpu", "count": 2}]}]));
    assert_eq!(both.devices, ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"]);
}
