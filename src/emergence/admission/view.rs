//! Locates the objects that a container will see: in its root file system, or in mounts over it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use super::mounted::{Mounted, Shown};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::{StoreDir, StorePath};
use crate::error::Doing;
use crate::rootfs::walk;

/// The store as a container will see it.
pub(super) struct View {
    /// The directory of objects, if it exists.
    directory: Option<OwnedFd>,
    /// Objects with their own bind mount, by name.
    single: BTreeMap<String, PathBuf>,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl View {
    /// Opens the store's directory in `rootfs` and in the mounts over it.
    ///
    /// Refused with `trust.unproved`: a symbolic link in that path, a mount over a part of an
    /// object, and a mount of a file system whose content is not known yet.
    pub(crate) fn open(rootfs: &Path, mounts: &[Mounted], dir: &StoreDir) -> Result<Self> {
        let root =
            openat(CWD, rootfs, DIRECTORY, Mode::empty()).doing(|| format!("open {}", rootfs.display()))?;
        let place = parts(Path::new(dir.as_str()));
        let mut view = Self { directory: directory(&root, &place, dir)?, single: BTreeMap::new() };
        for mount in mounts {
            let at = real(&root, Path::new(&mount.destination))?;
            view.cover(mount, &at, &place, dir)?;
        }
        Ok(view)
    }

    /// Applies one more mount, at the resolved place `at`.
    fn cover(&mut self, mount: &Mounted, at: &[String], place: &[String], dir: &StoreDir) -> Result<()> {
        let unproved = |words: &str| Err(Fault::refused(Code::TrustUnproved, &mount.destination, words));
        if let Some(rest) = place.strip_prefix(at) {
            self.single.clear();
            self.directory = None;
            let Some(source) = mount.shown.source(rest)? else {
                return match &mount.shown {
                    Shown::Nothing => Ok(()),
                    _ => unproved("is mounted over the store, and can only be checked once it is"),
                };
            };
            let found = openat(CWD, source, DIRECTORY, Mode::empty())
                .doing(|| format!("open {}", source.display()))?;
            self.directory = directory(&found, rest, dir)?;
            return Ok(());
        }
        match at.strip_prefix(place) {
            None => Ok(()),
            Some([name]) => {
                let Some(source) = mount.shown.source(&[])? else {
                    return unproved("is mounted over an object, and can only be checked once it is");
                };
                let source = source.canonicalize().doing(|| format!("look for {}", source.display()))?;
                self.single.insert(name.clone(), source);
                Ok(())
            }
            Some(_) => unproved("is mounted over a part of an object"),
        }
    }

    /// Names of all visible entries.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>> {
        let mut found: BTreeSet<String> = self.single.keys().cloned().collect();
        let Some(directory) = &self.directory else { return Ok(found) };
        let doing = || "read the container's store";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat(directory, ".", flags, Mode::empty()).doing(doing)?;
        for entry in Dir::read_from(readable).doing(doing)? {
            let name = entry.doing(doing)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                found.insert(String::from_utf8_lossy(&name).into_owned());
            }
        }
        Ok(found)
    }

    /// A path to read an object at, valid as long as this value lives.
    pub(crate) fn path(&self, object: &StorePath) -> Result<PathBuf> {
        let name = object.to_string();
        if let Some(source) = self.single.get(&name) {
            return Ok(source.clone());
        }
        match &self.directory {
            Some(directory) => Ok(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()),
            None => Err(Fault::refused(Code::ClosureIncomplete, name, "is not in the root file system")),
        }
    }
}

/// The directory `place` below `root`, without following symbolic links.
fn directory(root: &OwnedFd, place: &[String], dir: &StoreDir) -> Result<Option<OwnedFd>> {
    let doing = || format!("open {} in the root file system", dir.as_str());
    let mut here = openat(root, c".", DIRECTORY, Mode::empty()).doing(doing)?;
    for name in place {
        here = match openat(&here, name.as_str(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let words = "is not a directory, or is reached through a link, in the root file system";
                return Err(Fault::refused(Code::TrustUnproved, dir.as_str(), words));
            }
            Err(error) => return Err(error).doing(doing)?,
        };
    }
    Ok(Some(here))
}

/// The components of a path, with `.` and `..` resolved.
fn parts(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => found.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(found.pop()),
            _ => {}
        }
    }
    found
}

/// The resolved place of a mount on `destination`: symbolic links in the root file system are
/// followed, as far as the path exists.
fn real(root: &OwnedFd, destination: &Path) -> Result<Vec<String>> {
    let wanted = parts(destination);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for there in (0..=wanted.len()).rev() {
        let (first, rest) = wanted.split_at(there);
        let path = if first.is_empty() { PathBuf::from(".") } else { first.iter().collect() };
        let path = CString::new(path.into_os_string().into_vec()).map_err(|_| Errno::INVAL);
        match path.and_then(|path| walk::open(root.as_fd(), &path, flags)) {
            Ok(found) => {
                let name = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                let (top, found) = (name(root), name(&found));
                let (top, found) = (
                    top.doing(|| "get the path of the root file system")?,
                    found.doing(|| "get the path of a mount")?,
                );
                let below = found.strip_prefix(&top).map(parts).unwrap_or_default();
                return Ok(below.into_iter().chain(rest.iter().cloned()).collect());
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => {
                Err(error).doing(|| format!("look for {} in the root file system", destination.display()))?
            }
        }
    }
    Ok(wanted)
}
