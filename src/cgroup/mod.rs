//! Control groups: where a container's group is, what is written there, and its end.

mod group;
pub use group::{Group, Layout, Made, layout};

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
