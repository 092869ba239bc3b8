//! Records the blobs that the image layers in the store were decompressed from. Only such a blob
//! need not be decompressed again: an artifact can declare any diffID for any blob.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Store;
use super::directory::names;
use crate::emergence::base::refusal::{Fault, Result};
use crate::error::Doing;

/// Maximum number of blobs recorded for one directory; the oldest are forgotten. It is above the
/// number of layers of an image, and its file is below the size limit of a document.
const MOST: usize = 4000;

impl Store {
    fn layer_blobs_directory(&self) -> PathBuf {
        self.directory.join("layer-blobs")
    }

    /// The recorded blobs of the directory `name` in [`Store::layers`].
    pub fn layer_blobs(&self, name: &str) -> Result<BTreeSet<String>> {
        Ok(self.lines(&self.layer_blobs_directory().join(name))?.into_iter().collect())
    }

    /// Records that these `blobs` were decompressed and have the content of the directory `name` in
    /// [`Store::layers`]. A store that this process cannot write stays as it is: the blobs are then
    /// decompressed the next time too.
    pub fn note_layer_blobs(&self, name: &str, blobs: impl Iterator<Item = String>) -> Result<()> {
        let known = self.layer_blobs(name)?;
        let new: Vec<String> = blobs.filter(|blob| !known.contains(blob)).collect();
        match if new.is_empty() { Ok(()) } else { self.add_layer_blobs(name, &new) } {
            Err(Fault::Failed(error))
                if [libc::EROFS, libc::EACCES, libc::EPERM].map(Some).contains(&error.errno()) =>
            {
                Ok(())
            }
            noted => noted,
        }
    }

    fn add_layer_blobs(&self, name: &str, new: &[String]) -> Result<()> {
        let _commit = self.commit_lock()?;
        let directory = self.layer_blobs_directory();
        fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        let path = directory.join(name);
        let mut lines = self.lines(&path)?;
        lines.extend_from_slice(new);
        let oldest = lines.len().saturating_sub(MOST);
        lines.drain(..oldest);
        self.put(&path, (lines.join("\n") + "\n").as_bytes())
    }

    /// Deletes the records of deleted layers. A store may have no records.
    pub(super) fn tidy_layer_blobs(&self) -> Result<()> {
        let directory = self.layer_blobs_directory();
        let exists = |path: &Path| path.try_exists().doing(|| format!("stat {}", path.display()));
        if !exists(&directory)? {
            return Ok(());
        }
        for name in names(&directory)? {
            if !exists(&self.layers().join(&name))? {
                let path = directory.join(name);
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
