//! What this host and this process are, as far as a plan depends on it.

use std::ffi::CString;
use std::fs;

use super::request::Settings;
use crate::cgroup::{self, Group};
use crate::error::Result;
use crate::plan::{CgroupView, Host};
use crate::spec::Spec;
use crate::sys::cred;

/// The facts, and the control group that the container will have.
pub struct Facts {
    /// For the plan.
    pub host: Host,
    /// `None`: the driver is disabled, or the host has no control groups.
    pub group: Option<Group>,
}

/// Reads them; files only where config.json asks for what they tell.
pub fn host(spec: &Spec, settings: &Settings, id: &str) -> Result<Facts> {
    let linux = spec.linux.as_ref();
    let layout = cgroup::layout()?;
    let path = linux.map_or("", |linux| &linux.cgroups_path);
    let group = Group::place(&layout, settings.driver, path, id)?;
    let process = spec.process.as_ref();
    let apparmor = process.is_some_and(|process| !process.apparmor_profile.is_empty()) && has_apparmor();
    let label = |linux: &crate::spec::Linux| !linux.mount_label.is_empty();
    let labelled =
        process.is_some_and(|process| !process.selinux_label.is_empty()) || linux.is_some_and(label);
    let host = Host {
        euid: rustix::process::geteuid().as_raw(),
        egid: rustix::process::getegid().as_raw(),
        capabilities: cred::permitted_capabilities()?,
        apparmor,
        selinux: labelled && fs::exists("/sys/fs/selinux/enforce").unwrap_or(false),
        cgroup_view: view(group.as_ref()),
    };
    Ok(Facts { host, group })
}

fn view(group: Option<&Group>) -> Option<CgroupView> {
    let folder = group.map_or_else(|| "/sys/fs/cgroup".into(), |group| group.path.clone());
    let folder = CString::new(folder.to_str()?).ok()?;
    Some(CgroupView::Unified(folder))
}

fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}
