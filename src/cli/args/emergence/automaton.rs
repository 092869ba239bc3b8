//! Options of the verbs that make automatons, and compare them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::emergence::Compression;
use crate::emergence::automaton::Form;

// `emergence pack`.
#[derive(Args, Debug)]
pub struct PackArgs {
    /// The document, without its closure; "-" is standard input
    #[arg(long, value_name = "FILE")]
    pub spec: PathBuf,
    /// An object to pack, with all that it refers to (may be repeated)
    #[arg(long = "path", value_name = "STOREPATH")]
    pub paths: Vec<String>,
    /// A tree that becomes an object (may be repeated)
    #[arg(long = "tree", value_name = "NAME=PATH")]
    pub trees: Vec<String>,
    /// Where objects come from: cache:FOLDER, or store:
    #[arg(long, value_name = "WHERE", default_value = "store:")]
    pub from: String,
    /// What is written: oci:FOLDER[:TAG], or oci-archive:FILE[:TAG]
    #[arg(long, value_name = "WHAT")]
    pub output: String,
    /// How the automaton is carried
    #[arg(long, value_enum, default_value = "image")]
    pub form: FormName,
    /// How layers are compressed
    #[arg(long, value_enum, default_value = "gzip")]
    pub compress: CompressionName,
    /// Sign it with the secret key in this file
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,
    /// Give inputs of the declaration the digests that they lack
    #[arg(long)]
    pub pin: bool,
}

/// Names of [`Form`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormName {
    /// as an image that any engine can run
    Image,
    /// as NARs
    Artifact,
    /// as both, in an index
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

/// Names of [`Compression`] that are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressionName {
    /// not at all
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
pub struct SignArgs {
    /// The automaton: oci:FOLDER[:TAG], or oci-archive:FILE[:TAG]
    #[arg(value_name = "ref")]
    pub reference: String,
    /// The file with the secret key
    #[arg(value_name = "keyfile")]
    pub key: PathBuf,
}

// `emergence same`.
#[derive(Args, Debug)]
pub struct SameArgs {
    /// An automaton
    #[arg(value_name = "ref")]
    pub one: String,
    /// Another one
    #[arg(value_name = "ref")]
    pub other: String,
}
