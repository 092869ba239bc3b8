//! What a command asks for: the command line's words as typed values, before anything is looked up.

use std::path::PathBuf;

use super::ContainerId;
use crate::cgroup::Driver;
use crate::spec::Resources;

/// What every command needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that holds one folder per container.
    pub root: PathBuf,
    /// Whether `root` was named by the user rather than chosen by us.
    pub root_is_named: bool,
    /// Which driver makes cgroups.
    pub driver: Driver,
    /// Whether failures that an ordinary user must expect (cgroups, id maps) are tolerated.
    pub rootless: bool,
}

/// `create`, and the first half of `run`.
#[derive(Clone, Debug)]
pub struct Create {
    /// The new container's name.
    pub id: ContainerId,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Another file than the bundle's config.json.
    pub config: Option<PathBuf>,
    /// Unix socket that takes the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// File that takes the init's pid.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that takes the init's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether MS_MOVE and chroot stand in for pivot_root (root on an initramfs).
    pub no_pivot: bool,
    /// Whether the session keyring is inherited.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on stay open for the program, besides those of LISTEN_FDS.
    pub preserve_fds: u32,
}

/// `run`.
#[derive(Clone, Debug)]
pub struct Run {
    /// What to create.
    pub create: Create,
    /// Whether to return once the program runs.
    pub detach: bool,
    /// Whether the stopped container stays until `delete`.
    pub keep: bool,
    /// Whether orphans of the container go to the host's init instead of us.
    pub no_subreaper: bool,
}

/// `update`.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The limits to change; what is absent, zero or empty stays as it is.
    pub resources: Resources,
    /// Line of the cache for resctrl; empty: stays as it is.
    pub l3_cache_schema: String,
    /// Line of memory bandwidth for resctrl; empty: stays as it is.
    pub mem_bw_schema: String,
}
