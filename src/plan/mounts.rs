//! `mounts` of config.json, judged and turned into ordered steps.

use std::ffi::{CStr, CString};

use rustix::mount::MountFlags;

use super::ids::IdMaps;
use super::options::{self, Word};
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
    /// Applied to the mount alone.
    pub attributes: Attributes,
    /// Applied to the mount and all below it.
    pub recursive: Attributes,
    /// Applied last, in order: MS_…, recursively or not.
    pub propagation: Vec<(u64, bool)>,
    /// Made read-only only when everything below is in place.
    pub readonly_late: bool,
    /// The new /dev, in which nodes are made: by its descriptor, whatever somebody does to its name meanwhile.
    pub holds_nodes: bool,
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
    /// Flags of the mount that is already there.
    Remount {
        /// MS_… for mount(2).
        flags: MountFlags,
        /// Options of the file system.
        data: CString,
    },
}

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
    pub options: Vec<(CString, Option<CString>)>,
    /// Fill it with what it covers.
    pub copy_up: bool,
    /// The host's mount of the same instance, bound where the kernel refuses a new one: that is so in a user namespace
    /// for what shows a namespace (pid, network, ipc) that the container shares with the runtime.
    pub shared_instance: Option<&'static CStr>,
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

/// Everything the words of one mount's `options` ask for.
#[derive(Default)]
struct Asked {
    flags: Flags,
    set: u64,
    clear: u64,
    recursive_set: u64,
    recursive_clear: u64,
    propagation: Vec<(u64, bool)>,
    bind: Option<bool>,
    idmap: Option<bool>,
    remount: bool,
    copy_up: bool,
    copy_symlink: bool,
    source_nofollow: bool,
    target_nofollow: bool,
    data: Vec<String>,
}

/// MS_… flags; nothing set by default.
struct Flags(MountFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MountFlags::empty())
    }
}

impl Asked {
    fn read(options: &[String]) -> Self {
        let mut asked = Self::default();
        for option in options {
            let Some(word) = options::word(option) else {
                asked.data.push(option.clone());
                continue;
            };
            match word {
                Word::Default => {}
                Word::Set(flag, attribute) => {
                    asked.flags.0.insert(flag);
                    asked.set |= attribute;
                    asked.clear &= !attribute;
                }
                Word::Clear(flag, attribute) => {
                    asked.flags.0.remove(flag);
                    asked.clear |= attribute;
                    asked.set &= !attribute;
                }
                Word::RecursiveSet(attribute) => {
                    asked.recursive_set |= attribute;
                    asked.recursive_clear &= !attribute;
                }
                Word::RecursiveClear(attribute) => {
                    asked.recursive_clear |= attribute;
                    asked.recursive_set &= !attribute;
                }
                Word::Propagation(flag, recursive) => asked.propagation.push((flag.bits().into(), recursive)),
                Word::Bind(recursive) => asked.bind = Some(recursive || asked.bind == Some(true)),
                Word::IdMap(recursive) => asked.idmap = Some(recursive),
                Word::Remount => asked.remount = true,
                Word::CopyUp => asked.copy_up = true,
                Word::CopySymlink => asked.copy_symlink = true,
                Word::SourceNoFollow => asked.source_nofollow = true,
                Word::DestinationNoFollow => asked.target_nofollow = true,
            }
        }
        asked
    }

    /// `MOUNT_ATTR_…` that the mount gets, or all below it.
    fn set_anywhere(&self) -> u64 {
        self.set | self.recursive_set
    }
}

/// The steps for all of `mounts`, in order.
pub fn plan(spec: &spec::Spec, context: &Context<'_>, judge: &mut Judge) -> Vec<MountStep> {
    let mounts = spec.mounts.iter().enumerate();
    mounts.filter_map(|(at, mount)| step(mount, &format!("mounts[{at}]"), context, judge)).collect()
}

fn step(mount: &spec::Mount, path: &str, context: &Context<'_>, judge: &mut Judge) -> Option<MountStep> {
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
    let kind = kind(mount, path, &asked, context, judge)?;
    let bound = matches!(kind, MountKind::Bind(_));
    // A new file system gets its own flags from mount(2); for a bind they are attributes of the mount.
    let attributes = if bound { options::attributes(asked.set, asked.clear) } else { Attributes::default() };
    Some(MountStep {
        target_nofollow: asked.target_nofollow,
        readonly_late: matches!(&kind, MountKind::New(new) if new.fstype.as_c_str() == c"tmpfs" && asked.flags.0.contains(MountFlags::RDONLY)),
        holds_nodes: target.as_c_str() == c"dev" && matches!(kind, MountKind::New(_)),
        target,
        kind,
        attributes,
        recursive: options::attributes(asked.recursive_set, asked.recursive_clear),
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
    let data = judge.cstring(&format!("{path}.options"), &asked.data.join(","))?;
    if asked.remount {
        return Some(MountKind::Remount { flags: asked.flags.0, data });
    }
    if asked.bind.is_some() || mount.kind == "bind" {
        return bind(mount, path, asked, context, judge);
    }
    if asked.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        judge.fault(format!("{path}.options"), "idmapped mounts are for bind mounts; add bind or rbind");
    }
    match mount.kind.as_str() {
        "" => {
            judge.fault(format!("{path}.type"), "missing; name a file system type, or add the option bind");
            None
        }
        "cgroup" | "cgroup2" => {
            for (index, option) in asked.data.iter().enumerate() {
                judge.warn(format!("{path}: cgroup option {option:?} (data {index}) is not used"));
            }
            match context.cgroup_view.clone() {
                Some(view) => Some(MountKind::Cgroup(CgroupMount { flags: asked.flags.0, view })),
                None => {
                    judge.fault(format!("{path}.type"), "this host has no cgroups to mount");
                    None
                }
            }
        }
        fstype => new_fs(fstype, mount, path, asked, data, context, judge),
    }
}

fn new_fs(
    fstype: &str,
    mount: &spec::Mount,
    path: &str,
    asked: &Asked,
    data: CString,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<MountKind> {
    if asked.copy_up && fstype != "tmpfs" {
        judge.fault(format!("{path}.options"), "tmpcopyup is for tmpfs only");
    }
    let label = &context.mount_label;
    let labelled = !label.is_empty() && !matches!(fstype, "proc" | "sysfs" | "mqueue");
    let mut data = data;
    let mut words = asked.data.clone();
    if labelled && !words.iter().any(|word| word.starts_with("context=")) {
        words.push(format!("{}=\"{label}\"", context.mount_context));
        data = judge.cstring(&format!("{path}.options"), &words.join(","))?;
    }
    let mut options = Vec::with_capacity(words.len());
    for word in words.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty()) {
        let place = format!("{path}.options");
        options.push(match word.split_once('=') {
            Some((key, value)) => (judge.cstring(&place, key)?, Some(judge.cstring(&place, value)?)),
            None => (judge.cstring(&place, word)?, None),
        });
    }
    let source = if mount.source.is_empty() { fstype } else { &mount.source };
    Some(MountKind::New(NewFs {
        fstype: judge.cstring(&format!("{path}.type"), fstype)?,
        source: judge.cstring(&format!("{path}.source"), source)?,
        flags: asked.flags.0,
        data,
        options,
        copy_up: asked.copy_up,
        shared_instance: match fstype {
            "proc" if !context.owns(libc::CLONE_NEWPID) => Some(c"/proc"),
            "sysfs" if !context.owns(libc::CLONE_NEWNET) => Some(c"/sys"),
            "mqueue" if !context.owns(libc::CLONE_NEWIPC) => Some(c"/dev/mqueue"),
            _ => None,
        },
    }))
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
    if asked.copy_up {
        judge.fault(format!("{path}.options"), "tmpcopyup is for tmpfs only");
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
            if context.maps.is_none() {
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
    fn later_words_win() {
        let words = ["ro", "nosuid", "rw", "size=1k", "mode=755", "rbind", "bind"].map(String::from);
        let asked = Asked::read(&words);
        assert_eq!(asked.flags.0, MountFlags::NOSUID);
        assert_eq!((asked.set, asked.clear), (libc::MOUNT_ATTR_NOSUID, libc::MOUNT_ATTR_RDONLY));
        assert_eq!(asked.data, ["size=1k", "mode=755"]);
        assert_eq!(asked.bind, Some(true));
    }
}
