//! Validates the limits of `update`: which parts of a cgroup change.

use super::{BadField, Limiting};
use crate::cgroup::{self, BadLimit, CgroupSettings, devices};
use crate::spec::Resources;

/// The changes of a cgroup.
#[derive(Debug)]
pub struct Change {
    /// The settings for its files.
    pub settings: CgroupSettings,
    /// The change of device control; in v1 it is among the settings.
    pub devices: Devices,
}

/// The change of device control in cgroup v2.
#[derive(Debug)]
pub enum Devices {
    /// Unchanged.
    Stay,
    /// Replaced by this program; `None`: every access is allowed.
    Become(Option<devices::Program>),
}

/// Validates the limits of an update: returns a change, or all errors. Without device rules, device
/// control is unchanged.
pub fn change(wanted: &Resources, limiting: Limiting) -> Result<Change, Vec<BadField>> {
    let devices_stay = wanted.devices.is_empty();
    if limiting == Limiting::Legacy {
        let mut settings = cgroup::limits_v1::limits(wanted).map_err(fields)?;
        if devices_stay {
            settings.writes.retain(|write| write.controller() != "devices");
        }
        return Ok(Change { settings, devices: Devices::Stay });
    }
    let settings = cgroup::limits::limits(wanted).map_err(fields)?;
    if devices_stay {
        return Ok(Change { settings, devices: Devices::Stay });
    }
    let rules = devices::rules(&wanted.devices).map_err(fields)?;
    let program = devices::compile(&rules).map_err(|fault| fields(vec![fault]))?;
    Ok(Change { settings, devices: Devices::Become(program) })
}

/// Converts errors of limits to errors of fields.
pub fn fields(faults: Vec<BadLimit>) -> Vec<BadField> {
    faults.into_iter().map(|fault| BadField { path: fault.field, words: fault.words }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(json: &str, limiting: Limiting) -> Result<(usize, bool), Vec<String>> {
        let change = change(&serde_json::from_str(json).unwrap(), limiting);
        change
            .map(|change| (change.settings.writes.len(), matches!(change.devices, Devices::Become(_))))
            .map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn only_named_values_change() {
        /// As Docker writes it: zero means not given.
        const ZEROS: &str = r#"{"memory":{"limit":0,"reservation":0,"swap":0,"kernel":0},"blockIO":{"weight":0},
            "cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#;
        for limiting in [Limiting::Unified, Limiting::Legacy] {
            assert_eq!(judged(ZEROS, limiting), Ok((0, false)), "{limiting:?}");
            assert_eq!(judged("{}", limiting), Ok((0, false)), "{limiting:?}");
            assert_eq!(judged(r#"{"pids":{"limit":0}}"#, limiting), Ok((1, false)), "{limiting:?}");
            assert_eq!(
                judged(r#"{"pids":{"limit":-2}}"#, limiting),
                Err(vec!["linux.resources.pids.limit".into()])
            );
            assert_eq!(
                judged(r#"{"devices":[{"allow":true,"type":"x"}]}"#, limiting),
                Err(vec!["linux.resources.devices[0].type".into()])
            );
        }
        assert_eq!(judged(r#"{"devices":[{"allow":true}]}"#, Limiting::Unified), Ok((0, true)));
        assert_eq!(judged(r#"{"devices":[{"allow":true}]}"#, Limiting::Legacy), Ok((1, false)));
    }
}
