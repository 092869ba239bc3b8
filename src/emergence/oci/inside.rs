//! Looks up paths in a tree that is being created as if it were `/`: links cannot lead outside.
//!
//! Other processes are kept out by the mode of the root, so nothing changes between two lookups.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    Mode, OFlags, ResolveFlags, Timespec, Timestamps, fstat, futimens, mkdirat, openat, openat2,
};
use rustix::io::Errno;

/// Maximum number of links in one path, path_resolution(7).
const MOST_LINKS: usize = 40;

/// Maximum depth of directories: each is kept open during a lookup by names.
const DEEPEST: usize = 256;

/// Flags to open a directory whose entries, times or attributes are changed.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A name or path for a system call.
pub(super) fn c_string(bytes: &[u8]) -> rustix::io::Result<CString> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

/// Opens the directory at `path` below `root`.
pub(super) fn directory(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    if path.is_empty() {
        return openat(root, c".", DIRECTORY, Mode::empty());
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let name = c_string(path)?;
    for _ in 0..64 {
        match openat2(root, &name, DIRECTORY, Mode::empty(), resolve) {
            // EAGAIN: a concurrent rename on this machine.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Linux before 5.6, or a seccomp filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => break,
            other => return other,
        }
    }
    by_names(root, path, false)
}

/// As [`directory`], but creates missing directories, with mode 0755 and time 0. The first parent
/// keeps its times.
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    by_names(root, path, true)
}

/// Looks up component by component: each is opened relative to the previous directory, and links
/// are resolved here.
fn by_names(root: BorrowedFd<'_>, path: &[u8], make: bool) -> rustix::io::Result<OwnedFd> {
    let mut rest: Vec<Vec<u8>> = names(path);
    let mut here: Vec<Rc<OwnedFd>> = Vec::new();
    let mut made: Vec<(Rc<OwnedFd>, Timestamps)> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            here.pop();
            continue;
        }
        let at = here.last().map_or(root, |directory| directory.as_fd());
        let name = c_string(&name)?;
        let found = openat(at, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let next = match found {
            Err(Errno::NOENT) if make => {
                if made.is_empty() {
                    let directory = openat(at, c".", DIRECTORY, Mode::empty())?;
                    let before = times(&directory)?;
                    made.push((Rc::new(directory), before));
                }
                mkdirat(at, &name, Mode::from_raw_mode(0o755))?;
                let new = Rc::new(openat(at, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?);
                super::inherited::disinherit(&*new)?;
                // The umask may have restricted the mode.
                rustix::fs::fchmod(&*new, Mode::from_raw_mode(0o755))?;
                made.push((new.clone(), stamp((0, 0))));
                new
            }
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                let target = match rustix::fs::readlinkat(at, &name, Vec::new()) {
                    Err(Errno::INVAL) => return Err(Errno::NOTDIR),
                    Err(_) => return Err(error),
                    Ok(target) => target.into_bytes(),
                };
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    here.clear();
                }
                rest.extend(names(&target));
                continue;
            }
            other => Rc::new(other?),
        };
        here.push(next);
        if here.len() > DEEPEST {
            return Err(Errno::NAMETOOLONG);
        }
    }
    // In reverse order of creation, so that a directory's times are set after the entries in it.
    for (directory, times) in made.iter().rev() {
        futimens(&**directory, times)?;
    }
    openat(here.last().map_or(root, |directory| directory.as_fd()), c".", DIRECTORY, Mode::empty())
}

/// The components of a path, last first.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').rev();
    names.filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// The times of a directory or file.
pub(super) fn times(fd: impl AsFd) -> rustix::io::Result<Timestamps> {
    let stat = fstat(fd)?;
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    })
}

/// A time, in seconds and nanoseconds since 1970, as both modification and access time.
pub(super) fn stamp(time: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: time.0, tv_nsec: time.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::files::open_directory;
    use std::os::unix::fs::symlink;
    use std::{fs, path::Path};

    fn look_up_in_both_ways(root: &Path, path: &[u8]) -> [Option<(u64, u64)>; 2] {
        let root = open_directory(root).unwrap();
        let identity = |fd: OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        [directory(root.as_fd(), path), by_names(root.as_fd(), path, false)]
            .map(|found| found.ok().map(identity))
    }

    #[test]
    fn lookup_by_names_agrees_with_the_kernel() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (target, name) in [
            ("/a/b", "absolute"),
            ("a", "relative"),
            ("../../../outside", "up"),
            ("../../../a", "up-and-in"),
            ("loop", "loop"),
            ("b/c/../..", "a/round"),
            ("/outside", "no"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        for (path, exists) in [
            ("", true),
            ("a/b/c", true),
            ("absolute/c", true),
            ("relative/b", true),
            ("up", false),
            ("up-and-in/b", true),
            ("a/round/b", true),
            ("loop", false),
            ("file", false),
            ("file/x", false),
            ("no", false),
        ] {
            let [kernel, own] = look_up_in_both_ways(&root, path.as_bytes());
            assert_eq!((kernel, own.is_some()), (own, exists), "{path}");
        }
    }

    #[test]
    fn missing_directories_are_created_inside() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink("/run/../../new", root.join("link")).unwrap();
        let fd = open_directory(&root).unwrap();
        futimens(&fd, &stamp((77, 5))).unwrap();
        make_directory(fd.as_fd(), b"x/y/z").unwrap();
        use std::os::unix::fs::MetadataExt;
        for (path, want) in [("", (77, 5)), ("x", (0, 0)), ("x/y", (0, 0)), ("x/y/z", (0, 0))] {
            let found = fs::metadata(root.join(path)).unwrap();
            assert_eq!((found.mtime(), found.mtime_nsec()), want, "{path}");
        }
        make_directory(fd.as_fd(), b"link/here").unwrap();
        assert!(root.join("new/here").is_dir());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
