//! Control groups: where a container's group is, what is written there, and its removal.
//!
//! [`layout`] detects how this host's hierarchies are mounted, [`Group::place`] decides the
//! directories, [`Group::create`] creates them. The values to write are computed without kernel
//! access by [`limits`] (cgroup v2), [`limits_v1`] and [`devices`]. With the systemd driver the
//! cgroup belongs to a unit, see [`systemd`].

#![forbid(unsafe_code)]

mod change;
mod complete;
mod create;
pub mod devices;
mod directory;
mod file;
mod group;
mod layout;
mod life;
pub mod limits;
pub mod limits_v1;
mod oom;
mod resctrl;
mod settings;
mod stats;
pub mod systemd;
mod tree;
mod unified;
mod usage;
mod write;

pub use change::Former;
pub use create::Made;
pub use directory::Directory;
pub use group::{Group, Legacy};
pub use layout::{Hierarchy, Layout, layout};
pub use oom::OomWatch;
pub use resctrl::{Resctrl, ResctrlGroup, ResctrlWish};
pub use settings::{BadLimit, CgroupSettings, Missing, Setting};
pub use stats::Stats;

/// The driver that creates cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Creates directories and writes files itself.
    #[default]
    Plain,
    /// Requests a scope from systemd.
    Systemd,
    /// Creates no cgroup.
    Disabled,
}
