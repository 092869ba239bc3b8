//! Trees of a store as they are elsewhere: linked or copied, read-only and with its times.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::emergence::refusal::Result;
use crate::error::Doing;

/// The time of everything in a store.
const TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

/// Gives a file, folder or link the time that everything in a store has.
pub(super) fn set_time(path: &Path) -> Result<()> {
    let set = utimensat(CWD, path, &TIMES, AtFlags::SYMLINK_NOFOLLOW);
    Ok(set.doing(|| format!("set the time of {}", path.display()))?)
}

/// Makes the tree `from` again at `to`, where nothing is. `linked`: files are the same inodes, as far as there may be more links.
pub(super) fn again(from: &Path, to: &Path, linked: bool) -> Result<()> {
    let mut left = vec![(from.to_owned(), to.to_owned())];
    let mut folders = Vec::new();
    while let Some((from, to)) = left.pop() {
        let doing = || format!("make {}", to.display());
        let kind = fs::symlink_metadata(&from).doing(|| format!("look at {}", from.display()))?;
        if kind.is_dir() {
            fs::create_dir(&to).doing(doing)?;
            for entry in fs::read_dir(&from).doing(|| format!("read {}", from.display()))? {
                let name = entry.doing(|| format!("read {}", from.display()))?.file_name();
                left.push((from.join(&name), to.join(&name)));
            }
            folders.push(to);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from).doing(doing)?, &to).doing(doing)?;
            set_time(&to)?;
        } else {
            file(&from, &to, linked, kind.permissions()).doing(doing)?;
            if !linked {
                set_time(&to)?;
            }
        }
    }
    // Only when all is in them: nobody can write to them then.
    for folder in folders.iter().rev() {
        let closed = fs::set_permissions(folder, Permissions::from_mode(0o555));
        closed.doing(|| format!("close {}", folder.display()))?;
        set_time(folder)?;
    }
    Ok(())
}

fn file(from: &Path, to: &Path, linked: bool, permissions: Permissions) -> io::Result<()> {
    if linked {
        match fs::hard_link(from, to) {
            Err(error) if error.raw_os_error() == Some(libc::EMLINK) => {}
            done => return done,
        }
    }
    let (mut source, mut copy) = (File::open(from)?, File::create_new(to)?);
    // Within one file system that can, no byte is moved.
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(permissions)
}
