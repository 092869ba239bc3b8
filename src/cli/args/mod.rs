//! The table of definitions: every command and option, from which parsing, help, completions and man pages come.

mod branch;
mod checkpoint;
#[cfg(feature = "emergence")]
mod emergence;
mod events;
mod exec;
mod mounts;
mod ps;
mod size;
mod update;

use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::cgroup::Driver;
use crate::cli::{log, pages::*};
use crate::container::ContainerId;
use crate::container::request::{Create, Run};

pub(crate) use branch::parse;
pub(crate) use checkpoint::{CheckpointArgs, EmptyNamespace, ImagesArgs, RestoreArgs};
#[cfg(feature = "emergence")]
pub(crate) use emergence::{
    ArtifactArgs, BundleArgs, CheckStoreArgs, DeclaredArgs, DrvAction, DrvFile, EmergenceArgs, ExportArgs,
    GcArgs, HashArgs, ImportArgs, InfoArgs, InspectArgs, KeyAction, LaunchArgs, NarAction, NeedArgs,
    NetworkMode, PackArgs, ReferenceArgs, RootAction, SameArgs, ShapeArgs, SignArgs, StorePathKind,
    TermsArgs, UnpackArgs, Verb, VerifyArgs,
};
pub(crate) use events::EventsArgs;
pub(crate) use exec::ExecArgs;
pub(crate) use mounts::{MountsAction, MountsArgs};
pub(crate) use ps::PsArgs;
pub(crate) use update::UpdateArgs;

/// `--version`: engines parse the first two lines.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\nspec: 1.3.0\nrust: ",
    env!("BUILD_RUSTC")
);

/// Open Container Initiative runtime
#[derive(Debug, Parser)]
#[command(
    name = "emergence-runc",
    version = VERSION,
    disable_version_flag = true,
    args_override_self = true, // as Go reads flags: the last counts. podman gives --leave-running twice
    override_usage = "emergence-runc [global options] command [command options] [arguments...]",
    before_help = ABOUT,
    help_template = page!("", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}")
)]
pub(crate) struct Cli {
    /// Options for every command, given before it.
    #[command(flatten)]
    pub global: Global,
    /// Print the version, the commit and the compiler
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// The command; help is printed when there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
}

// A doc comment (`///`) on one of these structs would become the command's line in help.

// Options for every command.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct Global {
    /// State directory, should be on a tmpfs [default: /run/emergence-runc, rootless $XDG_RUNTIME_DIR/emergence-runc]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File to append messages to [default: standard error]
    #[arg(long, value_name = "PATH")]
    pub log: Option<PathBuf>,
    /// Format of messages
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: log::Format,
    /// Minimum severity to log: error, warning, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = log::level, default_value = "warning")]
    pub log_level: tracing::Level,
    /// Log debug messages too
    #[arg(long)]
    pub debug: bool,
    /// Create cgroups through systemd; cgroupsPath then has the form slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Cgroup driver: cgroupfs, systemd or disabled [default: cgroupfs]
    #[arg(long, value_name = "MANAGER", value_parser = driver)]
    pub cgroup_manager: Option<Driver>,
    /// Ignore errors that are expected without root (cgroups, id maps): true, false or auto
    #[arg(long, value_name = "WHEN", value_parser = rootless, default_value = "auto")]
    pub rootless: Rootless,
}

/// Whether errors that are expected without root are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// If the caller is not root.
    Auto,
    /// As given on the command line.
    Said(bool),
}

/// The commands, in the order of help.
#[derive(Debug, Subcommand)]
#[command(
    defer = true, // options are only defined for the command that was given
    subcommand_help_heading = "COMMANDS"
)]
pub(crate) enum Command {
    /// create a container
    #[command(help_template = page!(" create"), before_help = CREATE)]
    Create(CreateArgs),
    /// run the user's process in a created container
    #[command(help_template = page!(" start"), before_help = START)]
    Start(IdArg),
    /// create and run a container
    #[command(help_template = page!(" run"), before_help = RUN)]
    Run(RunArgs),
    /// execute a new process in a container
    #[command(help_template = page!(" exec", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"), before_help = EXEC)]
    Exec(Box<ExecArgs>),
    /// output the state of a container
    #[command(help_template = page!(" state"), before_help = STATE)]
    State(IdArg),
    /// send a signal (default: SIGTERM) to the container's init process
    #[command(help_template = page!(" kill"), before_help = KILL)]
    Kill(KillArgs),
    /// remove a container and its resources, often used with a detached container
    #[command(help_template = page!(" delete"), before_help = DELETE)]
    Delete(DeleteArgs),
    /// list the containers in the state directory
    #[command(help_template = page!(" list"), before_help = LIST)]
    List(ListArgs),
    /// list the processes inside a container
    #[command(help_template = page!(" ps", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"), before_help = PS)]
    Ps(PsArgs),
    /// suspend all processes inside a container
    #[command(help_template = page!(" pause"), before_help = PAUSE)]
    Pause(IdArg),
    /// resume a paused container
    #[command(help_template = page!(" resume"), before_help = RESUME)]
    Resume(IdArg),
    /// display container events such as OOM notifications, and statistics
    #[command(help_template = page!(" events"), before_help = EVENTS)]
    Events(EventsArgs),
    /// add or remove mounts of a running container
    #[command(help_template = page!(" mounts", "COMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = MOUNTS)]
    Mounts(MountsArgs),
    /// change the limits of a container
    #[command(help_template = page!(" update"), before_help = UPDATE)]
    Update(UpdateArgs),
    /// write a new configuration
    #[command(help_template = page!(" spec"), before_help = SPEC)]
    Spec(SpecArgs),
    /// print the features of this build
    #[command(help_template = page!(" features"), before_help = FEATURES)]
    Features,
    /// report all errors of a bundle without starting it
    #[command(help_template = page!(" check"), before_help = CHECK)]
    Check(CheckArgs),
    /// save the processes of a running container
    #[command(help_template = page!(" checkpoint"), before_help = CHECKPOINT)]
    Checkpoint(CheckpointArgs),
    /// restore a container from a checkpoint
    #[command(help_template = page!(" restore"), before_help = RESTORE)]
    Restore(RestoreArgs),
    #[cfg(feature = "emergence")]
    /// verify, store and run content-addressed artifacts
    #[command(help_template = page!(" emergence", "VERBS:\n{subcommands}\n\nOPTIONS:\n{options}"), before_help = EMERGENCE)]
    Emergence(EmergenceArgs),
    /// write a completion script for a shell
    #[command(help_template = page!(" completion", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"), before_help = COMPLETION)]
    Completion(CompletionArgs),
    /// write the manual pages
    #[command(help_template = page!(" man", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"), before_help = MAN)]
    Man(ManArgs),
}

// A command about one container.
#[derive(Args, Debug)]
pub(crate) struct IdArg {
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

// `create`, and what `run` shares with it.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct CreateArgs {
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Configuration file to use instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub passed: ContainerArgs,
    /// The new container
    #[arg(value_name = "container-id")]
    pub id: String,
}

// Options that `create`, `run` and `emergence run` share.
#[derive(Args, Debug)]
pub(crate) struct ContainerArgs {
    /// Unix socket that receives the pty master of the container's terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Use MS_MOVE and chroot instead of pivot_root, for hosts that run from an initramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring instead of creating a new one
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N additional descriptors to the container, after the standard streams and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,
}

impl ContainerArgs {
    /// The request for a container of the bundle in this directory.
    pub(crate) fn create(&self, id: ContainerId, bundle: PathBuf, config: Option<PathBuf>) -> Create {
        Create {
            id,
            bundle,
            bundle_goes: false,
            config,
            console_socket: self.console_socket.clone(),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
        }
    }
}

// `run`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct RunArgs {
    /// What to create.
    #[command(flatten)]
    pub create: CreateArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub stay: ForegroundArgs,
}

// Options for waiting on the container.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ForegroundArgs {
    /// Return as soon as the container's process runs
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container after its process has ended
    #[arg(long)]
    pub keep: bool,
    /// Do not become the subreaper of the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

impl ForegroundArgs {
    /// The request to run it.
    pub(crate) fn run(self, create: Create) -> Run {
        Run { create, detach: self.detach, keep: self.keep, no_subreaper: self.no_subreaper }
    }
}

// `kill`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct KillArgs {
    /// Send the signal to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// Send the signal to every container whose id matches this regular expression
    #[arg(long)]
    pub regex: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Signal name with or without SIG, or number
    #[arg(value_name = "signal", default_value = "SIGTERM")]
    pub signal: String,
}

// `delete`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct DeleteArgs {
    /// Kill the container if it is running; an unknown id is not an error
    #[arg(short, long)]
    pub force: bool,
    /// Delete every container whose id matches this regular expression
    #[arg(long)]
    pub regex: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
}

// `list`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct ListArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: ListFormat,
    /// Print only the ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// How `list` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // a comment would show in help
pub(crate) enum ListFormat {
    #[default]
    Table,
    Json,
}

// `spec`.
#[derive(Args, Debug)]
#[command(mut_args = switch)]
pub(crate) struct SpecArgs {
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write a configuration that runs without root
    #[arg(long)]
    pub rootless: bool,
}

// `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
}

// `completion`.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "shell")]
    pub shell: clap_complete::Shell,
}

// `man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Existing directory for the pages
    #[arg(value_name = "dir")]
    pub dir: PathBuf,
}

/// Accepts `--detach`, `--detach=true` and `--detach=false`, as Go programs do.
fn switch(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .value_parser(go_bool)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
}

/// Parses Go's boolean values, since runc's callers may write `--force=1`.
fn go_bool(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".into()),
    }
}

fn driver(word: &str) -> Result<Driver, String> {
    match word {
        "cgroupfs" => Ok(Driver::Plain),
        "systemd" => Ok(Driver::Systemd),
        "disabled" => Ok(Driver::Disabled),
        _ => Err("must be cgroupfs, systemd or disabled".into()),
    }
}

fn rootless(word: &str) -> Result<Rootless, String> {
    match word {
        "auto" => Ok(Rootless::Auto),
        _ => go_bool(word).map(Rootless::Said).map_err(|_| "must be true, false or auto".into()),
    }
}

#[cfg(test)]
mod tests;
