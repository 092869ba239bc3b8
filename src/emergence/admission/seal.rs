//! Seals: metadata of an object's files, recorded when all of them were hashed, so that a change is
//! detected without hashing.
//!
//! A seal that does not match proves nothing: a hard link from another object changes a file's
//! ctime. The object is then hashed and sealed again. Kept in `DIR/seals/DIGITS-DEVICE-INODE.KIND`
//! of the store, and only for objects in the store.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::emergence::base::hash::{Algorithm, Hash, Hasher};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::StorePath;
use crate::error::{Doing, Error};
use crate::sys::verity;

/// An object that may have seals.
pub(super) struct Sealed<'a> {
    /// Path of its seals without their kind. `None`: it is not in the store.
    file: Option<PathBuf>,
    nar_hash: &'a Hash,
    path: &'a Path,
}

impl<'a> Sealed<'a> {
    /// The object `object` with the hash `nar_hash` at `path`. `store`: the store whose seals are
    /// trusted, if any.
    pub(crate) fn of(store: Option<&Path>, object: &StorePath, nar_hash: &'a Hash, path: &'a Path) -> Self {
        let file = || {
            let (store, real) = (store?.canonicalize().ok()?, path.canonicalize().ok()?);
            let found = fs::symlink_metadata(&real).ok()?;
            let name = format!("{}-{}-{}", object.digits(), found.dev(), found.ino());
            real.starts_with(&store).then(|| store.join("seals").join(name))
        };
        Self { file: file(), nar_hash, path }
    }

    /// Runs `check` unless inode, size and times of every file are the same as when it last
    /// succeeded.
    pub(crate) fn unless_unchanged(&self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.file.is_none() {
            return check();
        }
        let now = self.listing(|entry, found| {
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            for number in [found.mode().into(), found.ino(), found.size()] {
                entry.update(&u64::to_be_bytes(number));
            }
            times.iter().for_each(|time| entry.update(&time.to_be_bytes()));
            Ok(())
        })?;
        self.unless("fast", &now, check)
    }

    /// Runs `check` unless fs-verity protects every file, with the same digests as when it last
    /// succeeded.
    pub(crate) fn unless_protected(&self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.file.is_none() {
            return check();
        }
        match self.listing(protect) {
            Ok(now) => self.unless("verity", &now, check),
            // The file system does not support it, or we lack permission to enable it.
            Err(Fault::Failed(_)) => check(),
            Err(other) => Err(other),
        }
    }

    fn unless(&self, kind: &str, now: &Hash, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(file) = self.file.as_ref().map(|file| file.with_extension(kind)) else { return check() };
        let seal = now.hex();
        if fs::read_to_string(&file).is_ok_and(|noted| noted == seal) {
            return Ok(());
        }
        check()?;
        // Without a seal, the next check is only slower.
        let _ = note(&file, &seal);
        Ok(())
    }

    /// A hash of all entries: path, type, link target, and the data that `tell` adds.
    fn listing(&self, tell: impl Fn(&mut Hasher, &Entry) -> Result<()>) -> Result<Hash> {
        let mut all = Hasher::new(Algorithm::Sha256);
        all.update(self.nar_hash.bytes());
        let doing = |path: &Path| format!("stat {}", path.display());
        let mut left = vec![self.path.to_owned()];
        while let Some(path) = left.pop() {
            let found = fs::symlink_metadata(&path).doing(|| doing(&path))?;
            let below = path.strip_prefix(self.path).unwrap_or(&path).as_os_str().as_bytes();
            all.update(&(below.len() as u64).to_be_bytes());
            all.update(below);
            if found.is_dir() {
                let entries = fs::read_dir(&path).doing(|| doing(&path))?;
                let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().doing(|| doing(&path))?;
                entries.sort_by_key(fs::DirEntry::file_name);
                all.update(&(entries.len() as u64).to_be_bytes());
                left.extend(entries.into_iter().map(|entry| entry.path()));
            } else if found.is_symlink() {
                all.update(fs::read_link(&path).doing(|| doing(&path))?.as_os_str().as_bytes());
            } else if !found.is_file() {
                return Err(Fault::refused(
                    Code::TypeUnknown,
                    path.display().to_string(),
                    "is not a file, directory or link",
                ));
            }
            tell(&mut all, &Entry { path, found })?;
        }
        Ok(all.finish())
    }
}

/// A file, directory or symbolic link.
struct Entry {
    path: PathBuf,
    found: fs::Metadata,
}

impl std::ops::Deref for Entry {
    type Target = fs::Metadata;

    fn deref(&self) -> &fs::Metadata {
        &self.found
    }
}

/// Enables fs-verity for a file and adds its digest.
fn protect(all: &mut Hasher, entry: &Entry) -> Result<()> {
    all.update(&entry.mode().to_be_bytes());
    if !entry.is_file() {
        return Ok(());
    }
    let doing = || format!("protect {}", entry.path.display());
    let file = File::open(&entry.path).doing(doing)?;
    let (algorithm, digest) = match verity::measure(file.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {
            verity::enable(file.as_fd()).map_err(Error::from).map_err(|error| error.within(doing()))?;
            verity::measure(file.as_fd()).doing(doing)?
        }
        measured => measured.doing(doing)?,
    };
    all.update(&algorithm.to_be_bytes());
    all.update(&digest);
    Ok(())
}

/// Writes a seal to a temporary file and renames it, so that readers see all or nothing.
fn note(file: &Path, seal: &str) -> std::io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let new = file.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, seal)?;
    fs::rename(&new, file).inspect_err(|_| drop(fs::remove_file(&new)))
}
