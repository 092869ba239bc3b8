//! Reads a group's statistics from the v1 files. Kernel: admin-guide/cgroup-v1.

use super::files::{Files, device, list, pids};
use super::types::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Stats, Throttling,
};

/// USER_HZ, the unit of cpuacct.stat, is 100 on every supported architecture.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

/// The numbers of all controllers that have files.
pub(super) fn read(files: &Files<'_>, hugepage_sizes: &[String]) -> Stats {
    let hugetlb = |size: &String| {
        let file = |what: &str| files.number(&format!("hugetlb.{size}.{what}"));
        let found = Hugetlb {
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
        };
        (size.clone(), found)
    };
    Stats {
        cpu: cpu(files),
        cpuset: cpuset(files),
        memory: memory(files),
        pids: pids(files),
        blkio: blkio(files),
        hugetlb: hugepage_sizes.iter().map(hugetlb).collect(),
        ..Stats::default()
    }
}

fn cpu(files: &Files<'_>) -> Cpu {
    let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // After a heading, `CPU USER SYSTEM` for each CPU.
    let all = files.text("cpuacct.usage_all");
    let column = |at: usize| {
        let cell = |line: &str| line.split_whitespace().nth(at)?.parse().ok();
        all.lines().skip(1).filter_map(cell).collect()
    };
    let ticks = |name| files.entry("cpuacct.stat", name).saturating_mul(NANOSECONDS_A_TICK);
    Cpu {
        usage: CpuUsage {
            total: files.number("cpuacct.usage"),
            percpu: numbers(&files.text("cpuacct.usage_percpu")),
            percpu_kernel: column(2),
            percpu_user: column(1),
            kernel: ticks("system"),
            user: ticks("user"),
        },
        throttling: Throttling {
            periods: files.entry("cpu.stat", "nr_periods"),
            throttled_periods: files.entry("cpu.stat", "nr_throttled"),
            throttled_time: files.entry("cpu.stat", "throttled_time"),
        },
        psi: None,
    }
}

fn cpuset(files: &Files<'_>) -> Cpuset {
    let number = |what: &str| files.number(&format!("cpuset.{what}"));
    Cpuset {
        cpus: list(&files.text("cpuset.cpus")),
        cpu_exclusive: number("cpu_exclusive"),
        mems: list(&files.text("cpuset.mems")),
        mem_hardwall: number("mem_hardwall"),
        mem_exclusive: number("mem_exclusive"),
        memory_migrate: number("memory_migrate"),
        memory_spread_page: number("memory_spread_page"),
        memory_spread_slab: number("memory_spread_slab"),
        memory_pressure: number("memory_pressure"),
        sched_load_balance: number("sched_load_balance"),
        sched_relax_domain_level: files.text("cpuset.sched_relax_domain_level").parse().unwrap_or(0),
    }
}

fn memory(files: &Files<'_>) -> Memory {
    let entry = |kind: &str| MemoryEntry {
        limit: files.number(&format!("{kind}.limit_in_bytes")),
        usage: files.number(&format!("{kind}.usage_in_bytes")),
        max: files.number(&format!("{kind}.max_usage_in_bytes")),
        failcnt: files.number(&format!("{kind}.failcnt")),
    };
    let raw = files.table("memory.stat");
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
        raw,
        psi: None,
    }
}

fn blkio(files: &Files<'_>) -> Blkio {
    // The scheduler in use reports most; the throttling layer, below every scheduler, knows only
    // bytes and counts.
    let read = |what: &str| {
        let names = [
            format!("blkio.bfq.{what}_recursive"),
            format!("blkio.{what}_recursive"),
            format!("blkio.throttle.{what}_recursive"),
            format!("blkio.throttle.{what}"),
        ];
        names
            .iter()
            .map(|name| entries(&files.text(name)))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    };
    Blkio {
        io_service_bytes_recursive: read("io_service_bytes"),
        io_serviced_recursive: read("io_serviced"),
        io_queue_recursive: read("io_queued"),
        io_service_time_recursive: read("io_service_time"),
        io_wait_time_recursive: read("io_wait_time"),
        io_merged_recursive: read("io_merged"),
        io_time_recursive: read("time"),
        sectors_recursive: read("sectors"),
        psi: None,
    }
}

/// Parses `8:0 Read 123`, or `8:0 123` without an operation. The total line at the end is left out.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let (first, second) = (words.next()?, words.next());
        let (op, value) = second.map_or(("", first), |value| (first, value));
        Some(BlkioEntry { major, minor, op: op.into(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}
