//! A group's resource usage in the format of runc's `events`: member names, nesting and order are
//! those of its package types.
//!
//! Read from small files, each of which may be missing (no such controller, or an older kernel):
//! their values are then zero or left out. The texts are parsed without kernel access: `unified`
//! for v2, `legacy` for v1.

mod files;
mod legacy;
mod types;
mod unified;

use std::cell::Cell;
use std::os::fd::AsFd;

use self::files::Files;
use super::file::{is_shortage, open_dir, read_at};
use super::{Group, directory};
use crate::error::{Doing, Result};

pub use types::Stats;

impl Group {
    /// Reads the statistics. All zeros if the group no longer exists.
    ///
    /// Errors if descriptors or memory are short: then nothing is known.
    pub fn stats(&self) -> Result<Stats> {
        let v2 = self.unified.as_ref().filter(|_| self.is_unified()).map(super::Directory::path);
        let failed = Cell::new(None);
        let read = |file: &str| {
            let controller = file.split('.').next()?;
            let path = v2.clone().or_else(|| Some(self.legacy_dir(controller)?.path()))?;
            match open_dir(&path).and_then(|dir| read_at(dir.as_fd(), file)) {
                Ok(text) => Some(text),
                Err(error) => {
                    if is_shortage(error) {
                        failed.set(Some((path.join(file), error)));
                    }
                    None
                }
            }
        };
        let sizes = self.hugepage_sizes()?;
        let mut stats = if self.is_unified() {
            Stats::of_unified(&read, &sizes)
        } else {
            Stats::of_legacy(&read, &sizes)
        };
        if let Some((path, error)) = failed.take() {
            return Err(error).doing(|| format!("read {}", path.display()));
        }
        if let (0, Some(path)) = (stats.pids.current, v2) {
            // Without the controller, processes are counted, but not their threads.
            stats.pids.current = directory::pids(&path)?.len() as u64;
        }
        Ok(stats)
    }

    /// The page sizes that the hugetlb controller has files for: `2MB`, `1GB`, …
    fn hugepage_sizes(&self) -> Result<Vec<String>> {
        let dir = self.legacy_dir("hugetlb").or(self.unified.as_ref().filter(|_| self.is_unified()));
        let Some(path) = dir.map(super::Directory::path) else { return Ok(Vec::new()) };
        let doing = || format!("read {}", path.display());
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(doing)?,
        };
        let mut sizes = Vec::new();
        for entry in entries {
            let name = entry.doing(doing)?.file_name();
            let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb."));
            let size = size
                .and_then(|size| size.strip_suffix(".max").or_else(|| size.strip_suffix(".limit_in_bytes")));
            sizes.extend(size.filter(|size| !size.contains('.')).map(str::to_owned));
        }
        Ok(sizes)
    }
}

impl Stats {
    /// Parses the texts of a v2 cgroup's files, by name; `sizes` are those of huge pages, such as
    /// `2MB`.
    pub fn of_unified(file: &dyn Fn(&str) -> Option<String>, sizes: &[String]) -> Self {
        unified::read(&Files(file), sizes)
    }

    /// As [`Stats::of_unified`], from the files of v1 cgroups.
    pub fn of_legacy(file: &dyn Fn(&str) -> Option<String>, sizes: &[String]) -> Self {
        legacy::read(&Files(file), sizes)
    }
}

#[cfg(test)]
mod tests;
