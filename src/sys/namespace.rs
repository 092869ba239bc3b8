//! Kinds of namespaces: their flag, and their file below /proc/PID/ns. Source: namespaces(7).

use std::os::raw::c_int;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Process IDs.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// The list of mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Users, groups and capabilities.
    User,
    /// The root of the visible cgroups.
    Cgroup,
    /// The monotonic and boot-time clocks.
    Time,
}

impl Namespace {
    /// All kinds, in the order of the runtime specification.
    pub const ALL: [Self; 8] =
        [Self::Pid, Self::Network, Self::Mount, Self::Ipc, Self::Uts, Self::User, Self::Cgroup, Self::Time];

    /// Its `type` in config.json.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its file below /proc/PID/ns.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            other => other.name(),
        }
    }

    /// CLONE_NEW…
    pub const fn flag(self) -> c_int {
        match self {
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::User => libc::CLONE_NEWUSER,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => libc::CLONE_NEWTIME,
        }
    }

    /// The kind that has this flag.
    pub fn of_flag(flag: c_int) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.flag() == flag)
    }
}

/// A set of kinds of namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSet(c_int);

impl NamespaceSet {
    /// The set without any kind.
    pub const EMPTY: Self = Self(0);

    /// CLONE_NEW… of all its kinds.
    pub const fn flags(self) -> c_int {
        self.0
    }

    /// Whether it has no kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it contains this kind.
    pub const fn has(self, kind: Namespace) -> bool {
        self.0 & kind.flag() != 0
    }

    /// Whether it has a kind in common with `other`.
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The set with this kind, or these kinds, added.
    #[must_use]
    pub fn with(self, kinds: impl Into<Self>) -> Self {
        Self(self.0 | kinds.into().0)
    }

    /// The set without this kind, or these kinds.
    #[must_use]
    pub fn without(self, kinds: impl Into<Self>) -> Self {
        Self(self.0 & !kinds.into().0)
    }

    /// Its kinds, in the order of [`Namespace::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Namespace> {
        Namespace::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

impl From<Namespace> for NamespaceSet {
    fn from(kind: Namespace) -> Self {
        Self(kind.flag())
    }
}

impl FromIterator<Namespace> for NamespaceSet {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_file_and_its_flag() {
        for kind in Namespace::ALL {
            assert!(
                std::path::Path::new("/proc/self/ns").join(kind.file()).exists() || kind == Namespace::Time
            );
            assert_eq!(Namespace::of_flag(kind.flag()), Some(kind));
        }
        assert_eq!(Namespace::of_flag(libc::CLONE_NEWNET | libc::CLONE_NEWPID), None);
    }

    #[test]
    fn sets() {
        let set: NamespaceSet = [Namespace::User, Namespace::Pid].into_iter().collect();
        assert!(set.has(Namespace::Pid) && !set.has(Namespace::Network));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Namespace::Pid, Namespace::User]);
        assert_eq!(set.without(Namespace::Pid).flags(), libc::CLONE_NEWUSER);
        assert!(set.without(set).is_empty());
    }
}
