//! Options of the verbs that make containers of artifacts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DeclaredArgs, PlatformArgs};
use crate::emergence::launch::Rootfs;

// What `bundle` and `run` share.
#[derive(Args, Debug)]
pub struct ShapeArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    /// Refuse an image that has a path twice in one layer
    #[arg(long)]
    pub strict: bool,
    /// Value of a parameter of the automaton (may be repeated)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// How the root file system comes about [default: bind for store objects; for images copy, and overlay where root runs them]
    #[arg(long, value_name = "HOW", value_enum)]
    pub rootfs: Option<RootfsMode>,
    /// Test constraints against the machine that this file tells of, as the node verb prints it
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// Network of the container: one of its own with lo alone, or the host's
    #[arg(long, value_name = "WHICH", value_enum, default_value = "private")]
    pub network: NetworkMode,
    /// Network namespace that the container joins
    #[arg(long, value_name = "PATH", conflicts_with = "network")]
    pub netns: Option<PathBuf>,
    /// Program, by its absolute path, that connects the container: a createRuntime hook
    #[arg(long, value_name = "CMD")]
    pub relay_hook: Option<PathBuf>,
}

/// Names of [`Rootfs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RootfsMode {
    /// what is in the store, read-only
    Bind,
    /// what is in the store below a layer that can be written to
    Overlay,
    /// a copy of its own
    Copy,
}

impl From<RootfsMode> for Rootfs {
    fn from(mode: RootfsMode) -> Self {
        match mode {
            RootfsMode::Bind => Rootfs::Bind,
            RootfsMode::Overlay => Rootfs::Overlay,
            RootfsMode::Copy => Rootfs::Copy,
        }
    }
}

/// Networks that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkMode {
    /// one of its own, with lo alone
    Private,
    /// the host's
    Host,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

// `emergence bundle`.
#[derive(Args, Debug)]
pub struct BundleArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The new bundle
    #[arg(value_name = "dir")]
    pub dir: PathBuf,
    /// Arguments in place of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
}

// `emergence run`.
#[derive(Args, Debug)]
pub struct LaunchArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
    /// Return once the container's process runs
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container after its process has ended
    #[arg(long)]
    pub keep: bool,
    /// Leave the container's orphans to the host's init
    #[arg(long)]
    pub no_subreaper: bool,
    /// Unix socket that receives the master of the container's terminal, which it then has
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File that takes the process id
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Enter the root file system without pivot_root, for a host that runs from a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring instead of making a new one
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N more descriptors to the container, after the standard three and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0")]
    pub preserve_fds: u32,
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The new container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Arguments in place of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
}
