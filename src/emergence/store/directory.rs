//! The directory of a store: detects and creates it.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::StoreDir;
use crate::error::Doing;

/// The only supported version.
const VERSION: &str = "1";

/// Directories of a store, except the one for trees.
const DIRECTORIES: [&str; 9] =
    ["meta", "links", "content", "layers", "automatons", "declarations", "roots", "leases", "tmp"];

/// Files that may exist before the version file.
const BEFORE: [&str; 2] = ["lock", "version.new"];

/// Refuses a directory in which Nix keeps objects: Nix does not know ours and would delete them.
pub(super) fn refuse_foreign(directory: &Path, dir: &StoreDir) -> Result<()> {
    let trees = directory.join(dir.as_str().trim_start_matches('/'));
    let database = trees.parent().map(|above| above.join("var/nix/db"));
    match database.filter(|database| database.exists()) {
        None => Ok(()),
        Some(database) => {
            let words = format!("is managed by Nix, whose database is {}", database.display());
            Err(Fault::refused(Code::StoreExists, trees.display().to_string(), words))
        }
    }
}

/// Opens the lock file.
pub(super) fn lock_file(directory: &Path, make: bool) -> Result<File> {
    let path = directory.join("lock");
    // Do not even create a lock file in the directory of something else. If there is one, another
    // process may be creating the store.
    if make
        && !path.exists()
        && let Err(fault) = refuse_other(directory, &[])
        && !path.exists()
    {
        return Err(fault);
    }
    // A process that can only read a store locks it too.
    let opened = match File::open(&path) {
        Err(error) if make && error.kind() == ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        }
        opened => opened,
    };
    Ok(opened.doing(|| format!("open {}", path.display()))?)
}

/// Refuses a directory with entries other than `ours`.
fn refuse_other(directory: &Path, ours: &[&str]) -> Result<()> {
    match names(directory)?.into_iter().find(|name| !ours.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let words = format!("is not a store: it has {}, but no version", name.escape_debug());
            Err(Fault::refused(Code::StoreExists, directory.display().to_string(), words))
        }
    }
}

/// Whether the directory has a version file, and so is a store. Refused with `store.corrupt` if the
/// version is not supported.
pub(super) fn has_version(directory: &Path) -> Result<bool> {
    let path = directory.join("version");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        text => text.doing(|| format!("read {}", path.display()))?,
    };
    match text.trim_end() {
        VERSION => Ok(true),
        other => Err(Fault::differs(
            Code::StoreCorrupt,
            directory.display().to_string(),
            "the store's version",
            VERSION,
            &other.escape_debug().to_string(),
        )),
    }
}

/// Creates the directories of a store; the caller holds the lock. The version file comes last:
/// without it, the next process starts again.
pub(super) fn make(directory: &Path, dir: &StoreDir) -> Result<()> {
    if has_version(directory)? {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    let trees = dir.as_str().trim_start_matches('/');
    let first = trees.split('/').next().unwrap_or(trees);
    // Leftovers of a killed process are ours.
    refuse_other(directory, &[&BEFORE[..], &DIRECTORIES[..], &[first]].concat())?;
    for name in DIRECTORIES.iter().copied().chain([trees]) {
        // Images may contain set-uid programs, which other users of this machine must not reach.
        builder.mode(if name == "layers" { 0o700 } else { 0o755 });
        builder
            .create(directory.join(name))
            .doing(|| format!("create {}", directory.join(name).display()))?;
    }
    let new = directory.join("version.new");
    fs::write(&new, format!("{VERSION}\n")).doing(|| format!("write {}", new.display()))?;
    fs::rename(&new, directory.join("version")).doing(|| format!("rename {}", new.display()))?;
    Ok(())
}

/// Names in a directory, sorted. Names that are not UTF-8 are ignored.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let doing = || format!("read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).doing(doing)? {
        found.extend(entry.doing(doing)?.file_name().into_string());
    }
    found.sort_unstable();
    Ok(found)
}
