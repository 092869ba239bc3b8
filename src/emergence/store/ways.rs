//! How files and folders of objects are made.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fchmod, futimens, openat};

use super::links::{self, Links};
use crate::emergence::base::files::{TIMES, Task};
use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::refusal::Result;
use crate::error::Doing;

/// How files are made.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    /// Where files that are the same are found.
    pub links: Option<&'a Links>,
    /// Whether the umask takes away what files need.
    pub chmod: bool,
}

impl Ways<'_> {
    /// A new file, which has its mode already.
    pub(super) fn create(
        &self,
        at: &impl AsFd,
        name: &CString,
        executable: bool,
    ) -> rustix::io::Result<File> {
        let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(at, name, flags, mode)?;
        if self.chmod {
            fchmod(&file, mode)?;
        }
        Ok(file.into())
    }

    /// A small file, all of which is there: one more name of one that is the same, or a new one that others may use.
    pub(super) fn whole(&self, at: &impl AsFd, name: &CString, executable: bool, bytes: &[u8]) -> Result<()> {
        let doing = || format!("make the file {}", name.to_string_lossy());
        let hash = self.links.map(|links| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(bytes);
            (links, hasher.finish())
        });
        if let Some((links, hash)) = &hash
            && links::doing(links.reuse(hash, executable, at.as_fd(), name))?
        {
            return Ok(());
        }
        let mut file = self.create(at, name, executable).doing(doing)?;
        file.write_all(bytes).doing(doing)?;
        self.settle(at, name, executable, file, hash)
    }

    /// A file that is whole gets its time, and others may use it.
    fn settle(
        &self,
        at: &impl AsFd,
        name: &CString,
        executable: bool,
        file: File,
        hash: Option<(&Links, Hash)>,
    ) -> Result<()> {
        futimens(&file, &TIMES).doing(|| format!("set the time of {}", name.to_string_lossy()))?;
        drop(file);
        match hash {
            Some((links, hash)) => links::doing(links.keep(at.as_fd(), name, &hash, executable)),
            None => Ok(()),
        }
    }
}

/// A folder that files are made in. It is closed by whoever is the last to use it.
pub(super) struct Folder(pub(super) OwnedFd);

/// Gives up a folder. The last one to do so closes it.
pub(super) fn leave(folder: Arc<Folder>) -> Result<()> {
    if let Some(Folder(folder)) = Arc::into_inner(folder) {
        fchmod(&folder, Mode::from_raw_mode(0o555)).doing(|| "set the mode of a folder")?;
        futimens(&folder, &TIMES).doing(|| "set the time of a folder")?;
    }
    Ok(())
}

impl Ways<'_> {
    /// Makes a file of a crew's.
    pub(super) fn task(&self, task: Task<Folder>) -> Result<Vec<u8>> {
        let Task { folder, name, executable, bytes } = task;
        self.whole(&folder.0, &name, executable, &bytes)?;
        leave(folder)?;
        Ok(bytes)
    }
}
