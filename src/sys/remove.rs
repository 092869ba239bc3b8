//! Removes trees of any depth without recursion and with few descriptors: subdirectories are moved
//! up to the tree's root.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Bytes of names that are kept for one directory.
const NAMES: usize = 16 * 1024;

/// Removes `path` recursively, if it exists. Returns the bytes of files without other links.
pub fn remove(path: &Path) -> io::Result<u64> {
    match remove_at(CWD, &CString::new(path.as_os_str().as_bytes())?) {
        Err(Errno::NOENT) => Ok(0),
        other => Ok(other?),
    }
}

/// Removes `name` in the directory `at` recursively. ENOENT if it does not exist. Returns the bytes
/// of files without other links.
pub fn remove_at(at: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<u64> {
    match unlink(at, name) {
        // The errors of Linux and of POSIX for a directory.
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let freed = empty(&open(at, name)?)?;
    unlinkat(at, name, AtFlags::REMOVEDIR)?;
    Ok(freed)
}

/// Removes an entry that is not a directory.
fn unlink(at: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<u64> {
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    unlinkat(at, name, AtFlags::empty())?;
    Ok(if stat.st_nlink == 1 { stat.st_size as u64 } else { 0 })
}

/// Removes the contents of `directory`.
pub fn empty(directory: &OwnedFd) -> rustix::io::Result<u64> {
    let (mut moved, mut freed) = (0, 0);
    while sweep(directory, &mut freed, |name, freed| {
        move_up(directory, name, &mut moved, freed)?;
        unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        Ok(ControlFlow::Continue(()))
    })? {}
    Ok(freed)
}

/// Removes the files and empty directories in `directory` and adds the freed bytes to `freed`.
/// `full` is called for other directories, and may end the sweep. False: `directory` was empty.
fn sweep(
    directory: &OwnedFd,
    freed: &mut u64,
    mut full: impl FnMut(&CStr, &mut u64) -> rustix::io::Result<ControlFlow<()>>,
) -> rustix::io::Result<bool> {
    let mut found = false;
    // A new open file description: an old one would continue where the last sweep ended.
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        found = true;
        if !is_directory(directory.as_fd(), name, entry.file_type())? {
            *freed += unlink(directory.as_fd(), name)?;
            continue;
        }
        match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                if full(name, freed)?.is_break() {
                    break;
                }
            }
            other => other?,
        }
    }
    Ok(found)
}

/// Empties the directory `name` in `top`: files are removed, directories are moved to `top`.
fn move_up(top: &OwnedFd, name: &CStr, moved: &mut u64, freed: &mut u64) -> rustix::io::Result<()> {
    let directory = open(top.as_fd(), name)?;
    while sweep(&directory, freed, |inner, freed| {
        // Moving a directory requires write permission on it, as its ".." changes.
        let full = open(directory.as_fd(), inner)?;
        loop {
            *moved += 1;
            let new = CString::new(format!(".moved-{moved}")).map_err(|_| Errno::INVAL)?;
            match renameat_with(&directory, inner, top, &new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                // Directories of an overlay's lower layers cannot be renamed, overlayfs.rst,
                // "Renaming directories".
                Err(Errno::XDEV) => {
                    descend(full, freed)?;
                    break unlinkat(&directory, inner, AtFlags::REMOVEDIR)?;
                }
                other => break other?,
            }
        }
        Ok(ControlFlow::Continue(()))
    })? {}
    Ok(())
}

/// Empties a directory in which nothing can be moved. Descends by name and ascends by "..",
/// checking that it is the same directory. Names are read in batches: searching for each one from
/// the start would take quadratic time in a wide directory.
fn descend(directory: OwnedFd, freed: &mut u64) -> rustix::io::Result<()> {
    let mut here = directory;
    // For each directory above: its identity, and its remaining names; the last name is that of the
    // directory below.
    let mut above: Vec<((u64, u64), Vec<CString>)> = Vec::new();
    let mut names = Vec::new();
    loop {
        // Hostile trees may be deep and wide: below this depth, one name at a time.
        let mut room = if above.len() < 256 { NAMES } else { 0 };
        let found = !names.is_empty()
            || sweep(&here, freed, |name, _| {
                names.push(name.to_owned());
                let taken = room.checked_sub(size_of::<CString>() + name.count_bytes());
                room = taken.unwrap_or_default();
                Ok(if taken.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        if let Some(name) = names.last() {
            let below = open(here.as_fd(), name)?;
            above.push((identity(&here)?, std::mem::take(&mut names)));
            here = below;
        } else if !found {
            let Some((parent, left)) = above.pop() else { return Ok(()) };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            here = openat(&here, c"..", flags, Mode::empty())?;
            if identity(&here)? != parent {
                return Err(Errno::STALE);
            }
            names = left;
            if let Some(name) = names.pop() {
                unlinkat(&here, &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
}

fn identity(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn is_directory(at: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<bool> {
    let kind = match kind {
        FileType::Unknown => {
            let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode)
        }
        known => known,
    };
    Ok(kind == FileType::Directory)
}

/// Opens a directory. If its owner has no access, its mode is changed.
fn open(at: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = Mode::from_raw_mode(0o700);
    let opened = match openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, own, AtFlags::empty())?;
            openat(at, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mode = rustix::fs::fstat(&opened)?.st_mode & 0o7777;
    if mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&opened, own)?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::{fs, path::Path};

    #[test]
    fn deep_wide_and_locked_trees_are_removed() {
        let outer = tempfile::tempdir().unwrap();
        let directory = |path: &Path| {
            openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
        };
        let at = directory(outer.path());
        fs::create_dir_all(outer.path().join("tree/.moved-1/x")).unwrap();
        fs::create_dir_all(outer.path().join("tree/locked/y")).unwrap();
        symlink("..", outer.path().join("tree/locked/up")).unwrap();
        fs::set_permissions(outer.path().join("tree/locked"), fs::Permissions::from_mode(0o0)).unwrap();
        // Deeper than the limit of open files.
        let mut here = directory(&outer.path().join("tree"));
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"d", Mode::from_raw_mode(0o755)).unwrap();
            here = openat(&here, c"d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        fs::write(outer.path().join("tree/mine"), "12345").unwrap();
        fs::write(outer.path().join("tree/locked-too"), "123").unwrap();
        fs::hard_link(outer.path().join("tree/mine"), outer.path().join("kept")).unwrap();
        // The same tree where nothing can be moved, as in an overlay.
        let other = outer.path().join("other");
        fs::create_dir_all(other.join("a/b")).unwrap();
        fs::create_dir_all(other.join("c/locked")).unwrap();
        fs::write(other.join("c/locked/file"), "1234567").unwrap();
        fs::set_permissions(other.join("c/locked"), fs::Permissions::from_mode(0o0)).unwrap();
        let mut here = directory(&other);
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"d", Mode::from_raw_mode(0o755)).unwrap();
            here = openat(&here, c"d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        // More names than are kept at once.
        for number in 0..1000 {
            fs::create_dir_all(other.join(format!("wide/{number}/x"))).unwrap();
        }
        let mut freed = 0;
        descend(directory(&other), &mut freed).unwrap();
        assert_eq!(freed, 7);
        fs::remove_dir(&other).unwrap();
        assert_eq!(remove_at(at.as_fd(), c"tree"), Ok(3 + 2));
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
        assert_eq!(remove_at(at.as_fd(), c"tree"), Err(Errno::NOENT));
        assert_eq!(remove(&outer.path().join("tree")).unwrap(), 0);
        assert_eq!(remove(&outer.path().join("kept")).unwrap(), 5);
    }
}
