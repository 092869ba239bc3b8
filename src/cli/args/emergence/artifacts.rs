//! Options of the verbs that take artifacts.

use std::path::PathBuf;

use clap::Args;

// `emergence verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
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
    /// Description of a NAR [default: the file beside it with .narinfo behind its name]
    #[arg(long, value_name = "FILE")]
    pub narinfo: Option<PathBuf>,
    /// The artifact: nar:FILE, or cache:FOLDER#OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
}
