//! Options of `mounts`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::pages::page;

// `mounts`.
#[derive(Args, Debug)]
pub(crate) struct MountsArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: MountsAction,
}

// What `mounts` does.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "COMMANDS")]
#[allow(missing_docs)] // a comment would become the command's line in help
pub(crate) enum MountsAction {
    /// add mounts to a running container
    #[command(help_template = page!(" mounts add", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Add(MountsFile),
    /// remove mounts from a running container
    #[command(help_template = page!(" mounts remove", "ARGUMENTS:\n{positionals}\n\nOPTIONS:\n{options}"))]
    Remove(MountsFile),
}

// `mounts add` and `mounts remove`.
#[derive(Args, Debug)]
pub(crate) struct MountsFile {
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// JSON file: the list of mounts as in config.json, or an object with that list as "mounts"
    #[arg(value_name = "file")]
    pub file: PathBuf,
}
