//! Rounds limits to values that systemd can keep, so that the cgroup's files and the unit's
//! properties hold the same limit.
//!
//! systemd writes its properties to the files whenever it applies a unit: after a change of a
//! property and after daemon-reload. Source: systemd.resource-control(5); systemd's
//! src/core/dbus-cgroup.c and src/core/cgroup.c.

use super::file_value::{number, quota_and_period};
use crate::cgroup::{BadLimit, CgroupSettings};

/// Microseconds in a second.
const SECOND: u64 = 1_000_000;

/// The resolution of CPUQuota=, in microseconds of CPU time per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaStep(u64);

impl QuotaStep {
    /// Whole percents of a CPU.
    pub(crate) const PERCENT: Self = Self(10_000);

    /// The step of this version of systemd.
    pub(crate) fn of_version(version: u32) -> Self {
        /// Since this version, hundredths of a percent. Older versions may too, but rounding up to
        /// a coarser step never grants less than requested.
        const HUNDREDTHS_SINCE: u32 = 257;
        if version >= HUNDREDTHS_SINCE { Self(100) } else { Self::PERCENT }
    }

    /// Converts `quota` in each `period`, both in microseconds, to microseconds per second, rounded
    /// up to the next step.
    pub(crate) fn per_second(self, quota: u64, period: u64) -> Option<u64> {
        quota
            .checked_mul(SECOND)?
            .checked_add(period.checked_sub(1)?)?
            .checked_div(period)?
            .checked_next_multiple_of(self.0)
    }
}

/// Rounds up values that systemd cannot keep exactly: a quota between two steps, and a limit of 0
/// processes.
///
/// Errors are for lists that only the kernel understands.
pub(crate) fn fit(settings: &mut CgroupSettings, step: QuotaStep) -> Result<(), Vec<BadLimit>> {
    let mut faults = Vec::new();
    for setting in &mut settings.writes {
        match setting.file.as_ref() {
            // TasksMax= is at least 1. The container's first process is in the cgroup, so nothing
            // can fork with 1 either.
            "pids.max" if number(&setting.value) == Some(0) => setting.value = "1".into(),
            "cpu.max" => {
                if let Some(value) = rounded(&setting.value, step) {
                    setting.value = value;
                }
            }
            "cpuset.cpus" | "cpuset.mems" if has_symbols(&setting.value) => {
                let words =
                    format!("{:?}: systemd keeps a list of numbers only, such as 0-3,7", setting.value);
                faults.push(BadLimit::unsupported(setting.field.clone(), words));
            }
            _ => {}
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The value of cpu.max that systemd writes for this one. `None`: it has no quota, or is invalid,
/// and the kernel refuses it.
fn rounded(value: &str, step: QuotaStep) -> Option<String> {
    let (quota, period) = quota_and_period(value)?;
    let quota = step.per_second(quota?, period)?.checked_mul(period)? / SECOND;
    Some(format!("{quota} {period}"))
}

/// Whether a list has `all` or `N` (the last one), which only the kernel understands.
fn has_symbols(list: &str) -> bool {
    list.contains(['N', 'n']) || list.to_ascii_lowercase().contains("all")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits;

    fn fitted(json: &str, version: u32) -> Result<String, String> {
        let mut settings = limits::limits(&serde_json::from_str(json).unwrap()).unwrap();
        match fit(&mut settings, QuotaStep::of_version(version)) {
            Ok(()) => {
                Ok(settings.writes.iter().map(|write| write.value.clone()).collect::<Vec<_>>().join(";"))
            }
            Err(faults) => Err(faults[0].field.clone()),
        }
    }

    #[test]
    fn values_match_systemds_output() {
        let table = [
            (r#"{"pids":{"limit":0}}"#, 257, "1"),
            (r#"{"unified":{"pids.max":"0x0"}}"#, 257, "1"),
            (r#"{"pids":{"limit":2}}"#, 257, "2"),
            (r#"{"cpu":{"quota":12500}}"#, 257, "12500 100000"),
            (r#"{"cpu":{"quota":12500}}"#, 252, "13000 100000"),
            (r#"{"cpu":{"quota":1234,"period":100000}}"#, 257, "1240 100000"),
            (r#"{"cpu":{"quota":12345}}"#, 257, "12350 100000"),
            (r#"{"cpu":{"quota":600000,"period":900000}}"#, 257, "600030 900000"),
            (r#"{"cpu":{"quota":-1,"period":50000}}"#, 257, "max 50000"),
            (r#"{"unified":{"cpu.max":"5001 20000"}}"#, 252, "5200 20000"),
            (r#"{"unified":{"cpu.max":"odd"}}"#, 257, "odd"),
            (r#"{"cpu":{"cpus":"0-7:1/2"}}"#, 257, "0-7:1/2"),
        ];
        for (json, version, want) in table {
            assert_eq!(fitted(json, version).as_deref(), Ok(want), "{json}");
        }
        for list in ["all", "0-N", "N"] {
            let json = format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#);
            assert_eq!(fitted(&json, 257), Err("linux.resources.cpu.cpus".into()), "{list}");
        }
    }

    #[test]
    fn a_fitted_quota_fits() {
        for step in [QuotaStep(100), QuotaStep::PERCENT] {
            for quota in (1_000..2_000_000).step_by(7_919) {
                for period in [1_000, 3_000, 99_999, 100_000, 1_000_000] {
                    let once = rounded(&format!("{quota} {period}"), step).unwrap();
                    assert_eq!(rounded(&once, step).as_deref(), Some(once.as_str()), "{quota} {period}");
                    let kept: u64 = once.split(' ').next().unwrap().parse().unwrap();
                    assert!(kept >= quota, "{quota} {period}: {once}");
                }
            }
        }
    }
}
