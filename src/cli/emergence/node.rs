//! `emergence node`.

use std::path::{Path, PathBuf};

use super::common::{CommonOptions, open};
use super::destination::store_directory;
use crate::cli::output;
use crate::emergence::launch::{Machine, test_constraints};
use crate::emergence::{Closure, Node, Result, read_document};
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

/// Tests the constraints of an artifact that is unpacked or imported, as for `run`. With the file
/// name `none`, which stocks a store for other machines, nothing is tested.
pub(super) fn test_for(file: Option<&Path>, closure: &dyn Closure, options: &CommonOptions) -> Result<()> {
    let wanted = file.is_none_or(|file| file != Path::new("none"));
    if let Some(document) = closure.document().filter(|_| wanted) {
        test_constraints(document, &machine(file, options)?, &|line| options.note(line))?;
    }
    Ok(())
}

/// The machine that constraints are tested against: the one described in a file, or this one.
pub(super) fn machine(file: Option<&Path>, options: &CommonOptions) -> Result<Machine> {
    let Some(file) = file else { return Ok(Machine::Here { disk: disk(options) }) };
    let subject = file.display().to_string();
    Ok(Machine::Described(Box::new(Node::parse(&read_document(open(file)?, &subject)?, &subject)?)))
}
