//! Options of the verbs about the store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::artifacts::ArtifactArgs;
use crate::cli::pages::page;
use crate::emergence::Compression;

// `emergence import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Artifacts: oci:DIR:TAG of an automaton, nar:FILE, cache:DIR#OBJECT
    #[arg(value_name = "ref", required = true)]
    pub artifacts: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Check constraints against the machine described in FILE (output of the node verb), or not at all: none
    #[arg(long, value_name = "FILE|none")]
    pub node: Option<PathBuf>,
}

// `emergence need`.
#[derive(Args, Debug)]
pub(crate) struct NeedArgs {
    /// The artifact: oci:DIR:TAG, oci-archive:FILE:TAG, nar:FILE, cache:DIR#OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
}

// `emergence export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Store paths, exported with their closures [default: all objects that --only-from names]
    #[arg(value_name = "storepath", required_unless_present = "only_from")]
    pub objects: Vec<String>,
    /// Destination: cache:DIR, a binary cache, created if missing
    #[arg(long, value_name = "CACHE")]
    pub to: String,
    /// Compression of NARs
    #[arg(long, value_name = "HOW", value_enum, default_value = "zstd")]
    pub compress: CompressMode,
    /// Sign exported objects with this key
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,
    /// Export only objects that FILE names, one per line, as printed by the need verb; - is standard input
    #[arg(long, value_name = "FILE")]
    pub only_from: Option<PathBuf>,
}

/// Names of the values of [`Compression`] that can be written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressMode {
    /// no compression
    None,
    /// smallest
    Xz,
    /// fast
    Zstd,
    /// most compatible
    Gzip,
    /// for old versions of Nix
    Bzip2,
}

impl From<CompressMode> for Compression {
    fn from(mode: CompressMode) -> Self {
        match mode {
            CompressMode::None => Compression::None,
            CompressMode::Xz => Compression::Xz,
            CompressMode::Zstd => Compression::Zstd,
            CompressMode::Gzip => Compression::Gzip,
            CompressMode::Bzip2 => Compression::Bzip2,
        }
    }
}

// `emergence info`.
#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// Store path of the object
    #[arg(value_name = "storepath")]
    pub object: String,
}

// `emergence check`.
#[derive(Args, Debug)]
pub(crate) struct CheckStoreArgs {
    /// Restore corrupt objects from this artifact
    #[arg(long, value_name = "REF")]
    pub repair: Option<String>,
}

// `emergence gc`.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Only print what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Keep objects added within this period, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub keep_for: Option<std::time::Duration>,
}

// `emergence root`.
#[derive(Args, Debug)]
pub(crate) struct RootArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: RootAction,
}

// What `emergence root` does.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)] // a comment would become the action's line in help
pub(crate) enum RootAction {
    /// add a root for an artifact in the store
    #[command(help_template = page!(" emergence root add", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Add {
        /// Name of the root
        #[arg(value_name = "name")]
        name: String,
        /// The artifact: store:OBJECT, or any other whose objects are in the store
        #[arg(value_name = "ref")]
        reference: String,
    },
    /// remove a root
    #[command(help_template = page!(" emergence root rm", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Rm {
        /// Name of the root
        #[arg(value_name = "name")]
        name: String,
    },
    /// list the roots
    #[command(help_template = page!(" emergence root ls", "OPTIONS:\n{options}"))]
    Ls,
}
