//! Translates `linux.resources` to cgroup v1 files and values, without kernel access.
//!
//! config.json uses v1's units, so this is mostly names. Device rules come last. Source:
//! runtime-spec config-linux.md, "Control groups"; kernel: Documentation/admin-guide/cgroup-v1.

use super::devices;
use super::limits::{
    check_before_update, check_cpu, checked_weight, device_number, has_weight, hugepage_limits,
    kernel_memory, pids_limit, rates, rdma_limit,
};
use super::settings::{BadLimit, CgroupSettings, Missing};
use crate::spec::resources::{BlockIo, Cpu, Memory, Resources};

type Faults = Vec<BadLimit>;

/// The writes for these limits and device rules, or all errors in them.
pub fn limits(resources: &Resources) -> Result<CgroupSettings, Faults> {
    let mut settings = CgroupSettings::default();
    let mut faults = Faults::new();
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut settings, &mut faults);
    }
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut settings, &mut faults);
    }
    if let Some(pids) = &resources.pids {
        pids_limit(pids, &mut settings, &mut faults);
    }
    if let Some(block_io) = &resources.block_io {
        block_io_limits(block_io, &mut settings, &mut faults);
    }
    hugepage_limits(&resources.hugepage_limits, "limit_in_bytes", &mut settings, &mut faults);
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            // Without the file, every packet has class 0.
            let missing = if class == 0 { Missing::Skip } else { Missing::Refuse };
            settings.put_or("linux.resources.network.classID", "net_cls.classid", class, missing);
        }
        for (index, priority) in network.priorities.iter().enumerate() {
            let field = format!("linux.resources.network.priorities[{index}]");
            settings.put(field, "net_prio.ifpriomap", format!("{} {}", priority.name, priority.priority));
        }
    }
    for (device, limit) in &resources.rdma {
        rdma_limit(device, limit, &mut settings, &mut faults);
    }
    if !resources.unified.is_empty() {
        faults.push(BadLimit::unsupported(
            "linux.resources.unified",
            "this host has cgroup v1; unified needs v2",
        ));
    }
    let rules = devices::rules(&resources.devices)
        .and_then(|rules| devices::v1_writes(&rules).map_err(|bad| vec![bad]));
    match rules {
        Ok(writes) => {
            // If config.json has no rules, a host without the controller still satisfies it.
            let missing = if resources.devices.is_empty() { Missing::Skip } else { Missing::Refuse };
            for (file, value) in writes {
                settings.put_or("linux.resources.devices", file, value, missing.clone());
            }
        }
        Err(bad) => faults.extend(bad),
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

fn memory_limits(memory: &Memory, settings: &mut CgroupSettings, faults: &mut Faults) {
    settings.warnings.extend(kernel_memory(memory));
    let limited = memory.limit.is_some_and(|limit| limit > 0);
    let swap = match (memory.limit, memory.swap.filter(|swap| *swap != 0)) {
        // Unlimited memory without a swap limit means unlimited swap too, as in runc.
        (Some(-1), None) => Some(-1),
        (Some(limit), Some(swap)) if limited && swap != -1 && swap < limit => {
            let words = format!(
                "{swap} counts memory and swap together, so it can't be below the memory limit of {limit}"
            );
            faults.push(BadLimit::invalid("linux.resources.memory.swap", words));
            None
        }
        (_, swap) => swap,
    };
    let sizes = [
        ("linux.resources.memory.limit", "memory.limit_in_bytes", memory.limit, Missing::Refuse),
        // The file does not exist if the kernel does not count swap.
        (
            "linux.resources.memory.swap",
            "memory.memsw.limit_in_bytes",
            swap,
            if swap == Some(-1) { Missing::Skip } else { Missing::Refuse },
        ),
        (
            "linux.resources.memory.reservation",
            "memory.soft_limit_in_bytes",
            memory.reservation,
            Missing::Refuse,
        ),
    ];
    for (field, file, size, missing) in sizes {
        match size {
            None | Some(0) => {}
            Some(size) if size < -1 => {
                faults.push(BadLimit::invalid(
                    field,
                    format!("{size} bytes; write a size, or -1 for no limit"),
                ));
            }
            Some(size) => settings.put_or(field, file, size, missing),
        }
    }
    match memory.swappiness {
        None => {}
        Some(swappiness @ 0..=100) => {
            settings.put("linux.resources.memory.swappiness", "memory.swappiness", swappiness)
        }
        Some(other) => {
            faults.push(BadLimit::invalid(
                "linux.resources.memory.swappiness",
                format!("{other}; write 0 to 100"),
            ));
        }
    }
    if let Some(disable) = memory.disable_oom_killer {
        // Without the file, the OOM killer is enabled.
        let missing = if disable { Missing::Refuse } else { Missing::Skip };
        let field = "linux.resources.memory.disableOOMKiller";
        settings.put_or(field, "memory.oom_control", u8::from(disable), missing);
    }
    check_before_update(memory, settings, faults);
    if memory.use_hierarchy == Some(false) {
        let words = "memory is always counted with that of the cgroups below; leave it out";
        faults.push(BadLimit::unsupported("linux.resources.memory.useHierarchy", words));
    }
}

fn cpu_limits(cpu: &Cpu, settings: &mut CgroupSettings, faults: &mut Faults) {
    check_cpu(cpu, faults);
    let mut put = |member: &str, file: &'static str, value: Option<String>| {
        if let Some(value) = value {
            settings.put(format!("linux.resources.cpu.{member}"), file, value);
        }
    };
    let unsigned = |value: Option<u64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let signed = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    put("idle", "cpu.idle", cpu.idle.map(|idle| idle.to_string()));
    put("shares", "cpu.shares", unsigned(cpu.shares));
    put("period", "cpu.cfs_period_us", unsigned(cpu.period));
    put("quota", "cpu.cfs_quota_us", signed(cpu.quota));
    put("burst", "cpu.cfs_burst_us", cpu.burst.map(|burst| burst.to_string()));
    put("realtimePeriod", "cpu.rt_period_us", unsigned(cpu.realtime_period));
    put("realtimeRuntime", "cpu.rt_runtime_us", signed(cpu.realtime_runtime));
    put("cpus", "cpuset.cpus", Some(cpu.cpus.clone()).filter(|list| !list.is_empty()));
    put("mems", "cpuset.mems", Some(cpu.mems.clone()).filter(|list| !list.is_empty()));
}

fn block_io_limits(io: &BlockIo, settings: &mut CgroupSettings, faults: &mut Faults) {
    let weights = [
        ("weight", "blkio.weight", "blkio.bfq.weight", io.weight),
        ("leafWeight", "blkio.leaf_weight", "", io.leaf_weight),
    ];
    for (member, file, bfq, weight) in weights {
        let field = format_args!("linux.resources.blockIO.{member}");
        if let Some(weight) = checked_weight(field, weight, faults) {
            settings.put_or(field.to_string(), file, weight, instead(bfq, weight.to_string()));
        }
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let field = format_args!("linux.resources.blockIO.weightDevice[{index}]");
        has_weight(field, device, faults);
        let number = device_number(field, device.major, device.minor, faults);
        let weights = [
            ("weight", "blkio.weight_device", "blkio.bfq.weight_device", device.weight),
            ("leafWeight", "blkio.leaf_weight_device", "", device.leaf_weight),
        ];
        for (member, file, bfq, weight) in weights {
            if let Some(weight) = checked_weight(format_args!("{field}.{member}"), weight, faults) {
                let value = format!("{number} {weight}");
                settings.put_or(format!("{field}.{member}"), file, &value, instead(bfq, value.clone()));
            }
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ];
    for (member, file, devices) in throttles {
        for (field, number, rate) in rates(member, devices, faults) {
            settings.put(field, file, format!("{number} {rate}"));
        }
    }
}

/// BFQ's files replace CFQ's, which were removed in Linux 5.0.
fn instead(file: &'static str, value: String) -> Missing {
    if file.is_empty() { Missing::Refuse } else { Missing::Instead(file, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the tests of v2, without the default devices.
    fn written(json: &str) -> Vec<String> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        match limits(&resources) {
            Ok(settings) => {
                let ours = settings.writes.iter().filter(|write| write.controller() != "devices");
                ours.map(|write| format!("{}={}", write.file, write.value)).collect()
            }
            Err(faults) => faults
                .iter()
                .map(|fault| format!("!{}", fault.field.trim_start_matches("linux.resources.")))
                .collect(),
        }
    }

    #[test]
    fn resources_to_files() {
        let table: &[(&str, &[&str])] = &[
            (r#"{}"#, &[]),
            (
                r#"{"memory":{"limit":100,"swap":150,"reservation":50,"swappiness":0,"disableOOMKiller":true}}"#,
                &[
                    "memory.limit_in_bytes=100",
                    "memory.memsw.limit_in_bytes=150",
                    "memory.soft_limit_in_bytes=50",
                    "memory.swappiness=0",
                    "memory.oom_control=1",
                ],
            ),
            (r#"{"memory":{"limit":-1}}"#, &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]),
            (
                r#"{"memory":{"limit":100,"swap":99,"swappiness":101}}"#,
                &["!memory.swap", "!memory.swappiness"],
            ),
            (
                r#"{"cpu":{"shares":512,"quota":-1,"period":20000,"realtimeRuntime":5,"realtimePeriod":6,"cpus":"0"}}"#,
                &[
                    "cpu.shares=512",
                    "cpu.cfs_period_us=20000",
                    "cpu.cfs_quota_us=-1",
                    "cpu.rt_period_us=6",
                    "cpu.rt_runtime_us=5",
                    "cpuset.cpus=0",
                ],
            ),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
            (
                r#"{"blockIO":{"weight":20,"leafWeight":30,"weightDevice":[{"major":8,"minor":0,"weight":40,"leafWeight":50}],
                    "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":7}]}}"#,
                &[
                    "blkio.weight=20",
                    "blkio.leaf_weight=30",
                    "blkio.weight_device=8:0 40",
                    "blkio.leaf_weight_device=8:0 50",
                    "blkio.throttle.read_iops_device=8:0 7",
                ],
            ),
            (
                r#"{"memory":{"disableOOMKiller":false},"network":{"classID":0},"cpu":{"idle":1}}"#,
                &["cpu.idle=1", "memory.oom_control=0", "net_cls.classid=0"],
            ),
            (r#"{"cpu":{"idle":1,"shares":2}}"#, &["!cpu.shares"]),
            (
                r#"{"hugepageLimits":[{"pageSize":"1GB","limit":0}]}"#,
                &["hugetlb.1GB.limit_in_bytes=0", "hugetlb.1GB.rsvd.limit_in_bytes=0"],
            ),
            (
                r#"{"network":{"classID":1,"priorities":[{"name":"eth0","priority":5}]}}"#,
                &["net_cls.classid=1", "net_prio.ifpriomap=eth0 5"],
            ),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0},{"major":8,"minor":0,"weight":0,"leafWeight":0}]}}"#,
                &["!blockIO.weightDevice[0]", "!blockIO.weightDevice[1]"],
            ),
            (r#"{"memory":{"checkBeforeUpdate":true}}"#, &["!memory.checkBeforeUpdate"]),
            (r#"{"memory":{"checkBeforeUpdate":true,"limit":100}}"#, &["memory.limit_in_bytes=100"]),
            (r#"{"unified":{"memory.high":"1"}}"#, &["!unified"]),
            (r#"{"devices":[{"allow":true,"type":"z"}]}"#, &["!devices[0].type"]),
        ];
        for (json, want) in table {
            assert_eq!(written(json), *want, "{json}");
        }
    }

    #[test]
    fn devices_are_denied_first() {
        let settings = limits(&Resources::default()).unwrap();
        let first = settings.writes.first().unwrap();
        assert_eq!((first.file.as_ref(), first.value.as_str()), ("devices.deny", "a"));
    }
}
