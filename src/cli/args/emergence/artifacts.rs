//! Options of the verbs that take artifacts.

use std::path::PathBuf;

use clap::Args;

use crate::emergence::Compression;
use crate::emergence::oci::Platform;

// Selects an artifact from an index, and declares facts about a NAR.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ArtifactArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
}

/// Heading in help of options that only a single NAR needs.
const NAR: &str = "OPTIONS FOR A SINGLE NAR";

// Declarations about a single NAR.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DeclaredArgs {
    /// Store path of the NAR
    #[arg(long, value_name = "PATH", conflicts_with = "narinfo", help_heading = NAR)]
    pub store_path: Option<String>,
    /// Hash of the NAR
    #[arg(long, value_name = "HASH", conflicts_with = "narinfo", help_heading = NAR)]
    pub nar_hash: Option<String>,
    /// Size of the NAR in bytes
    #[arg(long, value_name = "BYTES", conflicts_with = "narinfo", help_heading = NAR)]
    pub nar_size: Option<u64>,
    /// Store path that the NAR refers to (may be repeated)
    #[arg(long = "ref", value_name = "PATH", requires = "store_path", help_heading = NAR)]
    pub references: Vec<String>,
    /// Content address of the NAR
    #[arg(long, value_name = "CA", requires = "store_path", help_heading = NAR)]
    pub ca: Option<String>,
    /// Signature of the NAR (may be repeated)
    #[arg(long = "sig", value_name = "NAME:BASE64", requires = "store_path", help_heading = NAR)]
    pub signatures: Vec<String>,
    /// Compression, if it cannot be detected: none, xz, zstd, gzip, bzip2 or brotli
    #[arg(long, value_name = "NAME", value_parser = compression, help_heading = NAR)]
    pub compression: Option<Compression>,
    /// narinfo file with these values [default: NAR.narinfo next to the NAR, if present]
    #[arg(long, value_name = "FILE", help_heading = NAR)]
    pub narinfo: Option<PathBuf>,
}

fn compression(text: &str) -> Result<Compression, String> {
    let name = if text == "brotli" { "br" } else { text };
    Compression::named(name).ok_or_else(|| "must be none, xz, zstd, gzip, bzip2 or brotli".into())
}

// Selects an image from an index.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlatformArgs {
    /// Platform to select from an image index [default: this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub platform: Option<Platform>,
}

fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text).ok_or_else(|| "must be OS/ARCH or OS/ARCH/VARIANT".into())
}

// `emergence unpack`.
#[derive(Args, Debug)]
pub(crate) struct UnpackArgs {
    /// The artifact: oci:DIR:TAG, oci-archive:FILE:TAG, nar:FILE, cache:DIR#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Reject an image with a duplicate path in one layer
    #[arg(long)]
    pub strict: bool,
    /// Unpack into this new directory instead of the store
    #[arg(long, value_name = "DEST")]
    pub to: Option<PathBuf>,
    /// Check constraints against the machine described in FILE (output of the node verb), or not at all: none
    #[arg(long, value_name = "FILE|none")]
    pub node: Option<PathBuf>,
}

// `emergence inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The artifact: oci:DIR:TAG, oci-archive:FILE:TAG, nar:FILE, cache:DIR#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub platform: PlatformArgs,
}

// `emergence verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The artifact: oci:DIR:TAG, oci-archive:FILE:TAG, nar:FILE, cache:DIR#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub artifact: ArtifactArgs,
    /// Reject an image with a duplicate path in one layer
    #[arg(long)]
    pub strict: bool,
    /// Check constraints against the machine described in FILE (output of the node verb)
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
}

impl DeclaredArgs {
    /// Whether anything is declared.
    pub(crate) fn given(&self) -> bool {
        self.store_path.is_some()
            || self.nar_hash.is_some()
            || self.nar_size.is_some()
            || self.compression.is_some()
            || self.narinfo.is_some()
    }
}
