//! `emergence node`.

use std::path::Path;

use super::asked::{Asked, open};
use super::destination::store_folder;
use crate::cli::output;
use crate::emergence::{Node, Result, read_document};
use crate::error::Doing;

/// Prints the facts of this machine, as JSON whether that was asked for or not.
pub(super) fn node(asked: &Asked) -> Result<()> {
    let node = here(asked)?;
    let text = if asked.json { serde_json::to_string(&node) } else { serde_json::to_string_pretty(&node) };
    let text = text.map_err(std::io::Error::from).doing(|| "write the document")?;
    Ok(output::print(&format!("{text}\n"))?)
}

/// This machine; its disk is the one that the store is on, or for who has none the root's.
fn here(asked: &Asked) -> Result<Node> {
    Node::here(&store_folder(asked).unwrap_or_else(|_| "/".into()))
}

/// The machine that constraints are tested against: the one that a file tells of, or this one.
pub(super) fn machine(file: Option<&Path>, asked: &Asked) -> Result<Node> {
    let Some(file) = file else { return here(asked) };
    let subject = file.display().to_string();
    Node::parse(&read_document(open(file)?, &subject)?, &subject)
}
