//! The state directory: opened or created, and refused if another user could change its content.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::ContainerId;
use super::request::Settings;
use crate::error::{Doing, Error, Kind, Result};

/// The state directory, open (O_PATH).
#[derive(Debug)]
pub(crate) struct StateRoot(OwnedFd);

impl StateRoot {
    /// Opens it. `None`: it does not exist.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>> {
        let path = &settings.root;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).doing(|| format!("open the state directory {}", path.display())),
        };
        let stat = rustix::fs::fstat(&handle);
        let stat = stat.doing(|| format!("stat state directory {}", path.display()))?;
        check(&stat, rustix::process::geteuid().as_raw(), path)?;
        Ok(Some(Self(handle)))
    }

    /// Opens it, or creates it for the caller only.
    pub(crate) fn make(settings: &Settings) -> Result<Self> {
        if let Some(there) = Self::open(settings)? {
            return Ok(there);
        }
        let path = settings.root.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.root)
            .doing(|| format!("create the state directory {path} (--root names another)"))?;
        let gone = || Error::new(Kind::System, format!("the state directory {path} was removed"));
        Self::open(settings)?.ok_or_else(gone)
    }
}

impl AsFd for StateRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Refuses a directory in which another user could put a container: `caller` would run its hooks
/// and kill its processes.
///
/// A group may write if it is the owner's private group, by Debian's convention: GID equal to the
/// owner's UID.
fn check(stat: &Stat, caller: u32, path: &Path) -> Result<()> {
    const WRITE_GROUP: u32 = 0o020;
    const WRITE_OTHERS: u32 = 0o002;
    let words = if stat.st_uid != caller {
        format!("belongs to user {}, not to user {caller}", stat.st_uid)
    } else if stat.st_mode & WRITE_OTHERS != 0 {
        "can be written to by every user".to_owned()
    } else if stat.st_mode & WRITE_GROUP != 0 && stat.st_gid != caller {
        format!("can be written to by group {}", stat.st_gid)
    } else {
        return Ok(());
    };
    let path = path.display();
    Err(Error::new(
        Kind::Usage,
        format!("state directory {path}: it {words}, who could change containers; name another --root"),
    ))
}

/// Refuses an ID longer than a file name may be in the state directory, existing or not; nothing is
/// made.
pub(crate) fn check_length(settings: &Settings, id: &ContainerId) -> Result<()> {
    /// Every file system that can hold a state directory allows this (eCryptfs the least).
    const ALWAYS: usize = 143;
    let length = id.as_ref().len();
    if length <= ALWAYS {
        return Ok(());
    }
    let existing = settings.root.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match rustix::fs::statvfs(path) {
            Err(Errno::NOENT) => None,
            found => Some((path, found)),
        }
    });
    let Some((path, found)) = existing else { return Ok(()) };
    let most = found.doing(|| format!("statvfs {}", path.display()))?.f_namemax;
    if length as u64 <= most {
        return Ok(());
    }
    let words = format!(
        "invalid container id: it has {length} characters, and the file system of {} allows file names of {most}",
        settings.root.display()
    );
    Err(Error::new(Kind::Usage, words))
}

/// IDs of all containers, sorted. A missing state directory is an error if the user named it.
pub(crate) fn all(settings: &Settings) -> Result<Vec<ContainerId>> {
    let doing = || format!("read the state directory {}", settings.root.display());
    if StateRoot::open(settings)?.is_none() && !settings.root_is_named {
        return Ok(Vec::new());
    }
    let entries = match fs::read_dir(&settings.root) {
        Err(error) if error.kind() == ErrorKind::NotFound && !settings.root_is_named => return Ok(Vec::new()),
        other => other.doing(doing)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.doing(doing)?.file_name();
        // A file whose name is not a valid ID is not ours.
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_own_directory_will_do() {
        let table = [
            ("own", 0, 0, 0o700, 0, true),
            ("own, readable", 0, 0, 0o755, 0, true),
            ("own group", 1000, 1000, 0o775, 1000, true),
            ("root's group", 0, 0, 0o770, 0, true),
            ("group of several", 1000, 100, 0o775, 1000, false),
            ("group of several that reads", 1000, 100, 0o755, 1000, true),
            ("everybody's", 0, 0, 0o777, 0, false),
            ("sticky", 0, 0, 0o1777, 0, false),
            ("another user's, for root", 1000, 1000, 0o700, 0, false),
            ("root's, for a user", 0, 0, 0o711, 1000, false),
        ];
        let mut stat = rustix::fs::stat("/").unwrap();
        for (name, uid, gid, mode, caller, want) in table {
            (stat.st_uid, stat.st_gid, stat.st_mode) = (uid, gid, mode);
            assert_eq!(check(&stat, caller, Path::new("/x")).is_ok(), want, "{name}");
        }
    }
}
