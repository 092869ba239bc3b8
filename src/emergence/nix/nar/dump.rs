//! Writes a file tree as a NAR: entries sorted by bytes, links not followed, and only the owner's
//! execute bit of the mode.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::Writer;
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result, Within, shown};
use crate::emergence::base::stream::{Buffer, Drain, HashThread};
use crate::emergence::nix::modulo::ModuloHasher;
use crate::error::{Doing, Error};

/// Writes the tree at `path` to `out`. If `path` is a link, it is the tree. `deepest`: maximum
/// depth in nodes.
///
/// Refused: a file other than a regular file, directory or link (`type.unknown`), a tree that is
/// too deep (`nar.depth`), and a file whose length changes meanwhile (`changed-while-reading`).
pub fn dump<D: Drain>(path: &Path, deepest: usize, out: &mut Buffer<D>) -> Result<()> {
    let mut dumper = Dumper { out: Writer(out), deepest, path: Vec::new() };
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Fault::usage(format!("{}: has a NUL byte", path.display())))?;
    let dumped = dumper.begin().and_then(|()| dumper.node(CWD, &name, None, 1));
    dumped.within(|| path.display().to_string())
}

struct Dumper<'a, D> {
    out: Writer<'a, D>,
    deepest: usize,
    /// The current node's path from the root.
    path: Vec<u8>,
}

/// Converts a system error without adding a path.
fn io_fault(error: impl Into<io::Error>) -> Fault {
    Error::from(error.into()).into()
}

impl<D: Drain> Dumper<'_, D> {
    fn begin(&mut self) -> Result<()> {
        self.out.begin().map_err(io_fault)
    }

    fn refuse(&self, code: Code, words: &str) -> Fault {
        let path = if self.path.is_empty() { ".".to_owned() } else { shown(&self.path) };
        Fault::refused(code, path, words)
    }

    /// Writes one node. `kind`: its type, if the directory entry has it. `deepest` limits the
    /// recursion.
    fn node(&mut self, at: BorrowedFd<'_>, name: &CStr, kind: Option<FileType>, depth: usize) -> Result<()> {
        if depth > self.deepest {
            return Err(self.refuse(Code::NarDepth, "is nested too deep for a NAR"));
        }
        let kind = match kind {
            Some(kind) => kind,
            None => {
                let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.failed(error))?;
                FileType::from_raw_mode(stat.st_mode)
            }
        };
        match kind {
            FileType::RegularFile => self.file(at, name),
            FileType::Directory => self.directory(at, name, depth),
            FileType::Symlink => {
                let target = readlinkat(at, name, Vec::new()).map_err(|error| self.failed(error))?;
                self.out.symlink(target.as_bytes()).map_err(io_fault)
            }
            _ => Err(self.refuse(Code::TypeUnknown, "is neither a file, nor a directory, nor a link")),
        }
    }

    fn changed(&self) -> Fault {
        let words = "changed its type or length while it was read";
        self.refuse(Code::ChangedWhileReading, words)
    }

    fn failed(&self, error: Errno) -> Fault {
        let path = shown(&self.path);
        let error = Error::from(error);
        if path.is_empty() { error.into() } else { error.within(path).into() }
    }

    fn file(&mut self, at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        // A FIFO that replaced the file must not block the open.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(at, name, flags, Mode::empty()).map_err(|error| self.failed(error))?;
        let stat = fstat(&file).map_err(|error| self.failed(error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.changed());
        }
        let size = stat.st_size as u64;
        self.out.begin_file(stat.st_mode & 0o100 != 0, size).map_err(io_fault)?;
        if !self.contents(&file, size)? {
            return Err(self.changed());
        }
        self.out.end_file(size).map_err(io_fault)
    }

    /// Copies the content. False: the file's length is not `size`.
    fn contents(&mut self, file: &OwnedFd, size: u64) -> Result<bool> {
        let mut left = size;
        loop {
            let room = self.out.0.room().map_err(io_fault)?;
            // Asking for one byte more detects growth without another call.
            let room = match usize::try_from(left.saturating_add(1)) {
                Ok(enough) if enough < room.len() => room.get_mut(..enough).unwrap_or_default(),
                _ => room,
            };
            let wanted = room.len() as u64;
            match rustix::io::read(file, room) {
                Ok(count) if count as u64 > left => return Ok(false),
                Ok(0) => return Ok(left == 0),
                Ok(count) => {
                    self.out.0.fill(count);
                    left -= count as u64;
                    // A short read of a regular file is its end.
                    if left == 0 && (count as u64) < wanted {
                        return Ok(true);
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn directory(&mut self, at: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(at, name, flags, Mode::empty()).map_err(|error| self.failed(error))?;
        let entries = entries(&directory).map_err(|error| self.failed(error))?;
        self.out.begin_directory().map_err(io_fault)?;
        for (name, kind) in entries {
            self.out.begin_entry(name.to_bytes()).map_err(io_fault)?;
            let above = self.path.len();
            if above > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.node(directory.as_fd(), &name, kind, depth + 1)?;
            self.path.truncate(above);
            self.out.close().map_err(io_fault)?;
        }
        self.out.close().map_err(io_fault)
    }
}

/// The entries of a directory, in the order of a NAR.
fn entries(directory: &OwnedFd) -> rustix::io::Result<Vec<(std::ffi::CString, Option<FileType>)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let kind = entry.file_type();
            found.push((name.to_owned(), (kind != FileType::Unknown).then_some(kind)));
        }
    }
    found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// Hashes the NAR of the tree at `path`. Returns the hash and the NAR's size. `deepest`: maximum
/// depth in nodes.
pub fn hash_tree(path: &Path, deepest: usize, algorithm: Algorithm) -> Result<(Hash, u64)> {
    let mut out = Buffer::new(HashThread::start(algorithm).doing(|| "start a thread")?);
    dump(path, deepest, &mut out)?;
    let size = out.total();
    let hash = out.finish().and_then(HashThread::finish).doing(|| "hash")?;
    Ok((hash, size))
}

/// The SHA-256 of the NAR of a tree that may refer to itself by the digest `digits`.
pub fn hash_modulo(path: &Path, deepest: usize, digits: &[u8]) -> Result<Hash> {
    let mut out = Buffer::new(ModuloHasher::new(Algorithm::Sha256, digits));
    dump(path, deepest, &mut out)?;
    Ok(out.finish().doing(|| "hash")?.finish())
}
