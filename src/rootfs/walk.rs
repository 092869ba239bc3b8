//! Resolves a path below a directory as if that were `/`: by openat2(2), or name by name without it
//! (Linux before 5.6).
//!
//! Name by name: each name is opened relative to the directory opened before it, never through a
//! link. Links are read and parsed here. `..` drops the last name, and the remaining names are
//! opened again from the root. `..` itself is never opened: in a directory that another process
//! moves out of the root meanwhile, it would lead outside. No heap.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::path::{PathBuffer, kind, split};
use crate::sys::text::Text;

/// Maximum number of links in one path, path_resolution(7).
const MOST_LINKS: usize = 40;

/// Maximum number of names opened for one path. `..` opens the names before it again, so a
/// malicious path could take minutes.
const MOST_OPENED: usize = 100_000;

/// Magic number of procfs, statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

/// `ST_NOSYMFOLLOW`: links on the mount are not followed. statfs(2), Linux 5.10.
const NO_LINKS: u64 = 0x2000;

/// The flags to open a directory on the way, and a name to find its type.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `root` with `flags`; links never lead outside, and magic links of procfs are
/// refused.
///
/// EAGAIN: a concurrent rename; try again. ELOOP: too many links, or one that must not be followed.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Seccomp filters of old engines return EPERM for unknown calls. The walk is as safe, and
        // any other reason for EPERM recurs.
        Err(Errno::NOSYS | Errno::PERM) => by_names(root, path, flags),
        other => other,
    }
}

/// As [`open`] without openat2. A separate function, to keep its large buffers off the caller's
/// stack.
#[cold]
#[inline(never)]
fn by_names(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let rest = PathBuffer::new(path.to_bytes())?;
    let mut walk = Walk {
        root,
        here: None,
        names: PathBuffer::new(b"")?,
        moved: false,
        rest,
        at: 0,
        links: 0,
        opened: 0,
    };
    while let Some(name) = walk.next()? {
        match name.bytes.bytes() {
            b"." => continue,
            b".." => {
                walk.up();
                continue;
            }
            _ => {}
        }
        let found = walk.look(&name.bytes)?;
        let kind = kind(&found)?;
        let stays = name.is_last && !name.is_directory && flags.contains(OFlags::NOFOLLOW);
        if kind == FileType::Symlink && !stays {
            walk.follow(&found)?;
            continue;
        }
        if kind != FileType::Directory && (name.is_directory || flags.contains(OFlags::DIRECTORY)) {
            return Err(Errno::NOTDIR);
        }
        if !name.is_last {
            walk.enter(&name.bytes, found)?;
            continue;
        }
        if flags.contains(OFlags::PATH) {
            return Ok(found);
        }
        let opened = rustix::fs::openat(
            walk.directory()?,
            name.bytes.as_cstr()?,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        return match opened {
            // It has been replaced by a link since it was checked.
            Err(Errno::LOOP) if kind != FileType::Symlink => Err(Errno::AGAIN),
            other => other,
        };
    }
    // The path ends in the root, in `.` or in `..`.
    let directory = walk.directory()?;
    if flags.contains(OFlags::PATH) {
        return rustix::io::fcntl_dupfd_cloexec(directory, 3);
    }
    rustix::fs::openat(directory, c".", flags, Mode::empty())
}

/// One name of a path.
struct Name {
    bytes: Text<256>,
    /// No other name follows.
    is_last: bool,
    /// A slash follows.
    is_directory: bool,
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The directory at `names`; `None` is the root.
    here: Option<OwnedFd>,
    /// Names of the directories from the root to `here`, none of them a link.
    names: PathBuffer,
    /// Whether `names` was shortened since `here` was opened.
    moved: bool,
    /// The rest of the path; its first `at` bytes are done.
    rest: PathBuffer,
    at: usize,
    links: usize,
    opened: usize,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<Name>> {
        let rest = self.rest.bytes().get(self.at..).unwrap_or_default();
        let start = rest.iter().position(|byte| *byte != b'/');
        let Some((start, name)) = start.and_then(|start| Some((start, rest.get(start..)?))) else {
            return Ok(None);
        };
        let length = name.iter().position(|byte| *byte == b'/').unwrap_or(name.len());
        let behind = name.get(length..).unwrap_or_default();
        let found = Name {
            bytes: Text::new(name.get(..length).unwrap_or_default())?,
            is_last: behind.iter().all(|byte| *byte == b'/'),
            is_directory: !behind.is_empty(),
        };
        self.at += start + length;
        Ok(Some(found))
    }

    /// The present directory.
    fn directory(&mut self) -> Result<BorrowedFd<'_>> {
        if std::mem::take(&mut self.moved) {
            self.here = None;
            let names = PathBuffer::new(self.names.bytes())?;
            for name in names.bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                let found = match self.look(&Text::new(name)?) {
                    Err(Errno::NOENT | Errno::NOTDIR) => return Err(Errno::AGAIN),
                    other => other?,
                };
                // It was a directory before.
                if kind(&found)? != FileType::Directory {
                    return Err(Errno::AGAIN);
                }
                self.here = Some(found);
            }
        }
        Ok(self.here.as_ref().map_or(self.root, OwnedFd::as_fd))
    }

    /// Opens this name in the present directory, a link as a link.
    fn look(&mut self, name: &Text<256>) -> Result<OwnedFd> {
        self.opened += 1;
        if self.opened > MOST_OPENED {
            return Err(Errno::LOOP);
        }
        rustix::fs::openat(self.directory()?, name.as_cstr()?, LOOK, Mode::empty())
    }

    fn enter(&mut self, name: &Text<256>, directory: OwnedFd) -> Result<()> {
        if !self.names.bytes().is_empty() {
            self.names.push(b"/")?;
        }
        self.names.push(name.bytes())?;
        self.here = Some(directory);
        Ok(())
    }

    fn up(&mut self) {
        if !self.names.bytes().is_empty() {
            let above = split(self.names.bytes()).0.len();
            self.names.cut(above);
            self.moved = true;
        }
    }

    /// Inserts the target of a link before the rest of the path.
    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP);
        }
        let mut room = [MaybeUninit::uninit(); 4096];
        let (target, unused) = rustix::fs::readlinkat_raw(link, c"", &mut room)?;
        let target: &[u8] = target;
        if unused.is_empty() {
            return Err(Errno::NAMETOOLONG);
        }
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        let system = rustix::fs::fstatfs(link)?;
        let jumps = system.f_type as u64 == PROC_MAGIC && is_jump(target);
        if jumps || system.f_flags as u64 & NO_LINKS != 0 {
            return Err(Errno::LOOP);
        }
        if target.starts_with(b"/") {
            self.names.cut(0);
            self.here = None;
            self.moved = false;
        }
        let mut rest = PathBuffer::new(target)?;
        rest.push(self.rest.bytes().get(self.at..).unwrap_or_default())?;
        self.rest = rest;
        self.at = 0;
        Ok(())
    }
}

/// Whether a link of procfs with this text is a magic link, which the kernel follows regardless of
/// the text: `exe`, `fd/3`. Ordinary links are relative (`self`, `mounts`, `net`), and contain no
/// file type (`pipe:[4]`).
fn is_jump(target: &[u8]) -> bool {
    target.starts_with(b"/") || target.contains(&b':')
}

#[cfg(test)]
mod tests;
