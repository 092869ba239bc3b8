//! Other records of a store: documents of automata, outputs of declarations, and objects by
//! content.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, Sync};
use crate::emergence::base::bounded::{open_file, read_document};
use crate::emergence::base::files::{Staging, open_directory};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::store_path::StorePath;
use crate::error::Doing;

impl Store {
    /// The directory of image layers, each in a directory named by its chain ID.
    pub fn layers(&self) -> PathBuf {
        self.directory.join("layers")
    }

    /// Runs `work` with a staging directory. Results must be renamed out of it; everything left in
    /// it is deleted.
    pub fn staged<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        Staging::with(&self.directory.join("tmp"), |staging| work(staging.path()))
    }

    /// Flushes the file system of `directory` to disk, if [`Sync::Data`] is set.
    pub fn settle(&self, directory: &Path) -> Result<()> {
        match self.sync {
            Sync::None => Ok(()),
            Sync::Data => {
                Ok(rustix::fs::syncfs(open_directory(directory)?).doing(|| "write everything to the disk")?)
            }
        }
    }

    /// Writes a small file atomically, replacing an existing one.
    pub(super) fn put(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        self.staged(|directory| {
            let new = directory.join("new");
            fs::write(&new, bytes).doing(|| format!("write {}", new.display()))?;
            Ok(fs::rename(&new, to).doing(|| format!("rename {} to {}", new.display(), to.display()))?)
        })
    }

    fn automaton_file(&self, automaton: &Hash) -> PathBuf {
        self.directory.join("automatons").join(format!("{}.json", automaton.hex()))
    }

    /// Stores the document of an automaton under its digest A. It must have a member `objects`, a
    /// list of store paths: gc deletes the document when one of them is missing.
    pub fn put_automaton(&self, automaton: &Hash, document: &[u8]) -> Result<()> {
        match self.automaton(automaton)? {
            Some(existing) if existing == document => Ok(()),
            _ => self.put(&self.automaton_file(automaton), document),
        }
    }

    /// The document of an automaton. `None`: the store does not have it.
    pub fn automaton(&self, automaton: &Hash) -> Result<Option<Vec<u8>>> {
        let path = self.automaton_file(automaton);
        open_file(&path)?.map(|file| read_document(file, &path.display().to_string())).transpose()
    }

    /// Records that the declaration D produced the output O.
    pub fn note_declaration(&self, declaration: &Hash, output: &Hash) -> Result<()> {
        let _commit = self.commit_lock()?;
        self.note(&self.directory.join("declarations").join(declaration.hex()), &output.to_string())
    }

    /// The recorded outputs of the declaration D.
    pub fn declaration(&self, declaration: &Hash) -> Result<Vec<String>> {
        self.lines(&self.directory.join("declarations").join(declaration.hex()))
    }

    /// Records that an object has this content. The caller holds the commit lock.
    pub(super) fn note_content(&self, content: &Hash, object: &StorePath) -> Result<()> {
        self.note(&self.directory.join("content").join(content.hex()), &object.to_string())
    }

    /// Existing objects with this content.
    pub fn with_content(&self, content: &Hash) -> Result<Vec<StorePath>> {
        let mut found = Vec::new();
        for line in self.lines(&self.directory.join("content").join(content.hex()))? {
            let path = StorePath::parse(&line)?;
            if self.meta(&path)?.is_some_and(|meta| meta.content == *content) {
                found.push(path);
            }
        }
        Ok(found)
    }

    pub(super) fn lines(&self, path: &Path) -> Result<Vec<String>> {
        let Some(file) = open_file(path)? else { return Ok(Vec::new()) };
        let text = read_document(file, &path.display().to_string())?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Adds a line unless it already exists.
    fn note(&self, path: &Path, line: &str) -> Result<()> {
        let mut lines = self.lines(path)?;
        if lines.iter().any(|existing| existing == line) {
            return Ok(());
        }
        lines.push(line.to_owned());
        self.put(path, (lines.join("\n") + "\n").as_bytes())
    }
}
