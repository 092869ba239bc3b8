//! Trees are taken away: read-only folders too, and never through a link.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;

/// Takes away what is at `path`, if something is. Gives back the bytes of files that had no other name.
pub fn remove(path: &Path) -> io::Result<u64> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut freed = 0;
    match one(CWD, &name, &mut freed) {
        Ok(None) => return Ok(freed),
        Err(Errno::NOENT) => return Ok(0),
        Ok(Some(folder)) => empty(folder, &mut freed)?,
        Err(error) => return Err(error.into()),
    }
    match unlinkat(CWD, &name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(freed),
        Err(error) => Err(error.into()),
    }
}

/// Takes away one name, or opens it where it is a folder that must be emptied first.
fn one(at: BorrowedFd<'_>, name: &CString, freed: &mut u64) -> rustix::io::Result<Option<OwnedFd>> {
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        unlinkat(at, name, AtFlags::empty())?;
        if stat.st_nlink == 1 {
            *freed += stat.st_size as u64;
        }
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(at, name, flags, Mode::empty())?;
    if stat.st_mode & 0o200 == 0 {
        fchmod(&folder, Mode::from_raw_mode(0o700))?;
    }
    Ok(Some(folder))
}

/// Empties a folder, and those below it. No recursion: what others made may be deep.
fn empty(folder: OwnedFd, freed: &mut u64) -> rustix::io::Result<()> {
    let mut open: Vec<(OwnedFd, Vec<CString>, Option<CString>)> = Vec::new();
    let entries = entries(&folder)?;
    open.push((folder, entries, None));
    while let Some((folder, left, _)) = open.last_mut() {
        let Some(name) = left.pop() else {
            let own = open.pop().and_then(|(_, _, own)| own);
            if let (Some(own), Some((above, ..))) = (own, open.last()) {
                gone(unlinkat(above, &own, AtFlags::REMOVEDIR))?;
            }
            continue;
        };
        if let Some(below) = gone(one(folder.as_fd(), &name, freed))?.flatten() {
            let inside = self::entries(&below)?;
            open.push((below, inside, Some(name)));
        }
    }
    Ok(())
}

/// Somebody else may take the same away.
fn gone<T>(done: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match done {
        Err(Errno::NOENT) => Ok(None),
        done => done.map(Some),
    }
}

fn entries(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found.push(entry.file_name().to_owned());
        }
    }
    Ok(found)
}
