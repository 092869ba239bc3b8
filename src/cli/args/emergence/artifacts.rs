//! Options of the verbs that take artifacts.

use std::path::PathBuf;

use clap::Args;

use crate::emergence::Compression;
use crate::emergence::oci::Platform;

// Which of what a REF names is meant, and what is known of it.
#[derive(Args, Clone, Debug, Default)]
pub struct ArtifactArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
}

/// What the options about one are called in help: few need them.
const NAR: &str = "A NAR BY ITSELF";

// What is said of a NAR.
#[derive(Args, Clone, Debug, Default)]
pub struct DeclaredArgs {
    /// Its store path
    #[arg(long, value_name = "PATH", conflicts_with = "narinfo", help_heading = NAR)]
    pub store_path: Option<String>,
    /// Its hash
    #[arg(long, value_name = "HASH", conflicts_with = "narinfo", help_heading = NAR)]
    pub nar_hash: Option<String>,
    /// Its size in bytes
    #[arg(long, value_name = "BYTES", conflicts_with = "narinfo", help_heading = NAR)]
    pub nar_size: Option<u64>,
    /// A store path that it refers to (may be repeated)
    #[arg(long = "ref", value_name = "PATH", requires = "store_path", help_heading = NAR)]
    pub references: Vec<String>,
    /// Its content address
    #[arg(long, value_name = "CA", requires = "store_path", help_heading = NAR)]
    pub ca: Option<String>,
    /// A signature of it (may be repeated)
    #[arg(long = "sig", value_name = "NAME:BASE64", requires = "store_path", help_heading = NAR)]
    pub signatures: Vec<String>,
    /// How it is compressed, where its first bytes and its name do not tell: none, xz, zstd, gzip, bzip2, brotli
    #[arg(long, value_name = "NAME", value_parser = compression, help_heading = NAR)]
    pub compression: Option<Compression>,
    /// What else tells all this [default: the file beside it with .narinfo behind its name]
    #[arg(long, value_name = "FILE", help_heading = NAR)]
    pub narinfo: Option<PathBuf>,
}

fn compression(text: &str) -> Result<Compression, String> {
    let name = if text == "brotli" { "br" } else { text };
    Compression::named(name).ok_or_else(|| "must be none, xz, zstd, gzip, bzip2 or brotli".into())
}

// Which image of several.
#[derive(Args, Clone, Debug, Default)]
pub struct PlatformArgs {
    /// Take what an index has for this platform [default: this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub platform: Option<Platform>,
}

fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text).ok_or_else(|| "must be OS/ARCH or OS/ARCH/VARIANT".into())
}

// `emergence unpack`.
#[derive(Args, Debug)]
pub struct UnpackArgs {
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Refuse an image that has a path twice in one layer
    #[arg(long)]
    pub strict: bool,
    /// Make a new folder of it, instead of keeping it in the store
    #[arg(long, value_name = "DEST")]
    pub to: Option<PathBuf>,
}

// `emergence inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
}

// `emergence verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Refuse an image that has a path twice in one layer
    #[arg(long)]
    pub strict: bool,
    /// Test constraints against the machine that this file tells of, as the node verb prints it
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
}

impl DeclaredArgs {
    /// Whether anything is said.
    pub fn said(&self) -> bool {
        self.store_path.is_some()
            || self.nar_hash.is_some()
            || self.nar_size.is_some()
            || self.compression.is_some()
            || self.narinfo.is_some()
    }
}
