//! What a group has used, in the form of runc's `events`: member names, nesting and order are those of its package types.
//!
//! Read from small files, each of which may be missing (its controller is not there, or the kernel is older): what they would
//! tell is then zero or left out. The texts become numbers without touching the kernel: [`unified`] for v2, [`legacy`] for v1.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

use serde::Serialize;

use super::file::{is_shortage, open_dir, read_at};
use super::stats_v1::legacy;
use super::{Group, life};
use crate::error::{Doing, Result};

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
    /// runc tells of the devices that it has made itself. We make none, which it writes as null.
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

/// Pressure: how much time some or all processes waited for the resource. Kernel: accounting/psi.rst.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Psi {
    some: Pressure,
    full: Pressure,
}

/// Per cent in the last seconds; the total in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Pressure {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
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

/// Bytes. Swap counts memory and swap together, as version 1 does.
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

/// Bytes, and how often the limit was met. Without a limit it is the greatest number.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct MemoryEntry {
    pub(super) limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) max: u64,
    pub(super) failcnt: u64,
}

/// Processes and threads. Without a limit it is 0.
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

/// Bytes, and how often the limit was met.
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

/// The texts of a group's files, by name.
pub(super) struct Files<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Files<'_> {
    pub(super) fn text(&self, file: &str) -> String {
        (self.0)(file).unwrap_or_default()
    }

    /// The number that is all of the file; `max` is the greatest.
    pub(super) fn number(&self, file: &str) -> u64 {
        match self.text(file).as_str() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    }

    /// A file with a name and a number on each line.
    pub(super) fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file);
        let line = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// The number beside a name in such a file.
    pub(super) fn entry(&self, file: &str, name: &str) -> u64 {
        self.table(file).get(name).copied().unwrap_or(0)
    }

    fn psi(&self, file: &str) -> Option<Psi> {
        (self.0)(file).as_deref().and_then(psi)
    }
}

impl Group {
    /// Reads the statistics. Zeros where the group is gone.
    ///
    /// Errors when descriptors or memory are short: then nothing is known.
    pub fn stats(&self) -> Result<Stats> {
        let v2 = self.unified.as_ref().filter(|_| self.is_unified()).map(super::Directory::path);
        let failed = Cell::new(None);
        let read = |file: &str| {
            let controller = file.split('.').next()?;
            let path = v2.clone().or_else(|| Some(self.legacy_dir(controller)?.path()))?;
            match open_dir(&path).and_then(|dir| read_at(dir.as_fd(), file)) {
                Ok(text) => Some(text),
                Err(error) => {
                    if is_shortage(error) {
                        failed.set(Some((path.join(file), error)));
                    }
                    None
                }
            }
        };
        let sizes = self.hugepage_sizes()?;
        let mut stats = Stats::read(self.is_unified(), &read, &sizes);
        if let Some((path, error)) = failed.take() {
            return Err(error).doing(|| format!("read {}", path.display()));
        }
        if let (0, Some(path)) = (stats.pids.current, v2) {
            // Without the controller the processes are counted, if not their threads.
            stats.pids.current = life::pids(&path)?.len() as u64;
        }
        Ok(stats)
    }

    /// `2MB`, `1GB`, …: what the hugetlb controller has files for.
    fn hugepage_sizes(&self) -> Result<Vec<String>> {
        let dir = self.legacy_dir("hugetlb").or(self.unified.as_ref().filter(|_| self.is_unified()));
        let Some(path) = dir.map(super::Directory::path) else { return Ok(Vec::new()) };
        let doing = || format!("read {}", path.display());
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(doing)?,
        };
        let mut sizes = Vec::new();
        for entry in entries {
            let name = entry.doing(doing)?.file_name();
            let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb."));
            let size = size
                .and_then(|size| size.strip_suffix(".max").or_else(|| size.strip_suffix(".limit_in_bytes")));
            sizes.extend(size.filter(|size| !size.contains('.')).map(str::to_owned));
        }
        Ok(sizes)
    }
}

impl Stats {
    /// From the texts of a group's files, by name; `sizes` are those of huge pages, such as `2MB`.
    pub fn read(unified: bool, file: &dyn Fn(&str) -> Option<String>, sizes: &[String]) -> Self {
        if unified { self::unified(&Files(file), sizes) } else { legacy(&Files(file), sizes) }
    }
}

/// From the files of version 2. Kernel: cgroup-v2.rst, "Controllers".
fn unified(files: &Files<'_>, hugepage_sizes: &[String]) -> Stats {
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
            // Both peaks need not have been at one time.
            max: 0,
            failcnt: swap.failcnt,
        },
        usage,
        raw,
        psi: files.psi("memory.pressure"),
        ..Memory::default()
    }
}

/// The same in both versions.
pub(super) fn pids(files: &Files<'_>) -> Pids {
    let limit = files.number("pids.max");
    Pids { current: files.number("pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

/// io.stat has a line `8:0 rbytes=1 wbytes=2 rios=3 …` for each device; they are told in version 1's words.
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

/// `8:0`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn hugetlb(files: &Files<'_>, size: &str) -> Hugetlb {
    let kind = format!("hugetlb.{size}");
    // What is reserved, where the kernel counts that (Linux 5.7).
    let reserved = (files.0)(&format!("{kind}.rsvd.current")).and_then(|text| text.parse().ok());
    Hugetlb {
        usage: reserved.unwrap_or_else(|| files.number(&format!("{kind}.current"))),
        max: 0,
        failcnt: files.entry(&format!("{kind}.events"), "max"),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and a line for `full`.
fn psi(text: &str) -> Option<Psi> {
    let mut found = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let place = match words.next()? {
            "some" => &mut found.some,
            "full" => &mut found.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => place.avg10 = value.parse().ok()?,
                "avg60" => place.avg60 = value.parse().ok()?,
                "avg300" => place.avg300 = value.parse().ok()?,
                "total" => place.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(found)
}

/// The kernel's way of writing a set of numbers: `0-3,8`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests;
