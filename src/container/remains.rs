//! `delete --force` of a container whose record is broken: removes all that can still be found of
//! it.
//!
//! Members before the syntax error that have the right type are used as in an intact record. If the
//! cgroup is unknown, the one in the copy of config.json is used. Resources of other containers are
//! left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::{Map, Value};

use super::directory::{Broken, Directory, StateFile};
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::Settings;
use super::{destroy, facts, root};
use crate::cgroup::Group;
use crate::error::{Error, Kind, Result};

/// Kills and removes it. The caller holds the lock.
pub(crate) fn destroy(settings: &Settings, directory: &Directory, broken: Broken) -> Result<()> {
    let (mut record, known) = read(directory, &broken.bytes)?;
    if !known.contains_key("group") {
        record.group = planned(settings, directory)?;
    }
    if let Some(group) = &record.group {
        record.owns_group = !is_another_s(settings, directory, group)?;
        if !record.owns_group {
            record.group = None;
        }
    }
    let group = record.group.as_ref().map(Group::paths).unwrap_or_default();
    let group = group
        .into_values()
        .next()
        .map_or("no cgroup".to_owned(), |path| format!("cgroup {}", path.display()));
    let init = record.init.map_or("no process".to_owned(), |init| format!("process {}", init.pid));
    tracing::warn!("{}; found of the container: {group}, {init}", broken.error);
    destroy::with_hooks(directory, &record)
}

/// A record with the readable members, and these members.
fn read(directory: &Directory, bytes: &[u8]) -> Result<(Record, Map<String, Value>)> {
    let failed =
        |error: serde_json::Error| Error::new(Kind::System, format!("read a broken record: {error}"));
    let mut whole = serde_json::to_value(blank(directory)?).map_err(failed)?;
    let mut known = Map::new();
    for (name, value) in members(bytes) {
        let mut more = whole.clone();
        if let Some(object) = more.as_object_mut() {
            object.insert(name.clone(), value.clone());
        }
        if serde_json::from_value::<Record>(more.clone()).is_ok() {
            whole = more;
            known.insert(name, value);
        }
    }
    // The directory supplies the ID. A broken record never causes a bundle's removal.
    let record = serde_json::from_value(whole).map_err(failed)?;
    Ok((Record { id: directory.id().to_string(), bundle_goes: false, ..record }, known))
}

fn blank(directory: &Directory) -> Result<Record> {
    Ok(Record {
        id: directory.id().to_string(),
        bundle: PathBuf::from("/"),
        bundle_goes: false,
        rootfs: PathBuf::from("/"),
        created: String::new(),
        owner: directory.owner()?,
        annotations: BTreeMap::new(),
        new_keyring: false,
        phase: Phase::Created,
        creator: ProcessId::own()?,
        init: None,
        own_pids: false,
        group: None,
        owns_group: false,
        group_made: None,
        rdt: None,
        mount_below: None,
        programs: Vec::new(),
        start_hooks: Vec::new(),
        create_hooks: 0,
        poststart: Vec::new(),
        poststop: Vec::new(),
    })
}

/// The members of a JSON object up to the first syntax error.
fn members(bytes: &[u8]) -> Vec<(String, Value)> {
    struct Members<'a>(&'a mut Vec<(String, Value)>);
    impl<'de> Visitor<'de> for Members<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
            while let Some(member) = map.next_entry()? {
                self.0.push(member);
            }
            Ok(())
        }
    }
    let mut found = Vec::new();
    // The error was reported by the caller that read the whole record.
    let _ = serde_json::Deserializer::from_slice(bytes).deserialize_map(Members(&mut found));
    found
}

/// The cgroup that this command would create for the container. `None`: the copy of config.json is
/// missing or broken, too.
fn planned(settings: &Settings, directory: &Directory) -> Result<Option<Group>> {
    let group = directory.config().and_then(|spec| facts::host(&spec, settings, directory.id().as_ref()));
    match group {
        Ok(facts) => Ok(facts.group),
        Err(error) if error.errno().is_some_and(|errno| errno != libc::ENOENT) => Err(error),
        Err(error) => {
            tracing::warn!("{error}; the container's cgroup cannot be found");
            Ok(None)
        }
    }
}

/// Whether a record of another container, whole or broken, names this cgroup.
fn is_another_s(settings: &Settings, directory: &Directory, group: &Group) -> Result<bool> {
    let paths: Vec<PathBuf> = group.paths().into_values().collect();
    for id in root::all(settings)?.into_iter().filter(|id| id != directory.id()) {
        let other = match Directory::open(settings, &id) {
            Err(error) if error.kind() == Kind::NotFound => continue,
            other => other?,
        };
        let record = match other.kept()? {
            StateFile::Nothing => continue,
            StateFile::Whole(record) => *record,
            StateFile::Broken(broken) => read(&other, &broken.bytes)?.0,
        };
        if record.group.is_some_and(|other| other.paths().into_values().any(|path| paths.contains(&path))) {
            tracing::warn!("the cgroup that the broken record names is left alone: container {id} has it");
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_before_the_error() {
        let table: [(&[u8], &[&str]); 7] = [
            (b"", &[]),
            (b"{", &[]),
            (b"[1]", &[]),
            (b"\0\0\0", &[]),
            (br#"{"a":1,"b":{"c":2},"d":"#, &["a", "b"]),
            (br#"{"a":1,"b":[1,2"#, &["a"]),
            (br#"{"a":1} rest"#, &["a"]),
        ];
        for (bytes, want) in table {
            let found = members(bytes);
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, want, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
