//! Control groups: where a container's group is, what is written there, and its end.

use std::path::PathBuf;

/// Which driver makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// By mkdir and write.
    #[default]
    Plain,
    /// By asking systemd for a scope.
    Systemd,
    /// Not at all.
    Disabled,
}

/// Placeholder until the room is filled.
pub type Place = PathBuf;
