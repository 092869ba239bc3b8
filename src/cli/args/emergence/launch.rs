//! Options of the verbs that create containers from artifacts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ArtifactArgs;
use crate::cli::args::{ContainerArgs, ForegroundArgs};
use crate::emergence::launch::Rootfs;

// Options that `bundle` and `run` share.
#[derive(Args, Debug)]
pub(crate) struct ShapeArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Reject an image with a duplicate path in one layer
    #[arg(long)]
    pub strict: bool,
    /// Value of a parameter of the automaton (may be repeated)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// How the root file system is provided [default: bind for store objects; for images overlay in "run" as root, else copy]
    #[arg(long, value_name = "HOW", value_enum)]
    pub rootfs: Option<RootfsMode>,
    /// Check constraints against the machine described in FILE (output of the node verb)
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// Network of the container
    #[arg(long, value_name = "WHICH", value_enum, default_value = "private")]
    pub network: NetworkMode,
    /// Network namespace to join
    #[arg(long, value_name = "PATH", conflicts_with = "network")]
    pub netns: Option<PathBuf>,
    /// Absolute path of a createRuntime hook that connects the container
    #[arg(long, value_name = "CMD")]
    pub relay_hook: Option<PathBuf>,
}

/// Names of [`Rootfs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RootfsMode {
    /// read-only bind mounts of the store
    Bind,
    /// the store below a writable overlay
    Overlay,
    /// a private copy
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

/// Networks that the command line can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// a private network namespace with only lo
    Private,
    /// the host's network
    Host,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

// `emergence bundle`.
#[derive(Args, Debug)]
pub(crate) struct BundleArgs {
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// Directory of the new bundle
    #[arg(value_name = "dir")]
    pub dir: PathBuf,
    /// Arguments to use instead of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
}

// `emergence run`.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The new container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Arguments to use instead of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub stay: ForegroundArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub passed: ContainerArgs,
}
