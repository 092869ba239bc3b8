//! The limits that `update` is given: the writes, for either version of cgroups, and the properties
//! for systemd.

use emergence_runc::plan::Limiting;
use emergence_runc::plan::update::change;
use emergence_runc::spec;

use super::dbus::travels;
use super::{faults, misread, one_line, scope};

pub fn check(bytes: &[u8]) {
    let wanted = match spec::parse_resources(bytes) {
        Ok(wanted) => wanted,
        Err(fault) => return misread(&fault),
    };
    for limiting in [Limiting::Unified, Limiting::Legacy] {
        let change = match change(&wanted, limiting) {
            Ok(change) => change,
            Err(found) => {
                faults(&found);
                continue;
            }
        };
        for write in &change.settings.writes {
            assert!(
                !write.file.is_empty() && !write.file.contains('/'),
                "a file of another directory: {write:?}"
            );
        }
        change.settings.warnings.iter().for_each(|words| one_line(words));
        match scope().properties(&change.settings, Some(&wanted.devices)) {
            Ok(properties) => properties.iter().for_each(|property| travels(&property.value)),
            Err(found) => found.iter().for_each(|fault| one_line(&fault.to_string())),
        }
    }
}
