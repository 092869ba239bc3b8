//! Translates `linux.resources` to cgroup v2 files and values, without kernel access; devices are
//! in [`super::devices`].
//!
//! Values that request nothing (0 shares, no swap given) write nothing. Values without a v2 file
//! are refused, except kernel memory limits, which the kernel has dropped in v1 too: they cause a
//! warning. Source: runtime-spec config-linux.md, "Control groups"; kernel: cgroup-v2.rst.

use std::fmt::Display;

use super::settings::{BadLimit, CgroupSettings, Missing, Usage};
use crate::spec::resources::{
    BlockIo, Cpu, HugepageLimit, Memory, NetworkLimits, Pids, Rdma, Resources, ThrottleDevice, WeightDevice,
};

/// The kernel's bounds for a period of cpu.max, in microseconds (kernel/sched/core.c).
const CPU_PERIOD: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The kernel's lowest quota, in microseconds.
const CPU_QUOTA_LEAST: i64 = 1_000;
/// The default period, if only a quota is given (cgroup-v2.rst, "cpu.max").
const CPU_PERIOD_USUAL: u64 = 100_000;

type Faults = Vec<BadLimit>;

/// The writes for these limits, or all errors in them.
pub fn limits(resources: &Resources) -> Result<CgroupSettings, Faults> {
    let mut settings = CgroupSettings::default();
    let mut faults = Faults::new();
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut settings, &mut faults);
    }
    if let Some(pids) = &resources.pids {
        pids_limit(pids, &mut settings, &mut faults);
    }
    if let Some(block_io) = &resources.block_io {
        block_io_limits(block_io, &mut settings, &mut faults);
    }
    hugepage_limits(&resources.hugepage_limits, "max", &mut settings, &mut faults);
    if let Some(network) = &resources.network {
        no_network(network, &mut faults);
    }
    for (device, limit) in &resources.rdma {
        rdma_limit(device, limit, &mut settings, &mut faults);
    }
    // Late: a lower limit may kill processes, which no later refusal could undo.
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut settings, &mut faults);
    }
    for (file, value) in &resources.unified {
        let field = format!("linux.resources.unified[{file:?}]");
        match super::unified::check(file, value) {
            Ok(()) => settings.put(field, file.clone(), value),
            Err(words) => faults.push(BadLimit::invalid(field, words)),
        }
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

fn memory_limits(memory: &Memory, settings: &mut CgroupSettings, faults: &mut Faults) {
    no_counterpart(memory, faults);
    settings.warnings.extend(kernel_memory(memory));
    match swap_max(memory.limit, memory.swap) {
        // A host without swap has no such file, and uses no swap anyway.
        Ok(Some(value)) if value == "max" || value == "0" => {
            settings.put_or("linux.resources.memory.swap", "memory.swap.max", value, Missing::Skip);
        }
        Ok(Some(value)) => settings.put("linux.resources.memory.swap", "memory.swap.max", value),
        Ok(None) => {}
        Err(fault) => faults.push(fault),
    }
    let sizes = [
        ("linux.resources.memory.limit", "memory.max", memory.limit),
        ("linux.resources.memory.reservation", "memory.low", memory.reservation),
    ];
    for (field, file, size) in sizes {
        match bytes(field, size) {
            Ok(Some(value)) => settings.put(field, file, value),
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    check_before_update(memory, settings, faults);
}

/// Records the new limits that `checkBeforeUpdate` compares with the present usage. It needs one of
/// them.
pub(super) fn check_before_update(memory: &Memory, settings: &mut CgroupSettings, faults: &mut Faults) {
    if memory.check_before_update != Some(true) {
        return;
    }
    let given = |size: Option<i64>| size.filter(|size| *size != 0);
    if given(memory.limit).or(given(memory.swap)).is_none() {
        let words = "no new limit to check; give memory.limit or memory.swap too, or leave it out";
        faults.push(BadLimit::invalid("linux.resources.memory.checkBeforeUpdate", words));
    }
    let bytes = |size: Option<i64>| given(size).and_then(|size| u64::try_from(size).ok());
    settings.usage_at_most = Usage { memory: bytes(memory.limit), sum: bytes(memory.swap) };
}

/// Bytes as v2 writes them: -1 is no limit, 0 or absent is not given.
fn bytes(field: &'static str, size: Option<i64>) -> Result<Option<String>, BadLimit> {
    match size {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some("max".into())),
        Some(size) if size > 0 => Ok(Some(size.to_string())),
        Some(size) => {
            Err(BadLimit::invalid(field, format!("{size} bytes; write a size, or -1 for no limit")))
        }
    }
}

/// The value for `memory.swap.max`, or `None` to leave the file unchanged.
///
/// * `memory`, `swap`: bytes, as in config.json; -1 is no limit, 0 or absent is not given.
/// * config.json counts memory **plus** swap (cgroup v1's meaning); v2 counts swap separately, so
///   the memory limit is subtracted.
/// * Unlimited memory without a swap limit means unlimited swap too, as in runc.
///
/// Errors when swap is limited below memory, or limited without a memory limit. Spec: runtime-spec
/// config-linux.md, "Memory"; kernel: cgroup-v2.rst, "memory.swap.max".
pub fn swap_max(memory: Option<i64>, swap: Option<i64>) -> Result<Option<String>, BadLimit> {
    const FIELD: &str = "linux.resources.memory.swap";
    match (memory.unwrap_or(0), swap.unwrap_or(0)) {
        (-1, 0) | (_, -1) => Ok(Some("max".into())),
        (_, 0) => Ok(None),
        (_, swap) if swap < 0 => {
            Err(BadLimit::invalid(FIELD, format!("{swap} bytes; write a size, or -1 for no limit")))
        }
        (memory, swap) if memory <= 0 => Err(BadLimit::invalid(
            FIELD,
            format!("{swap} counts memory and swap together, so it needs linux.resources.memory.limit too"),
        )),
        (memory, swap) if swap < memory => Err(BadLimit::invalid(
            FIELD,
            format!(
                "{swap} counts memory and swap together, so it can't be below the memory limit of {memory}"
            ),
        )),
        (memory, swap) => Ok(Some((swap - memory).to_string())),
    }
}

fn no_counterpart(memory: &Memory, faults: &mut Faults) {
    if memory.swappiness.is_some() {
        faults.push(BadLimit::unsupported(
            "linux.resources.memory.swappiness",
            "cgroup v2 has no swappiness; leave it out",
        ));
    }
    if memory.disable_oom_killer == Some(true) {
        let words = "cgroup v2 cannot disable the out-of-memory killer; leave it out";
        faults.push(BadLimit::unsupported("linux.resources.memory.disableOOMKiller", words));
    }
    if memory.use_hierarchy == Some(false) {
        let words = "memory is always counted with that of the cgroups below; leave it out";
        faults.push(BadLimit::unsupported("linux.resources.memory.useHierarchy", words));
    }
}

/// A warning for each kernel memory limit that is set.
pub(super) fn kernel_memory(memory: &Memory) -> impl Iterator<Item = String> + use<> {
    let limits = [("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)];
    limits.into_iter().filter(|(_, limit)| limit.is_some_and(|limit| limit > 0)).map(|(name, _)| {
        format!(
            "linux.resources.memory.{name} is not recommended by the specification and ignored by this kernel"
        )
    })
}

fn cpu_limits(cpu: &Cpu, settings: &mut CgroupSettings, faults: &mut Faults) {
    check_cpu(cpu, faults);
    let realtime = [
        ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|time| time != 0)),
        ("realtimePeriod", cpu.realtime_period.is_some_and(|time| time != 0)),
    ];
    for (member, _) in realtime.iter().filter(|(_, given)| *given) {
        let words = "cgroup v2 has no real-time limits; leave it out";
        faults.push(BadLimit::unsupported(format!("linux.resources.cpu.{member}"), words));
    }
    if let Some(idle) = cpu.idle {
        settings.put("linux.resources.cpu.idle", "cpu.idle", idle);
    }
    if let Some(weight) = cpu.shares.and_then(cpu_weight) {
        settings.put("linux.resources.cpu.shares", "cpu.weight", weight);
    }
    if let Some(value) = cpu_max(cpu.quota, cpu.period) {
        let field = if cpu.quota.is_some_and(|quota| quota != 0) { "quota" } else { "period" };
        settings.put(format!("linux.resources.cpu.{field}"), "cpu.max", value);
    }
    if let Some(burst) = cpu.burst {
        settings.put("linux.resources.cpu.burst", "cpu.max.burst", burst);
    }
    if !cpu.cpus.is_empty() {
        settings.put("linux.resources.cpu.cpus", "cpuset.cpus", &cpu.cpus);
    }
    if !cpu.mems.is_empty() {
        settings.put("linux.resources.cpu.mems", "cpuset.mems", &cpu.mems);
    }
}

/// Reports errors in CPU limits that apply to both cgroup versions.
pub(super) fn check_cpu(cpu: &Cpu, faults: &mut Faults) {
    if let Some(period) = cpu.period.filter(|period| *period != 0 && !CPU_PERIOD.contains(period)) {
        let words = format!("{period} µs; the kernel takes {} to {}", CPU_PERIOD.start(), CPU_PERIOD.end());
        faults.push(BadLimit::invalid("linux.resources.cpu.period", words));
    }
    if let Some(quota) = cpu.quota.filter(|quota| (1..CPU_QUOTA_LEAST).contains(quota)) {
        let words = format!("{quota} µs; the kernel takes {CPU_QUOTA_LEAST} or more, and -1 means no limit");
        faults.push(BadLimit::invalid("linux.resources.cpu.quota", words));
    }
    if let (Some(burst), Some(quota)) = (cpu.burst, cpu.quota)
        && u64::try_from(quota).is_ok_and(|quota| quota != 0 && burst > quota)
    {
        let words = format!("{burst} µs is more than the quota of {quota}");
        faults.push(BadLimit::invalid("linux.resources.cpu.burst", words));
    }
    if cpu.idle.is_some_and(|idle| idle != 0 && idle != 1) {
        faults.push(BadLimit::invalid("linux.resources.cpu.idle", "write 0 (not idle) or 1 (idle)"));
    }
    if cpu.idle == Some(1) && cpu.shares.is_some_and(|shares| shares != 0) {
        let words = "the kernel gives an idle cgroup (cpu.idle 1) the minimum weight and no other; leave out one of the two";
        faults.push(BadLimit::invalid("linux.resources.cpu.shares", words));
    }
}

/// The value for `cpu.weight` (1 to 10000) that corresponds to v1's shares (2 to 262144); 0 is not
/// given.
///
/// The curve passes through the minimum, the default (1024 → 100) and the maximum. runc 1.3.2 and
/// crun 1.23 use the same; the older linear mapping made the default 39.
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

/// The value for `cpu.max`, in microseconds: quota (below 0: no limit; 0 or absent: not given) and
/// period (0 or absent: the default).
pub fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let (quota, period) = (quota.unwrap_or(0), period.unwrap_or(0));
    if quota == 0 && period == 0 {
        return None;
    }
    let period = if period == 0 { CPU_PERIOD_USUAL } else { period };
    Some(if quota > 0 { format!("{quota} {period}") } else { format!("max {period}") })
}

/// 0 is a valid limit (specification 1.3): nothing in the group may fork. If absent, the file is
/// unchanged.
pub(super) fn pids_limit(pids: &Pids, settings: &mut CgroupSettings, faults: &mut Faults) {
    const FIELD: &str = "linux.resources.pids.limit";
    match pids.limit {
        None => {}
        Some(-1) => settings.put(FIELD, "pids.max", "max"),
        Some(limit) if limit >= 0 => settings.put(FIELD, "pids.max", limit),
        Some(limit) => {
            faults.push(BadLimit::invalid(FIELD, format!("{limit}; write a number, or -1 for no limit")))
        }
    }
}

fn block_io_limits(io: &BlockIo, settings: &mut CgroupSettings, faults: &mut Faults) {
    const NO_LEAF: &str = "cgroup v2 has no weight for a group's own processes; leave it out";
    if io.leaf_weight.is_some_and(|weight| weight != 0) {
        faults.push(BadLimit::unsupported("linux.resources.blockIO.leafWeight", NO_LEAF));
    }
    if let Some(weight) = checked_weight("linux.resources.blockIO.weight", io.weight, faults) {
        // BFQ's weights have v1's scale; with another scheduler, io.weight has its own scale.
        let instead = Missing::Instead("io.weight", io_weight(weight).to_string());
        settings.put_or("linux.resources.blockIO.weight", "io.bfq.weight", weight, instead);
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let field = format_args!("linux.resources.blockIO.weightDevice[{index}]");
        has_weight(field, device, faults);
        if device.leaf_weight.is_some_and(|weight| weight != 0) {
            faults.push(BadLimit::unsupported(format!("{field}.leafWeight"), NO_LEAF));
        }
        if let Some(weight) = checked_weight(format_args!("{field}.weight"), device.weight, faults) {
            let number = device_number(field, device.major, device.minor, faults);
            let instead = Missing::Instead("io.weight", format!("{number} {}", io_weight(weight)));
            settings.put_or(
                format!("{field}.weight"),
                "io.bfq.weight",
                format!("{number} {weight}"),
                instead,
            );
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", "rbps", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", &io.throttle_write_iops_device),
    ];
    for (member, key, devices) in throttles {
        for (field, number, rate) in rates(member, devices, faults) {
            // v1 removes a limit with 0, v2 with `max`.
            let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
            settings.put(field, "io.max", format!("{number} {key}={rate}"));
        }
    }
}

/// Each throttled device: (JSON path, `MAJOR:MINOR`, rate).
pub(super) fn rates(
    member: &str,
    devices: &[ThrottleDevice],
    faults: &mut Faults,
) -> Vec<(String, String, u64)> {
    let mut rates = Vec::with_capacity(devices.len());
    for (index, device) in devices.iter().enumerate() {
        let field = format!("linux.resources.blockIO.{member}[{index}]");
        let number = device_number(&field, device.major, device.minor, faults);
        rates.push((field, number, device.rate));
    }
    rates
}

/// `MAJOR:MINOR`.
pub(super) fn device_number(field: impl Display, major: i64, minor: i64, faults: &mut Faults) -> String {
    if major < 0 || minor < 0 {
        faults
            .push(BadLimit::invalid(field.to_string(), format!("{major}:{minor} is not a device's number")));
    }
    format!("{major}:{minor}")
}

/// Requires that an entry of `weightDevice` gives the device a weight.
pub(super) fn has_weight(field: impl Display, device: &WeightDevice, faults: &mut Faults) {
    if device.weight.unwrap_or(0) == 0 && device.leaf_weight.unwrap_or(0) == 0 {
        faults.push(BadLimit::invalid(
            field.to_string(),
            "has neither weight nor leafWeight; write 10 to 1000",
        ));
    }
}

/// A weight in v1's range (10 to 1000); 0 is not given.
pub(super) fn checked_weight(field: impl Display, weight: Option<u16>, faults: &mut Faults) -> Option<u16> {
    let weight = weight.filter(|weight| *weight != 0)?;
    if !(10..=1000).contains(&weight) {
        faults.push(BadLimit::invalid(field.to_string(), format!("{weight}; write 10 to 1000")));
        return None;
    }
    Some(weight)
}

/// The value for `io.weight` (1 to 10000) that corresponds to v1's weight (10 to 1000), linearly,
/// as in runc and crun.
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// Puts the limits of huge pages. `limit` is the last part of the file's name: `max`, in v1
/// `limit_in_bytes`.
pub(super) fn hugepage_limits(
    limits: &[HugepageLimit],
    limit: &str,
    settings: &mut CgroupSettings,
    faults: &mut Faults,
) {
    for (index, written) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        let size = &written.page_size;
        let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
        {
            let words = format!("{size:?}; write it as the kernel's files do: 64KB, 2MB, 1GB");
            faults.push(BadLimit::invalid(format!("{field}.pageSize"), words));
            continue;
        }
        settings.put(field.clone(), format!("hugetlb.{size}.{limit}"), written.limit);
        // Reservations are limited too, if the kernel counts them (Linux 5.7).
        settings.put_or(field, format!("hugetlb.{size}.rsvd.{limit}"), written.limit, Missing::Skip);
    }
}

pub(super) fn rdma_limit(device: &str, limit: &Rdma, settings: &mut CgroupSettings, faults: &mut Faults) {
    let field = format!("linux.resources.rdma[{device:?}]");
    let keys = [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)];
    let parts: Vec<String> =
        keys.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect();
    if parts.is_empty() || device.is_empty() || device.contains(char::is_whitespace) {
        faults.push(BadLimit::invalid(field, "needs a device's name, and hcaHandles or hcaObjects"));
        return;
    }
    settings.put(field, "rdma.max", format!("{device} {}", parts.join(" ")));
}

fn no_network(network: &NetworkLimits, faults: &mut Faults) {
    let words = "cgroup v2 has no classes and priorities of packets; leave it out";
    if network.class_id.is_some_and(|class| class != 0) {
        faults.push(BadLimit::unsupported("linux.resources.network.classID", words));
    }
    if !network.priorities.is_empty() {
        faults.push(BadLimit::unsupported("linux.resources.network.priorities", words));
    }
}

#[cfg(test)]
mod tests;
