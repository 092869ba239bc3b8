//! Reads a group's statistics from the v2 files. Kernel: cgroup-v2.rst, "Controllers".

use super::files::{Files, device, list, pids};
use super::types::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Psi, Stats, Throttling,
};

/// The numbers of all controllers that have files.
pub(super) fn read(files: &Files<'_>, hugepage_sizes: &[String]) -> Stats {
    let cpu = files.table("cpu.stat");
    let nanoseconds = |name| cpu.get(name).copied().unwrap_or(0).saturating_mul(1000);
    let count = |name| cpu.get(name).copied().unwrap_or(0);
    Stats {
        cpu: Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
                ..CpuUsage::default()
            },
            throttling: Throttling {
                periods: count("nr_periods"),
                throttled_periods: count("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: files.psi("cpu.pressure"),
        },
        cpuset: Cpuset {
            cpus: list(&files.text("cpuset.cpus.effective")),
            mems: list(&files.text("cpuset.mems.effective")),
            ..Cpuset::default()
        },
        memory: memory(files),
        pids: pids(files),
        blkio: blkio(&files.text("io.stat"), files.psi("io.pressure")),
        hugetlb: hugepage_sizes.iter().map(|size| (size.clone(), hugetlb(files, size))).collect(),
        ..Stats::default()
    }
}

fn memory(files: &Files<'_>) -> Memory {
    let entry = |kind: &str| MemoryEntry {
        limit: files.number(&format!("{kind}.max")),
        usage: files.number(&format!("{kind}.current")),
        max: files.number(&format!("{kind}.peak")),
        failcnt: files.entry(&format!("{kind}.events"), "max"),
    };
    let (usage, swap) = (entry("memory"), entry("memory.swap"));
    let raw = files.table("memory.stat");
    Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        swap: MemoryEntry {
            limit: swap.limit.saturating_add(usage.limit),
            usage: swap.usage.saturating_add(usage.usage),
            // The peaks of memory and swap may be at different times, so their sum means nothing.
            max: 0,
            failcnt: swap.failcnt,
        },
        usage,
        raw,
        psi: files.psi("memory.pressure"),
        ..Memory::default()
    }
}

/// Parses io.stat, with a line `8:0 rbytes=1 wbytes=2 rios=3 …` for each device, into v1's
/// operation names.
fn blkio(io: &str, psi: Option<Psi>) -> Blkio {
    let mut blkio = Blkio { psi, ..Blkio::default() };
    for line in io.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.into(), value: value.parse().unwrap_or(0) });
        }
    }
    blkio
}

fn hugetlb(files: &Files<'_>, size: &str) -> Hugetlb {
    let kind = format!("hugetlb.{size}");
    // Reserved pages, if the kernel counts them (Linux 5.7).
    let reserved = (files.0)(&format!("{kind}.rsvd.current")).and_then(|text| text.parse().ok());
    Hugetlb {
        usage: reserved.unwrap_or_else(|| files.number(&format!("{kind}.current"))),
        max: 0,
        failcnt: files.entry(&format!("{kind}.events"), "max"),
    }
}
