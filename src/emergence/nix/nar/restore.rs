//! Unpacks a NAR into the file system.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};

use super::read::{Visitor, read};
use crate::emergence::base::files::{Crew, SMALL, Task, reserve, with_crew};
use crate::emergence::base::refusal::{Fault, Result};
use crate::error::{Doing, Error, Kind};
use crate::sys::remove::remove;

/// Number of threads that create small files.
const HANDS: usize = 2;

/// Unpacks the NAR `input` to `to`, which must not exist. Modes follow the umask, as with
/// `nix-store --restore`. After an error nothing is left.
pub fn restore(input: impl Read, deepest: usize, to: &Path) -> Result<()> {
    restore_by(to, |mut maker| read(input, deepest, &mut maker))
}

/// As [`restore`], for a tree that `tell` passes to the visitor.
pub fn restore_by(to: &Path, tell: impl FnOnce(&mut dyn Visitor) -> Result<()>) -> Result<()> {
    let name = CString::new(to.as_os_str().as_bytes())
        .map_err(|_| Fault::usage(format!("{}: has a NUL byte", to.display())))?;
    let mut begun = false;
    let finished = with_crew(HANDS, create_small_file, |crew| {
        let mut maker =
            Maker { root: name, crew, directories: Vec::new(), file: None, room: Vec::new(), begun: false };
        let finished = tell(&mut maker);
        begun = maker.begun;
        finished
    });
    match finished {
        Ok(()) => Ok(()),
        Err(fault) if !begun => Err(fault),
        Err(fault) => match remove(to) {
            Ok(_) => Err(fault),
            Err(error) => Err(fault.within(format!("{} could not be removed ({error})", to.display()))),
        },
    }
}

/// Creates a small file.
fn create_small_file(task: Task<OwnedFd>) -> Result<Vec<u8>> {
    let doing = || format!("create the file {}", task.name.to_string_lossy());
    let mut file = create(task.directory.as_fd(), &task.name, task.executable).doing(doing)?;
    file.write_all(&task.bytes).doing(doing)?;
    Ok(task.bytes)
}

fn create(at: BorrowedFd<'_>, name: &CString, executable: bool) -> rustix::io::Result<fs::File> {
    let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, mode)?.into())
}

/// Creates the nodes. Each is created relative to the descriptor of a directory that was created
/// here, so no link can redirect it.
struct Maker<'a> {
    root: CString,
    crew: Crew<'a, OwnedFd>,
    /// Open directories, outermost first.
    directories: Vec<Arc<OwnedFd>>,
    file: Option<Pending>,
    /// The content of a small file.
    room: Vec<u8>,
    /// Whether this created the destination.
    begun: bool,
}

/// A file that is not complete yet.
enum Pending {
    /// The crew creates it once its content is complete.
    Small(Arc<OwnedFd>, CString, bool),
    Open(fs::File),
}

impl Maker<'_> {
    /// Runs `make` with the directory of the node and the node's name.
    fn at<T>(
        &mut self,
        name: &[u8],
        what: &str,
        make: impl FnOnce(BorrowedFd<'_>, &CString) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let doing = || format!("create the {what} {}", String::from_utf8_lossy(name));
        let made = match self.directories.last() {
            Some(directory) => {
                let name = CString::new(name).map_err(|_| Fault::usage("a name has a NUL byte"))?;
                make(directory.as_fd(), &name).doing(doing)?
            }
            None => make(CWD, &self.root).map_err(|error| match error {
                rustix::io::Errno::EXIST => {
                    Error::new(Kind::Exists, format!("{}: already exists", self.root.to_string_lossy()))
                }
                error => Error::from(error).within(format!("create {}", self.root.to_string_lossy())),
            })?,
        };
        self.begun = true;
        Ok(made)
    }
}

impl Visitor for Maker<'_> {
    fn directory(&mut self, name: &[u8]) -> Result<()> {
        let directory = self.at(name, "directory", |at, name| {
            mkdirat(at, name, Mode::from_raw_mode(0o777))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::empty())
        })?;
        self.directories.push(Arc::new(directory));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.directories.pop();
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<()> {
        if let Some(directory) = self.directories.last().filter(|_| size <= SMALL) {
            let name = CString::new(name).map_err(|_| Fault::usage("a name has a NUL byte"))?;
            self.room.clear();
            self.file = Some(Pending::Small(Arc::clone(directory), name, executable));
            return Ok(());
        }
        let file = self.at(name, "file", |at, name| create(at, name, executable))?;
        reserve(&file, size);
        self.file = Some(Pending::Open(file));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(Pending::Open(file)) => file.write_all(bytes).doing(|| "write a file").map_err(Fault::from),
            Some(Pending::Small(..)) => {
                self.room.extend_from_slice(bytes);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn end_file(&mut self) -> Result<()> {
        if let Some(Pending::Small(directory, name, executable)) = self.file.take() {
            let bytes = std::mem::take(&mut self.room);
            self.room = self.crew.make(Task { directory, name, executable, bytes })?;
        }
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.at(name, "link", |at, name| symlinkat(target, at, name))
    }
}
