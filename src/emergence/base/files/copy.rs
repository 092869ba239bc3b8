//! Copies of store trees, hard-linked or copied, read-only and with the store's times.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat,
    openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::emergence::base::refusal::Result;
use crate::error::{Doing, Error};

/// The time of all files in a store.
pub(crate) const TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

/// Sets the time of a file, directory or link to that of all files in a store.
pub(crate) fn set_time(path: &Path) -> Result<()> {
    let set = utimensat(CWD, path, &TIMES, AtFlags::SYMLINK_NOFOLLOW);
    Ok(set.doing(|| format!("set the time of {}", path.display()))?)
}

/// A source directory, its copy, and the names that are still to be copied. By file descriptor:
/// paths may be longer than PATH_MAX.
struct Open {
    from: OwnedFd,
    to: OwnedFd,
    left: Vec<CString>,
}

/// Copies the tree `from` to `to`, which must not exist. `linked`: files are hard-linked, unless
/// the file system allows no further links.
pub(crate) fn copy_tree(from: &Path, to: &Path, linked: bool) -> Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    let make = || {
        let root = copy_node((CWD, &name(from)?), (CWD, &name(to)?), linked)?;
        let mut open = Vec::from_iter(root);
        while let Some(Open { from, to, left }) = open.last_mut() {
            if let Some(name) = left.pop() {
                let below = copy_node((from.as_fd(), &name), (to.as_fd(), &name), linked)?;
                open.extend(below);
                continue;
            }
            // Last, because afterwards nothing can be created in the directory.
            fchmod(&*to, Mode::from_raw_mode(0o555))?;
            futimens(&*to, &TIMES)?;
            open.pop();
        }
        Ok::<_, io::Error>(())
    };
    let step = || format!("copy {} to {}", from.display(), to.display());
    Ok(make().map_err(|error| Error::from(error).within(step()))?)
}

/// Copies one node. A directory is still empty afterwards.
fn copy_node(
    (at, name): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
    linked: bool,
) -> io::Result<Option<Open>> {
    let mode = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            mkdirat(to, new, Mode::from_raw_mode(0o700))?;
            let (from, to) =
                (openat(at, name, flags, Mode::empty())?, openat(to, new, flags, Mode::empty())?);
            let mut left = Vec::new();
            for entry in Dir::read_from(&from)? {
                let name = entry?.file_name().to_owned();
                if ![c".", c".."].contains(&name.as_c_str()) {
                    left.push(name);
                }
            }
            return Ok(Some(Open { from, to, left }));
        }
        FileType::Symlink => {
            symlinkat(readlinkat(at, name, Vec::new())?, to, new)?;
            utimensat(to, new, &TIMES, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => file((at, name), (to, new), linked, Mode::from_raw_mode(mode))?,
    }
    Ok(None)
}

fn file(
    (at, name): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
    linked: bool,
    mode: Mode,
) -> io::Result<()> {
    if linked {
        match linkat(at, name, to, new, AtFlags::empty()) {
            // The maximum number of links is reached, or the file system has no hard links.
            Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {}
            done => return Ok(done?),
        }
    }
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(openat(at, name, flags | OFlags::RDONLY, Mode::empty())?);
    let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut copy = File::from(openat(to, new, create, Mode::from_raw_mode(0o600))?);
    // Uses copy_file_range(2), which may share the blocks.
    io::copy(&mut source, &mut copy)?;
    fchmod(&copy, mode)?;
    Ok(futimens(&copy, &TIMES)?)
}
