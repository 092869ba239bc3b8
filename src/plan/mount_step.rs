//! Mounts as ordered steps, ready to execute.

use std::ffi::{CStr, CString};

use rustix::mount::MountFlags;

use super::ids::IdMaps;
use crate::sys::mount::{Attributes, Reach};

/// One mount, ready to execute.
#[derive(Debug)]
pub struct MountStep {
    /// Target below the root, without the leading slash; empty for the root itself.
    pub target: CString,
    /// Whether a symbolic link as the target's last component is not followed.
    pub target_nofollow: bool,
    /// The mount's source or change.
    pub kind: MountKind,
    /// Whether a target that is a symbolic link is refused: /proc, /sys, and targets of proc and
    /// sysfs.
    pub refuses_link: bool,
    /// Applied to this mount only: to a bind mount, an existing one, or a host mount that replaces
    /// a new one.
    pub attributes: Attributes,
    /// MOUNT_ATTR_…: if the mount has these access times, they are replaced by relatime.
    pub undone_times: Option<u64>,
    /// Applied to the mount and all below it.
    pub recursive: Attributes,
    /// Applied last, in order: MS_….
    pub propagation: Vec<(u64, Reach)>,
    /// Made read-only after everything below is in place.
    pub readonly_late: bool,
    /// The new /dev, in which nodes are created: through its descriptor, so that renames of /dev
    /// have no effect.
    pub holds_nodes: bool,
    /// A later step changes its file system: through its descriptor too.
    pub changed_later: bool,
}

impl MountStep {
    /// Whether the mount's descriptor is kept for later.
    pub fn is_kept(&self) -> bool {
        self.readonly_late || self.holds_nodes || self.changed_later
    }

    /// Whether it mounts something on `target`, instead of changing an existing mount.
    pub fn mounts_on(&self, target: &CStr) -> bool {
        self.target.as_c_str() == target && !matches!(self.kind, MountKind::Remount(_))
    }

    /// The index of the step that created the file system changed by this one.
    pub fn changes(&self) -> Option<usize> {
        match &self.kind {
            MountKind::Remount(Remount { file_system: Some(changed) }) => Some(changed.made_by),
            _ => None,
        }
    }
}

/// The kind of a mount.
#[derive(Debug)]
pub enum MountKind {
    /// A new instance of a file system.
    New(NewFs),
    /// A file or directory of the host.
    Bind(BindSource),
    /// The cgroup file system, in the layout of this host.
    Cgroup(CgroupMount),
    /// Options of an existing mount.
    Remount(Remount),
}

/// An option of a new file system, for fsconfig(2): key, and value or flag.
pub type FsOption = (CString, Option<CString>);

/// A new instance of a file system.
#[derive(Debug)]
pub struct NewFs {
    /// Type, as for mount(8).
    pub fstype: CString,
    /// The source shown in mountinfo.
    pub source: CString,
    /// MS_… for mount(2).
    pub flags: MountFlags,
    /// Options of the file system, joined by commas.
    pub data: CString,
    /// The options of `data` separately, for fsconfig(2): key, and value or flag.
    pub options: Vec<FsOption>,
    /// A tmpfs without the option mode gets the mode of the directory that it covers, if there is
    /// one.
    pub mode_of_covered: bool,
    /// Copies the covered contents into it.
    pub copy_up: bool,
    /// The host's mount of the same instance, bound if the kernel refuses a new one: this happens
    /// in a user namespace for file systems of a namespace (pid, network, ipc) that the container
    /// shares with the runtime.
    pub shared_instance: Option<&'static CStr>,
}

impl NewFs {
    /// Whether no option applies to the file system itself: then an existing one can replace it.
    pub fn asks_nothing(&self) -> bool {
        let of_file_system = MountFlags::SYNCHRONOUS
            | MountFlags::DIRSYNC
            | MountFlags::LAZYTIME
            | MountFlags::PERMIT_MANDATORY_FILE_LOCKING;
        self.options.is_empty() && !self.flags.intersects(of_file_system)
    }
}

/// A file or directory of the host.
#[derive(Debug)]
pub struct BindSource {
    /// Absolute path on the host.
    pub path: CString,
    /// Whether all mounts below it are included.
    pub reach: Reach,
    /// Whether a symbolic link as its last component is not followed.
    pub nofollow: bool,
    /// Whether a source that is a symbolic link is copied as a link, without a mount.
    pub copy_symlink: bool,
    /// The mapping, if idmapped.
    pub idmap: Option<IdMap>,
    /// Its path below the container's root, without the leading slash, if an earlier mount of the
    /// container shows it: the host's path leads to the contents covered by that mount.
    pub within: Option<CString>,
}

/// The mapping of an idmapped mount.
#[derive(Debug)]
pub struct IdMap {
    /// `None`: the container's own user namespace.
    pub maps: Option<IdMaps>,
    /// Whether all mounts below are mapped too.
    pub reach: Reach,
}

/// A mount of type `cgroup` or `cgroup2`, in the layout of this host.
#[derive(Debug)]
pub struct CgroupMount {
    /// Flags of the mount, applied to each part.
    pub flags: MountFlags,
    /// The layout.
    pub view: CgroupView,
}

/// The contents of /sys/fs/cgroup in a container.
#[derive(Clone, Debug)]
pub enum CgroupView {
    /// One cgroup2 file system; if it cannot be mounted, its directory on the host is bound.
    Unified(CString),
    /// A tmpfs with one entry for each cgroup v1 hierarchy.
    Legacy(Vec<LegacyHierarchy>),
}

/// One cgroup v1 hierarchy.
#[derive(Clone, Debug)]
pub struct LegacyHierarchy {
    /// Its directory's name, such as `cpu,cpuacct` or `systemd`.
    pub name: CString,
    /// Mount options that select it, such as `cpu,cpuacct` or `none,name=systemd`.
    pub data: CString,
    /// The container's own group on the host, bound if there is no cgroup namespace.
    pub own: CString,
    /// Its other names: one for each of several controllers.
    pub links: Vec<CString>,
}

/// A change of an existing mount.
#[derive(Debug)]
pub struct Remount {
    /// Set if its file system changes too, and thus all its mounts.
    pub file_system: Option<Reconfigured>,
}

/// A change of a file system.
#[derive(Debug)]
pub struct Reconfigured {
    /// The index of the mount step that created it.
    pub made_by: usize,
    /// For fsconfig(2): key, and value or flag.
    pub options: Vec<FsOption>,
}
