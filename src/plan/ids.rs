//! User and group mappings of a user namespace, in the kernel's format.

use std::fmt::Write;

use super::{Judge, Place};
use crate::spec::{self, IdMapping};

/// Both maps of a user namespace, validated: no empty range, no overlap, nothing beyond 2³².
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids.
    pub uid: Vec<IdMapping>,
    /// Group ids.
    pub gid: Vec<IdMapping>,
}

/// The kernel's maximum number of lines, user_namespaces(7).
const MOST_LINES: usize = 340;

impl IdMaps {
    /// Validates both maps; reports errors below `path`.
    pub fn judge(uid: &[IdMapping], gid: &[IdMapping], path: Place<'_>, judge: &mut Judge) -> Option<Self> {
        let good = check(uid, format_args!("{path}.uidMappings"), judge)
            & check(gid, format_args!("{path}.gidMappings"), judge);
        good.then(|| Self { uid: uid.to_vec(), gid: gid.to_vec() })
    }

    /// The outside ID of an inside ID.
    pub fn outside(maps: &[IdMapping], id: u32) -> Option<u32> {
        maps.iter().find_map(|map| {
            let offset = id.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
            map.host_id.checked_add(offset)
        })
    }
}

fn check(maps: &[IdMapping], path: Place<'_>, judge: &mut Judge) -> bool {
    if maps.is_empty() {
        judge.fault(path, "missing; a user namespace needs at least one mapping");
        return false;
    }
    if maps.len() > MOST_LINES {
        judge.fault(path, format!("{} mappings; the kernel takes at most {MOST_LINES}", maps.len()));
        return false;
    }
    let mut good = true;
    for (at, map) in maps.iter().enumerate() {
        let place = format_args!("{path}[{at}]");
        if map.size == 0 {
            judge.fault(format!("{place}.size"), "0; a mapping covers at least one id");
            good = false;
        }
        if map.container_id.checked_add(map.size).is_none() || map.host_id.checked_add(map.size).is_none() {
            judge.fault(place, "reaches past the last id, 4294967294");
            good = false;
        }
        let overlaps = |a: u32, b: u32, sizes: (u32, u32)| {
            u64::from(a) < u64::from(b) + u64::from(sizes.1)
                && u64::from(b) < u64::from(a) + u64::from(sizes.0)
        };
        let clash = maps.iter().take(at).position(|other| {
            overlaps(map.container_id, other.container_id, (map.size, other.size))
                || overlaps(map.host_id, other.host_id, (map.size, other.size))
        });
        if let Some(other) = clash {
            judge.fault(place, format!("overlaps {path}[{other}]"));
            good = false;
        }
    }
    good
}

/// The text of /proc/PID/uid_map or gid_map.
pub fn lines(maps: &[IdMapping]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", map.container_id, map.host_id, map.size);
        text
    })
}

/// Checks that a new user namespace maps the ids in options of its new file systems. The kernel
/// would only return EINVAL.
pub(super) fn mapped_options(mounts: &[spec::Mount], maps: &IdMaps, judge: &mut Judge) {
    // File systems that interpret id options in the container's user namespace. A bind mount
    // ignores them.
    let reads_ids = |mount: &&spec::Mount| {
        matches!(mount.kind.as_str(), "tmpfs" | "devpts")
            && !mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind" | "remount"))
    };
    for (index, mount) in mounts.iter().enumerate().filter(|(_, mount)| reads_ids(mount)) {
        for (at, option) in mount.options.iter().enumerate() {
            let (name, maps) = match option.split_once('=') {
                Some(("uid", _)) => ("uid", &maps.uid),
                Some(("gid", _)) => ("gid", &maps.gid),
                _ => continue,
            };
            let id = option.split_once('=').and_then(|(_, id)| id.parse().ok());
            if let Some(id) = id.filter(|id| IdMaps::outside(maps, *id).is_none()) {
                let words = format!("{option:?}: no entry of linux.{name}Mappings has {id}");
                judge.fault(format!("mounts[{index}].options[{at}]"), words);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn bad_maps_are_named() {
        let table: &[(&[IdMapping], &str)] = &[
            (&[], "missing"),
            (&[map(0, 0, 0)], "[0].size: 0"),
            (&[map(0, u32::MAX, 2)], "past the last id"),
            (&[map(0, 100, 10), map(9, 200, 1)], "overlaps linux.uidMappings[0]"),
            (&[map(0, 100, 10), map(10, 105, 1)], "overlaps linux.uidMappings[0]"),
        ];
        for (maps, want) in table {
            let mut judge = Judge::default();
            IdMaps::judge(maps, &[map(0, 0, 1)], format_args!("linux"), &mut judge);
            let found = judge.faults.first().map(ToString::to_string).unwrap_or_default();
            assert!(found.contains(want), "{maps:?}: {found}");
        }
    }

    #[test]
    fn maps_translate() {
        let maps = [map(0, 1000, 1), map(1, 100_000, 100)];
        assert_eq!(IdMaps::outside(&maps, 0), Some(1000));
        assert_eq!(IdMaps::outside(&maps, 5), Some(100_004));
        assert_eq!(IdMaps::outside(&maps, 101), None);
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 100\n");
    }
}
