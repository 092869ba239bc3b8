//! Makes trees as a store has them: folders 0555, files 0444 or 0555, times 1, and one inode for files that are the same.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, Timespec, Timestamps, fallocate, fchmod, futimens, mkdirat,
    openat, symlinkat, utimensat,
};

use super::links::{self, Links};
use crate::emergence::hash::{Algorithm, Hasher};
use crate::emergence::nar::Visitor;
use crate::emergence::refusal::{Fault, Result};
use crate::error::Doing;

/// Files up to this size are held in memory until it is known whether they are there already.
const SMALL: u64 = 256 * 1024;

/// From this size on a file's room is taken at once.
const LARGE: u64 = 1 << 20;

/// The time of everything in a store.
const TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

/// Makes one tree, under a name in a folder where nothing is yet. Each name is made new in a folder that was made for it, so no link
/// can lead elsewhere.
pub(super) struct Maker<'a> {
    at: BorrowedFd<'a>,
    root: CString,
    links: Option<&'a Links>,
    /// Whether the umask takes away what files need.
    chmod: bool,
    /// Those that are open, outermost first.
    folders: Vec<OwnedFd>,
    file: Option<Pending>,
    /// Kept for the next small file.
    room: Vec<u8>,
}

/// A file that is not whole yet.
struct Pending {
    name: CString,
    executable: bool,
    hasher: Hasher,
    /// Where it is written to; a small one is in memory.
    file: Option<File>,
}

/// Whether files do not get the modes that they are made with.
pub(super) fn needs_chmod() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
    umask.is_none_or(|umask| umask & 0o555 != 0)
}

impl<'a> Maker<'a> {
    /// A tree called `root` in `at`.
    pub(super) fn new(at: BorrowedFd<'a>, root: CString, links: Option<&'a Links>, chmod: bool) -> Self {
        Self { at, root, links, chmod, folders: Vec::new(), file: None, room: Vec::new() }
    }

    /// The folder that the next node is in, and its name there.
    fn place(&self, name: &[u8]) -> Result<(BorrowedFd<'_>, CString)> {
        match self.folders.last() {
            Some(folder) => {
                let name = CString::new(name).map_err(|_| Fault::usage("a name has a NUL byte"))?;
                Ok((folder.as_fd(), name))
            }
            None => Ok((self.at, self.root.clone())),
        }
    }

    fn create(&self, name: &CString, executable: bool) -> rustix::io::Result<File> {
        let at = self.folders.last().map_or(self.at, OwnedFd::as_fd);
        let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(at, name, flags, mode)?;
        if self.chmod {
            fchmod(&file, mode)?;
        }
        Ok(file.into())
    }

    /// The file is whole: a name for one that is there already, or one that others may use.
    fn settle(&mut self, pending: Pending) -> Result<()> {
        let doing = || format!("make the file {}", pending.name.to_string_lossy());
        let at = self.folders.last().map_or(self.at, OwnedFd::as_fd);
        let hash = links::name(&pending.hasher.finish(), pending.executable);
        let Some(file) = pending.file else {
            if let Some(links) = self.links
                && links::doing(links.reuse(&hash, at, &pending.name))?
            {
                return Ok(());
            }
            let mut file = self.create(&pending.name, pending.executable).doing(doing)?;
            file.write_all(&self.room).doing(doing)?;
            futimens(&file, &TIMES).doing(doing)?;
            return match self.links {
                Some(links) => links::doing(links.keep(at, &pending.name, &hash)),
                None => Ok(()),
            };
        };
        futimens(&file, &TIMES).doing(doing)?;
        drop(file);
        let Some(links) = self.links else { return Ok(()) };
        // It was too large to wait for its hash. What was made of it now is either kept, or one too many.
        match links::doing(links.replace(&hash, at, &pending.name))? {
            true => Ok(()),
            false => links::doing(links.keep(at, &pending.name, &hash)),
        }
    }
}

impl Visitor for Maker<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        let (at, name) = self.place(name)?;
        let make = || {
            mkdirat(at, &name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, &name, flags, Mode::empty())
        };
        let folder = make().doing(|| format!("make the folder {}", name.to_string_lossy()))?;
        self.folders.push(folder);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        if let Some(folder) = self.folders.pop() {
            // The root stays writable: a folder that is not cannot be moved into another one.
            let mode = if self.folders.is_empty() { 0o755 } else { 0o555 };
            fchmod(&folder, Mode::from_raw_mode(mode)).doing(|| "set the mode of a folder")?;
            futimens(&folder, &TIMES).doing(|| "set the time of a folder")?;
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        let (_, name) = self.place(name)?;
        let file = match size > SMALL {
            true => {
                let file = self.create(&name, executable);
                Some(file.doing(|| format!("make the file {}", name.to_string_lossy()))?)
            }
            false => None,
        };
        if let Some(file) = &file
            && size >= LARGE
        {
            // A wish: not every file system can, and a size that is only claimed may be more than there is.
            let _ = fallocate(file, FallocateFlags::KEEP_SIZE, 0, size.min(LARGE << 10));
        }
        self.room.clear();
        self.file = Some(Pending { name, executable, hasher: Hasher::new(Algorithm::Sha256), file });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(pending) = &mut self.file else { return Ok(()) };
        pending.hasher.update(bytes);
        match &mut pending.file {
            Some(file) => Ok(file.write_all(bytes).doing(|| "write a file")?),
            None => {
                self.room.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn end_file(&mut self) -> Result<()> {
        match self.file.take() {
            Some(pending) => self.settle(pending),
            None => Ok(()),
        }
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        let (at, name) = self.place(name)?;
        let make = || {
            symlinkat(target, at, &name)?;
            utimensat(at, &name, &TIMES, AtFlags::SYMLINK_NOFOLLOW)
        };
        Ok(make().doing(|| format!("make the link {}", name.to_string_lossy()))?)
    }
}
