//! `mounts` of config.json, judged and turned into ordered steps.

use std::ffi::{CStr, CString};

use rustix::mount::MountFlags;

use super::asked::{Asked, Fits};
use super::ids::IdMaps;
use super::remount::{self, Remount};
use super::{Context, Judge};
use crate::spec;
use crate::sys::mount::Attributes;

/// One mount, ready to be carried out.
#[derive(Debug)]
pub struct MountStep {
    /// Below the root, without the slash in front; empty for the root itself.
    pub target: CString,
    /// Whether a symbolic link at the target's end is left unresolved.
    pub target_nofollow: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether a target that is a symbolic link is refused: /proc, /sys, and those of proc and sysfs.
    pub refuses_link: bool,
    /// Applied to the mount alone: to a bind mount, one that is there, or one of the host's that stands in for a new one.
    pub attributes: Attributes,
    /// MOUNT_ATTR_…: if the mount has these access times, it gets relatime in their place.
    pub undone_times: Option<u64>,
    /// Applied to the mount and all below it.
    pub recursive: Attributes,
    /// Applied last, in order: MS_…, recursively or not.
    pub propagation: Vec<(u64, bool)>,
    /// Made read-only only when everything below is in place.
    pub readonly_late: bool,
    /// The new /dev, in which nodes are made: by its descriptor, whatever somebody does to its name meanwhile.
    pub holds_nodes: bool,
    /// A later step changes its file system: by its descriptor too.
    pub changed_later: bool,
}

impl MountStep {
    /// Whether the mount's descriptor is kept for later.
    pub fn is_kept(&self) -> bool {
        self.readonly_late || self.holds_nodes || self.changed_later
    }

    /// Whether it mounts something on `target`, instead of changing what is there.
    pub fn mounts_on(&self, target: &CStr) -> bool {
        self.target.as_c_str() == target && !matches!(self.kind, MountKind::Remount(_))
    }

    /// Which step has made the file system that this one changes.
    pub fn changes(&self) -> Option<usize> {
        match &self.kind {
            MountKind::Remount(Remount { file_system: Some(changed) }) => Some(changed.made_by),
            _ => None,
        }
    }
}

/// What is mounted.
#[derive(Debug)]
pub enum MountKind {
    /// A new instance of a file system.
    New(NewFs),
    /// A file or folder of the host.
    Bind(BindSource),
    /// The cgroup file system, as this host has it.
    Cgroup(CgroupMount),
    /// Options of a mount that is there already.
    Remount(Remount),
}

/// An option of a new file system, for fsconfig(2): key, and value or flag.
pub type FsOption = (CString, Option<CString>);

/// A new instance of a file system.
#[derive(Debug)]
pub struct NewFs {
    /// Type, as mount(8) names it.
    pub fstype: CString,
    /// What stands as source in mountinfo.
    pub source: CString,
    /// MS_… for mount(2).
    pub flags: MountFlags,
    /// Options of the file system, joined by commas.
    pub data: CString,
    /// The same, one by one, for fsconfig(2): key, and value or flag.
    pub options: Vec<FsOption>,
    /// A tmpfs without the option mode has the mode of the folder that it covers, if there is one.
    pub mode_of_covered: bool,
    /// Fill it with what it covers.
    pub copy_up: bool,
    /// The host's mount of the same instance, bound where the kernel refuses a new one: that is so in a user namespace
    /// for what shows a namespace (pid, network, ipc) that the container shares with the runtime.
    pub shared_instance: Option<&'static CStr>,
}

impl NewFs {
    /// Whether nothing is asked of the file system itself: one that exists already can then stand in for it.
    pub fn asks_nothing(&self) -> bool {
        let of_file_system = MountFlags::SYNCHRONOUS
            | MountFlags::DIRSYNC
            | MountFlags::LAZYTIME
            | MountFlags::PERMIT_MANDATORY_FILE_LOCKING;
        self.options.is_empty() && !self.flags.intersects(of_file_system)
    }
}

/// A file or folder of the host.
#[derive(Debug)]
pub struct BindSource {
    /// Absolute path on the host.
    pub path: CString,
    /// With all mounts below it.
    pub recursive: bool,
    /// Whether a symbolic link at its end is refused to be followed.
    pub nofollow: bool,
    /// Whether a source that is a symbolic link is copied as one, and nothing mounted.
    pub copy_symlink: bool,
    /// Idmapped, by this mapping.
    pub idmap: Option<IdMap>,
    /// Its path below the container's root, without the slash in front, where an earlier mount of the container shows it: the host's
    /// path leads to what that mount covers.
    pub within: Option<CString>,
}

/// The mapping of an idmapped mount.
#[derive(Debug)]
pub struct IdMap {
    /// `None`: the container's own user namespace.
    pub maps: Option<IdMaps>,
    /// For all mounts below too.
    pub recursive: bool,
}

/// A mount of type `cgroup` or `cgroup2`, in the form that this host needs.
#[derive(Debug)]
pub struct CgroupMount {
    /// Flags of the whole, applied to each part.
    pub flags: MountFlags,
    /// The form.
    pub view: CgroupView,
}

/// What a container sees as /sys/fs/cgroup.
#[derive(Clone, Debug)]
pub enum CgroupView {
    /// One cgroup2 file system; where it cannot be mounted, its folder on the host is bound.
    Unified(CString),
    /// A tmpfs with one entry for each hierarchy of version 1.
    Legacy(Vec<LegacyHierarchy>),
}

/// One hierarchy of cgroup version 1.
#[derive(Clone, Debug)]
pub struct LegacyHierarchy {
    /// Its folder's name, such as `cpu,cpuacct` or `systemd`.
    pub name: CString,
    /// Mount options that select it, such as `cpu,cpuacct` or `none,name=systemd`.
    pub data: CString,
    /// The container's own group on the host, bound where there is no cgroup namespace.
    pub own: CString,
    /// Other names of it: one for each of several controllers.
    pub links: Vec<CString>,
}

/// The steps for all of `mounts`, in order.
pub fn plan(spec: &spec::Spec, context: &Context<'_>, judge: &mut Judge) -> Vec<MountStep> {
    let mut steps = Vec::with_capacity(spec.mounts.len());
    for (at, mount) in spec.mounts.iter().enumerate() {
        let path = format!("mounts[{at}]");
        let step = step(mount, &path, &mut steps, context, judge);
        steps.extend(step);
    }
    steps
}

/// One step; `before` are those for the mounts before it.
fn step(
    mount: &spec::Mount,
    path: &str,
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
    let target = judge.cstring(&format!("{path}.destination"), &inside(&mount.destination))?;
    let asked = Asked::read(&mount.options);
    if target.is_empty() && !asked.remount {
        judge.fault(format!("{path}.destination"), "the root file system itself; name it in root.path");
        return None;
    }
    if asked.set_anywhere() & libc::MOUNT_ATTR_NOSYMFOLLOW != 0 && !context.nosymfollow {
        judge.fault(format!("{path}.options"), "nosymfollow, which Linux has since 5.10");
    }
    let kind = if asked.remount {
        MountKind::Remount(remount::plan(mount, path, &target, &asked, before, context, judge)?)
    } else {
        kind(mount, path, &asked, context, judge)?
    };
    let is_new = |fstype: &CStr| matches!(&kind, MountKind::New(new) if new.fstype.as_c_str() == fstype);
    Some(MountStep {
        target_nofollow: asked.target_nofollow,
        refuses_link: matches!(target.to_bytes(), b"proc" | b"sys") || is_new(c"proc") || is_new(c"sysfs"),
        readonly_late: is_new(c"tmpfs") && asked.flags.contains(MountFlags::RDONLY),
        holds_nodes: target.as_c_str() == c"dev" && matches!(kind, MountKind::New(_)),
        changed_later: false,
        attributes: asked.attributes(),
        undone_times: asked.undone_times(),
        recursive: asked.recursive(),
        target,
        kind,
        propagation: asked.propagation,
    })
}

fn kind(
    mount: &spec::Mount,
    path: &str,
    asked: &Asked,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<MountKind> {
    if asked.bind.is_some() || mount.kind == "bind" {
        asked.judge(Fits::Bind, path, judge);
        return bind(mount, path, asked, context, judge);
    }
    unmapped(mount, path, judge);
    match mount.kind.as_str() {
        "" => {
            judge.fault(format!("{path}.type"), "missing; name a file system type, or add the option bind");
            None
        }
        fstype @ ("cgroup" | "cgroup2") => {
            asked.judge(Fits::Shared(fstype), path, judge);
            for (index, option) in asked.data.iter().enumerate() {
                judge.warn(format!("{path}: cgroup option {option:?} (data {index}) is not used"));
            }
            match context.cgroup_view.clone() {
                Some(view) => Some(MountKind::Cgroup(CgroupMount { flags: asked.flags, view })),
                None => {
                    judge.fault(format!("{path}.type"), "this host has no cgroups to mount");
                    None
                }
            }
        }
        fstype => new_fs(fstype, mount, path, asked, context, judge),
    }
}

/// Refuses id mappings where nothing can be mapped.
pub(super) fn unmapped(mount: &spec::Mount, path: &str, judge: &mut Judge) {
    for (list, name) in [(&mount.uid_mappings, "uidMappings"), (&mount.gid_mappings, "gidMappings")] {
        if !list.is_empty() {
            judge.fault(
                format!("{path}.{name}"),
                "idmapped mounts are for new bind mounts only; add bind or rbind",
            );
        }
    }
}

fn new_fs(
    fstype: &str,
    mount: &spec::Mount,
    path: &str,
    asked: &Asked,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<MountKind> {
    let fits = if remount::is_shared(fstype, context) { Fits::Shared(fstype) } else { Fits::New(fstype) };
    asked.judge(fits, path, judge);
    let label = &context.mount_label;
    let labelled = !label.is_empty() && !matches!(fstype, "proc" | "sysfs" | "mqueue");
    let mut words = asked.data.clone();
    if labelled && !words.iter().any(|word| word.starts_with("context=")) {
        words.push(format!("{}=\"{label}\"", context.mount_context));
    }
    let options = data_options(&words, path, judge)?;
    let source = if mount.source.is_empty() { fstype } else { &mount.source };
    Some(MountKind::New(NewFs {
        fstype: judge.cstring(&format!("{path}.type"), fstype)?,
        source: judge.cstring(&format!("{path}.source"), source)?,
        flags: asked.flags,
        data: judge.cstring(&format!("{path}.options"), &words.join(","))?,
        mode_of_covered: fstype == "tmpfs" && !options.iter().any(|(key, _)| key.as_c_str() == c"mode"),
        options,
        copy_up: asked.copy_up,
        shared_instance: match fstype {
            "proc" if !context.owns(libc::CLONE_NEWPID) => Some(c"/proc"),
            // A joined one may belong to another user namespace than the container's.
            "sysfs" if !context.makes(libc::CLONE_NEWNET) => Some(c"/sys"),
            "mqueue" if !context.owns(libc::CLONE_NEWIPC) => Some(c"/dev/mqueue"),
            _ => None,
        },
    }))
}

/// Options of a file system, one by one: key, and value or flag.
pub(super) fn data_options(
    words: &[String],
    path: &str,
    judge: &mut Judge,
) -> Option<Vec<(CString, Option<CString>)>> {
    let place = format!("{path}.options");
    let words = words.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
    let pairs = words.map(|word| match word.split_once('=') {
        Some((key, value)) => Some((judge.cstring(&place, key)?, Some(judge.cstring(&place, value)?))),
        None => Some((judge.cstring(&place, word)?, None)),
    });
    pairs.collect()
}

fn bind(
    mount: &spec::Mount,
    path: &str,
    asked: &Asked,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<MountKind> {
    if mount.source.is_empty() {
        judge.fault(format!("{path}.source"), "missing; a bind mount needs the path to bind");
        return None;
    }
    for option in &asked.data {
        judge.warn(format!("{path}.options: {option:?} has no meaning for a bind mount"));
    }
    let source = context.bundle.join(&mount.source);
    let source = judge.path(&format!("{path}.source"), &source)?;
    let recursive = asked.bind.unwrap_or(false);
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let idmap = match (asked.idmap, mapped) {
        (None, false) => None,
        (asked, true) => {
            let maps = IdMaps::judge(&mount.uid_mappings, &mount.gid_mappings, path, judge)?;
            Some(IdMap { maps: Some(maps), recursive: asked.unwrap_or(false) })
        }
        (Some(recursive), false) => {
            if !context.owns(libc::CLONE_NEWUSER) {
                judge.fault(
                    format!("{path}.options"),
                    "idmap without uidMappings needs a user namespace of the container's own",
                );
            }
            Some(IdMap { maps: None, recursive })
        }
    };
    Some(MountKind::Bind(BindSource {
        path: source,
        recursive,
        nofollow: asked.source_nofollow,
        copy_symlink: asked.copy_symlink,
        idmap,
        within: None,
    }))
}

/// A path inside the container, cleaned of `.`, doubled slashes and (by words) `..`, without the slash in front.
pub fn inside(path: &str) -> String {
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

/// Finds the bind sources below `root` that earlier mounts show, [`BindSource::within`]: by words, as they are written.
pub fn find_sources_within(mounts: &mut [MountStep], root: &CStr) {
    for index in 0..mounts.len() {
        let (earlier, rest) = mounts.split_at_mut(index);
        let Some(MountKind::Bind(bound)) = rest.first_mut().map(|step| &mut step.kind) else { continue };
        let Some(path) = below_root(root, &bound.path) else { continue };
        let shows = |step: &MountStep| {
            let target = step.target.as_bytes();
            let covers = is_below(path.as_bytes(), target);
            !matches!(step.kind, MountKind::Remount { .. })
                && (covers || bound.recursive && is_below(target, path.as_bytes()))
        };
        if earlier.iter().any(shows) {
            bound.within = Some(path);
        }
    }
}

/// The rest of a path below the root file system, clean; `None` where it is elsewhere or climbs.
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

/// Whether `path` is `above` or below it.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether something of the host is bound over /dev, which is then left as it is.
pub fn dev_is_bound(mounts: &[MountStep]) -> bool {
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
