//! A hidden directory for files that are not complete yet. Its creator keeps it locked: an unlocked
//! one is the leftover of a dead process.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, renameat_with};
use rustix::io::Errno;

use crate::emergence::base::nix32;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error};
use crate::sys::remove::remove;

/// Prefix of the names of such directories; random digits follow.
const PREFIX: &str = ".emergence-";

/// A directory of mode 0700. It is removed with its content on drop.
pub(crate) struct Staging {
    path: PathBuf,
    /// Open and locked.
    directory: OwnedFd,
    ended: bool,
}

/// A random name of 32 digits.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 20];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).map_err(Error::from)?;
    Ok(nix32::encode(&bytes))
}

/// Opens a directory without following links.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    Ok(opened(path).doing(|| format!("open {}", path.display()))?)
}

fn opened(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Tries to lock the directory; false if another process has the lock.
fn is_free(directory: &OwnedFd) -> Result<bool> {
    match flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::from(error).within("lock").into()),
    }
}

impl Staging {
    /// Creates a new directory in `above`.
    pub(crate) fn new(above: &Path) -> Result<Self> {
        loop {
            let path = above.join(format!("{PREFIX}{}", random_name()?));
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.doing(|| format!("create {}", path.display()))?;
            // Before the lock is taken, another process may have removed the directory as stale.
            let directory = match opened(&path) {
                Err(Errno::NOENT) => continue,
                directory => directory.doing(|| format!("open {}", path.display()))?,
            };
            if is_free(&directory)? && path.exists() {
                return Ok(Self { path, directory, ended: false });
            }
        }
    }

    /// Runs `work` with a new directory in `above`, which is removed afterwards.
    pub(crate) fn with<T>(above: &Path, work: impl FnOnce(&Staging) -> Result<T>) -> Result<T> {
        let mut staging = Self::new(above)?;
        let done = work(&staging);
        staging.ended = true;
        match (done, remove(&staging.path)) {
            (Ok(done), Ok(_)) => Ok(done),
            (Ok(_), Err(error)) => Err(error).doing(|| format!("remove {}", staging.path.display()))?,
            (Err(fault), Ok(_)) => Err(fault),
            (Err(fault), Err(error)) => {
                Err(fault.within(format!("{} could not be removed ({error})", staging.path.display())))
            }
        }
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.ended {
            let _ = remove(&self.path);
        }
    }
}

/// Removes leftovers of dead processes in `directory`, which holds only such directories.
pub(crate) fn remove_stale(directory: &Path) -> Result<()> {
    stale(directory, |_, _| Ok(true))
}

/// As [`remove_stale`], in a directory with other content: removes only directories that are
/// certainly ours.
pub(crate) fn remove_stale_beside(directory: &Path) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    stale(directory, |name, directory| {
        let is_name =
            name.strip_prefix(PREFIX).is_some_and(|digits| nix32::decode(digits, &mut [0; 20]).is_some());
        let stat = fstat(directory).doing(|| format!("stat {name}"))?;
        Ok(is_name && stat.st_uid == own && stat.st_mode & 0o7777 == 0o700)
    })
}

fn stale(directory: &Path, is_ours: impl Fn(&str, &OwnedFd) -> Result<bool>) -> Result<()> {
    let doing = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).doing(doing)? {
        let entry = entry.doing(doing)?;
        // Another process may be removing it too.
        if let Some(name) = entry.file_name().to_str()
            && let Ok(opened) = opened(&entry.path())
            && is_ours(name, &opened)?
            && is_free(&opened)?
        {
            let step = || format!("remove {}, which was left over", entry.path().display());
            remove(&entry.path()).doing(step)?;
        }
    }
    Ok(())
}

/// Renames `from` to `to`, which must not exist: EEXIST or ENOTEMPTY otherwise.
pub(crate) fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rename_once(from, to) {
        // Without root privileges, moving a directory needs write permission on it, because its
        // ".." changes.
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    let mode = fs::symlink_metadata(from).map(|kind| kind.permissions().mode()).unwrap_or_default();
    let change = |path: &Path, mode| rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777));
    if mode & libc::S_IFMT != libc::S_IFDIR || mode & 0o200 != 0 {
        return Err(Errno::ACCESS);
    }
    change(from, mode | 0o700)?;
    let renamed = rename_once(from, to);
    change(if renamed.is_ok() { to } else { from }, mode)?;
    renamed
}

fn rename_once(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems do not support RENAME_NOREPLACE. rename(2) of a directory replaces only
        // an empty one.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => rustix::fs::rename(from, to),
        other => other,
    }
}

fn already_exists(to: &Path) -> Fault {
    Fault::refused(Code::StoreExists, to.display().to_string(), "already exists")
}

/// Refused with `store.exists` if `to` exists.
pub fn vacant(to: &Path) -> Result<()> {
    if fs::symlink_metadata(to).is_ok() { Err(already_exists(to)) } else { Ok(()) }
}

/// Creates `to` atomically: `make` creates it at the temporary path that it is given, and the
/// result is renamed. After a failure nothing is left. Leftovers of dead processes next to `to` are
/// removed too.
///
/// Refused with `store.exists` if `to` exists.
pub fn made_whole<T>(to: &Path, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    vacant(to)?;
    let name = to.file_name().ok_or_else(|| Fault::usage(format!("{}: has no name", to.display())))?;
    let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_stale_beside(above)?;
    Staging::with(above, |staging| {
        let new = staging.path().join(name);
        let made = make(&new)?;
        match rename_new(&new, to) {
            Ok(()) => Ok(made),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(already_exists(to)),
            Err(error) => Err(Error::from(error).within(format!("rename to {}", to.display())).into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_leftovers_of_dead_processes_are_removed() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path();
        let living = Staging::new(directory).unwrap();
        let named = |name: &str, mode| {
            fs::DirBuilder::new().mode(mode).create(directory.join(name)).unwrap();
            directory.join(name)
        };
        let stale = named(&format!("{PREFIX}{}", random_name().unwrap()), 0o700);
        fs::write(stale.join("x"), "").unwrap();
        let others = [
            named(&format!("{PREFIX}{}", random_name().unwrap()), 0o755),
            named(&format!("{PREFIX}notes"), 0o700),
            named(&random_name().unwrap(), 0o700),
        ];
        symlink(&others[1], directory.join(format!("{PREFIX}{}", random_name().unwrap()))).unwrap();
        remove_stale_beside(directory).unwrap();
        assert!(!stale.exists() && living.path().exists() && others.iter().all(|other| other.exists()));
        assert_eq!(names(directory).len(), 5);
        remove_stale(directory).unwrap();
        assert!(living.path().exists());
        assert_eq!(names(directory).len(), 2);
        drop(living);
        assert_eq!(names(directory).len(), 1);
    }

    #[test]
    fn written_atomically() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("to");
        let fails = made_whole(&to, |new| {
            fs::create_dir_all(new.join("a/b")).unwrap();
            Err::<(), _>(Fault::usage("no"))
        });
        assert_eq!(fails.unwrap_err().to_string(), "no");
        assert!(names(directory.path()).is_empty());
        // A directory without write permission is moved all the same, and keeps its mode.
        let made = made_whole(&to, |new| {
            fs::DirBuilder::new().mode(0o555).create(new).unwrap();
            Ok(1)
        });
        assert_eq!(made.unwrap(), 1);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o555);
        let late = made_whole(&directory.path().join("late"), |new| {
            fs::write(new, "mine").unwrap();
            fs::write(directory.path().join("late"), "theirs").unwrap();
            Ok(())
        });
        assert_eq!(late.unwrap_err().code(), Some(Code::StoreExists));
        assert_eq!(made_whole(&to, |_| Ok(())).unwrap_err().code(), Some(Code::StoreExists));
        assert_eq!(fs::read(directory.path().join("late")).unwrap(), b"theirs");
        assert_eq!(names(directory.path()), ["late", "to"]);
    }
}
