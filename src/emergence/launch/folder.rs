//! A bundle's folder: there whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::emergence::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error};
use crate::sys::remove::remove;

/// Has `fill` fill a new folder, which then becomes `to`. After a failure nothing is left.
///
/// Refused with `store.exists` when something is there.
pub fn made_whole(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let exists = || Fault::refused(Code::StoreExists, to.display().to_string(), "is there already");
    if fs::symlink_metadata(to).is_ok() {
        return Err(exists());
    }
    let beside = beside(to)?;
    fs::create_dir(&beside).doing(|| format!("make {}", beside.display()))?;
    let done =
        fill(&beside).and_then(|()| match renameat_with(CWD, &beside, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists()),
            Err(error) => Err(Error::from(error).within(format!("make {}", to.display())).into()),
        });
    done.map_err(|fault| cleaned(fault, &beside))
}

fn beside(to: &Path) -> Result<PathBuf> {
    let name =
        to.file_name().ok_or_else(|| Fault::usage(format!("{}: is no name for a folder", to.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(to.with_file_name(hidden))
}

fn cleaned(fault: Fault, folder: &Path) -> Fault {
    match remove(folder) {
        Err(error) => fault.within(format!("{} is left behind ({error})", folder.display())),
        Ok(_) => fault,
    }
}
