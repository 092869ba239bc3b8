//! Facts about this host and this process that a plan depends on.

use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::request::Settings;
use crate::cgroup::{self, Driver, Group, Layout, Resctrl};
use crate::error::{Doing, Result};
use crate::plan::mount_step::LegacyHierarchy;
use crate::plan::{CgroupView, Host, Limiting};
use crate::spec::{Linux, Process, Spec};
use crate::sys::cred;

/// The facts, and the cgroup that the container will have.
pub(crate) struct Facts {
    /// For the plan.
    pub host: Host,
    /// The cgroup. `None`: the driver is disabled, or the host has no cgroups.
    pub group: Option<Group>,
}

/// Reads the facts; reads files only if config.json needs their content.
pub(crate) fn host(spec: &Spec, settings: &Settings, id: &str) -> Result<Facts> {
    let linux = spec.linux.as_ref();
    let layout = cgroup::layout()?;
    let path = linux.map_or("", |linux| &linux.cgroups_path);
    let group = Group::place(&layout, settings.driver, path, id)?;
    let group = group.map(|group| group.annotated(&spec.annotations)).transpose()?;
    let host = Host {
        cgroup_view: view(&layout, group.as_ref()),
        nosymfollow: !asks_for_nosymfollow(spec) || is_at_least(rustix::system::uname().release(), (5, 10)),
        scope: group.as_ref().and_then(|group| group.scope.clone()),
        limiting: match (&group, settings.driver) {
            (_, Driver::Disabled) => Limiting::Disabled,
            (None, _) => Limiting::Nothing,
            (Some(group), _) if group.is_unified() => Limiting::Unified,
            (Some(_), _) => Limiting::Legacy,
        },
        resctrl: match linux.and_then(|linux| linux.intel_rdt.as_ref()) {
            Some(_) => Resctrl::find()?,
            None => None,
        },
        environment: if spec.hooks.is_some() { environment() } else { Vec::new() },
        ..caller(spec.process.as_ref(), linux)?
    };
    Ok(Facts { host, group })
}

/// How this host limits a container that has a cgroup.
pub(crate) fn limiting() -> Result<Limiting> {
    Ok(match cgroup::layout()? {
        Layout::None => Limiting::Nothing,
        Layout::Unified { .. } => Limiting::Unified,
        Layout::Legacy { .. } => Limiting::Legacy,
    })
}

/// The facts that do not depend on a cgroup.
pub(crate) fn caller(process: Option<&Process>, linux: Option<&Linux>) -> Result<Host> {
    let apparmor = process.is_some_and(|process| !process.apparmor_profile.is_empty()) && has_apparmor()?;
    let labelled = process.is_some_and(|process| !process.selinux_label.is_empty())
        || linux.is_some_and(|linux| !linux.mount_label.is_empty());
    Ok(Host {
        euid: rustix::process::geteuid().as_raw(),
        egid: rustix::process::getegid().as_raw(),
        capabilities: cred::permitted_capabilities()?,
        apparmor,
        selinux: labelled && fs::exists("/sys/fs/selinux/enforce").doing(|| "look for SELinux")?,
        nosymfollow: true,
        cgroup_view: None,
        limiting: Limiting::Disabled,
        resctrl: None,
        scope: None,
        environment: Vec::new(),
    })
}

/// The runtime's environment, `NAME=value` each.
fn environment() -> Vec<CString> {
    let entry = |(name, value): (OsString, OsString)| {
        // A process's environment contains no NUL byte.
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    std::env::vars_os().filter_map(entry).collect()
}

fn asks_for_nosymfollow(spec: &Spec) -> bool {
    spec.mounts.iter().flat_map(|mount| &mount.options).any(|option| option.ends_with("nosymfollow"))
}

/// Whether a kernel release is at least `version`: uname(2), `6.1.0-13-amd64`.
fn is_at_least(release: &CStr, version: (u32, u32)) -> bool {
    let text = release.to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// The container's view of /sys/fs/cgroup: its own cgroup if it has one, otherwise all of the
/// host's.
fn view(layout: &Layout, group: Option<&Group>) -> Option<CgroupView> {
    let none = Group::default();
    let group = group.unwrap_or(&none);
    match layout {
        Layout::None => None,
        Layout::Unified { mount } => {
            let own = group.unified.as_ref().map_or_else(|| mount.clone(), cgroup::Directory::path);
            Some(CgroupView::Unified(c_path(&own)?))
        }
        Layout::Legacy { hierarchies, unified } => {
            let mut parts = Vec::new();
            for hierarchy in hierarchies {
                let own = group.legacy.iter().find(|legacy| legacy.controllers == hierarchy.controllers);
                let own = own.map_or_else(|| hierarchy.mount.clone(), |legacy| legacy.dir.path());
                parts.push(legacy(&hierarchy.controllers, &own)?);
            }
            if let Some(unified) = unified {
                let own =
                    group.unified.as_ref().map_or_else(|| unified.mount.clone(), cgroup::Directory::path);
                let name = CString::from(c"unified");
                parts.push(LegacyHierarchy {
                    name,
                    data: CString::default(),
                    own: c_path(&own)?,
                    links: Vec::new(),
                });
            }
            Some(CgroupView::Legacy(parts))
        }
    }
}

fn legacy(controllers: &[String], own: &Path) -> Option<LegacyHierarchy> {
    let all = controllers.join(",");
    let text = |text: &str| CString::new(text).ok();
    Some(match all.strip_prefix("name=") {
        Some(name) => LegacyHierarchy {
            name: text(name)?,
            data: text(&format!("none,{all}"))?,
            own: c_path(own)?,
            links: Vec::new(),
        },
        None => LegacyHierarchy {
            name: text(&all)?,
            data: text(&all)?,
            own: c_path(own)?,
            links: if controllers.len() > 1 {
                controllers.iter().filter_map(|name| text(name)).collect()
            } else {
                Vec::new()
            },
        },
    })
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.to_str()?).ok()
}

fn has_apparmor() -> Result<bool> {
    const FILE: &str = "/sys/module/apparmor/parameters/enabled";
    match fs::read_to_string(FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        text => Ok(text.doing(|| format!("read {FILE}"))?.starts_with('Y')),
    }
}

#[cfg(test)]
mod tests {
    use super::is_at_least;

    #[test]
    fn releases() {
        for release in [c"5.10", c"5.10.0-43-amd64", c"5.15.1", c"6.1.0-13-amd64", c"10.0"] {
            assert!(is_at_least(release, (5, 10)), "{release:?}");
        }
        for release in [c"5.4.0-200-generic", c"5.9.16", c"4.18.0-553.el8", c"", c"x"] {
            assert!(!is_at_least(release, (5, 10)), "{release:?}");
        }
    }
}
