//! Options of the verbs that take artifacts.

use std::path::PathBuf;

use clap::Args;

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
    /// Description of a NAR [default: the file beside it with .narinfo behind its name]
    #[arg(long, value_name = "FILE")]
    pub narinfo: Option<PathBuf>,
}

// `emergence verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub declared: DeclaredArgs,
    /// The artifact: nar:FILE, cache:FOLDER#OBJECT, or store:OBJECT
    #[arg(value_name = "ref")]
    pub reference: String,
}

impl DeclaredArgs {
    /// Whether anything is said.
    pub fn said(&self) -> bool {
        self.store_path.is_some()
            || self.nar_hash.is_some()
            || self.nar_size.is_some()
            || self.narinfo.is_some()
    }
}
