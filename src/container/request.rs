//! The request of a command: the command line as typed values, before anything is looked up.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::ContainerId;
use crate::cgroup::Driver;
use crate::spec::Resources;

/// Settings for every command.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory, with one directory per container.
    pub root: PathBuf,
    /// Whether the user named `root`; otherwise it is the default.
    pub root_is_named: bool,
    /// The cgroup driver.
    pub driver: Driver,
    /// Whether failures that an unprivileged user must expect (cgroups, ID maps) are tolerated.
    pub rootless: bool,
}

/// `create`, and the first half of `run`.
#[derive(Clone, Debug)]
pub struct Create {
    /// The new container's name.
    pub id: ContainerId,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Whether the bundle was created only for this container, and is deleted with it.
    pub bundle_goes: bool,
    /// The configuration, if not the bundle's config.json.
    pub config: Option<PathBuf>,
    /// Unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// File that the init's PID is written to.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives the init's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether MS_MOVE and chroot replace pivot_root (root on an initramfs).
    pub no_pivot: bool,
    /// Whether the session keyring is inherited.
    pub no_new_keyring: bool,
    /// Number of descriptors from 3 up that stay open for the program, besides those of LISTEN_FDS.
    pub preserve_fds: u32,
}

/// `events`.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Time between two statistics; `None`: one statistic and nothing else.
    pub interval: Option<Duration>,
}

/// `run`.
#[derive(Clone, Debug)]
pub struct Run {
    /// The container to create.
    pub create: Create,
    /// Whether to return once the program runs.
    pub detach: bool,
    /// Whether the stopped container is kept until `delete`.
    pub keep: bool,
    /// Whether orphans of the container are reparented to the host's init instead of us.
    pub no_subreaper: bool,
}

/// `exec`: an additional process in a container.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The container.
    pub id: ContainerId,
    /// A complete process.json; without it, the container's own process with `args` as its
    /// arguments.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// Other differences from process.json or the container's configuration.
    pub changes: Changes,
    /// Whether to return once the program runs.
    pub detach: bool,
    /// Unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// File that the process's PID is written to.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives the process's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// Number of descriptors from 3 up that stay open for the program, besides those of LISTEN_FDS.
    pub preserve_fds: u32,
    /// Whether the process is created even in a paused container, to run once that is resumed.
    pub ignore_paused: bool,
    /// Cgroups for the process, below the container's.
    pub cgroups: Vec<SubGroup>,
}

/// The changes that `exec`'s options make to a process.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Working directory.
    pub cwd: Option<OsString>,
    /// Entries added to the environment.
    pub env: Vec<OsString>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Another user, and optionally group.
    pub user: Option<(u32, Option<u32>)>,
    /// Additional supplementary groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: Option<bool>,
    /// Additional capabilities.
    pub capabilities: Vec<String>,
}

/// A cgroup below the container's own: `[CONTROLLER[,CONTROLLER…]:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubGroup {
    /// Controllers of cgroup v1; empty: every hierarchy.
    pub controllers: Vec<String>,
    /// Path relative to the container's cgroup.
    pub path: String,
}

/// `update`.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The limits to change; those absent, zero or empty do not change.
    pub resources: Resources,
    /// Cache line of the resctrl schemata; empty: unchanged.
    pub l3_cache_schema: String,
    /// Memory bandwidth line of the resctrl schemata; empty: unchanged.
    pub mem_bw_schema: String,
}
