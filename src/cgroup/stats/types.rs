//! The statistics of a group as runc's `events` prints them.

use std::collections::BTreeMap;

use serde::Serialize;

/// The statistics of one group and all below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    pub(super) cpu: Cpu,
    pub(super) cpuset: Cpuset,
    pub(super) memory: Memory,
    pub(super) pids: Pids,
    pub(super) blkio: Blkio,
    /// By page size, such as `2MB`.
    pub(super) hugetlb: BTreeMap<String, Hugetlb>,
    pub(super) intel_rdt: Nothing,
    /// runc reports the devices that it created itself. We create none; runc then prints null.
    pub(super) network_interfaces: Option<Nothing>,
}

/// An object without members.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Nothing {}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cpu {
    pub(super) usage: CpuUsage,
    pub(super) throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) psi: Option<Psi>,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) percpu_user: Vec<u64>,
    pub(super) kernel: u64,
    pub(super) user: u64,
}

/// The time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) throttled_time: u64,
}

/// Pressure: how much time some or all processes waited for the resource. Kernel:
/// accounting/psi.rst.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Psi {
    pub(super) some: Pressure,
    pub(super) full: Pressure,
}

/// Per cent in the last seconds; the total in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Pressure {
    pub(super) avg10: f64,
    pub(super) avg60: f64,
    pub(super) avg300: f64,
    pub(super) total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cpus: Vec<u16>,
    pub(super) cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mems: Vec<u16>,
    pub(super) mem_hardwall: u64,
    pub(super) mem_exclusive: u64,
    pub(super) memory_migrate: u64,
    pub(super) memory_spread_page: u64,
    pub(super) memory_spread_slab: u64,
    pub(super) memory_pressure: u64,
    pub(super) sched_load_balance: u64,
    pub(super) sched_relax_domain_level: i64,
}

/// Bytes. `swap` counts memory and swap together, as in v1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) cache: u64,
    pub(super) usage: MemoryEntry,
    pub(super) swap: MemoryEntry,
    pub(super) kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub(super) kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) psi: Option<Psi>,
}

/// Bytes, and how often the limit was reached. No limit is the greatest `u64`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct MemoryEntry {
    pub(super) limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) max: u64,
    pub(super) failcnt: u64,
}

/// Processes and threads. No limit is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_queue_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) psi: Option<Psi>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) value: u64,
}

/// Bytes, and how often the limit was reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) max: u64,
    pub(super) failcnt: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
