//! `emergence node`.

use super::{Asked, store_folder};
use crate::cli::output;
use crate::emergence::{Node, Result};
use crate::error::Doing;

/// Prints the facts of this machine, as JSON whether that was asked for or not.
pub(super) fn node(asked: &Asked) -> Result<()> {
    let node = Node::here(&store_folder(asked)?)?;
    let text = if asked.json { serde_json::to_string(&node) } else { serde_json::to_string_pretty(&node) };
    let text = text.map_err(std::io::Error::from).doing(|| "write the document")?;
    Ok(output::print(&format!("{text}\n"))?)
}
