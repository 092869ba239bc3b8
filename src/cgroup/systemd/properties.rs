//! Translates limits to properties of a unit, so that systemd knows them and a daemon-reload does
//! not undo them. Pure.
//!
//! They are derived from the values for the cgroup's files, so that both agree; settings without a
//! systemd property are only in the files. Source: systemd.resource-control(5);
//! org.freedesktop.systemd1(5), "Scope Unit Objects"; cgroup-v2.rst.

use super::file_value::{number, quota_and_period};
use super::fit::QuotaStep;
use super::value::Value;
use crate::cgroup::CgroupSettings;
use crate::cgroup::devices::{Allowed, Class};

/// One property of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name, as in `systemctl show`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The first version of systemd that knows it; 0: every version that runs with cgroup v2.
    pub since: u32,
}

impl Property {
    /// A property that every systemd knows.
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value, since: 0 }
    }

    fn since(mut self, version: u32) -> Self {
        self.since = version;
        self
    }
}

/// No limit, for any numeric property.
const INFINITY: u64 = u64::MAX;
/// More CPUs than any machine has; longer lists are left to the kernel, which refuses them.
const MOST_CPUS: usize = 1 << 16;

/// The properties for these files. An invalid value yields none: the kernel reports the error when
/// it is written.
///
/// * `has_bfq_weight`: whether `io.bfq.weight` exists; systemd then writes IOWeight to it too, on
///   another scale.
/// * `step`: see [`super::fit`].
pub(crate) fn limits(settings: &CgroupSettings, has_bfq_weight: bool, step: QuotaStep) -> Vec<Property> {
    let mut properties = Vec::new();
    for setting in &settings.writes {
        let (file, value) = match &setting.missing {
            crate::cgroup::Missing::Instead(file, value) if !has_bfq_weight => (*file, value.as_str()),
            _ => (setting.file.as_ref(), setting.value.as_str()),
        };
        // An empty value counts as a line: it empties a list.
        for line in if value.is_empty() { "\n" } else { value }.lines().map(str::trim) {
            properties.extend(of_file(file, line, step).unwrap_or_default());
        }
    }
    properties
}

fn of_file(file: &str, value: &str, step: QuotaStep) -> Option<Vec<Property>> {
    let number_of = |name: &str, value: u64| Property::new(name, Value::U64(value));
    Some(vec![match file {
        // 0 is out of systemd's range here. The kernel counts pages, so that 1 byte is equivalent.
        "memory.max" => number_of("MemoryMax", bytes(value)?.max(1)),
        "memory.high" => number_of("MemoryHigh", bytes(value)?.max(1)),
        "memory.low" => number_of("MemoryLow", bytes(value)?),
        "memory.min" => number_of("MemoryMin", bytes(value)?),
        "memory.swap.max" => number_of("MemorySwapMax", bytes(value)?),
        "memory.zswap.max" => number_of("MemoryZSwapMax", bytes(value)?).since(253),
        "memory.zswap.writeback" => {
            Property::new("MemoryZSwapWriteback", Value::Bool(number(value)? != 0)).since(256)
        }
        "pids.max" if value == "max" => number_of("TasksMax", INFINITY),
        "pids.max" => number_of("TasksMax", number(value)?.max(1)),
        "cpu.weight" => number_of("CPUWeight", number(value)?),
        "cpu.weight.nice" => number_of("CPUWeight", weight_of_nice(value)?),
        "cpu.idle" if number(value) == Some(1) => number_of("CPUWeight", 0).since(252),
        "cpu.max" => return cpu_max(value, step),
        "cpuset.cpus" => Property::new("AllowedCPUs", mask(value)?).since(244),
        "cpuset.mems" => Property::new("AllowedMemoryNodes", mask(value)?).since(244),
        "io.weight" => weight(value, Some)?,
        "io.bfq.weight" => weight(value, from_bfq)?,
        "io.latency" => {
            let (device, target) = value.split_once(' ')?;
            per_device("IODeviceLatencyTargetUSec", device, target.strip_prefix("target=")?.parse().ok()?)
        }
        "io.max" => {
            let (device, rates) = value.split_once(' ')?;
            return Some(rates.split_ascii_whitespace().filter_map(|rate| io_max(device, rate)).collect());
        }
        _ => return None,
    }])
}

/// A size as the kernel reads it (memparse: with K, M, G, …), or `max`.
fn bytes(value: &str) -> Option<u64> {
    if value == "max" {
        return Some(INFINITY);
    }
    if let Some(bytes) = number(value) {
        return Some(bytes);
    }
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = value.get(digits.len()..).filter(|unit| unit.len() == 1)?;
    let power = 1 + "kmgtpe".find(&unit.to_ascii_lowercase())?;
    number(digits)?.checked_mul(1024u64.checked_pow(power as u32)?)
}

fn cpu_max(value: &str, step: QuotaStep) -> Option<Vec<Property>> {
    let (quota, period) = quota_and_period(value)?;
    let quota = quota.map_or(Some(INFINITY), |quota| step.per_second(quota, period))?;
    Some(vec![
        Property::new("CPUQuotaPerSecUSec", Value::U64(quota)),
        Property::new("CPUQuotaPeriodUSec", Value::U64(period)).since(242),
    ])
}

/// The cpu.weight for a value of cpu.weight.nice (-20 to 19), rounded as in the kernel.
fn weight_of_nice(value: &str) -> Option<u64> {
    /// sched_prio_to_weight (kernel/sched/core.c), from nice -20.
    const WEIGHTS: [u64; 40] = [
        88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906,
        3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45,
        36, 29, 23, 18, 15,
    ];
    let nice: i64 = value.trim().parse().ok()?;
    let weight = WEIGHTS.get(usize::try_from(nice.checked_add(20)?).ok()?)?;
    Some((weight * 100 + 512) / 1024)
}

/// A list such as `0-3,7` or `0-31:1/4` (the first of every four) as a bit mask, the lowest in the
/// first byte.
fn mask(list: &str) -> Option<Value> {
    /// The maximum number of patterns, since each is expanded separately.
    const MOST_PATTERNS: usize = 256;
    let mut ranges = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (range, pattern) = part.split_once(':').map_or((part, None), |(range, rest)| (range, Some(rest)));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let (used, group): (usize, usize) = match pattern.map(|pattern| pattern.split_once('/')) {
            None => (1, 1),
            Some(pattern) => (pattern?.0.parse().ok()?, pattern?.1.parse().ok()?),
        };
        if first > last || last >= MOST_CPUS || used == 0 || used > group {
            return None;
        }
        ranges.push((first, last, used, group));
    }
    if ranges.iter().filter(|(.., used, group)| used < group).count() > MOST_PATTERNS {
        return None;
    }
    // In sorted order each CPU of a plain range is visited once, however often the list names it.
    ranges.sort_unstable();
    let mut bytes: Vec<u8> = Vec::new();
    let mut next = 0;
    for (first, last, used, group) in ranges {
        let start = if used == group { first.max(next) } else { first };
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        for bit in (start..=last).filter(|bit| (bit - first) % group < used) {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
        if used == group {
            next = next.max(last + 1);
        }
    }
    Some(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

/// Parses `WEIGHT`, `default WEIGHT` or `DEVICE WEIGHT`.
fn weight(value: &str, scale: impl Fn(u64) -> Option<u64>) -> Option<Property> {
    let weight = |word: &str| word.parse().ok().and_then(&scale);
    match value.split_once(' ') {
        None => Some(Property::new("IOWeight", Value::U64(weight(value)?))),
        Some(("default", word)) => Some(Property::new("IOWeight", Value::U64(weight(word)?))),
        Some((device, word)) => Some(per_device("IODeviceWeight", device, weight(word)?)),
    }
}

/// The IOWeight (1 to 10000) from which systemd computes this BFQ weight (1 to 1000): both scales
/// have 100 in the middle, and systemd stretches the upper part.
fn from_bfq(weight: u64) -> Option<u64> {
    if weight <= 100 { Some(weight) } else { (weight - 100).checked_mul(11)?.checked_add(100) }
}

/// Parses one `KEY=RATE` of io.max.
fn io_max(device: &str, rate: &str) -> Option<Property> {
    let (key, rate) = rate.split_once('=')?;
    let name = match key {
        "rbps" => "IOReadBandwidthMax",
        "wbps" => "IOWriteBandwidthMax",
        "riops" => "IOReadIOPSMax",
        "wiops" => "IOWriteIOPSMax",
        _ => return None,
    };
    Some(per_device(name, device, if rate == "max" { INFINITY } else { rate.parse().ok()? }))
}

/// A property for one device. `device` is MAJOR:MINOR.
fn per_device(name: &str, device: &str, value: u64) -> Property {
    let entry = Value::Struct(vec![Value::text(format!("/dev/block/{device}")), Value::U64(value)]);
    Property::new(name, Value::Array("(st)".into(), vec![entry]))
}

/// The device rules: an exclusive allow-list. `None`: the rules are not an allow-list; our own
/// program then controls devices.
pub(crate) fn devices(allowed: Option<&[Allowed]>) -> Vec<Property> {
    let none = Value::Array("(ss)".into(), Vec::new());
    let policy = |word: &str| Property::new("DevicePolicy", Value::text(word));
    let Some(allowed) = allowed else {
        return vec![policy("auto"), Property::new("DeviceAllow", none)];
    };
    let entries = allowed
        .iter()
        .map(|rule| Value::Struct(vec![Value::text(device_name(rule)), Value::text(rule.letters())]));
    let list = Value::Array("(ss)".into(), entries.collect());
    // An empty list resets the former one; each further list is appended.
    vec![policy("strict"), Property::new("DeviceAllow", none), Property::new("DeviceAllow", list)]
}

/// The name for DeviceAllow=: a node for one number, `char-MAJOR` for every minor, `char-*` for
/// all.
fn device_name(rule: &Allowed) -> String {
    let class = match rule.class {
        Class::Block => "block",
        Class::Char => "char",
    };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{class}/{major}:{minor}"),
        (Some(major), None) => format!("{class}-{major}"),
        (None, _) => format!("{class}-*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::{allowed, rules};
    use crate::cgroup::limits;
    use crate::spec::{DeviceRule, Resources};

    fn shown(properties: &[Property]) -> Vec<String> {
        properties.iter().map(|property| format!("{}={:?}", property.name, property.value)).collect()
    }

    fn of(json: &str, bfq: bool) -> Vec<String> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        shown(&super::limits(&limits::limits(&resources).unwrap(), bfq, QuotaStep::PERCENT))
    }

    #[test]
    fn each_limit_has_its_property() {
        let table: &[(&str, &[&str])] = &[
            (
                r#"{"memory": {"limit": 1000, "swap": 1500, "reservation": 900}}"#,
                &["MemorySwapMax=U64(500)", "MemoryMax=U64(1000)", "MemoryLow=U64(900)"],
            ),
            (
                r#"{"memory": {"limit": -1}}"#,
                &["MemorySwapMax=U64(18446744073709551615)", "MemoryMax=U64(18446744073709551615)"],
            ),
            (r#"{"pids": {"limit": 10}}"#, &["TasksMax=U64(10)"]),
            (r#"{"pids": {"limit": -1}}"#, &["TasksMax=U64(18446744073709551615)"]),
            (r#"{"pids": {"limit": 0}}"#, &["TasksMax=U64(1)"]),
            (r#"{"cpu": {"shares": 1024}}"#, &["CPUWeight=U64(100)"]),
            (r#"{"cpu": {"idle": 1}}"#, &["CPUWeight=U64(0)"]),
            (
                r#"{"cpu": {"quota": 50000, "period": 100000}}"#,
                &["CPUQuotaPerSecUSec=U64(500000)", "CPUQuotaPeriodUSec=U64(100000)"],
            ),
            (
                r#"{"cpu": {"quota": 1234}}"#,
                &["CPUQuotaPerSecUSec=U64(20000)", "CPUQuotaPeriodUSec=U64(100000)"],
            ),
            (
                r#"{"cpu": {"quota": -1, "period": 50000}}"#,
                &["CPUQuotaPerSecUSec=U64(18446744073709551615)", "CPUQuotaPeriodUSec=U64(50000)"],
            ),
            (
                r#"{"cpu": {"cpus": "0-1,9", "mems": "0"}}"#,
                &[
                    "AllowedCPUs=Array(\"y\", [Byte(3), Byte(2)])",
                    "AllowedMemoryNodes=Array(\"y\", [Byte(1)])",
                ],
            ),
            (
                r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}}"#,
                &["IOReadBandwidthMax=Array(\"(st)\", [Struct([Str(\"/dev/block/8:0\"), U64(5)])])"],
            ),
            (r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}"#, &[]),
            (
                r#"{"unified": {"memory.high": "1K", "memory.min": "max", "cpu.max": "max", "cgroup.max.depth": "9"}}"#,
                &[
                    "CPUQuotaPerSecUSec=U64(18446744073709551615)",
                    "CPUQuotaPeriodUSec=U64(100000)",
                    "MemoryHigh=U64(1024)",
                    "MemoryMin=U64(18446744073709551615)",
                ],
            ),
            (
                r#"{"unified": {"io.max": "8:0 rbps=max wiops=7\n8:16 wbps=1"}}"#,
                &[
                    "IOReadBandwidthMax=Array(\"(st)\", [Struct([Str(\"/dev/block/8:0\"), U64(18446744073709551615)])])",
                    "IOWriteIOPSMax=Array(\"(st)\", [Struct([Str(\"/dev/block/8:0\"), U64(7)])])",
                    "IOWriteBandwidthMax=Array(\"(st)\", [Struct([Str(\"/dev/block/8:16\"), U64(1)])])",
                ],
            ),
            // Numbers and lists as the kernel parses them.
            (
                r#"{"unified": {"cpu.weight": "0x10", "pids.max": "010", "memory.max": "0x1k", "memory.high": "0", "cpuset.cpus": "0-7:1/4", "cpuset.mems": ""}}"#,
                &[
                    "CPUWeight=U64(16)",
                    "AllowedCPUs=Array(\"y\", [Byte(17)])",
                    "AllowedMemoryNodes=Array(\"y\", [])",
                    "MemoryHigh=U64(1)",
                    "MemoryMax=U64(1024)",
                    "TasksMax=U64(8)",
                ],
            ),
            (r#"{"unified": {"cpu.weight.nice": "0"}}"#, &["CPUWeight=U64(100)"]),
            (r#"{"unified": {"cpu.weight.nice": "-20"}}"#, &["CPUWeight=U64(8668)"]),
            (r#"{"unified": {"cpu.weight.nice": "19"}}"#, &["CPUWeight=U64(1)"]),
            (r#"{"unified": {"cpu.weight.nice": "20"}}"#, &[]),
            (r#"{"unified": {"memory.zswap.writeback": "0"}}"#, &["MemoryZSwapWriteback=Bool(false)"]),
            // Invalid values are left to the kernel, which refuses them.
            (
                r#"{"unified": {"memory.max": "x", "memory.high": "1KB", "cpu.max": "1 0", "cpuset.cpus": "0-99999999", "cpuset.mems": "0-3:3/2", "pids.max": "-1"}}"#,
                &[],
            ),
        ];
        for (json, want) in table {
            assert_eq!(of(json, true), *want, "{json}");
        }
    }

    #[test]
    fn weights_go_by_the_scheduler() {
        let json =
            r#"{"blockIO": {"weight": 200, "weightDevice": [{"major": 8, "minor": 0, "weight": 50}]}}"#;
        let device = |weight: u64| {
            format!("IODeviceWeight=Array(\"(st)\", [Struct([Str(\"/dev/block/8:0\"), U64({weight})])])")
        };
        assert_eq!(of(json, true), ["IOWeight=U64(1200)".to_owned(), device(50)]);
        assert_eq!(of(json, false), ["IOWeight=U64(1920)".to_owned(), device(405)]);
    }

    #[test]
    fn device_rules_as_a_list() {
        let written: Vec<DeviceRule> = serde_json::from_str(
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}]"#,
        )
        .unwrap();
        let list = shown(&devices(allowed(&rules(&written).unwrap()).as_deref()));
        assert_eq!(list[0], "DevicePolicy=Str(\"strict\")");
        for entry in [
            "\"char-*\"), Str(\"m\")",
            "\"/dev/char/10:200\"), Str(\"rwm\")",
            "\"char-136\"), Str(\"rwm\")",
            "\"block-*\"), Str(\"m\")",
        ] {
            assert!(list[2].contains(entry), "{entry}: {}", list[2]);
        }
        let all: Vec<DeviceRule> = serde_json::from_str(r#"[{"allow": true}]"#).unwrap();
        let list = shown(&devices(allowed(&rules(&all).unwrap()).as_deref()));
        assert_eq!(list, ["DevicePolicy=Str(\"auto\")", "DeviceAllow=Array(\"(ss)\", [])"]);
    }
}
