//! Validates `mounts` of config.json and turns them into ordered steps.

use std::ffi::{CStr, CString};

use rustix::mount::MountFlags;

use super::ids::IdMaps;
use super::mount_options::{Entry, Fits, MountOptions, data_options, unmapped};
use super::mount_step::{BindSource, CgroupMount, IdMap, MountKind, MountStep, NewFs};
use super::remount;
use super::{Context, Judge, Place};
use crate::spec;
use crate::sys::mount::Reach;
use crate::sys::namespace::Namespace;

/// The steps for all of `mounts`, in order.
pub(crate) fn plan(spec: &spec::Spec, context: &Context<'_>, judge: &mut Judge) -> Vec<MountStep> {
    let mut steps = Vec::with_capacity(spec.mounts.len());
    for (at, mount) in spec.mounts.iter().enumerate() {
        let step = step(mount, format_args!("mounts[{at}]"), &mut steps, context, judge);
        steps.extend(step);
    }
    steps
}

/// One step; `before` are the steps of the previous mounts.
fn step(
    mount: &spec::Mount,
    path: Place<'_>,
    before: &mut [MountStep],
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<MountStep> {
    if mount.destination.is_empty() {
        judge.fault(format!("{path}.destination"), "empty; name a path inside the container");
        return None;
    }
    if !mount.destination.starts_with('/') {
        judge.warn(format!("{path}.destination: {} is relative; taken from /", mount.destination));
    }
    let target = judge.cstring(format_args!("{path}.destination"), &inside(&mount.destination))?;
    let parsed = MountOptions::read(&mount.options);
    if target.is_empty() && !parsed.remount {
        judge.fault(format!("{path}.destination"), "the root file system itself; name it in root.path");
        return None;
    }
    if parsed.set_anywhere() & libc::MOUNT_ATTR_NOSYMFOLLOW != 0 && !context.nosymfollow {
        judge.fault(format!("{path}.options"), "nosymfollow, which Linux has since 5.10");
    }
    let entry = Entry { mount, path, parsed: &parsed, context };
    let kind = if parsed.remount {
        MountKind::Remount(remount::plan(&entry, &target, before, judge)?)
    } else {
        kind(&entry, judge)?
    };
    let is_new = |fstype: &CStr| matches!(&kind, MountKind::New(new) if new.fstype.as_c_str() == fstype);
    Some(MountStep {
        target_nofollow: parsed.target_nofollow,
        refuses_link: matches!(target.to_bytes(), b"proc" | b"sys") || is_new(c"proc") || is_new(c"sysfs"),
        readonly_late: is_new(c"tmpfs") && parsed.flags.contains(MountFlags::RDONLY),
        holds_nodes: target.as_c_str() == c"dev" && matches!(kind, MountKind::New(_)),
        changed_later: false,
        attributes: parsed.attributes(),
        undone_times: parsed.undone_times(),
        recursive: parsed.recursive(),
        target,
        kind,
        propagation: parsed.propagation,
    })
}

fn kind(entry: &Entry<'_>, judge: &mut Judge) -> Option<MountKind> {
    let Entry { mount, path, parsed, context } = *entry;
    if parsed.bind.is_some() || mount.kind == "bind" {
        parsed.judge(Fits::Bind, path, judge);
        return bind(entry, judge);
    }
    unmapped(mount, path, judge);
    match mount.kind.as_str() {
        "" => {
            judge.fault(format!("{path}.type"), "missing; name a file system type, or add the option bind");
            None
        }
        fstype @ ("cgroup" | "cgroup2") => {
            parsed.judge(Fits::Shared(fstype), path, judge);
            for (index, option) in parsed.data.iter().enumerate() {
                judge.warn(format!("{path}: cgroup option {option:?} (data {index}) is not used"));
            }
            match context.cgroup_view.clone() {
                Some(view) => Some(MountKind::Cgroup(CgroupMount { flags: parsed.flags, view })),
                None => {
                    judge.fault(format!("{path}.type"), "this host has no cgroups to mount");
                    None
                }
            }
        }
        _ => new_fs(entry, judge),
    }
}

fn new_fs(entry: &Entry<'_>, judge: &mut Judge) -> Option<MountKind> {
    let Entry { mount, path, parsed, context } = *entry;
    let fstype = mount.kind.as_str();
    let fits = if remount::is_shared(fstype, context) { Fits::Shared(fstype) } else { Fits::New(fstype) };
    parsed.judge(fits, path, judge);
    let label = &context.mount_label;
    let labelled = !label.is_empty() && !matches!(fstype, "proc" | "sysfs" | "mqueue");
    let mut words = parsed.data.clone();
    if labelled && !words.iter().any(|word| word.starts_with("context=")) {
        words.push(format!("{}=\"{label}\"", context.mount_context));
    }
    let options = data_options(&words, path, judge)?;
    let source = if mount.source.is_empty() { fstype } else { &mount.source };
    Some(MountKind::New(NewFs {
        fstype: judge.cstring(format_args!("{path}.type"), fstype)?,
        source: judge.cstring(format_args!("{path}.source"), source)?,
        flags: parsed.flags,
        data: judge.cstring(format_args!("{path}.options"), &words.join(","))?,
        mode_of_covered: fstype == "tmpfs" && !options.iter().any(|(key, _)| key.as_c_str() == c"mode"),
        options,
        copy_up: parsed.copy_up,
        shared_instance: match fstype {
            "proc" if !context.owns(Namespace::Pid) => Some(c"/proc"),
            // A joined one may be owned by another user namespace than the container's.
            "sysfs" if !context.makes(Namespace::Network) => Some(c"/sys"),
            "mqueue" if !context.owns(Namespace::Ipc) => Some(c"/dev/mqueue"),
            _ => None,
        },
    }))
}

fn bind(entry: &Entry<'_>, judge: &mut Judge) -> Option<MountKind> {
    let Entry { mount, path, parsed, context } = *entry;
    if mount.source.is_empty() {
        judge.fault(format!("{path}.source"), "missing; a bind mount needs the path to bind");
        return None;
    }
    for option in &parsed.data {
        judge.warn(format!("{path}.options: {option:?} has no meaning for a bind mount"));
    }
    let source = context.bundle.join(&mount.source);
    let source = judge.path(format_args!("{path}.source"), &source)?;
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let idmap = match (parsed.idmap, mapped) {
        (None, false) => None,
        (reach, true) => {
            let maps = IdMaps::judge(&mount.uid_mappings, &mount.gid_mappings, path, judge)?;
            Some(IdMap { maps: Some(maps), reach: reach.unwrap_or(Reach::Mount) })
        }
        (Some(reach), false) => {
            if !context.owns(Namespace::User) {
                judge.fault(
                    format!("{path}.options"),
                    "idmap without uidMappings needs a user namespace of the container's own",
                );
            }
            Some(IdMap { maps: None, reach })
        }
    };
    Some(MountKind::Bind(BindSource {
        path: source,
        reach: parsed.bind.unwrap_or(Reach::Mount),
        nofollow: parsed.source_nofollow,
        copy_symlink: parsed.copy_symlink,
        idmap,
        within: None,
    }))
}

/// Normalizes a path inside the container: no `.`, no doubled slashes, `..` resolved lexically, no
/// leading slash.
pub(crate) fn inside(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
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

/// Finds the bind sources below `root` that earlier mounts show, [`BindSource::within`]: lexically.
pub(crate) fn find_sources_within(mounts: &mut [MountStep], root: &CStr) {
    for index in 0..mounts.len() {
        let (earlier, rest) = mounts.split_at_mut(index);
        let Some(MountKind::Bind(bound)) = rest.first_mut().map(|step| &mut step.kind) else { continue };
        let Some(path) = below_root(root, &bound.path) else { continue };
        let shows = |step: &MountStep| {
            let target = step.target.as_bytes();
            let covers = is_below(path.as_bytes(), target);
            !matches!(step.kind, MountKind::Remount { .. })
                && (covers || bound.reach == Reach::Tree && is_below(target, path.as_bytes()))
        };
        if earlier.iter().any(shows) {
            bound.within = Some(path);
        }
    }
}

/// The rest of a path below the root file system, normalized; `None` if it is elsewhere or contains
/// `..`.
fn below_root(root: &CStr, path: &CStr) -> Option<CString> {
    let rest = path.to_bytes().strip_prefix(root.to_bytes())?;
    if !(rest.is_empty() || rest.starts_with(b"/"))
        || rest.split(|byte| *byte == b'/').any(|name| name == b"..")
    {
        return None;
    }
    let names = rest.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    CString::new(names.collect::<Vec<_>>().join(&b'/')).ok()
}

/// Whether `path` is `above` or below `above`.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a host directory is bound over /dev; /dev is then left unchanged.
pub(crate) fn dev_is_bound(mounts: &[MountStep]) -> bool {
    mounts.iter().any(|step| step.target.as_bytes() == b"dev" && matches!(step.kind, MountKind::Bind(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_never_climb() {
        let table = [("/a/b", "a/b"), ("a//./b/", "a/b"), ("/../../etc", "etc"), ("/", ""), ("/a/../..", "")];
        for (given, want) in table {
            assert_eq!(inside(given), want, "{given}");
        }
    }

    #[test]
    fn sources_that_earlier_mounts_show() {
        let table = [
            ("/b/rootfs/data/x", Some("data/x")),
            ("/b/rootfs//data/./x/", Some("data/x")),
            ("/b/rootfs", Some("")),
            ("/b/rootfs2/data", None),
            ("/b/rootfs/data/../../x", None),
            ("/etc", None),
        ];
        for (path, want) in table {
            let want = want.map(|want| CString::new(want).unwrap());
            assert_eq!(below_root(c"/b/rootfs", &CString::new(path).unwrap()), want, "{path}");
        }
        for (path, above, want) in
            [("data/x", "data", true), ("data", "data", true), ("data", "", true), ("data2", "data", false)]
        {
            assert_eq!(is_below(path.as_bytes(), above.as_bytes()), want, "{path} {above}");
        }
    }
}
