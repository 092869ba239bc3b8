//! Resolves paths below the container's root, through descriptors only: no link of the image leads
//! outside.
//!
//! `walk` resolves every link as if the root directory were `/`. Missing names are created one at a
//! time, each relative to the directory just opened and without following a link as the last
//! component, so that a concurrent rename can only cause an error. No heap: this runs between clone
//! and exec.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::path::{NameBuffer, PATH_MAX, PathBuffer, split};
use super::walk;
use crate::sys::closing::close_later;

/// Maximum number of links to missing files that are followed, as in path_resolution(7).
const MOST_LINKS: usize = 40;

/// Retries on EAGAIN (concurrent rename).
const MOST_TRIES: usize = 64;

/// What to do with a symbolic link as the last component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Follow it, inside of the root.
    Follow,
    /// Open the link itself.
    Open,
}

impl LastLink {
    /// `Open` if `nofollow`.
    pub const fn nofollow(nofollow: bool) -> Self {
        if nofollow { Self::Open } else { Self::Follow }
    }

    const fn flag(self) -> OFlags {
        match self {
            Self::Follow => OFlags::empty(),
            Self::Open => OFlags::NOFOLLOW,
        }
    }
}

/// The container's root directory.
#[derive(Clone, Copy)]
pub struct InRoot<'a>(pub BorrowedFd<'a>);

/// The flags to open a directory that was created.
const NEW_DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

impl InRoot<'_> {
    /// Opens `path` as an O_PATH descriptor; the root itself for an empty path.
    pub fn open(&self, path: &CStr, last: LastLink) -> Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | last.flag())
    }

    /// As [`InRoot::open`]. ENOTDIR: it is not a directory, or is a link that is not followed.
    pub fn open_directory(&self, path: &CStr, last: LastLink) -> Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY | last.flag())
    }

    /// As [`InRoot::open`], with any flags. Never blocks on a fifo if `flags` contain O_NONBLOCK.
    pub fn open_with(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.is_empty() { c"." } else { path };
        let mut tries = 0;
        loop {
            match walk::open(self.0, path, flags | OFlags::CLOEXEC) {
                Err(Errno::AGAIN | Errno::INTR) if tries < MOST_TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// Opens the directory at `path`; creates it and its parents (mode 0755) if missing.
    pub fn directory(&self, path: &CStr) -> Result<OwnedFd> {
        match self.open(path, LastLink::Follow) {
            Err(Errno::NOENT) => self.make_directory(path),
            other => other,
        }
    }

    /// Opens the file (of any kind) at `path`; creates it empty, with its parents, if missing.
    #[inline(never)] // its buffers are not part of the caller's frame
    pub fn file(&self, path: &CStr) -> Result<OwnedFd> {
        match self.open(path, LastLink::Follow) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path.to_bytes());
        let parent = self.directory(PathBuffer::new(parent)?.as_cstr()?)?;
        let name = NameBuffer::new(name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match rustix::fs::openat(&parent, name.as_cstr()?, flags, Mode::from_raw_mode(0o644)) {
            Ok(made) => Ok(made),
            // A dangling link: its target is created instead.
            Err(Errno::EXIST) => {
                let target = self.link_target(&parent, split(path.to_bytes()).0, name.as_cstr()?)?;
                let (parent, name) = split(target.bytes());
                let parent = self.directory(PathBuffer::new(parent)?.as_cstr()?)?;
                rustix::fs::openat(
                    &parent,
                    NameBuffer::new(name)?.as_cstr()?,
                    flags,
                    Mode::from_raw_mode(0o644),
                )
            }
            Err(error) => Err(error),
        }
    }

    /// The parent directory of `path` (created if missing), and its last name.
    #[inline(never)] // its buffers are not part of the caller's frame
    pub fn parent(&self, path: &CStr) -> Result<(OwnedFd, NameBuffer)> {
        let (parent, name) = split(path.to_bytes());
        Ok((self.directory(PathBuffer::new(parent)?.as_cstr()?)?, NameBuffer::new(name)?))
    }

    /// As [`InRoot::directory`], for a path that was missing a moment ago. Never returns another
    /// kind of file.
    pub(super) fn make_directory(&self, path: &CStr) -> Result<OwnedFd> {
        match self.make_last(path) {
            // More of it is missing, or there is a link.
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::LOOP) => {
                self.make_directories(path.to_bytes())
            }
            other => other,
        }
    }

    /// Creates the last directory of `path`, in a parent that exists. Fails if the name exists.
    #[inline(never)] // its buffers are not part of the caller's frame
    fn make_last(&self, path: &CStr) -> Result<OwnedFd> {
        let (parent, name) = split(path.to_bytes_with_nul());
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::INVAL)?;
        if matches!(name.to_bytes(), b"" | b"." | b"..") {
            return Err(Errno::NOENT);
        }
        let mut buffer = PathBuffer::empty();
        buffer.push(parent)?;
        let parent = self.open(buffer.as_cstr()?, LastLink::Follow)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        let made = rustix::fs::openat(&parent, name, NEW_DIRECTORY, Mode::empty());
        close_later(parent);
        made
    }

    /// Creates all missing directories of `path`, and follows links.
    #[inline(never)] // its buffers are not part of the caller's frame
    fn make_directories(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut path = PathBuffer::new(path)?;
        for _ in 0..MOST_LINKS {
            let (at, depth) = self.deepest(&path)?;
            match self.make_below(at, &path, depth)? {
                Made::All(directory) => return Ok(directory),
                Made::UpToParent => {}
                Made::Link(rest) => path = rest,
            }
        }
        Err(Errno::LOOP)
    }

    /// The longest existing prefix of `path`, and its length in bytes.
    #[inline(never)] // its buffers are not part of the caller's frame
    fn deepest(&self, path: &PathBuffer) -> Result<(OwnedFd, usize)> {
        let mut end = path.bytes().len();
        loop {
            let (parent, _) = split(path.bytes().get(..end).unwrap_or_default());
            end = parent.len();
            match self.open(PathBuffer::new(parent)?.as_cstr()?, LastLink::Follow) {
                Err(Errno::NOENT) if end > 0 => {}
                other => return other.map(|fd| (fd, end)),
            }
        }
    }

    fn make_below(&self, at: OwnedFd, path: &PathBuffer, depth: usize) -> Result<Made> {
        let mut at = at;
        let mut done = depth;
        let rest = path.bytes().get(depth..).unwrap_or_default();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            // Only `walk` knows where the root ends: it resolves the path again.
            if name == b".." {
                return Ok(Made::UpToParent);
            }
            let single = NameBuffer::new(name)?;
            let single = single.as_cstr()?;
            match rustix::fs::mkdirat(&at, single, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let before = path.bytes().get(..done).unwrap_or_default();
            match rustix::fs::openat(&at, single, NEW_DIRECTORY, Mode::empty()) {
                Ok(next) => close_later(std::mem::replace(&mut at, next)),
                // The name exists, as a link to a missing file.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let mut target = self.link_target(&at, before, single)?;
                    let after = done + usize::from(done > 0) + name.len();
                    target.push(path.bytes().get(after..).unwrap_or_default())?;
                    return Ok(Made::Link(target));
                }
                Err(error) => return Err(error),
            }
            done += usize::from(done > 0) + name.len();
        }
        Ok(Made::All(at))
    }

    /// The target of link `name` in `directory` (whose path is `before`), as a path below the root.
    #[inline(never)] // its buffers are not part of the caller's frame
    fn link_target(&self, directory: &OwnedFd, before: &[u8], name: &CStr) -> Result<PathBuffer> {
        let mut room = [std::mem::MaybeUninit::uninit(); PATH_MAX];
        let (target, rest) = rustix::fs::readlinkat_raw(directory, name, &mut room)?;
        if rest.is_empty() {
            return Err(Errno::NAMETOOLONG);
        }
        let target: &[u8] = target;
        if let Some(absolute) = target.strip_prefix(b"/") {
            return PathBuffer::new(absolute);
        }
        let mut path = PathBuffer::new(before)?;
        if !before.is_empty() {
            path.push(b"/")?;
        }
        path.push(target)?;
        Ok(path)
    }
}

// Boxing the path would use the heap.
#[allow(clippy::large_enum_variant)]
enum Made {
    All(OwnedFd),
    /// Everything before a `..` that follows a missing name.
    UpToParent,
    Link(PathBuffer),
}

/// `unlinkat(directory, name)`; no error if it is missing.
pub fn remove(directory: impl AsFd, name: &CStr) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::{fs, path::Path};

    fn root(make: impl FnOnce(&Path)) -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn directories_are_made_inside_whatever_links_say() {
        let (dir, fd) = root(|path| {
            fs::create_dir(path.join("var")).unwrap();
            symlink("/run", path.join("var/run")).unwrap();
            symlink("../../../../outside", path.join("up")).unwrap();
            symlink("loop", path.join("loop")).unwrap();
        });
        let inside = InRoot(fd.as_fd());
        for path in [c"a/b/c", c"var/run/x/y", c"up/z", c"a/b/c", c"a"] {
            inside.directory(path).unwrap_or_else(|errno| panic!("{path:?}: {errno}"));
        }
        for made in ["a/b/c", "run/x/y", "outside/z"] {
            assert!(dir.path().join(made).is_dir(), "{made}");
        }
        assert!(inside.directory(c"loop/x").is_err());
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(inside.directory(c"file/x").err(), Some(Errno::NOTDIR));
    }

    #[test]
    fn missing_names_before_a_parent_do_not_lead_outside() {
        let (dir, fd) = root(|path| {
            fs::create_dir(path.join("root")).unwrap();
            symlink("missing/../../../outside", path.join("root/link")).unwrap();
            symlink("gone/a/../../../../other/./file", path.join("root/to-file")).unwrap();
        });
        let below = rustix::fs::openat(&fd, c"root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let inside = InRoot(below.as_fd());
        inside.directory(c"link/x").unwrap();
        inside.directory(c"new/../../../third/x").unwrap();
        inside.file(c"to-file").unwrap();
        let made: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(made, ["root"]);
        for made in ["outside/x", "third/x", "other/file"] {
            assert!(dir.path().join("root").join(made).exists(), "{made}");
        }
    }

    #[test]
    fn files_are_made_at_the_end_of_links() {
        let (dir, fd) = root(|path| {
            symlink("/etc/real", path.join("link")).unwrap();
        });
        let inside = InRoot(fd.as_fd());
        inside.file(c"link").unwrap();
        assert!(dir.path().join("etc/real").is_file());
        inside.file(c"deep/er/file").unwrap();
        assert!(dir.path().join("deep/er/file").is_file());
    }
}
