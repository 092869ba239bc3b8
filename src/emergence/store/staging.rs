//! A folder in which something is made before it has its name. Whoever makes it keeps it locked, so that what a dead process left
//! is told from what is being made.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::folder::names;
use super::lock::is_free;
use crate::emergence::nix32;
use crate::emergence::refusal::Result;
use crate::error::{Doing, Error};
use crate::sys::remove::remove;

/// A folder of our own.
pub(super) struct Staging {
    path: PathBuf,
    /// Open, and locked as long as it is.
    folder: OwnedFd,
}

/// A name that nobody else has.
pub(super) fn random_name() -> Result<String> {
    let mut bytes = [0; 20];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).map_err(Error::from)?;
    Ok(nix32::encode(&bytes))
}

/// Opens a folder; links are not followed.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))?)
}

impl Staging {
    /// Does `work` in a new folder below `tmp`, of which nothing is left afterwards.
    pub(super) fn with<T>(tmp: &Path, work: impl FnOnce(&Staging) -> Result<T>) -> Result<T> {
        let staging = Self::new(tmp)?;
        let done = work(&staging);
        let cleaned = remove(&staging.path);
        match (done, cleaned) {
            (Ok(done), Ok(_)) => Ok(done),
            (Ok(_), Err(error)) => Err(error).doing(|| format!("remove {}", staging.path.display()))?,
            (Err(fault), Ok(_)) => Err(fault),
            (Err(fault), Err(error)) => {
                Err(fault.within(format!("{} is left behind ({error})", staging.path.display())))
            }
        }
    }

    fn new(tmp: &Path) -> Result<Self> {
        loop {
            let path = tmp.join(random_name()?);
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.doing(|| format!("make {}", path.display()))?;
            // Before it is locked, it may have been taken for what a dead process left.
            if let Ok(folder) = open_folder(&path)
                && is_free(&folder)?
                && path.exists()
            {
                return Ok(Self { path, folder });
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same, open.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }
}

/// Takes away what dead processes left below `tmp`. How many there were.
pub(super) fn remove_stale(tmp: &Path) -> Result<usize> {
    let mut count = 0;
    for name in names(tmp)? {
        let path = tmp.join(name);
        // Another one may be at it too.
        let Ok(folder) = open_folder(&path) else { continue };
        if is_free(&folder)? {
            remove(&path).doing(|| "take away what was left")?;
            count += 1;
        }
    }
    Ok(count)
}
