//! Options of the verbs that make containers of artifacts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ArtifactArgs;
use crate::cli::args::{PassedArgs, StayArgs};
use crate::emergence::launch::Rootfs;

// What `bundle` and `run` share.
#[derive(Args, Debug)]
pub struct ShapeArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
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
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

// `emergence bundle`.
#[derive(Args, Debug)]
pub struct BundleArgs {
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The new bundle
    #[arg(value_name = "dir")]
    pub dir: PathBuf,
    /// Arguments in place of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
}

// `emergence run`.
#[derive(Args, Debug)]
pub struct LaunchArgs {
    /// The artifact
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The new container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Arguments in place of the artifact's own
    #[arg(value_name = "args", last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub stay: StayArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub passed: PassedArgs,
}
