//! Options of the verbs that take artifacts.

use std::path::PathBuf;

use clap::Args;

use crate::emergence::Compression;
use crate::emergence::oci::Platform;

// What is said of a NAR.
#[derive(Args, Debug, Default)]
pub struct DeclaredArgs {
    /// Store path of a NAR
    #[arg(long, value_name = "PATH", conflicts_with = "narinfo")]
    pub store_path: Option<String>,
    /// Hash of a NAR
    #[arg(long, value_name = "HASH", conflicts_with = "narinfo")]
    pub nar_hash: Option<String>,
    /// Size of a NAR in bytes
    #[arg(long, value_name = "BYTES", conflicts_with = "narinfo")]
    pub nar_size: Option<u64>,
    /// A store path that the NAR refers to (may be repeated)
    #[arg(long = "ref", value_name = "PATH", requires = "store_path")]
    pub references: Vec<String>,
    /// Content address of a NAR
    #[arg(long, value_name = "CA", requires = "store_path")]
    pub ca: Option<String>,
    /// Signature of a NAR (may be repeated)
    #[arg(long = "sig", value_name = "NAME:BASE64", requires = "store_path")]
    pub signatures: Vec<String>,
    /// How a NAR is compressed, where its first bytes and its name do not tell: none, xz, zstd, gzip, bzip2, brotli
    #[arg(long, value_name = "NAME", value_parser = compression)]
    pub compression: Option<Compression>,
    /// Description of a NAR [default: the file beside it with .narinfo behind its name]
    #[arg(long, value_name = "FILE")]
    pub narinfo: Option<PathBuf>,
}

fn compression(text: &str) -> Result<Compression, String> {
    let name = if text == "brotli" { "br" } else { text };
    Compression::named(name).ok_or_else(|| "must be none, xz, zstd, gzip, bzip2 or brotli".into())
}

// Which image of several, and how it is read.
#[derive(Args, Debug, Default)]
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
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    /// Refuse an image that has a path twice in one layer
    #[arg(long)]
    pub strict: bool,
    /// Make a new folder of it, instead of keeping it in the store
    #[arg(long, value_name = "DEST")]
    pub to: Option<PathBuf>,
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
}

// `emergence inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
}

// `emergence verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    /// Refuse an image that has a path twice in one layer
    #[arg(long)]
    pub strict: bool,
    /// Test constraints against the machine that this file tells of, as the node verb prints it
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// The artifact: oci:FOLDER:TAG, oci-archive:FILE:TAG, nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
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
