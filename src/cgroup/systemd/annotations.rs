//! Annotations that concern the unit and the cgroups below it.

use std::collections::BTreeMap;

use super::value::Value;
use super::{Property, gvariant};
use crate::cgroup::BadLimit;

/// Prefix of a property's name.
const PREFIX: &str = "org.systemd.property.";

/// Properties that the runtime sets: changing them would move the container out of its unit.
const OURS: &[&str] = &["PIDs", "PIDFDs", "Slice", "Delegate"];

/// The properties requested by `org.systemd.property.NAME`, in GVariant's text format, or all
/// errors in them.
///
/// A name in `…Sec` is the setting of a unit file, which is `…USec` on D-Bus, a number of
/// microseconds.
pub fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Vec<BadLimit>> {
    let mut properties = Vec::new();
    let mut faults = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        match property(name, text) {
            Ok(property) => properties.push(property),
            Err(words) => faults.push(BadLimit::invalid(format!("annotations[{key:?}]"), words)),
        }
    }
    if faults.is_empty() { Ok(properties) } else { Err(faults) }
}

fn property(name: &str, text: &str) -> Result<Property, String> {
    if name.len() < 3
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        || !name.starts_with(char::is_uppercase)
    {
        return Err(format!("{name:?} is not the name of a systemd property, such as TimeoutStopUSec"));
    }
    if OURS.contains(&name) {
        return Err(format!("{name} is for the runtime to set; leave it out"));
    }
    let value = gvariant::parse(text)?;
    match name.strip_suffix("Sec") {
        Some(stem) if !stem.ends_with('U') => Ok(Property::new(format!("{stem}USec"), microseconds(&value)?)),
        _ => Ok(Property::new(name, value)),
    }
}

fn microseconds(seconds: &Value) -> Result<Value, String> {
    const MICRO: u64 = 1_000_000;
    let whole = match seconds {
        Value::Byte(number) => Some(u64::from(*number)),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::U16(number) => Some(u64::from(*number)),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::U32(number) => Some(u64::from(*number)),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U64(number) => Some(*number),
        Value::Double(number) if (0.0..1e12).contains(number) => {
            return Ok(Value::U64((number * MICRO as f64) as u64));
        }
        _ => None,
    };
    let micro = whole.and_then(|seconds| seconds.checked_mul(MICRO));
    micro.map(Value::U64).ok_or_else(|| "write a number of seconds, 0 or more".into())
}

/// The name of a cgroup below the container's own, from annotation `name`; `None`: not requested,
/// or empty.
pub fn subgroup(annotations: &BTreeMap<String, String>, name: &str) -> Result<Option<String>, BadLimit> {
    let Some(path) = annotations.get(name).filter(|path| !path.is_empty()) else { return Ok(None) };
    let clean = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
    if clean {
        Ok(Some(path.clone()))
    } else {
        let words =
            format!("{path:?} is not the name of a cgroup below the container's: write NAME or NAME/NAME");
        Err(BadLimit::invalid(format!("annotations[{name:?}]"), words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(name: &str, text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.into(), text.into()), ("other".into(), "'".into())])
    }

    #[test]
    fn properties_of_annotations() {
        let table = [
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::text("inactive-or-failed")),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::U64(123_456_789)),
            ("TimeoutStopSec", "5", "TimeoutStopUSec", Value::U64(5_000_000)),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec", Value::U64(1_500_000)),
            ("RuntimeMaxSec", "uint64 7", "RuntimeMaxUSec", Value::U64(7_000_000)),
        ];
        for (name, text, want, value) in table {
            let got = properties(&annotated(&format!("org.systemd.property.{name}"), text)).unwrap();
            assert_eq!(got, [Property::new(want, value)], "{name}");
        }
    }

    #[test]
    fn bad_ones_are_reported_with_their_path() {
        let table = [
            ("TimeoutStopUSec", "uint64"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'a'"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("a b", "1"),
            ("", "1"),
            ("timeout", "1"),
            ("Slice", "'a.slice'"),
            ("PIDs", "[uint32 1]"),
        ];
        for (name, text) in table {
            let faults = properties(&annotated(&format!("org.systemd.property.{name}"), text)).unwrap_err();
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].field, format!("annotations[\"org.systemd.property.{name}\"]"));
        }
    }

    #[test]
    fn subgroups_lead_nowhere_else() {
        let asked = |path: &str| subgroup(&annotated("x", path), "x");
        assert_eq!(asked("").unwrap(), None);
        assert_eq!(asked("a/b").unwrap().as_deref(), Some("a/b"));
        for path in ["/a", "a/", "..", "a/../b", ".", "a\0"] {
            asked(path).unwrap_err();
        }
    }
}
