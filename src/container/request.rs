//! What a command asks for: the command line's words as typed values, before anything is looked up.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Whether the bundle was made for this container alone, and goes with it.
    pub bundle_goes: bool,
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

/// `events`.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Time between two statistics; `None`: they are told once, and nothing else.
    pub interval: Option<Duration>,
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

/// `exec`: one more process in a container.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The container.
    pub id: ContainerId,
    /// A process.json that says everything; without it, the container's own process with `args` in its place.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// What else of the process is other than in process.json or the container's configuration.
    pub changes: Changes,
    /// Whether to return once the program runs.
    pub detach: bool,
    /// Unix socket that takes the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// File that takes the process's pid.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that takes the process's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on stay open for the program, besides those of LISTEN_FDS.
    pub preserve_fds: u32,
    /// Whether the process is made in a paused container, to go on when that does.
    pub ignore_paused: bool,
    /// Cgroups below the container's, in which the process shall be.
    pub cgroups: Vec<SubGroup>,
}

/// What `exec`'s options change of a process.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Working directory.
    pub cwd: Option<OsString>,
    /// Added to the environment.
    pub env: Vec<OsString>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Another user, and group where it is named.
    pub user: Option<(u32, Option<u32>)>,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: Option<bool>,
    /// More capabilities.
    pub capabilities: Vec<String>,
}

/// A cgroup below the container's own: `[CONTROLLER[,CONTROLLER…]:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubGroup {
    /// Of version 1; none: in every hierarchy.
    pub controllers: Vec<String>,
    /// Relative to the container's.
    pub path: String,
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
