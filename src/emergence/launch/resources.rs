//! Resource limits and devices of an automaton in config.json.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::emergence::base::refusal::Result;
use crate::emergence::format::constraint::Granted;
use crate::emergence::format::document::Resources as Wanted;
use crate::error::{Doing, Error, Kind};
use crate::spec::{BlockIo, Cpu, Device, DeviceRule, Linux, Memory, Pids, Resources};

/// Whether this machine has only cgroup v2.
pub(super) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Adds limits. `unified`: for cgroup v2, where weights are used unchanged.
pub(super) fn limit(resources: &mut Resources, wanted: &Wanted, granted: &Granted, unified: bool) {
    let memory = wanted.memory_limit;
    // A reservation cannot exceed the limit.
    let low = granted.memory.map(|low| low.min(memory.unwrap_or(u64::MAX)));
    if memory.is_some() || low.is_some() {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        resources.memory =
            Some(Memory { limit: memory.map(bytes), reservation: low.map(bytes), ..Memory::default() });
    }
    if let Some(max) = wanted.cpu_max {
        let quota = max.quota.map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX));
        resources.cpu = Some(Cpu { quota: Some(quota), period: Some(max.period), ..Cpu::default() });
    }
    if let Some(limit) = wanted.pids_limit {
        resources.pids = Some(Pids { limit: Some(i64::try_from(limit).unwrap_or(i64::MAX)) });
    }
    if let Some(weight) = wanted.cpu_weight {
        if unified {
            resources.unified.insert("cpu.weight".into(), weight.to_string());
        } else {
            // A weight of 100 in v2 corresponds to 1024 shares in v1.
            let shares = (weight * 1024 / 100).clamp(2, 262_144);
            resources.cpu.get_or_insert_default().shares = Some(shares);
        }
    }
    if let Some(weight) = wanted.io_weight {
        if unified {
            resources.unified.insert("io.weight".into(), weight.to_string());
        } else {
            // The inverse of the runtimes' conversion from 10…1000 to 1…10000.
            let weight = 10 + weight.saturating_sub(1) * 990 / 9999;
            let weight = u16::try_from(weight.min(1000)).ok();
            resources.block_io = Some(BlockIo { weight, ..BlockIo::default() });
        }
    }
}

/// Adds the granted devices with their permissions on this machine, and rules that allow access to
/// them.
pub(super) fn give(linux: &mut Linux, granted: &Granted) -> Result<()> {
    for path in &granted.devices {
        let found = std::fs::metadata(path).doing(|| format!("stat device {path}"))?;
        let kind = match found.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => return Err(Error::new(Kind::System, format!("{path} is not a device")).into()),
        };
        let (major, minor) = (rustix::fs::major(found.rdev()).into(), rustix::fs::minor(found.rdev()).into());
        linux.devices.push(Device {
            path: path.clone(),
            kind: kind.into(),
            major,
            minor,
            file_mode: Some(found.mode() & 0o777),
            uid: Some(found.uid()),
            gid: Some(found.gid()),
        });
        let rule = DeviceRule {
            allow: true,
            kind: kind.into(),
            major: Some(major),
            minor: Some(minor),
            access: "rwm".into(),
        };
        linux.resources.get_or_insert_default().devices.push(rule);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::format::document::CpuMax;

    #[test]
    fn both_versions_of_control_groups() {
        let wanted = Wanted {
            memory_limit: Some(1000),
            cpu_weight: Some(200),
            cpu_max: Some(CpuMax { quota: None, period: 100_000 }),
            pids_limit: Some(7),
            io_weight: Some(10_000),
        };
        let granted = Granted { devices: Vec::new(), memory: Some(5000) };
        let (mut two, mut one) = (Resources::default(), Resources::default());
        limit(&mut two, &wanted, &granted, true);
        limit(&mut one, &wanted, &granted, false);
        for (found, shares) in [(&two, None), (&one, Some(2048))] {
            let memory = found.memory.as_ref().unwrap();
            assert_eq!((memory.limit, memory.reservation), (Some(1000), Some(1000)));
            let cpu = found.cpu.as_ref().unwrap();
            assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(-1), Some(100_000), shares));
            assert_eq!(found.pids.as_ref().unwrap().limit, Some(7));
        }
        assert_eq!(two.unified.get("cpu.weight").map(String::as_str), Some("200"));
        assert_eq!(two.unified.get("io.weight").map(String::as_str), Some("10000"));
        assert!(two.block_io.is_none() && one.unified.is_empty());
        assert_eq!(one.block_io.unwrap().weight, Some(1000));
        let mut nothing = Resources::default();
        limit(&mut nothing, &Wanted::default(), &Granted::default(), true);
        assert_eq!(nothing, Resources::default());
    }

    #[test]
    fn a_device_and_its_rule() {
        let granted = Granted { devices: vec!["/dev/null".into()], memory: None };
        let mut linux = Linux::default();
        give(&mut linux, &granted).unwrap();
        assert_eq!(
            (linux.devices[0].kind.as_str(), linux.devices[0].major, linux.devices[0].minor),
            ("c", 1, 3)
        );
        let rule = &linux.resources.unwrap().devices[0];
        assert_eq!((rule.allow, rule.major, rule.minor), (true, Some(1), Some(3)));
        let file = Granted { devices: vec!["/etc/passwd".into()], memory: None };
        assert!(give(&mut Linux::default(), &file).is_err());
    }
}
