//! One inode for each distinct file. Its name is the hash of its bytes, followed by `-x` if it is
//! executable.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, RenameFlags, linkat, renameat, renameat_with};
use rustix::io::Errno;

use super::directory::names;
use crate::emergence::base::files::open_directory;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::Result;
use crate::error::{Doing, Error};

/// Number of hash bits used as an index into the filter.
const KNOWN: u32 = 20;

/// The shared files of a store, and new ones in a staging directory. New files are published when
/// the import is committed.
pub(super) struct Links {
    kept: OwnedFd,
    kept_path: PathBuf,
    /// Whether the store has no files yet, so that lookups there are skipped.
    first: bool,
    new: OwnedFd,
    new_path: PathBuf,
    /// A bit for each hash that may be among the new files. Most lookups miss and are skipped.
    known: Vec<AtomicU64>,
    /// Counter for temporary names.
    same: AtomicU64,
}

/// The file name for a hash.
pub(super) fn name(hash: &Hash, executable: bool) -> CString {
    let name = hash.nix32() + if executable { "-x" } else { "" };
    CString::new(name).unwrap_or_default()
}

/// Whether a directory is empty.
fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Links {
    /// Opens the store's files in `kept` and the new ones in `new`.
    pub(super) fn open(kept_path: &Path, new_path: &Path) -> Result<Self> {
        let (kept, new) = (open_directory(kept_path)?, open_directory(new_path)?);
        let first = is_empty(&kept).doing(|| format!("read {}", kept_path.display()))?;
        let known = (0..(1_u64 << KNOWN) / 64).map(|_| AtomicU64::new(0)).collect();
        let (kept_path, new_path) = (kept_path.to_owned(), new_path.to_owned());
        Ok(Self { kept, kept_path, first, new, new_path, known, same: AtomicU64::new(0) })
    }

    /// The word and the bit of a hash.
    fn bit(&self, hash: &Hash) -> Option<(&AtomicU64, u64)> {
        let first = hash.bytes().first_chunk().copied().map(u32::from_le_bytes)? & ((1 << KNOWN) - 1);
        Some((self.known.get(first as usize / 64)?, 1 << (first % 64)))
    }

    /// Links an existing file as `to` in `at`. False: there is none, or its link count is at the
    /// maximum.
    pub(super) fn reuse(
        &self,
        hash: &Hash,
        executable: bool,
        at: BorrowedFd<'_>,
        to: &CString,
    ) -> rustix::io::Result<bool> {
        let new = self.bit(hash).is_none_or(|(word, bit)| word.load(Ordering::Acquire) & bit != 0);
        let places = [(!self.first).then_some(&self.kept), new.then_some(&self.new)];
        let file = name(hash, executable);
        for from in places.into_iter().flatten() {
            match linkat(from, &file, at, to, AtFlags::empty()) {
                Ok(()) => return Ok(true),
                // The link count is at its maximum: a new inode is needed.
                Err(Errno::NOENT | Errno::MLINK) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Replaces a new file by a link to an existing one with the same content. False: there is
    /// none.
    pub(super) fn replace(
        &self,
        hash: &Hash,
        executable: bool,
        at: BorrowedFd<'_>,
        to: &CString,
    ) -> rustix::io::Result<bool> {
        let number = self.same.fetch_add(1, Ordering::Relaxed);
        // Cannot be the name of a hash.
        let between = CString::new(format!(".{number}")).unwrap_or_default();
        if !self.reuse(hash, executable, self.new.as_fd(), &between)? {
            return Ok(false);
        }
        renameat(&self.new, &between, at, to)?;
        Ok(true)
    }

    /// Registers the file `from` in `at` as the one with this content.
    pub(super) fn keep(
        &self,
        at: BorrowedFd<'_>,
        from: &CString,
        hash: &Hash,
        executable: bool,
    ) -> rustix::io::Result<()> {
        let kept = linkat(at, from, &self.new, name(hash, executable), AtFlags::empty());
        if let Some((word, bit)) = self.bit(hash) {
            word.fetch_or(bit, Ordering::Release);
        }
        match kept {
            // Another thread has just created the same file.
            Err(Errno::EXIST) => self.replace(hash, executable, at, from).map(drop),
            // The file system does not support hard links, or this link.
            Ok(()) | Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Publishes the new files; the caller holds the commit lock. An existing file of the same name
    /// is replaced: its link count may be at the maximum.
    pub(super) fn publish(&self) -> Result<()> {
        let doing = || "keep files for hard links";
        let kept = open_directory(&self.kept_path)?;
        if is_empty(&kept).doing(doing)? {
            // All at once: the empty directory is deleted with the staging directory.
            match renameat_with(CWD, &self.new_path, CWD, &self.kept_path, RenameFlags::EXCHANGE) {
                Ok(()) => return Ok(()),
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(Error::from(error).within(doing()).into()),
            }
        }
        for name in names(&self.new_path)? {
            renameat(&self.new, &name, &kept, &name).doing(doing)?;
        }
        Ok(())
    }
}

/// Adds the context to a failed link.
pub(super) fn doing<T>(result: rustix::io::Result<T>) -> Result<T> {
    Ok(result.doing(|| "hard-link a file")?)
}
