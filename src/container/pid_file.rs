//! PID files: writes a PID to the path that the caller named.
//!
//! | at the path | action |
//! |---|---|
//! | nothing | the file is created atomically |
//! | a regular file | replaced atomically, by rename |
//! | a fifo, a character device | written to; nothing is created or renamed |
//! | a symbolic link of the caller or root (`/dev/stdout`) | followed; its target is written to |
//! | a symbolic link of another user; a directory, socket or block device | refused |
//!
//! The directory may be writable for others: a symbolic link of another user is never followed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::hold;
use crate::error::{Doing, Error, Kind, Result};

/// As runc's; it gives no other user write permission under any umask.
const MODE: u32 = 0o644;

/// Retries when a name appears or disappears concurrently.
const TRIES: usize = 10;

/// The kind of file at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    Free,
    Regular,
    /// A fifo or a character device.
    Stream,
    /// A symbolic link to follow.
    Link,
}

/// Refuses a path that cannot hold a PID, before anything is made.
pub(crate) fn check(path: &Path) -> Result<()> {
    target_kind(path).map(drop)
}

/// Writes `content` to `path`.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    let doing = || format!("write pid file {}", path.display());
    for _ in 0..TRIES {
        match target_kind(path)? {
            TargetKind::Free => match nameless(path, content) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // The file system may not support O_TMPFILE.
                other => return other.or_else(|_| beside(path, content)).doing(doing),
            },
            TargetKind::Regular => return beside(path, content).doing(doing),
            TargetKind::Stream => return write_existing(path, OFlags::NOFOLLOW, content),
            TargetKind::Link => return write_existing(path, OFlags::CREATE, content),
        }
    }
    Err(Error::new(
        Kind::System,
        format!("{}: another process keeps creating and removing files there", doing()),
    ))
}

fn target_kind(path: &Path) -> Result<TargetKind> {
    let refuse = |words: &str| {
        Err(Error::new(Kind::Usage, format!("pid file {}: {words}; name a regular file", path.display())))
    };
    let found = match rustix::fs::lstat(path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(TargetKind::Free),
        Err(error) => return Err(error).doing(|| format!("stat pid file {}", path.display())),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(TargetKind::Regular),
        FileType::Fifo | FileType::CharacterDevice => Ok(TargetKind::Stream),
        FileType::Symlink if [0, rustix::process::geteuid().as_raw()].contains(&found.st_uid) => {
            Ok(TargetKind::Link)
        }
        FileType::Symlink => refuse("it is a symbolic link of another user"),
        FileType::Directory => refuse("it is a directory"),
        FileType::Socket => refuse("it is a socket"),
        _ => refuse("it is a block device"),
    }
}

/// Writes to the existing file, and never waits for a reader.
fn write_existing(path: &Path, how: OFlags, content: &str) -> Result<()> {
    let doing = || format!("write pid file {}", path.display());
    let flags = how | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let unread = || {
        Error::new(Kind::Usage, format!("pid file {}: it is a fifo that no process reads", path.display()))
    };
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(MODE)) {
        Err(Errno::NXIO) => return Err(unread()),
        opened => File::from(opened.doing(doing)?),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).doing(doing)?.st_mode);
    match kind {
        FileType::RegularFile => file.set_len(0).doing(doing)?,
        FileType::Fifo | FileType::CharacterDevice => {}
        _ => {
            return Err(Error::new(
                Kind::Usage,
                format!("pid file {}: it does not lead to a regular file", path.display()),
            ));
        }
    }
    match (&file).write_all(content.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(unread()),
        written => written.doing(doing),
    }
}

/// Links the file last, open(2), "O_TMPFILE": a kill at any moment leaves the whole file or none.
/// EEXIST: the name exists.
fn nameless(path: &Path, content: &str) -> std::io::Result<()> {
    let directory =
        path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut out = File::from(rustix::fs::open(directory, flags, Mode::from_raw_mode(MODE))?);
    out.write_all(content.as_bytes())?;
    hold::stop_at("pid-file");
    let own = format!("/proc/self/fd/{}", out.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn beside(path: &Path, content: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let create_new = || File::options().write(true).create_new(true).mode(MODE).open(&beside);
    let mut out = match create_new() {
        // Left by a killed process with our PID; or a link that another user has put there.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&beside)?;
            create_new()?
        }
        other => other?,
    };
    let write = out.write_all(content.as_bytes()).and_then(|()| fs::rename(&beside, path));
    write.inspect_err(|_| drop(fs::remove_file(&beside)))
}
