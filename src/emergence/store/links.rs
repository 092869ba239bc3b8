//! One inode for each distinct file: its name is the hash of its bytes, with `-x` behind it when it can be executed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, linkat, renameat};
use rustix::io::Errno;

use super::folder::names;
use super::staging::open_folder;
use crate::emergence::hash::Hash;
use crate::emergence::refusal::Result;
use crate::error::{Doing, Error};

/// The files of a store, and those that are new in a staging folder. The new ones join the others only when they are on the disk.
pub(super) struct Links {
    kept: OwnedFd,
    new: OwnedFd,
    new_path: PathBuf,
    /// How many files were made that were there already.
    same: AtomicU64,
}

/// The name of a file.
pub(super) fn name(hash: &Hash, executable: bool) -> CString {
    let name = hash.nix32() + if executable { "-x" } else { "" };
    CString::new(name).unwrap_or_default()
}

impl Links {
    /// Those of `kept`, and new ones in `new`.
    pub(super) fn open(kept: &Path, new: &Path) -> Result<Self> {
        Ok(Self {
            kept: open_folder(kept)?,
            new: open_folder(new)?,
            new_path: new.to_owned(),
            same: AtomicU64::new(0),
        })
    }

    /// Makes the file `to` in `at` one that is there already. False: none is, or none that could have one more name.
    pub(super) fn reuse(&self, file: &CString, at: BorrowedFd<'_>, to: &CString) -> rustix::io::Result<bool> {
        for from in [self.kept.as_fd(), self.new.as_fd()] {
            match linkat(from, file, at, to, AtFlags::empty()) {
                Ok(()) => return Ok(true),
                // The most names that a file may have: another inode begins.
                Err(Errno::NOENT | Errno::MLINK) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Puts one that is there already in the place of a file that was made. False: none is.
    pub(super) fn replace(
        &self,
        file: &CString,
        at: BorrowedFd<'_>,
        to: &CString,
    ) -> rustix::io::Result<bool> {
        let number = self.same.fetch_add(1, Ordering::Relaxed);
        // No hash is written so.
        let between = CString::new(format!(".{number}")).unwrap_or_default();
        if !self.reuse(file, self.new.as_fd(), &between)? {
            return Ok(false);
        }
        renameat(&self.new, &between, at, to)?;
        Ok(true)
    }

    /// Keeps the file `from` in `at` as the one of its content.
    pub(super) fn keep(&self, at: BorrowedFd<'_>, from: &CString, file: &CString) -> rustix::io::Result<()> {
        match linkat(at, from, &self.new, file, AtFlags::empty()) {
            // Another object has just had the same file. A file system that knows no second names has none.
            Ok(()) | Err(Errno::EXIST | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The new ones join the others. One that is there gives way: it may have all the names that it can have.
    pub(super) fn publish(&self) -> Result<()> {
        for name in names(&self.new_path)?.iter().filter(|name| !name.starts_with('.')) {
            match renameat(&self.new, name, &self.kept, name) {
                Ok(()) => {}
                Err(error) => return Err(Error::from(error).within("keep a file for others").into()),
            }
        }
        Ok(())
    }
}

/// Opens nothing, but says what a failed link was about.
pub(super) fn doing<T>(result: rustix::io::Result<T>) -> Result<T> {
    Ok(result.doing(|| "give a file one more name")?)
}
