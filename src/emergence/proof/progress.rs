//! Visitors that report progress and limit it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::terms::{Terms, Watch};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::nar::Visitor;

/// Reports the bytes of files to the watcher.
pub(crate) struct ReportProgress<'a>(pub &'a dyn Watch);

impl Visitor for ReportProgress<'_> {
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.advance(bytes.len() as u64);
        Ok(())
    }
}

/// Reports the bytes of files, and counts the entries of all trees that share the count.
pub(crate) struct Counted<'a> {
    entries: &'a AtomicU64,
    most: u64,
    watch: &'a dyn Watch,
}

impl<'a> Counted<'a> {
    /// Refuses more entries than the terms allow (`limit.entries`).
    pub(crate) fn new(entries: &'a AtomicU64, terms: &'a Terms) -> Self {
        Self { entries, most: terms.limits.entries, watch: &*terms.watch }
    }

    fn count_entry(&self) -> Result<()> {
        if self.entries.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(());
        }
        let words = format!("there are more than {} entries", self.most);
        Err(Fault::refused(Code::LimitEntries, "", words))
    }
}

impl Visitor for Counted<'_> {
    fn directory(&mut self, _name: &[u8]) -> Result<()> {
        self.count_entry()
    }

    fn file(&mut self, _name: &[u8], _executable: bool, _size: u64) -> Result<()> {
        self.count_entry()
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.watch.advance(bytes.len() as u64);
        Ok(())
    }

    fn symlink(&mut self, _name: &[u8], _target: &[u8]) -> Result<()> {
        self.count_entry()
    }
}
