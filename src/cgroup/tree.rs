//! Walks a cgroup and all cgroups that the container created below it.
//!
//! The container may nest cgroups without limit, so the walk neither recurses nor builds paths, and
//! holds one descriptor at a time: it descends by name and ascends by `..` (cgroups cannot be
//! moved).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, unlinkat};
use rustix::io::{Errno, Result};

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The actions of a walk.
trait Visit {
    /// Called in a cgroup, before those below it.
    fn enter(&mut self, _dir: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    /// Called back in `parent`, once `child` and all below it are done.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _child: &CStr) -> Result<()> {
        Ok(())
    }
}

/// Calls `look` in the cgroup and in each below it. A cgroup that no longer exists counts as empty.
pub(super) fn each(top: &Path, look: impl FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    struct Look<F>(F);
    impl<F: FnMut(BorrowedFd<'_>) -> Result<()>> Visit for Look<F> {
        fn enter(&mut self, dir: BorrowedFd<'_>) -> Result<()> {
            (self.0)(dir)
        }
    }
    walk(top, &mut Look(look))
}

/// Removes every cgroup below `top`, deepest first, and leaves `top`. Skips those that can't be
/// removed.
pub(super) fn remove_below(top: &Path) -> Result<()> {
    struct Remove;
    impl Visit for Remove {
        fn leave(&mut self, parent: BorrowedFd<'_>, child: &CStr) -> Result<()> {
            match unlinkat(parent, child, AtFlags::REMOVEDIR) {
                // Busy or refilled: then `top` can't be removed either, and the caller notices.
                Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
    walk(top, &mut Remove)
}

fn walk(top: &Path, visit: &mut impl Visit) -> Result<()> {
    let mut here = match open(top, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    visit.enter(here.as_fd())?;
    let mut left: Vec<(CString, Vec<CString>)> = vec![(CString::default(), children(&here)?)];
    while let Some((_, waiting)) = left.last_mut() {
        if let Some(name) = waiting.pop() {
            here = match openat(&here, &name, FLAGS, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                opened => opened?,
            };
            visit.enter(here.as_fd())?;
            left.push((name, children(&here)?));
        } else if let Some((name, _)) = left.pop()
            && !left.is_empty()
        {
            here = openat(&here, "..", FLAGS, Mode::empty())?;
            visit.leave(here.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// The cgroups directly below.
fn children(dir: &OwnedFd) -> Result<Vec<CString>> {
    // A cgroup's link count is 2 plus one for each child (kernfs): most have none, and need no
    // listing.
    if fstat(dir)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory && entry.file_name() != c"." && entry.file_name() != c".."
        {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
