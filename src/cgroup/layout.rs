//! How this host's cgroup hierarchies are mounted: unified (v2), by controller (v1), or both.

use std::path::PathBuf;

use rustix::fs::{FsWord, statfs};

use crate::error::{Doing, Result};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::small_file;

/// The mount point of v2 under systemd, and nearly everywhere else.
const USUAL_MOUNT: &str = "/sys/fs/cgroup";

/// `f_type` of cgroup2, linux/magic.h.
const CGROUP2_SUPER_MAGIC: FsWord = 0x6367_7270;

/// The hierarchies that can limit processes of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// No hierarchy is mounted.
    None,
    /// cgroup v2 only.
    Unified {
        /// The mount point.
        mount: PathBuf,
    },
    /// cgroup v1, one hierarchy for each set of controllers.
    Legacy {
        /// In the order of /proc/self/cgroup.
        hierarchies: Vec<Hierarchy>,
        /// The v2 hierarchy next to it, without the controllers that v1 has (systemd calls this
        /// hybrid).
        unified: Option<Hierarchy>,
    },
}

/// One mounted hierarchy, and our cgroup in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`, …, or one `name=…`; empty for v2.
    pub controllers: Vec<String>,
    /// The mount point.
    pub mount: PathBuf,
    /// The cgroup that is the root of the mount: `/`, or another one in a container.
    pub root: String,
    /// Our own cgroup.
    pub own: String,
}

impl Hierarchy {
    /// Our own cgroup, relative to the mount.
    pub(super) fn own_below_root(&self) -> &str {
        below_root(&self.root, &self.own)
    }
}

/// A cgroup's path, relative to a mount that shows the cgroup `root`.
pub(super) fn below_root<'p>(root: &str, path: &'p str) -> &'p str {
    match path.strip_prefix(root.trim_end_matches('/')) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Detects the layout. If v2 is at the usual path, this is one statfs(2).
///
/// Errors if /proc is not readable.
pub fn layout() -> Result<Layout> {
    if statfs(USUAL_MOUNT).is_ok_and(|found| found.f_type == CGROUP2_SUPER_MAGIC) {
        return Ok(Layout::Unified { mount: PathBuf::from(USUAL_MOUNT) });
    }
    let mounts = mountinfo::of("self").doing(|| "read /proc/self/mountinfo")?;
    Ok(Layout::of(&mounts, &own_cgroups()?))
}

/// The text of /proc/self/cgroup, cgroups(7).
pub(super) fn own_cgroups() -> Result<String> {
    cgroups_of("/proc/self/cgroup")
}

/// The text of a file /proc/PID/cgroup.
pub(super) fn cgroups_of(file: &str) -> Result<String> {
    let text = small_file::read_record(file).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))
    });
    text.doing(|| format!("read {file}"))
}

/// Our cgroup in the unified hierarchy, from the text of /proc/self/cgroup.
pub(super) fn own_unified(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::"))
}

impl Layout {
    /// The layout, from the mounts that we see and the text of /proc/self/cgroup, cgroups(7).
    pub fn of(mounts: &[Mount], own: &str) -> Self {
        let mut hierarchies = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let Some(first) = controllers.split(',').next().filter(|first| !first.is_empty()) else {
                continue;
            };
            let holds = |mount: &&Mount| {
                mount.fstype == "cgroup" && mount.options.split(',').any(|option| option == first)
            };
            if let Some(mount) = mounts.iter().find(holds) {
                hierarchies.push(Hierarchy {
                    controllers: controllers.split(',').map(str::to_owned).collect(),
                    mount: PathBuf::from(&mount.place),
                    root: mount.root.clone(),
                    own: path.to_owned(),
                });
            }
        }
        let unified = mounts.iter().find(|mount| mount.fstype == "cgroup2");
        if hierarchies.is_empty() {
            return unified
                .map_or(Layout::None, |mount| Layout::Unified { mount: PathBuf::from(&mount.place) });
        }
        let unified = unified.map(|mount| Hierarchy {
            controllers: Vec::new(),
            mount: PathBuf::from(&mount.place),
            root: mount.root.clone(),
            own: own_unified(own).unwrap_or("/").to_owned(),
        });
        Layout::Legacy { hierarchies, unified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 /box /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";
    const OWN: &str = "9:name=systemd:/\n4:memory:/a\n2:cpu,cpuacct:/box/b\n1:pids:/\n0::/u\n";

    fn hierarchy(controllers: &[&str], mount: &str, root: &str, own: &str) -> Hierarchy {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        Hierarchy { controllers, mount: mount.into(), root: root.into(), own: own.into() }
    }

    #[test]
    fn texts_to_layout() {
        let legacy = vec![
            hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd", "/", "/"),
            hierarchy(&["memory"], "/sys/fs/cgroup/with space", "/", "/a"),
            hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/box", "/box/b"),
        ];
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let hybrid = hierarchy(&[], "/sys/fs/cgroup/unified", "/", "/u");
        let table = [
            ("none", String::new(), Layout::None),
            ("v1", V1.to_owned(), Layout::Legacy { hierarchies: legacy.clone(), unified: None }),
            ("hybrid", format!("{V1}{v2}"), Layout::Legacy { hierarchies: legacy, unified: Some(hybrid) }),
            ("v2 elsewhere", v2.to_owned(), Layout::Unified { mount: "/sys/fs/cgroup/unified".into() }),
        ];
        for (name, mountinfo, want) in table {
            let mounts: Vec<Mount> = mountinfo::parse(&mountinfo).collect();
            assert_eq!(Layout::of(&mounts, OWN), want, "{name}");
        }
    }

    #[test]
    fn the_own_cgroup_is_found_below_the_mounts_root() {
        let table = [
            ("/", "/a/b", "/a/b"),
            ("/box", "/box/b", "/b"),
            ("/box", "/boxes", "/boxes"),
            ("/box", "/box", ""),
        ];
        for (root, own, want) in table {
            assert_eq!(hierarchy(&[], "/m", root, own).own_below_root(), want, "{root} {own}");
        }
    }
}
