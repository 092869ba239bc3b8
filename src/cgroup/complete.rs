//! Completes an update with the present values that share a kernel file with an updated value.
//!
//! cgroup v2 has quota and period in one file, and counts swap separately from memory, while
//! config.json counts the sum. So a part that the update does not name keeps its present value.
//! cgroup v1 has a file for each.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::file::read_at;
use super::{BadLimit, Made};
use crate::error::{Doing, Result};
use crate::spec::Resources;

/// The present limits, as far as they matter; `None` if the file does not exist.
#[derive(Clone, Debug, Default)]
struct Present {
    /// `cpu.max`.
    cpu: Option<String>,
    /// The period that systemd knows, in microseconds; without a quota, `cpu.max` has the default
    /// instead.
    period: Option<u64>,
    /// `cpu.idle`.
    idle: Option<String>,
    /// `memory.max`.
    memory: Option<String>,
    /// `memory.swap.max`.
    swap: Option<String>,
}

impl Made {
    /// Returns the resources of an update, completed with the parts that it leaves out.
    ///
    /// Errors if only the memory limit is named and exceeds the present limit of memory plus swap.
    pub fn complete(&self, wanted: &Resources) -> Result<Resources> {
        let Some(dir) = self.dir_fd().filter(|_| self.group().is_unified()) else {
            return Ok(wanted.clone());
        };
        let names = |file: &str| wanted.unified.contains_key(file);
        let (cpu, memory) = (wanted.cpu.is_some() || names("cpu.max"), wanted.memory.is_some());
        let period = match &self.group().scope {
            Some(scope) if cpu => scope.cpu_period()?,
            _ => None,
        };
        let present = Present {
            cpu: read_if(cpu, dir, "cpu.max")?,
            period,
            idle: read_if(wanted.cpu.is_some() || names("cpu.idle"), dir, "cpu.idle")?,
            memory: read_if(memory, dir, "memory.max")?,
            swap: read_if(memory, dir, "memory.swap.max")?,
        };
        Ok(complete(wanted, &present)?)
    }
}

/// The text of a file, if it is `needed`; `None` also if it does not exist.
fn read_if(needed: bool, dir: BorrowedFd<'_>, file: &str) -> Result<Option<String>> {
    match if needed { read_at(dir, file) } else { Err(Errno::NOENT) } {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {file} of the container's cgroup")),
    }
}

fn complete(wanted: &Resources, present: &Present) -> std::result::Result<Resources, BadLimit> {
    let mut all = wanted.clone();
    let mut words = present.cpu.as_deref().unwrap_or_default().split(' ');
    let quota = words.next().filter(|word| !word.is_empty()).map(number);
    let period = present.period.or_else(|| words.next().and_then(|word| word.parse().ok()));
    if let (Some(cpu), Some(quota)) = (&mut all.cpu, quota) {
        match (cpu.quota.unwrap_or(0) != 0, cpu.period.unwrap_or(0) != 0) {
            (true, false) => cpu.period = period,
            (false, true) => cpu.quota = Some(quota.unwrap_or(-1)),
            _ => {}
        }
    }
    if let (Some(value), Some(period)) = (all.unified.get_mut("cpu.max"), period)
        && value.split_ascii_whitespace().count() == 1
    {
        *value = format!("{} {period}", value.trim());
    }
    if present.idle.as_deref() == Some("1") {
        leave_idle(&mut all);
    }
    let (Some(memory), Some(limit)) = (&mut all.memory, &present.memory) else { return Ok(all) };
    let (limit, swap) = (number(limit), present.swap.as_deref().and_then(number));
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        (0, sum) if sum > 0 => memory.limit = limit,
        (new, 0) if new > 0 => {
            if let (Some(limit), Some(swap)) = (limit, swap) {
                let sum = limit.saturating_add(swap);
                if new > sum {
                    let words = format!(
                        "{new} bytes exceed the limit of memory and swap together, {sum}; give swap too"
                    );
                    return Err(BadLimit::invalid("linux.resources.memory.limit", words));
                }
                memory.swap = Some(sum);
            }
        }
        _ => {}
    }
    Ok(all)
}

/// Completes an update of an idle group. An idle group has no weight; afterwards it gets the
/// default one.
fn leave_idle(all: &mut Resources) {
    const USUAL_SHARES: u64 = 1024;
    const USUAL_WEIGHT: &str = "100";
    if let Some(cpu) = &mut all.cpu {
        match (cpu.idle, cpu.shares.unwrap_or(0)) {
            // The kernel refuses to set the weight of an idle group.
            (None, shares) if shares != 0 => cpu.idle = Some(0),
            (Some(0), 0) => cpu.shares = Some(USUAL_SHARES),
            _ => {}
        }
    }
    let ends = all.unified.get("cpu.idle").is_some_and(|value| value.trim() == "0");
    if ends && !all.unified.contains_key("cpu.weight") && !all.unified.contains_key("cpu.weight.nice") {
        all.unified.insert("cpu.weight".into(), USUAL_WEIGHT.into());
    }
}

/// A limit; `None` for `max`.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_fields_have_their_defaults() {
        let present = |cpu: &str, memory: &str, swap: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Present { cpu: some(cpu), memory: some(memory), swap: some(swap), ..Present::default() }
        };
        let known = |cpu: &str, period: u64| Present { period: Some(period), ..present(cpu, "", "") };
        let idle = |idle: &str| Present { idle: Some(idle.to_owned()), ..Present::default() };
        let table = [
            (
                "quota keeps the period",
                r#"{"cpu":{"quota":5000}}"#,
                present("max 20000", "", ""),
                r#"{"cpu":{"quota":5000,"period":20000}}"#,
            ),
            (
                "period keeps the quota",
                r#"{"cpu":{"period":20000}}"#,
                present("7000 100000", "", ""),
                r#"{"cpu":{"quota":7000,"period":20000}}"#,
            ),
            (
                "no quota stays none",
                r#"{"cpu":{"period":20000,"quota":0}}"#,
                present("max 100000", "", ""),
                r#"{"cpu":{"quota":-1,"period":20000}}"#,
            ),
            (
                "both are given",
                r#"{"cpu":{"quota":1,"period":2}}"#,
                present("7 8", "", ""),
                r#"{"cpu":{"quota":1,"period":2}}"#,
            ),
            (
                "the period that systemd knows is the right one",
                r#"{"cpu":{"quota":5000}}"#,
                known("max 100000", 900_000),
                r#"{"cpu":{"quota":5000,"period":900000}}"#,
            ),
            (
                "so it is for a file",
                r#"{"unified":{"cpu.max":"5000"}}"#,
                known("max 100000", 900_000),
                r#"{"unified":{"cpu.max":"5000 900000"}}"#,
            ),
            (
                "a file with both",
                r#"{"unified":{"cpu.max":"5000 7000"}}"#,
                known("max 100000", 900_000),
                r#"{"unified":{"cpu.max":"5000 7000"}}"#,
            ),
            (
                "a weight ends idleness",
                r#"{"cpu":{"shares":5}}"#,
                idle("1"),
                r#"{"cpu":{"shares":5,"idle":0}}"#,
            ),
            ("no idleness, nothing to end", r#"{"cpu":{"shares":5}}"#, idle("0"), r#"{"cpu":{"shares":5}}"#),
            (
                "the end of idleness brings the usual weight",
                r#"{"cpu":{"idle":0}}"#,
                idle("1"),
                r#"{"cpu":{"idle":0,"shares":1024}}"#,
            ),
            ("or the weight that it had", r#"{"cpu":{"idle":0}}"#, idle("0"), r#"{"cpu":{"idle":0}}"#),
            (
                "in files too",
                r#"{"unified":{"cpu.idle":"0"}}"#,
                idle("1"),
                r#"{"unified":{"cpu.idle":"0","cpu.weight":"100"}}"#,
            ),
            ("neither is", r#"{"cpu":{"shares":2}}"#, present("7 8", "", ""), r#"{"cpu":{"shares":2}}"#),
            (
                "the sum stays",
                r#"{"memory":{"limit":120}}"#,
                present("", "100", "50"),
                r#"{"memory":{"limit":120,"swap":150}}"#,
            ),
            (
                "unlimited swap stays",
                r#"{"memory":{"limit":120}}"#,
                present("", "100", "max"),
                r#"{"memory":{"limit":120}}"#,
            ),
            (
                "a sum of what is unlimited is none",
                r#"{"memory":{"limit":120}}"#,
                present("", "max", "50"),
                r#"{"memory":{"limit":120}}"#,
            ),
            (
                "no limit frees swap later",
                r#"{"memory":{"limit":-1}}"#,
                present("", "100", "50"),
                r#"{"memory":{"limit":-1}}"#,
            ),
            (
                "the sum needs memory",
                r#"{"memory":{"swap":150}}"#,
                present("", "100", "max"),
                r#"{"memory":{"limit":100,"swap":150}}"#,
            ),
            (
                "no controller, no help",
                r#"{"memory":{"limit":9,"swap":0}}"#,
                Present::default(),
                r#"{"memory":{"limit":9,"swap":0}}"#,
            ),
            (
                "memory above the sum",
                r#"{"memory":{"limit":151}}"#,
                present("", "100", "50"),
                "linux.resources.memory.limit",
            ),
        ];
        for (name, wanted, present, want) in table {
            match complete(&serde_json::from_str(wanted).unwrap(), &present) {
                Ok(all) => assert_eq!(all, serde_json::from_str(want).unwrap(), "{name}"),
                Err(bad) => assert_eq!(bad.field, want, "{name}: {bad}"),
            }
        }
    }
}
