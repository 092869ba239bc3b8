//! Mounts as ordered steps, ready to be carried out.

use std::ffi::{CStr, CString};

use rustix::mount::MountFlags;

use super::ids::IdMaps;
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

/// A change of a mount that is there already.
#[derive(Debug)]
pub struct Remount {
    /// Set when its file system changes too, and so all other mounts of that.
    pub file_system: Option<Reconfigured>,
}

/// A change of a file system.
#[derive(Debug)]
pub struct Reconfigured {
    /// Which of the plan's mounts has made it.
    pub made_by: usize,
    /// For fsconfig(2): key, and value or flag.
    pub options: Vec<FsOption>,
}
