//! A folder beside the one that is wanted, in which a tree is made before it has its name.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;

use super::{inside, remove};
use crate::emergence::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error, Kind};

/// See the head of this file. Nobody else may look into it.
pub(super) struct Staging(PathBuf);

fn is_there(path: &Path) -> Fault {
    Error::new(Kind::Exists, format!("{}: is there already", path.display())).into()
}

impl Staging {
    /// Beside `to`, where nothing may be (`Kind::Exists`).
    pub(super) fn beside(to: &Path) -> Result<Self> {
        if fs::symlink_metadata(to).is_ok() {
            return Err(is_there(to));
        }
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
            .map_err(Error::from)?;
        let name = to.file_name().ok_or_else(|| Fault::usage(format!("{}: has no name", to.display())))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", HEXLOWER.encode(&random)));
        Self::make(to.with_file_name(hidden))
    }

    /// At this place, where nothing is.
    pub(super) fn make(path: PathBuf) -> Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(&path).doing(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The folder, open.
    pub(super) fn folder(&self) -> Result<OwnedFd> {
        Ok(inside::open_root(&self.0).doing(|| format!("open {}", self.0.display()))?)
    }

    /// Refused with `space` when the file system has less than so many bytes left.
    pub(super) fn has_space(&self, bytes: u64) -> Result<()> {
        let system = statvfs(&self.0).doing(|| format!("look at {}", self.0.display()))?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        match bytes > free {
            true => {
                let words = format!("there are {free} bytes left, and {bytes} are to be written");
                Err(Fault::refused(Code::Space, self.0.display().to_string(), words))
            }
            false => Ok(()),
        }
    }

    /// What was made in it, or the fault after which it is gone.
    pub(super) fn or_gone<T>(&self, made: Result<T>) -> Result<T> {
        made.map_err(|fault| match self.remove() {
            Ok(()) => fault,
            Err(error) => {
                fault.within(format!("{} is left behind ({})", self.0.display(), Error::from(error)))
            }
        })
    }

    fn remove(&self) -> rustix::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let name = inside::c_string(self.0.as_os_str().as_bytes())?;
        remove::remove(CWD, &name)
    }

    /// Gives it its name; if something has that meanwhile, nothing is left.
    pub(super) fn rename(self, to: &Path) -> Result<()> {
        let renamed = match renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems have no such call; a folder only ever replaces an empty one.
            Err(Errno::INVAL) if fs::symlink_metadata(to).is_err() => rustix::fs::rename(&self.0, to),
            other => other,
        };
        let renamed = renamed.map_err(|error| match error {
            Errno::EXIST | Errno::NOTEMPTY => is_there(to),
            error => Error::from(error).within(format!("rename to {}", to.display())).into(),
        });
        self.or_gone(renamed)
    }
}
