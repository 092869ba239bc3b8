//! Creates the files and directories of objects.

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

/// Options for creating files.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    /// Where identical files are found.
    pub links: Option<&'a Links>,
    /// Whether the umask removes mode bits that files need.
    pub chmod: bool,
}

impl Ways<'_> {
    /// Creates a file with its final mode.
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

    /// Creates a small file with all its content: as a link to an existing identical file, or as a
    /// new one that others may link to.
    pub(super) fn create_small_file(
        &self,
        at: &impl AsFd,
        name: &CString,
        executable: bool,
        bytes: &[u8],
    ) -> Result<()> {
        let doing = || format!("create the file {}", name.to_string_lossy());
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

    /// Sets the timestamp of a complete file, and lets others link to it.
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

/// A directory that files are created in. Its last user completes it with [`leave`].
pub(super) struct Directory(pub(super) OwnedFd);

/// Releases a directory. The last release sets its mode and its timestamp.
pub(super) fn leave(directory: Arc<Directory>) -> Result<()> {
    if let Some(Directory(directory)) = Arc::into_inner(directory) {
        fchmod(&directory, Mode::from_raw_mode(0o555)).doing(|| "set the mode of a directory")?;
        futimens(&directory, &TIMES).doing(|| "set the time of a directory")?;
    }
    Ok(())
}

impl Ways<'_> {
    /// Creates a file as a task of a crew.
    pub(super) fn task(&self, task: Task<Directory>) -> Result<Vec<u8>> {
        let Task { directory, name, executable, bytes } = task;
        self.create_small_file(&directory.0, &name, executable, &bytes)?;
        leave(directory)?;
        Ok(bytes)
    }
}
