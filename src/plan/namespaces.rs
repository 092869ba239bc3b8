//! `linux.namespaces`, the id maps and time offsets: which namespaces are new or joined, and their
//! parameters.

use std::path::PathBuf;

use super::{Host, IdMaps, Judge};
use crate::spec;
use crate::sys::namespace::{Namespace, NamespaceSet};

/// The namespaces of a container.
#[derive(Debug)]
pub struct Namespaces {
    /// Namespaces to create.
    pub new: NamespaceSet,
    /// Namespaces to join.
    pub joined: Vec<Joined>,
    /// Namespaces of an existing container, which one more process enters.
    pub entered: NamespaceSet,
    /// Mapping of the user namespace; for a joined one, the mapping that config.json declares.
    pub maps: Option<IdMaps>,
    /// The writer of the maps.
    pub maps_by: MapsBy,
    /// The text for timens_offsets; empty: nothing is written.
    pub time_offsets: String,
}

/// A namespace to join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its index in `linux.namespaces`.
    pub at: usize,
    /// Its kind.
    pub kind: Namespace,
    /// A namespace file.
    pub path: PathBuf,
}

/// The writer of a new user namespace's maps, user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapsBy {
    /// The runtime, which has the capabilities.
    Us,
    /// The runtime without capabilities: only its own ids, with setgroups(2) denied.
    SelfOnly,
    /// newuidmap(1) and newgidmap(1).
    Helpers,
}

impl Namespaces {
    /// Whether a new namespace of this kind is created.
    pub fn creates(&self, kind: Namespace) -> bool {
        self.new.has(kind)
    }

    /// Whether a namespace of this kind is joined by path.
    pub fn joins(&self, kind: Namespace) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Whether the container's namespace of this kind is not the runtime's.
    pub fn own(&self, kind: Namespace) -> bool {
        self.creates(kind) || self.joins(kind) || self.entered.has(kind)
    }

    /// The new and the joined namespaces.
    pub(super) fn not_the_runtimes(&self) -> NamespaceSet {
        self.joined.iter().fold(self.new, |kinds, joined| kinds.with(joined.kind))
    }

    /// The same namespaces, for a process that enters the existing container.
    pub fn to_enter(self) -> Self {
        let entered = self.not_the_runtimes();
        Self { new: NamespaceSet::EMPTY, joined: Vec::new(), entered, time_offsets: String::new(), ..self }
    }
}

/// Reads `linux.namespaces`, `linux.uidMappings`, `linux.gidMappings` and `linux.timeOffsets`.
pub fn plan(linux: &spec::Linux, host: &Host, judge: &mut Judge) -> Namespaces {
    let (mut new, mut seen, mut joined) = (NamespaceSet::EMPTY, NamespaceSet::EMPTY, Vec::new());
    for (at, namespace) in linux.namespaces.iter().enumerate() {
        let field = |name: &str| format!("linux.namespaces[{at}].{name}");
        let Some(kind) = Namespace::ALL.into_iter().find(|kind| kind.name() == namespace.kind) else {
            judge.fault(
                field("type"),
                format!(
                    "{:?} is unknown; use pid, network, mount, ipc, uts, user, cgroup or time",
                    namespace.kind
                ),
            );
            continue;
        };
        if seen.has(kind) {
            judge.fault(field("type"), format!("{} is given twice", kind.name()));
        }
        seen = seen.with(kind);
        if namespace.path.is_empty() {
            new = new.with(kind);
        } else if namespace.path.starts_with('/') {
            joined.push(Joined { at, kind, path: PathBuf::from(&namespace.path) });
        } else {
            judge.fault(field("path"), format!("{:?} is not absolute", namespace.path));
        }
    }
    // The user namespace first: it may grant the right to join the others.
    joined.sort_by_key(|joined: &Joined| joined.kind != Namespace::User);
    let mut namespaces = Namespaces {
        new,
        joined,
        entered: NamespaceSet::EMPTY,
        maps: None,
        maps_by: MapsBy::Us,
        time_offsets: time_offsets(linux, new, judge),
    };
    namespaces.maps = maps(linux, &namespaces, judge);
    if let (true, Some(maps)) = (namespaces.creates(Namespace::User), &namespaces.maps) {
        namespaces.maps_by = maps_by(maps, host);
    }
    namespaces
}

fn maps(linux: &spec::Linux, namespaces: &Namespaces, judge: &mut Judge) -> Option<IdMaps> {
    let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if !namespaces.own(Namespace::User) {
        if given {
            let path = if linux.uid_mappings.is_empty() { "linux.gidMappings" } else { "linux.uidMappings" };
            judge.fault(path, "needs a user namespace; add {\"type\": \"user\"} to linux.namespaces");
        }
        return None;
    }
    if namespaces.joins(Namespace::User) && !given {
        return None;
    }
    IdMaps::judge(&linux.uid_mappings, &linux.gid_mappings, format_args!("linux"), judge)
}

fn maps_by(maps: &IdMaps, host: &Host) -> MapsBy {
    let may_set_ids = |cap: caps::Capability| host.capabilities & cap.bitmask() != 0;
    if may_set_ids(caps::Capability::CAP_SETUID) && may_set_ids(caps::Capability::CAP_SETGID) {
        return MapsBy::Us;
    }
    let only =
        |maps: &[spec::IdMapping], own: u32| matches!(maps, [one] if one.size == 1 && one.host_id == own);
    if only(&maps.uid, host.euid) && only(&maps.gid, host.egid) { MapsBy::SelfOnly } else { MapsBy::Helpers }
}

fn time_offsets(linux: &spec::Linux, new: NamespaceSet, judge: &mut Judge) -> String {
    if !linux.time_offsets.is_empty() && !new.has(Namespace::Time) {
        judge.fault(
            "linux.timeOffsets",
            "needs a new time namespace; add {\"type\": \"time\"} to linux.namespaces",
        );
    }
    let mut text = String::new();
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            judge.fault(format!("linux.timeOffsets.{clock}"), "unknown clock; use monotonic or boottime");
        }
        if offset.nanosecs >= 1_000_000_000 {
            judge.fault(format!("linux.timeOffsets.{clock}.nanosecs"), "a second or more; put it into secs");
        }
        text.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    text
}
