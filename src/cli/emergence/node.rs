//! `emergence node`.

use std::path::{Path, PathBuf};

use super::common::{CommonOptions, open};
use super::destination::store_directory;
use crate::cli::output;
use crate::emergence::launch::Machine;
use crate::emergence::{Node, Result, read_document};
use crate::error::Doing;

/// Prints the facts of this machine, always as JSON.
pub(super) fn node(options: &CommonOptions) -> Result<()> {
    let node = Node::here(&disk(options))?;
    let text = if options.json { serde_json::to_string(&node) } else { serde_json::to_string_pretty(&node) };
    let text = text.map_err(std::io::Error::from).doing(|| "write the document")?;
    Ok(output::print(&format!("{text}\n"))?)
}

/// The directory whose file system is the disk of this machine: the store, or the root if the
/// store's directory is unknown.
fn disk(options: &CommonOptions) -> PathBuf {
    store_directory(options).unwrap_or_else(|_| "/".into())
}

/// The machine that constraints are tested against: the one described in a file, or this one.
pub(super) fn machine(file: Option<&Path>, options: &CommonOptions) -> Result<Machine> {
    let Some(file) = file else { return Ok(Machine::Here { disk: disk(options) }) };
    let subject = file.display().to_string();
    Ok(Machine::Described(Box::new(Node::parse(&read_document(open(file)?, &subject)?, &subject)?)))
}
