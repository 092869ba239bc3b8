//! Limits of a unit: after each update and each daemon-reload, the cgroup's files and the unit's
//! properties hold the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Unit, machine, reload};
use crate::support::Env;

/// No limit, in a property's and in a file's words.
const NONE: [&str; 2] = ["infinity", "max"];

/// Property and file of each limit that have the same unit.
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

/// A running unit whose cgroup is known. Under emulation each call of systemctl takes a second, so
/// there are few.
struct Limited<'a> {
    unit: Unit<'a>,
    dir: PathBuf,
}

impl Limited<'_> {
    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).trim().to_owned()
    }

    /// Properties by name.
    fn properties(&self) -> BTreeMap<String, String> {
        const OTHERS: [&str; 3] = ["CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"];
        let names: Vec<&str> = SAME.iter().map(|(property, _)| *property).chain(OTHERS).collect();
        let args = ["show", "-p", &names.join(","), &self.unit.name];
        let shown = self.unit.env.program("systemctl", &args).privileged().run().ok();
        let pairs = shown.text().lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Compares every limit.
    #[track_caller]
    fn agrees(&self, when: &str) {
        let shown = self.properties();
        for (property, file) in SAME {
            assert_eq!(
                shown[*property].replace(NONE[0], NONE[1]),
                self.file(file),
                "{when}: {property}, {file}"
            );
        }
        let weight = match shown["CPUWeight"].as_str() {
            "0" | "idle" => "idle",
            "[not set]" => "100",
            weight => weight,
        };
        let held = if self.file("cpu.idle") == "1" { "idle".to_owned() } else { self.file("cpu.weight") };
        assert_eq!(weight, held, "{when}: CPUWeight");
        let cpu = self.file("cpu.max");
        let (quota, period) = cpu.split_once(' ').unwrap();
        match micros(&shown["CPUQuotaPerSecUSec"]) {
            // Without a quota systemd writes its own default period to the file, but keeps the
            // configured one.
            None => assert_eq!(quota, "max", "{when}"),
            Some(share) => {
                let (quota, period): (f64, f64) = (quota.parse().unwrap(), period.parse().unwrap());
                assert!((quota - share * period / 1e6).abs() < 1.0, "{when}: {share} µs/s, {cpu}");
                assert_eq!(micros(&shown["CPUQuotaPeriodUSec"]).unwrap_or(100_000.0), period, "{when}");
            }
        }
    }

    /// `update` by options or by JSON.
    fn update(&self, change: &str) {
        let unit = &self.unit;
        if change.starts_with('{') {
            let path = unit.env.dir().join("limits.json");
            fs::write(&path, change).unwrap();
            unit.call(&["update", "--resources", path.to_str().unwrap(), &unit.id]).ok();
        } else {
            let words: Vec<&str> = change.split(' ').collect();
            unit.call(&[&["update"], &words[..], &[&unit.id]].concat()).ok();
        }
    }

    /// Updates one after the other: (change, file, its content). Some are followed by a
    /// daemon-reload.
    #[track_caller]
    fn steps(&self, table: &[(&str, &str, &str)]) {
        for (at, (change, file, want)) in table.iter().enumerate() {
            self.update(change);
            assert_eq!(self.file(file), *want, "{change}");
            self.agrees(change);
            if at % 4 == 1 {
                reload(self.unit.env);
                self.agrees(&format!("{change}, after a reload"));
            }
        }
    }
}

fn sleeper(env: &Env, resources: Value) -> Limited<'_> {
    let unit = Unit::new(env, "", "exec sleep 1000").set("linux/resources", resources);
    unit.launch();
    let limited = Limited { dir: unit.dir(), unit };
    limited.agrees("after the start");
    limited
}

#[test]
fn a_period_outlives_the_quota() {
    let Some(env) = machine() else { return };
    let limited = sleeper(&env, json!({"cpu": {"period": 50_000}}));
    assert_eq!(limited.file("cpu.max"), "max 50000");
    limited.steps(&[
        ("--cpu-period 900000 --cpu-quota 450000", "cpu.max", "450000 900000"),
        ("--cpu-quota -1", "cpu.max", "max 900000"),
        ("--cpu-quota 630000", "cpu.max", "630000 900000"),
        ("--cpu-quota -1", "cpu.max", "max 900000"),
        ("--memory 50m", "memory.max", "52428800"),
        ("--cpu-period 50000", "cpu.max", "max 50000"),
        ("--cpu-quota 25000", "cpu.max", "25000 50000"),
        ("--cpu-period 100000", "cpu.max", "25000 100000"),
        (r#"{"unified": {"cpu.max": "30000"}}"#, "cpu.max", "30000 100000"),
        (r#"{"unified": {"cpu.max": "max 20000"}}"#, "cpu.max", "max 20000"),
        (r#"{"unified": {"cpu.max": "5000"}}"#, "cpu.max", "5000 20000"),
    ]);
    limited.unit.delete();
}

#[test]
fn a_quota_between_two_steps_is_rounded_up_everywhere() {
    let Some(env) = machine() else { return };
    let limited = sleeper(&env, json!({"cpu": {"quota": 600_000, "period": 900_000}}));
    let quota = || limited.file("cpu.max").split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!((600_000..610_000).contains(&quota()), "{}", quota());
    limited.update("--cpu-quota 12345");
    assert!((12_345..22_345).contains(&quota()), "{}", quota());
    limited.agrees("after an update");
    reload(&env);
    limited.agrees("after a reload");
    assert!((12_345..22_345).contains(&quota()), "{}", quota());
    limited.unit.delete();
}

#[test]
fn every_limit_is_a_property_too() {
    let Some(env) = machine() else { return };
    let limited = sleeper(&env, json!({"pids": {"limit": 0}}));
    assert_eq!(limited.file("pids.max"), "1");
    limited.steps(&[
        ("--pids-limit -1", "pids.max", "max"),
        ("--pids-limit 0", "pids.max", "1"),
        (r#"{"unified": {"pids.max": "0x10"}}"#, "pids.max", "16"),
        ("--cpu-share 512", "cpu.weight", "59"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-share 512", "cpu.idle", "0"),
        ("--cpu-idle 1", "cpu.idle", "1"),
        ("--cpu-idle 0", "cpu.weight", "100"),
        (r#"{"unified": {"cpu.weight.nice": "5"}}"#, "cpu.weight", "33"),
        ("--cpuset-cpus 0-1:1/2 --cpuset-mems 0", "cpuset.cpus", "0"),
        ("--memory 64m --memory-swap 96m", "memory.swap.max", "33554432"),
        ("--memory-swap -1", "memory.swap.max", "max"),
        ("--memory-reservation 32m", "memory.low", "33554432"),
        (r#"{"unified": {"memory.high": "0x2000000", "memory.min": "4096"}}"#, "memory.high", "33554432"),
        ("--memory -1", "memory.max", "max"),
    ]);
    limited.unit.delete();
    let unit = Unit::new(&env, "", "true").set("linux/resources/cpu", json!({"cpus": "0-N"}));
    unit.create().fails().says("linux.resources.cpu.cpus: ");
    unit.is_gone();
}

/// The kernel refuses the last step, the program for devices. The properties come back too, or a
/// reload would bring the refused limits.
#[test]
fn a_late_refusal_puts_the_properties_back() {
    let Some(env) = machine() else { return };
    if !env.has("strace", "strace") {
        return;
    }
    let resources = json!({"memory": {"limit": 67_108_864}, "cpu": {"quota": 50_000, "period": 100_000}});
    let limited = sleeper(&env, resources);
    let before = (
        limited.properties(),
        limited.file("memory.max"),
        limited.file("cpu.max"),
        limited.file("cpu.weight"),
    );
    let change = json!({
        "memory": {"limit": 33_554_432}, "cpu": {"quota": 20_000, "shares": 512}, "pids": {"limit": 7},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}],
    });
    let path = env.dir().join("limits.json");
    fs::write(&path, change.to_string()).unwrap();
    let options = ["-qq", "-o", "/dev/null", "-e", "trace=bpf", "-e", "inject=bpf:error=ENOMEM"];
    let update = ["--systemd-cgroup", "update", "--resources", path.to_str().unwrap(), &limited.unit.id];
    let output = env.strace(&options, &update).privileged().run();
    output.fails().says("linux.resources.devices: ");
    for when in ["after the refusal", "after a reload"] {
        limited.agrees(when);
        let now = (
            limited.properties(),
            limited.file("memory.max"),
            limited.file("cpu.max"),
            limited.file("cpu.weight"),
        );
        assert_eq!(now, before, "{when}");
        reload(&env);
    }
    limited.unit.delete();
}
