//! What a store keeps besides objects: documents of automatons, what declarations led to, which objects have the same content.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, Sync};
use crate::emergence::base::bounded::{open_file, read_document};
use crate::emergence::base::files::{Staging, open_folder};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::store_path::StorePath;
use crate::error::Doing;

impl Store {
    /// Where the layers of images are, each in a folder of the name of its chain ID.
    pub fn layers(&self) -> PathBuf {
        self.folder.join("layers")
    }

    /// Where something can be made before it has its name: it must be renamed from there, and what is left of it goes.
    pub fn staged<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        Staging::with(&self.folder.join("tmp"), |staging| work(staging.path()))
    }

    /// Writes what was made in `folder` to the disk, if that is to be done before it has its name.
    pub fn settle(&self, folder: &Path) -> Result<()> {
        match self.sync {
            Sync::None => Ok(()),
            Sync::Data => {
                Ok(rustix::fs::syncfs(open_folder(folder)?).doing(|| "write everything to the disk")?)
            }
        }
    }

    /// Writes a small file, whole or not at all, in place of one that may be there.
    pub(super) fn put(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        self.staged(|folder| {
            let new = folder.join("new");
            fs::write(&new, bytes).doing(|| format!("write {}", new.display()))?;
            Ok(fs::rename(&new, to).doing(|| format!("rename {} to {}", new.display(), to.display()))?)
        })
    }

    fn automaton_file(&self, automaton: &Hash) -> PathBuf {
        self.folder.join("automatons").join(format!("{}.json", automaton.hex()))
    }

    /// Keeps the document of an automaton by its digest A. It must have a member `objects`, a list of store paths: when one of them is
    /// taken away, the document goes too.
    pub fn put_automaton(&self, automaton: &Hash, document: &[u8]) -> Result<()> {
        match self.automaton(automaton)? {
            Some(there) if there == document => Ok(()),
            _ => self.put(&self.automaton_file(automaton), document),
        }
    }

    /// The document of an automaton. `None`: the store does not have it.
    pub fn automaton(&self, automaton: &Hash) -> Result<Option<Vec<u8>>> {
        let path = self.automaton_file(automaton);
        open_file(&path)?.map(|file| read_document(file, &path.display().to_string())).transpose()
    }

    /// Notes that the declaration D led to the output O.
    pub fn note_declaration(&self, declaration: &Hash, output: &Hash) -> Result<()> {
        let _commit = self.commit_lock()?;
        self.note(&self.folder.join("declarations").join(declaration.hex()), &output.to_string())
    }

    /// The outputs that the declaration D led to, as they were noted.
    pub fn declaration(&self, declaration: &Hash) -> Result<Vec<String>> {
        self.lines(&self.folder.join("declarations").join(declaration.hex()))
    }

    /// Notes that an object has this content. Who calls it holds the commit lock.
    pub(super) fn note_content(&self, content: &Hash, object: &StorePath) -> Result<()> {
        self.note(&self.folder.join("content").join(content.hex()), &object.to_string())
    }

    /// Objects that have this content, as far as they are still there.
    pub fn with_content(&self, content: &Hash) -> Result<Vec<StorePath>> {
        let mut found = Vec::new();
        for line in self.lines(&self.folder.join("content").join(content.hex()))? {
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

    /// Adds a line that is not there yet.
    fn note(&self, path: &Path, line: &str) -> Result<()> {
        let mut lines = self.lines(path)?;
        if lines.iter().any(|there| there == line) {
            return Ok(());
        }
        lines.push(line.to_owned());
        self.put(path, (lines.join("\n") + "\n").as_bytes())
    }
}
