//! A cgroup's directory, its paths and its processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::file::read_at;
use super::tree;
use crate::error::{Doing, Result};

/// A cgroup's directory.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// The mount point of its hierarchy.
    pub mount: PathBuf,
    /// Normalized and relative to `mount`: no empty part, no `.` or `..`.
    pub below: String,
}

impl Directory {
    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.mount.join(&self.below)
    }
}

/// `path` below `above`; either may be empty.
pub(super) fn join(above: &str, path: &str) -> String {
    match (above, path) {
        ("", _) => path.to_owned(),
        (_, "") => above.to_owned(),
        _ => format!("{above}/{path}"),
    }
}

/// The processes in a cgroup and below, without duplicates.
pub(super) fn pids(path: &Path) -> Result<Vec<i32>> {
    let mut found = BTreeSet::new();
    tree::each(path, |dir| match read_at(dir, "cgroup.procs") {
        Ok(text) => {
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            Ok(())
        }
        // Removed meanwhile; or threaded, and its processes are listed above.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    })
    .doing(|| format!("list the processes of cgroup {}", path.display()))?;
    Ok(found.into_iter().collect())
}
