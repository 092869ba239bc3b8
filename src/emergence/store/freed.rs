//! Bytes that deleting trees would free: those of files without links elsewhere.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Store;
use super::directory::names;
use crate::emergence::base::refusal::Result;
use crate::error::Doing;

/// A file with several links.
struct File {
    size: u64,
    /// Links that were not found in the trees yet.
    elsewhere: u64,
}

impl Store {
    /// Bytes of files that only these trees have. The link in the store's `links` directory does
    /// not count: gc removes it with the last tree that has the file. Missing trees count as 0
    /// bytes.
    pub(super) fn weight(&self, trees: impl Iterator<Item = PathBuf>) -> Result<u64> {
        let mut left: Vec<PathBuf> = trees.filter(|tree| fs::symlink_metadata(tree).is_ok()).collect();
        let mut files: HashMap<(u64, u64), File> = HashMap::new();
        let mut free = 0;
        while let Some(path) = left.pop() {
            let kind = fs::symlink_metadata(&path).doing(|| format!("stat {}", path.display()))?;
            if kind.is_dir() {
                let doing = || format!("read {}", path.display());
                for entry in fs::read_dir(&path).doing(doing)? {
                    left.push(entry.doing(doing)?.path());
                }
            } else if kind.nlink() == 1 {
                free += kind.size();
            } else {
                let new = File { size: kind.size(), elsewhere: kind.nlink() };
                let file = files.entry((kind.dev(), kind.ino())).or_insert(new);
                file.elsewhere = file.elsewhere.saturating_sub(1);
            }
        }
        let links = self.directory.join("links");
        for name in names(&links)? {
            let path = links.join(name);
            let kind = fs::symlink_metadata(&path).doing(|| format!("stat {}", path.display()))?;
            match files.get_mut(&(kind.dev(), kind.ino())) {
                Some(file) => file.elsewhere = file.elsewhere.saturating_sub(1),
                None if kind.nlink() == 1 => free += kind.size(),
                None => {}
            }
        }
        Ok(free + files.values().filter(|file| file.elsewhere == 0).map(|file| file.size).sum::<u64>())
    }
}
