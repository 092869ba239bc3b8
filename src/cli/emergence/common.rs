//! The options common to all subcommands, their output, and the files that they name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::progress::Bar;
use crate::cli::output;
use crate::emergence::{Allow, Fault, Result, StoreDir, Sync, Terms};
use crate::error::{Doing, Error, Kind};

/// The options common to all subcommands.
#[derive(Clone)]
pub(super) struct CommonOptions {
    /// The terms for every artifact.
    pub terms: Terms,
    /// The artifacts that the policy allows.
    pub allow: Allow,
    /// The value of `--store`.
    pub(super) store: Option<PathBuf>,
    pub(super) lock_timeout: Duration,
    pub(super) sync: Sync,
    pub(super) json: bool,
    pub(super) bar: Option<Arc<Bar>>,
}

impl CommonOptions {
    /// The same options with other terms.
    pub(super) fn with_terms(&self, terms: Terms) -> Self {
        Self { terms, ..self.clone() }
    }

    /// The value of `--store-dir`.
    pub(super) fn dir(&self) -> &StoreDir {
        &self.terms.dir
    }

    /// Prints a line for the user in addition to the result.
    pub(super) fn note(&self, line: &str) {
        self.clear();
        eprintln!("{line}");
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.clear();
        }
    }

    /// Prints a result: the lines, or with JSON output the object.
    pub(super) fn answer(&self, lines: &str, object: impl FnOnce() -> Value) -> Result<()> {
        self.clear();
        let text = if self.json { format!("{}\n", object()) } else { format!("{lines}\n") };
        Ok(output::print(&text)?)
    }

    /// Prints a result that is a document, indented for people.
    pub(super) fn document(&self, document: &Value) -> Result<()> {
        self.clear();
        let text = if self.json { document.to_string() } else { format!("{document:#}") };
        Ok(output::print(&format!("{text}\n"))?)
    }

    /// As [`CommonOptions::answer`], for any number of lines.
    pub(super) fn answer_lines(&self, lines: &[String], object: impl FnOnce() -> Value) -> Result<()> {
        if lines.is_empty() && !self.json { Ok(()) } else { self.answer(&lines.join("\n"), object) }
    }
}

/// Opens a file of the command line; `-` is standard input.
pub(super) fn open(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        let input = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
        return Ok(input.doing(|| "use standard input")?.into());
    }
    File::open(path).map_err(|error| missing(path, error))
}

/// ENOENT becomes `Kind::NotFound`, any other error `Kind::System`.
pub(super) fn missing(path: &Path, error: std::io::Error) -> Fault {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::System };
    Error::from(error).of_kind(kind).within(format!("open {}", path.display())).into()
}

/// The last component of a path, as the name of an object.
pub(super) fn last_part(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    name.ok_or_else(|| Fault::usage(format!("{}: give a --name", path.display())))
}
