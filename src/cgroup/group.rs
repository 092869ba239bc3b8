//! Decides which directories form a container's cgroup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, join};
use super::layout::{Hierarchy, Layout, below_root, cgroups_of, own_cgroups, own_unified};
use super::systemd::{self, Scope};
use super::{BadLimit, Driver};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::mountinfo;

/// A container's cgroup, created or not; the state file keeps it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The directory in the v2 hierarchy, which has the limits; on a hybrid host it has no
    /// controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<Directory>,
    /// The directories in the v1 hierarchies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy: Vec<Legacy>,
    /// The systemd unit that owns the v2 cgroup, or a cgroup above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The cgroup below `unified` in which the container's processes start; the container may then
    /// manage all of `unified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<String>,
}

/// A cgroup in one v1 hierarchy.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Legacy {
    /// `cpu`, `cpuacct`, …, or one `name=…`.
    pub controllers: Vec<String>,
    /// The directory.
    pub dir: Directory,
}

impl Group {
    /// Decides where the cgroup of container `id` is; creates nothing. `None`: no cgroup, by
    /// request or because none is mounted.
    ///
    /// `cgroups_path` is `linux.cgroupsPath`. An absolute one is relative to the hierarchy's root.
    /// A relative one, or `id` if it is empty, is in v2 a sibling of our own cgroup (which has
    /// processes, us, so it cannot have children with controllers), and in v1 a child of our own
    /// cgroup. `..` cannot escape. Reads /proc/self/cgroup only when our own cgroup matters.
    pub fn place(layout: &Layout, driver: Driver, cgroups_path: &str, id: &str) -> Result<Option<Self>> {
        match driver {
            Driver::Disabled => return Ok(None),
            Driver::Systemd => return of_systemd(layout, cgroups_path, id).map(Some),
            Driver::Plain => {}
        }
        let wish = Wish::new(cgroups_path, id)?;
        match layout {
            Layout::None => Ok(None),
            Layout::Unified { mount } => {
                let below = match &wish {
                    Wish::Absolute(path) => path.clone(),
                    Wish::Relative(path) => beside(own_unified(&own_cgroups()?).unwrap_or("/"), path),
                };
                Ok(Some(Self::unified(Directory { mount: mount.clone(), below })))
            }
            Layout::Legacy { hierarchies, unified } => {
                let legacy = hierarchies.iter().map(|hierarchy| Legacy {
                    controllers: hierarchy.controllers.clone(),
                    dir: wish.inside(hierarchy),
                });
                let legacy = legacy.collect();
                let unified = unified.as_ref().map(|hierarchy| wish.inside(hierarchy));
                Ok(Some(Self { unified, legacy, ..Self::default() }))
            }
        }
    }

    pub(super) fn unified(dir: Directory) -> Self {
        Self { unified: Some(dir), ..Self::default() }
    }

    /// Adds the cgroups that annotations request below the group: `run.oci.systemd.subgroup` (of a
    /// unit only), `run.oci.delegate-cgroup`.
    pub fn annotated(mut self, annotations: &BTreeMap<String, String>) -> Result<Self> {
        const DELEGATED: &str = "run.oci.delegate-cgroup";
        self.delegated = systemd::subgroup(annotations, DELEGATED)?;
        if self.delegated.is_some() && !self.is_unified() {
            let words = "needs cgroup v2 only, because delegation is not safe in cgroup v1";
            return Err(BadLimit::unsupported(format!("annotations[{DELEGATED:?}]"), words).into());
        }
        let subgroup = systemd::subgroup(annotations, "run.oci.systemd.subgroup")?;
        if let Some(scope) = &mut self.scope {
            scope.describe(annotations);
            let below = join(&scope.dir.below, subgroup.as_deref().unwrap_or_default());
            self.unified = Some(Directory { mount: scope.dir.mount.clone(), below });
        }
        Ok(self)
    }

    /// Whether a process can only be moved into the group after its creation: clone3(2) cannot
    /// create it there.
    pub fn is_joined_late(&self) -> bool {
        self.scope.is_some() || !self.is_unified()
    }

    /// The group in which the container's processes start; `exec` uses it too.
    #[must_use]
    pub fn of_processes(&self) -> Self {
        match &self.delegated {
            Some(name) => self.clone().child(&clean(name), &[]),
            None => self.clone(),
        }
    }

    /// Whether all controllers are in v2, so that [`super::limits`] applies and devices are
    /// controlled by eBPF.
    pub fn is_unified(&self) -> bool {
        self.legacy.is_empty()
    }

    /// The directory of a v1 controller.
    pub fn legacy_dir(&self, controller: &str) -> Option<&Directory> {
        let holds = |legacy: &&Legacy| legacy.controllers.iter().any(|name| name == controller);
        self.legacy.iter().find(holds).map(|legacy| &legacy.dir)
    }

    /// All paths by controller; v2's has an empty name.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let v2 = self.unified.iter().map(|dir| (String::new(), dir.path()));
        let v1 = self
            .legacy
            .iter()
            .flat_map(|legacy| legacy.controllers.iter().map(|name| (name.clone(), legacy.dir.path())));
        v2.chain(v1).collect()
    }

    /// Returns the group at `path` below this one (`exec --cgroup`), in the hierarchies of these v1
    /// controllers, or in every one if none is named. It is not created.
    ///
    /// Errors if `path` leads out, or a controller is not one of this group's.
    pub fn below(self, controllers: &[String], path: &str) -> Result<Self> {
        let refuse = |words: String| Err(Error::new(Kind::Usage, format!("--cgroup: {words}")));
        if path.split('/').any(|part| part == "..") {
            return refuse(format!("{path:?} leads out of the container's cgroup"));
        }
        if let Some(name) = controllers.iter().find(|name| self.legacy_dir(name).is_none()) {
            return refuse(if self.is_unified() {
                format!("{name}: cgroup v2 has one path for all controllers; leave it out")
            } else {
                format!("{name} is not a controller of the container's cgroup")
            });
        }
        Ok(self.child(&clean(path), controllers))
    }

    /// The group at the normalized `path` below this one, in the hierarchies of these v1
    /// controllers, or in every one if none is named.
    fn child(mut self, path: &str, controllers: &[String]) -> Self {
        let every = controllers.is_empty();
        let named = |legacy: &Legacy| controllers.iter().any(|name| legacy.controllers.contains(name));
        for legacy in self.legacy.iter_mut().filter(|legacy| every || named(legacy)) {
            legacy.dir.below = join(&legacy.dir.below, path);
        }
        if let (Some(dir), true) = (&mut self.unified, every) {
            dir.below = join(&dir.below, path);
        }
        self
    }

    /// The present group of a process, which may have moved to a cgroup below this one. v2 only.
    ///
    /// `None` if the process is not in this group.
    pub fn of_member(&self, pid: i32) -> Result<Option<Self>> {
        let Some(dir) = self.unified.as_ref().filter(|_| self.is_unified()) else { return Ok(None) };
        let file = format!("/proc/{pid}/cgroup");
        let text = cgroups_of(&file)?;
        let below = clean(own_unified(&text).unwrap_or_default());
        let inside =
            below.strip_prefix(&dir.below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let present = Directory { mount: dir.mount.clone(), below };
        Ok(inside.then(|| Self::unified(present)))
    }

    /// Whether a directory of the group was removed.
    pub fn is_gone(&self) -> Result<bool> {
        for dir in self.dirs() {
            let path = dir.path();
            match statat(CWD, &path, AtFlags::empty()) {
                Ok(_) => {}
                Err(Errno::NOENT) => return Ok(true),
                Err(error) => return Err(error).doing(|| format!("stat cgroup {}", path.display())),
            }
        }
        Ok(false)
    }

    /// The present group of any process, in the hierarchies of this group. `None`: in none that is
    /// mounted here.
    pub fn of_process(&self, pid: i32) -> Result<Option<Self>> {
        let file = format!("/proc/{pid}/cgroup");
        let text = cgroups_of(&file)?;
        let directory = |mount: &Path, root: &str, path: &str| Directory {
            mount: mount.to_owned(),
            below: clean(below_root(root, path)),
        };
        if let (Some(dir), true) = (&self.unified, self.is_unified()) {
            return Ok(own_unified(&text).map(|path| Self::unified(directory(&dir.mount, "/", path))));
        }
        let mounts = mountinfo::of("self").doing(|| "read /proc/self/mountinfo")?;
        let Layout::Legacy { hierarchies, unified } = Layout::of(&mounts, &text) else { return Ok(None) };
        let legacy = hierarchies.iter().map(|found| Legacy {
            controllers: found.controllers.clone(),
            dir: directory(&found.mount, &found.root, &found.own),
        });
        let unified = unified.filter(|_| self.unified.is_some());
        let unified = unified.map(|found| directory(&found.mount, &found.root, &found.own));
        Ok(Some(Self { unified, legacy: legacy.collect(), ..Self::default() }))
    }

    /// Every directory, v1's first.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Directory> {
        self.legacy.iter().map(|legacy| &legacy.dir).chain(&self.unified)
    }
}

fn of_systemd(layout: &Layout, cgroups_path: &str, id: &str) -> Result<Group> {
    let Layout::Unified { mount } = layout else {
        let words =
            "the systemd cgroup driver needs cgroup v2 only at /sys/fs/cgroup; use --cgroup-manager cgroupfs";
        return Err(Error::new(Kind::Unsupported, words));
    };
    let scope = Scope::place(mount, cgroups_path, id)?;
    Ok(Group { unified: Some(scope.dir.clone()), scope: Some(scope), ..Group::default() })
}

/// `linux.cgroupsPath`, normalized and never empty.
enum Wish {
    Absolute(String),
    Relative(String),
}

impl Wish {
    fn new(cgroups_path: &str, id: &str) -> Result<Self> {
        if cgroups_path.is_empty() {
            return Ok(Self::Relative(clean(id)));
        }
        let path = clean(cgroups_path);
        if path.is_empty() {
            let words = format!("{cgroups_path:?} is the root of the hierarchy; name a cgroup below it");
            return Err(Error::invalid("linux.cgroupsPath", words));
        }
        Ok(if cgroups_path.starts_with('/') { Self::Absolute(path) } else { Self::Relative(path) })
    }

    fn inside(&self, hierarchy: &Hierarchy) -> Directory {
        let below = match self {
            Self::Absolute(path) => path.clone(),
            Self::Relative(path) if hierarchy.controllers.is_empty() => {
                beside(hierarchy.own_below_root(), path)
            }
            Self::Relative(path) => join(&clean(hierarchy.own_below_root()), path),
        };
        Directory { mount: hierarchy.mount.clone(), below }
    }
}

fn beside(own: &str, path: &str) -> String {
    join(&clean(&format!("{own}/..")), path)
}

/// Normalizes a path: no empty parts, no `.` and `..`; `..` at the top stays at the top.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hybrid() -> Layout {
        let hierarchy = |controllers: &[&str], mount: &str, root: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            mount: mount.into(),
            root: root.into(),
            own: own.into(),
        };
        Layout::Legacy {
            hierarchies: vec![
                hierarchy(&["memory"], "/m", "/", "/job"),
                hierarchy(&["cpu", "cpuacct"], "/c", "/box", "/box"),
            ],
            unified: Some(hierarchy(&[], "/u", "/", "/slice/scope")),
        }
    }

    #[test]
    fn paths_by_wish() {
        let table = [
            ("absolute", "/a/b", ["a/b", "a/b", "a/b"]),
            ("not clean", "//a/./c/../b/", ["a/b", "a/b", "a/b"]),
            ("out of the top", "/../../a", ["a", "a", "a"]),
            ("relative", "a/b", ["job/a/b", "a/b", "slice/a/b"]),
            ("out of our own", "../../../a", ["job/a", "a", "slice/a"]),
            ("absent", "", ["job/web", "web", "slice/web"]),
        ];
        for (name, path, want) in table {
            let group = Group::place(&hybrid(), Driver::Plain, path, "web").unwrap().unwrap();
            let legacy = group.legacy.iter().map(|legacy| &legacy.dir);
            let got: Vec<&str> = legacy.chain(&group.unified).map(|dir| dir.below.as_str()).collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn unified_absolute_needs_no_file() {
        let layout = Layout::Unified { mount: "/nowhere".into() };
        let group = Group::place(&layout, Driver::Plain, "/x/y", "web").unwrap().unwrap();
        assert_eq!(group.paths(), BTreeMap::from([(String::new(), "/nowhere/x/y".into())]));
        assert!(group.is_unified());
    }

    #[test]
    fn no_group() {
        assert_eq!(Group::place(&hybrid(), Driver::Disabled, "/a", "web").unwrap(), None);
        assert_eq!(Group::place(&Layout::None, Driver::Plain, "/a", "web").unwrap(), None);
        assert_eq!(
            Group::place(&hybrid(), Driver::Systemd, "a:b:c", "web").unwrap_err().kind(),
            Kind::Unsupported
        );
        let root = Group::place(&hybrid(), Driver::Plain, "/a/..", "web").unwrap_err();
        assert!(root.to_string().starts_with("linux.cgroupsPath: "), "{root}");
    }

    #[test]
    fn state_keeps_all() {
        let group = Group::place(&hybrid(), Driver::Plain, "/a", "web").unwrap().unwrap();
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
        assert_eq!(group.legacy_dir("cpuacct").unwrap().path(), PathBuf::from("/c/a"));
    }

    #[test]
    fn groups_below() {
        let group = || Group::place(&hybrid(), Driver::Plain, "/a", "web").unwrap().unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let table: &[(&[&str], &str, [&str; 3])] = &[
            (&[], "x/y", ["a/x/y", "a/x/y", "a/x/y"]),
            (&[], "/x//.", ["a/x", "a/x", "a/x"]),
            (&["memory"], "x", ["a/x", "a", "a"]),
            (&["cpuacct", "memory"], "x", ["a/x", "a/x", "a"]),
        ];
        for (controllers, path, want) in table {
            let below = group().below(&names(controllers), path).unwrap();
            let got: Vec<&str> = below.dirs().map(|dir| dir.below.as_str()).collect();
            assert_eq!(got, want, "{controllers:?} {path}");
        }
        for (controllers, path) in [(&[][..], "x/../.."), (&[], ".."), (&["pids"], "x")] {
            assert_eq!(group().below(&names(controllers), path).unwrap_err().kind(), Kind::Usage);
        }
    }

    #[test]
    fn a_member_is_found_where_it_is() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let here = clean(own_unified(&own).unwrap_or("/"));
        let at = |below: &str| Group::unified(Directory { mount: "/u".into(), below: below.into() });
        let pid = std::process::id() as i32;
        assert_eq!(at(&here).of_member(pid).unwrap(), Some(at(&here)));
        assert_eq!(at(&format!("{here}x")).of_member(pid).unwrap(), None);
    }
}
