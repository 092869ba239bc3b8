//! Options of the verbs about the store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::artifacts::ArtifactArgs;
use crate::cli::pages::page;
use crate::emergence::Compression;

// `emergence import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Artifacts: oci:FOLDER:TAG of an automaton, nar:FILE, cache:FOLDER#OBJECT
    #[arg(value_name = "ref", required = true)]
    pub artifacts: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
}

// `emergence need`.
#[derive(Args, Debug)]
pub struct NeedArgs {
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
}

// `emergence export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Store paths; what they refer to goes with them [default: all objects, of which --only-from says which]
    #[arg(value_name = "storepath", required_unless_present = "only_from")]
    pub objects: Vec<String>,
    /// Where to: cache:DIR, a binary cache, made when it is not there
    #[arg(long, value_name = "CACHE")]
    pub to: String,
    /// How NARs are compressed
    #[arg(long, value_name = "HOW", value_enum, default_value = "zstd")]
    pub compress: CompressMode,
    /// Sign what leaves with this key
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,
    /// Only objects that this file names, one a line, as the need verb prints them; - is standard input
    #[arg(long, value_name = "FILE")]
    pub only_from: Option<PathBuf>,
}

/// Names of [`Compression`] that can be written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressMode {
    /// not at all
    None,
    /// smallest
    Xz,
    /// fast
    Zstd,
    /// known everywhere
    Gzip,
    /// for old ones
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
pub struct InfoArgs {
    /// Store path of the object
    #[arg(value_name = "storepath")]
    pub object: String,
}

// `emergence check`.
#[derive(Args, Debug)]
pub struct CheckStoreArgs {
    /// Make what is spoilt anew from this artifact
    #[arg(long, value_name = "REF")]
    pub repair: Option<String>,
}

// `emergence gc`.
#[derive(Args, Debug)]
pub struct GcArgs {
    /// Only say what would be taken away
    #[arg(long)]
    pub dry_run: bool,
    /// Keep what came within this time, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub keep_for: Option<std::time::Duration>,
}

// `emergence root`.
#[derive(Args, Debug)]
pub struct RootArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: RootAction,
}

// What `emergence root` does.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)] // a comment would become the action's line in help
pub enum RootAction {
    /// keep an artifact that is in the store
    #[command(help_template = page!(" emergence root add", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Add {
        /// A name for it
        #[arg(value_name = "name")]
        name: String,
        /// The artifact: store:OBJECT, or any other whose objects are in the store
        #[arg(value_name = "ref")]
        reference: String,
    },
    /// keep it no longer
    #[command(help_template = page!(" emergence root rm", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Rm {
        /// Its name
        #[arg(value_name = "name")]
        name: String,
    },
    /// list what is kept
    #[command(help_template = page!(" emergence root ls", "OPTIONS:\n{options}"))]
    Ls,
}
