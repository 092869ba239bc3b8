//! Creates trees in the form of a store: directories 0555, files 0444 or 0555, timestamps 1, and
//! one inode for identical files.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, futimens, mkdirat, openat, symlinkat, utimensat};

use super::file_creation::{Directory, Ways, leave};
use super::links;
use crate::emergence::base::files::{Crew, SMALL, TIMES, Task, reserve};
use crate::emergence::base::hash::{Algorithm, Hasher};
use crate::emergence::base::refusal::{Fault, Result};
use crate::emergence::nix::nar::Visitor;
use crate::error::Doing;

/// Creates one tree under a new name in a directory. Every entry is created new in a directory that
/// was created for it, so no symbolic link can redirect it.
pub(super) struct Maker<'a> {
    at: BorrowedFd<'a>,
    root: CString,
    ways: Ways<'a>,
    /// Threads that create small files. `None`: the caller does.
    crew: Option<Crew<'a, Directory>>,
    /// The open directories, outermost first.
    directories: Vec<Arc<Directory>>,
    file: Option<Pending>,
    /// Content of the current small file.
    room: Vec<u8>,
}

/// A file that is not complete yet.
struct Pending {
    name: CString,
    executable: bool,
    /// The file of a large one and its hash so far. `None`: small, kept in memory.
    large: Option<(File, Hasher)>,
}

/// Whether the umask removes mode bits that trees need.
pub(super) fn needs_chmod() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
    umask.is_none_or(|umask| umask & 0o555 != 0)
}

impl<'a> Maker<'a> {
    /// A tree named `root` in `at`.
    pub(super) fn new(
        at: BorrowedFd<'a>,
        root: CString,
        ways: Ways<'a>,
        crew: Option<Crew<'a, Directory>>,
    ) -> Self {
        Self { at, root, ways, crew, directories: Vec::new(), file: None, room: Vec::new() }
    }

    /// The directory of the next node.
    fn above(&self) -> BorrowedFd<'_> {
        self.directories.last().map_or(self.at, |directory| directory.0.as_fd())
    }

    /// The name of the next node in it.
    fn name(&self, name: &[u8]) -> Result<CString> {
        if self.directories.is_empty() {
            Ok(self.root.clone())
        } else {
            CString::new(name).map_err(|_| Fault::usage("a name has a NUL byte"))
        }
    }

    /// Completes a large file: registers it, or replaces it by an existing one with the same
    /// content.
    fn settle(&self, name: &CString, executable: bool, file: File, hasher: Hasher) -> Result<()> {
        futimens(&file, &TIMES).doing(|| format!("set the time of {}", name.to_string_lossy()))?;
        drop(file);
        let (Some(links), at) = (self.ways.links, self.above()) else { return Ok(()) };
        let hash = hasher.finish();
        if links::doing(links.replace(&hash, executable, at, name))? {
            Ok(())
        } else {
            links::doing(links.keep(at, name, &hash, executable))
        }
    }
}

impl Visitor for Maker<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        let (at, name) = (self.above(), self.name(name)?);
        let make = || {
            mkdirat(at, &name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, &name, flags, Mode::empty())
        };
        let at = make().doing(|| format!("create the directory {}", name.to_string_lossy()))?;
        self.directories.push(Arc::new(Directory(at)));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.directories.pop().map_or(Ok(()), leave)
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        let name = self.name(name)?;
        let mut large = None;
        if size > SMALL {
            let file = self.ways.create(&self.above(), &name, executable);
            let file = file.doing(|| format!("create the file {}", name.to_string_lossy()))?;
            reserve(&file, size);
            large = Some((file, Hasher::new(Algorithm::Sha256)));
        }
        self.room.clear();
        self.file = Some(Pending { name, executable, large });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(pending) = &mut self.file else { return Ok(()) };
        match &mut pending.large {
            Some((file, hasher)) => {
                hasher.update(bytes);
                Ok(file.write_all(bytes).doing(|| "write a file")?)
            }
            None => {
                self.room.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn end_file(&mut self) -> Result<()> {
        let Some(Pending { name, executable, large }) = self.file.take() else { return Ok(()) };
        if let Some((file, hasher)) = large {
            return self.settle(&name, executable, file, hasher);
        }
        match (&self.crew, self.directories.last()) {
            (Some(crew), Some(directory)) => {
                let bytes = std::mem::take(&mut self.room);
                self.room = crew.make(Task { directory: Arc::clone(directory), name, executable, bytes })?;
                Ok(())
            }
            _ => self.ways.create_small_file(&self.above(), &name, executable, &self.room),
        }
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        let (at, name) = (self.above(), self.name(name)?);
        let make = || {
            symlinkat(target, at, &name)?;
            utimensat(at, &name, &TIMES, AtFlags::SYMLINK_NOFOLLOW)
        };
        Ok(make().doing(|| format!("create the link {}", name.to_string_lossy()))?)
    }
}
