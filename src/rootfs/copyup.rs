//! tmpcopyup: fills a new tmpfs with the contents that it will cover. No heap: names are in buffers
//! on the stack.

use crate::plan::mount_step::FsOption;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};

/// Maximum directory depth; a deeper tree is refused instead of copied in part.
const DEEPEST: usize = 64;

/// Buffer size for directory entries, per open directory.
const ENTRIES: usize = 4096;

/// Copies the contents of directory `from` into the new tmpfs `to`: owner, mode, times, links,
/// devices; not across file systems. Also copies the owner and times of `from` itself, except for
/// an owner that the tmpfs `options` name; the tmpfs has its mode already.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, options: &[FsOption]) -> Result<()> {
    let whole = rustix::fs::fstat(from)?;
    let from = reopen(from, c".")?;
    copy_directory(&from, to, whole.st_dev, 0)?;
    let named = |name: &CStr| options.iter().any(|(key, _)| key.as_c_str() == name);
    let uid = (!named(c"uid")).then(|| Uid::from_raw(whole.st_uid));
    let gid = (!named(c"gid")).then(|| Gid::from_raw(whole.st_gid));
    rustix::fs::chownat(to, c"", uid, gid, AtFlags::EMPTY_PATH)?;
    rustix::fs::utimensat(to, c".", &times(&whole), AtFlags::SYMLINK_NOFOLLOW)
}

fn reopen(at: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn copy_directory(from: &OwnedFd, to: BorrowedFd<'_>, device: u64, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    let mut room = [MaybeUninit::uninit(); ENTRIES];
    let mut entries = RawDir::new(from, &mut room);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_entry(from, to, name, device, depth)?;
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, device: u64, depth: usize) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode)?;
            if stat.st_dev == device {
                let below = reopen(from, name)?;
                copy_directory(&below, reopen(to, name)?.as_fd(), device, depth + 1)?;
            }
        }
        FileType::Symlink => {
            let mut room = [MaybeUninit::uninit(); 4096];
            let (target, rest) = rustix::fs::readlinkat_raw(from, name, &mut room)?;
            let target: &[u8] = target;
            if rest.is_empty() {
                return Err(Errno::NAMETOOLONG);
            }
            let target = super::path::PathBuffer::new(target)?;
            rustix::fs::symlinkat(target.as_cstr()?, to, name)?;
        }
        FileType::RegularFile => copy_file(from, to, name, mode)?,
        kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    like(to, name, &stat)
}

fn copy_file(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<()> {
    // Non-blocking: another process may have replaced the file by a fifo since it was checked.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let from = rustix::fs::openat(from, name, flags, Mode::empty())?;
    if super::path::kind(&from)? != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(to, name, flags, mode)?;
    loop {
        match rustix::fs::sendfile(&to, &from, None, 1 << 20) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Copies owner, mode and times of the original.
fn like(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // chown clears the set-user-ID bits, so the mode is set after it.
        rustix::fs::chmodat(at, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    rustix::fs::utimensat(at, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
