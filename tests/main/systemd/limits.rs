//! Limits of a unit: after each update and each daemon-reload, the cgroup's files and the unit's properties hold the same.

use std::fs;

use serde_json::{Value, json};

use super::{Unit, machine, reload};

/// No limit, in a property's and in a file's words.
const NONE: [&str; 2] = ["infinity", "max"];

/// Property and file of each limit that both tell in the same unit of measure.
const SAME: &[(&str, &str)] = &[
    ("MemoryMax", "memory.max"),
    ("MemoryHigh", "memory.high"),
    ("MemoryLow", "memory.low"),
    ("MemoryMin", "memory.min"),
    ("MemorySwapMax", "memory.swap.max"),
    ("TasksMax", "pids.max"),
    ("AllowedCPUs", "cpuset.cpus"),
    ("AllowedMemoryNodes", "cpuset.mems"),
];

/// Microseconds of a time as `systemctl show` prints it: `1.500s`, `2min 3ms`; `None`: infinity.
fn micros(text: &str) -> Option<f64> {
    if text == "infinity" {
        return None;
    }
    let one = |word: &str| {
        let end = word.find(char::is_alphabetic).unwrap();
        let factor = match &word[end..] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" => 60e6,
            unit => panic!("{unit} in {text}"),
        };
        word[..end].parse::<f64>().unwrap() * factor
    };
    Some(text.split(' ').map(one).sum())
}

/// Compares every limit of the unit.
#[track_caller]
fn agree(unit: &Unit<'_>, when: &str) {
    for (property, file) in SAME {
        let shown = unit.show(property).replace(NONE[0], NONE[1]);
        assert_eq!(shown, unit.file(file), "{when}: {property}, {file}");
    }
    let weight = match unit.show("CPUWeight").as_str() {
        "0" | "idle" => "idle".to_owned(),
        "[not set]" => "100".to_owned(),
        weight => weight.to_owned(),
    };
    let held = if unit.file("cpu.idle") == "1" { "idle".to_owned() } else { unit.file("cpu.weight") };
    assert_eq!(weight, held, "{when}: CPUWeight");
    let cpu = unit.file("cpu.max");
    let (quota, period) = cpu.split_once(' ').unwrap();
    match micros(&unit.show("CPUQuotaPerSecUSec")) {
        // Without a quota systemd writes its own default period to the file, but keeps the one that it was told.
        None => assert_eq!(quota, "max", "{when}"),
        Some(share) => {
            let (quota, period): (f64, f64) = (quota.parse().unwrap(), period.parse().unwrap());
            assert!((quota - share * period / 1e6).abs() < 1.0, "{when}: {share} µs/s, {cpu}");
            let kept = micros(&unit.show("CPUQuotaPeriodUSec"));
            assert_eq!(kept.unwrap_or(100_000.0), period, "{when}");
        }
    }
}

/// `update` by options or by JSON; then the file must begin with `want`, before and after a reload.
#[track_caller]
fn step(unit: &Unit<'_>, change: &str, file: &str, want: &str) {
    if change.starts_with('{') {
        let path = unit.env.dir().join("limits.json");
        fs::write(&path, change).unwrap();
        unit.call(&["update", "--resources", path.to_str().unwrap(), &unit.id]).ok();
    } else {
        let words: Vec<&str> = change.split(' ').collect();
        unit.call(&[&["update"], &words[..], &[&unit.id]].concat()).ok();
    }
    assert_eq!(unit.file(file), want, "{change}");
    agree(unit, change);
    reload(unit.env);
    agree(unit, &format!("{change}, after a reload"));
    // systemd has the period of an unlimited quota as a property only.
    if !want.starts_with("max ") {
        assert_eq!(unit.file(file), want, "{change}, after a reload");
    }
}

fn sleeper<'a>(env: &'a crate::support::Env, resources: Value) -> Unit<'a> {
    let unit = Unit::new(env, "", "exec sleep 1000").set("linux/resources", resources);
    unit.launch();
    agree(&unit, "after the start");
    unit
}

#[test]
fn a_period_outlives_the_quota() {
    let Some(env) = machine() else { return };
    let unit = sleeper(&env, json!({}));
    step(&unit, "--cpu-period 900000 --cpu-quota 450000", "cpu.max", "450000 900000");
    step(&unit, "--cpu-quota -1", "cpu.max", "max 900000");
    step(&unit, "--memory 50m", "memory.max", "52428800");
    step(&unit, "--cpu-quota 630000", "cpu.max", "630000 900000");
    step(&unit, "--cpu-quota -1", "cpu.max", "max 900000");
    step(&unit, "--cpu-period 50000", "cpu.max", "max 50000");
    step(&unit, "--cpu-quota 25000", "cpu.max", "25000 50000");
    step(&unit, "--cpu-period 100000", "cpu.max", "25000 100000");
    step(&unit, r#"{"unified": {"cpu.max": "30000"}}"#, "cpu.max", "30000 100000");
    step(&unit, r#"{"unified": {"cpu.max": "max 20000"}}"#, "cpu.max", "max 20000");
    step(&unit, r#"{"unified": {"cpu.max": "5000"}}"#, "cpu.max", "5000 20000");
    unit.delete();
    let unit = sleeper(&env, json!({"cpu": {"period": 50_000}}));
    assert_eq!(unit.file("cpu.max"), "max 50000");
    step(&unit, "--cpu-quota 20000", "cpu.max", "20000 50000");
    unit.delete();
}

#[test]
fn a_quota_between_two_steps_is_rounded_up_everywhere() {
    let Some(env) = machine() else { return };
    let unit = sleeper(&env, json!({"cpu": {"quota": 600_000, "period": 900_000}}));
    let quota = || unit.file("cpu.max").split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!((600_000..610_000).contains(&quota()), "{}", quota());
    unit.call(&["update", "--cpu-quota", "12345", &unit.id]).ok();
    assert!((12_345..22_345).contains(&quota()), "{}", quota());
    agree(&unit, "after an update");
    reload(&env);
    agree(&unit, "after a reload");
    assert!((12_345..22_345).contains(&quota()), "{}", quota());
    unit.delete();
}

#[test]
fn every_limit_is_a_property_too() {
    let Some(env) = machine() else { return };
    let unit = sleeper(&env, json!({"pids": {"limit": 20}}));
    for (change, file, want) in [
        ("--pids-limit 0", "pids.max", "1"),
        ("--pids-limit -1", "pids.max", "max"),
        (r#"{"unified": {"pids.max": "0x10"}}"#, "pids.max", "16"),
        ("--cpu-share 512", "cpu.weight", "59"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-share 512", "cpu.idle", "0"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-idle 0", "cpu.weight", "100"),
        (r#"{"unified": {"cpu.weight.nice": "5"}}"#, "cpu.weight", "33"),
        ("--cpuset-cpus 0 --cpuset-mems 0", "cpuset.cpus", "0"),
        ("--cpuset-cpus 0-1:1/2", "cpuset.cpus", "0"),
        ("--cpuset-cpus 0-1", "cpuset.cpus", "0-1"),
        ("--memory 64m --memory-swap 96m", "memory.swap.max", "33554432"),
        ("--memory-swap -1", "memory.swap.max", "max"),
        ("--memory-reservation 32m", "memory.low", "33554432"),
        (r#"{"unified": {"memory.high": "0x2000000", "memory.min": "4096"}}"#, "memory.high", "33554432"),
        ("--memory -1", "memory.max", "max"),
    ] {
        step(&unit, change, file, want);
    }
    unit.delete();
    // No process at all is as much as one that is there.
    let unit = Unit::new(&env, "", "exec sleep 1000").set("linux/resources/pids", json!({"limit": 0}));
    unit.launch();
    assert_eq!((unit.show("TasksMax").as_str(), unit.file("pids.max").as_str()), ("1", "1"));
    unit.delete();
    let unit = Unit::new(&env, "", "true").set("linux/resources/cpu", json!({"cpus": "0-N"}));
    unit.create().fails().says("linux.resources.cpu.cpus: ");
    unit.is_gone();
}
