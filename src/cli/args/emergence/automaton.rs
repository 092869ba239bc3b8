//! Options of the verbs that create automata and compare them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::emergence::Compression;
use crate::emergence::automaton::Form;

// `emergence pack`.
#[derive(Args, Debug)]
pub(crate) struct PackArgs {
    /// Document without its closure; "-" is standard input
    #[arg(long, value_name = "FILE")]
    pub spec: PathBuf,
    /// Object to pack, with all objects that it refers to (may be repeated)
    #[arg(long = "path", value_name = "STOREPATH")]
    pub paths: Vec<String>,
    /// Tree to add as an object (may be repeated)
    #[arg(long = "tree", value_name = "NAME=PATH")]
    pub trees: Vec<String>,
    /// Source of objects: cache:DIR, or store:
    #[arg(long, value_name = "WHERE", default_value = "store:")]
    pub from: String,
    /// Output: oci:DIR[:TAG], or oci-archive:FILE[:TAG]
    #[arg(long, value_name = "WHAT")]
    pub output: String,
    /// Form of the automaton
    #[arg(long, value_enum, default_value = "image")]
    pub form: FormName,
    /// Compression of layers
    #[arg(long, value_enum, default_value = "gzip")]
    pub compress: CompressionName,
    /// Sign with the secret key in this file
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,
    /// Compute and record missing digests of declared inputs
    #[arg(long)]
    pub pin: bool,
}

/// Names of [`Form`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormName {
    /// an image that any engine can run
    Image,
    /// NARs as layers
    Artifact,
    /// both, in an index
    Both,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Image => Form::Image,
            FormName::Artifact => Form::Artifact,
            FormName::Both => Form::Both,
        }
    }
}

/// Names of the values of [`Compression`] that can be written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressionName {
    /// no compression
    None,
    /// zstd(1)
    Zstd,
    /// gzip(1)
    Gzip,
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Compression::None,
            CompressionName::Zstd => Compression::Zstd,
            CompressionName::Gzip => Compression::Gzip,
        }
    }
}

// `emergence sign`.
#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// The automaton: oci:DIR[:TAG], or oci-archive:FILE[:TAG]
    #[arg(value_name = "ref")]
    pub reference: String,
    /// File with the secret key
    #[arg(value_name = "keyfile")]
    pub key: PathBuf,
}

// `emergence same`.
#[derive(Args, Debug)]
pub(crate) struct SameArgs {
    /// The first automaton
    #[arg(value_name = "ref1")]
    pub one: String,
    /// The second automaton
    #[arg(value_name = "ref2")]
    pub other: String,
}
