//! What a mount of the host will show, as far as this is known before it is made.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, fgetxattr, openat};
use rustix::io::Errno;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error};
use crate::spec::Mount;

/// Kernel file systems that contain no objects when they are new.
const EMPTY: [&str; 7] = ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Extended attributes of an upper directory that hides the directory below, or replaces another
/// one.
const MARKS: [&str; 4] =
    ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.overlay.redirect"];

/// A mount of a container, as config.json has it.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// Path in the container.
    pub destination: String,
    /// Content of the mount.
    pub shown: Shown,
}

/// The content of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// This file or directory of the host.
    Bound(PathBuf),
    /// One lower directory of the host, with an upper one over it.
    Overlay {
        /// The read-only directory.
        lower: PathBuf,
        /// The directory for writes.
        upper: Option<PathBuf>,
    },
    /// Nothing that could be an object.
    Nothing,
    /// Unknown before it is mounted.
    Unknown,
}

impl Mounted {
    /// The content of `mount` from a configuration; a relative source is below `bundle`.
    pub fn of(mount: &Mount, bundle: &Path) -> Self {
        let has = |option: &str| mount.options.iter().any(|found| found == option);
        let shown = match mount.kind.as_str() {
            kind if kind == "bind" || has("bind") || has("rbind") => Shown::Bound(bundle.join(&mount.source)),
            "overlay" => overlay(&mount.options).unwrap_or(Shown::Unknown),
            kind if EMPTY.contains(&kind) && !has("tmpcopyup") => Shown::Nothing,
            _ => Shown::Unknown,
        };
        Self { destination: mount.destination.clone(), shown }
    }
}

impl Shown {
    /// The directory of the host that has everything visible at `place`. `None`: there is none, or
    /// it is unknown.
    ///
    /// Refused with `trust.unproved`: the upper directory of an overlay has other content there.
    pub(super) fn source(&self, place: &[String]) -> Result<Option<&Path>> {
        match self {
            Self::Bound(source) => Ok(Some(source)),
            Self::Overlay { lower, upper } => {
                upper.as_ref().map_or(Ok(()), |upper| check_upper(upper, place))?;
                Ok(Some(lower))
            }
            Self::Nothing | Self::Unknown => Ok(None),
        }
    }
}

/// `None`: directories that are given twice, several lower ones, or paths that are not plain
/// absolute ones.
fn overlay(options: &[String]) -> Option<Shown> {
    let (mut lower, mut upper) = (None, None);
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let place = match name {
            "lowerdir" => &mut lower,
            "upperdir" => &mut upper,
            "workdir" => continue,
            // `lowerdir+` and `datadir+` of newer kernels.
            name if name.contains("dir+") => return None,
            _ => continue,
        };
        let plain = value.starts_with('/') && !value.contains([':', '\\', ',']);
        if !plain || place.replace(PathBuf::from(value)).is_some() {
            return None;
        }
    }
    Some(Shown::Overlay { lower: lower?, upper })
}

/// Checks that an upper directory changes nothing at `place`. Refused with `trust.unproved`.
fn check_upper(upper: &Path, place: &[String]) -> Result<()> {
    let refused = |words: &str| Err(Fault::refused(Code::TrustUnproved, upper.display().to_string(), words));
    let doing = || format!("open {}", upper.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = openat(CWD, upper, flags, Mode::empty()).doing(doing)?;
    let mut left = place.iter();
    loop {
        if is_marked(&here).doing(doing)? {
            return refused("hides what the store has below it");
        }
        let Some(name) = left.next() else { break };
        here = match openat(&here, name.as_str(), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::LOOP | Errno::NOTDIR) => return refused("has something in the store's place"),
            Err(error) => return Err(error).doing(doing)?,
        };
    }
    for entry in Dir::read_from(&here).doing(doing)? {
        let entry = entry.doing(doing)?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            let name = entry.file_name().to_string_lossy();
            return refused(&format!("has {}, which covers the store; empty it", name.escape_debug()));
        }
    }
    Ok(())
}

fn is_marked(directory: &OwnedFd) -> std::result::Result<bool, Error> {
    for mark in MARKS {
        match fgetxattr(directory, mark, &mut [0u8; 0][..]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_shown_by_mounts() {
        let lower = |upper: Option<&str>| Shown::Overlay { lower: "/l".into(), upper: upper.map(Into::into) };
        let table: [(&str, &[&str], Shown); 15] = [
            ("bind", &[], Shown::Bound("/b/s".into())),
            ("overlay", &["rbind"], Shown::Bound("/b/s".into())),
            ("none", &["bind"], Shown::Bound("/b/s".into())),
            ("tmpfs", &["mode=755"], Shown::Nothing),
            ("tmpfs", &["tmpcopyup"], Shown::Unknown),
            ("ext4", &[], Shown::Unknown),
            ("overlay", &["lowerdir=/l"], lower(None)),
            ("overlay", &["nodev", "lowerdir=/l", "upperdir=/u", "workdir=/w"], lower(Some("/u"))),
            ("overlay", &["lowerdir=/l:/m"], Shown::Unknown),
            ("overlay", &["lowerdir=l"], Shown::Unknown),
            ("overlay", &["lowerdir=/l", "lowerdir=/m"], Shown::Unknown),
            ("overlay", &["lowerdir=/l", "lowerdir+=/m"], Shown::Unknown),
            ("overlay", &["lowerdir=/l", "upperdir=/u\\,x"], Shown::Unknown),
            ("overlay", &["lowerdir=/l,upperdir=/u"], Shown::Unknown),
            ("overlay", &["upperdir=/u"], Shown::Unknown),
        ];
        for (kind, options, want) in table {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            let mount = Mount { kind: kind.into(), source: "s".into(), options, ..Mount::default() };
            assert_eq!(Mounted::of(&mount, Path::new("/b")).shown, want, "{mount:?}");
        }
    }
}
