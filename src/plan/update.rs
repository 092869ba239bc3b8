//! The limits that `update` names, judged: what of a control group is changed.

use super::{BadField, Limiting};
use crate::cgroup::{self, BadLimit, Settings, devices};
use crate::spec::Resources;

/// What to change in a control group.
#[derive(Debug)]
pub struct Change {
    /// What is written into its files.
    pub settings: Settings,
    /// What becomes of the decision over devices; in version 1 it is among the settings.
    pub devices: Devices,
}

/// Decisions over the devices of a cgroup of version 2.
#[derive(Debug)]
pub enum Devices {
    /// As before.
    Stay,
    /// By this program; `None`: every access is allowed.
    Become(Option<devices::Program>),
}

/// Judges the limits of an update: a change, or every fault found. No rule for devices leaves them as they are.
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

/// Faults of limits as those of other fields.
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
    fn only_what_is_named_changes() {
        /// As Docker writes it: a zero is a value that is not named.
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
