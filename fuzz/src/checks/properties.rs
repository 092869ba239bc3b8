//! Annotations for systemd, `org.systemd.property.NAME`: a line each, the name, a space, and the
//! value in GVariant's text format.

use emergence_runc::cgroup::systemd::annotated_properties;

use super::dbus::travels;
use super::one_line;

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let annotations =
        pairs.map(|(name, value)| (format!("org.systemd.property.{name}"), value.to_owned())).collect();
    match annotated_properties(&annotations) {
        Ok(properties) => {
            for property in &properties {
                assert!(property.name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{property:?}");
                travels(&property.value);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            faults
                .into_iter()
                .for_each(|fault| one_line(&emergence_runc::error::Error::from(fault).to_string()));
        }
    }
}
