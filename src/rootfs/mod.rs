//! Builds the container's root file system, from the runtime's mount namespace to pivot_root. Child
//! side: it executes the plan, always relative to the root's descriptor, without heap and panics.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![forbid(unsafe_code)]

pub mod attributes;
mod cgroups;
pub mod copyup;
pub mod devices;
pub mod inroot;
mod masks;
pub mod mounts;
pub mod nodes;
pub mod path;
pub mod pivot;
pub mod remount;
pub mod walk;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::plan::{At, MountKind, Rootfs, Step, StepError};
use crate::sys::closing::close_later;
use crate::sys::mount::{
    Attributes, Procfs, Reach, attach, is_mount_root, open_tree, prepare, set_attributes,
};
use inroot::{InRoot, LastLink};
use masks::Masks;

/// Descriptors of the host that the child needs to build the root.
pub struct Sources<'a> {
    /// The host's procfs.
    pub proc: BorrowedFd<'a>,
    /// Bind sources that the parent had to open, by index of the mount.
    pub binds: &'a [Option<OwnedFd>],
    /// Device nodes that the child cannot create.
    pub nodes: devices::ProvidedNodes<'a>,
    /// Whether the container has a cgroup namespace of its own.
    pub own_cgroup_namespace: bool,
    /// Asks the runtime to idmap a detached mount, with the mapping of the mount with this index.
    pub map_ids: &'a attributes::MapIds<'a>,
}

/// Binds the root file system onto itself, because pivot_root needs a mount of its own. Returns its
/// descriptor. `tree`: a clone of it, for a process that may not search the directories above it.
/// It is then mounted on `/`.
pub fn enter(rootfs: &Rootfs, tree: Option<OwnedFd>, proc: Procfs<'_>) -> Result<OwnedFd, StepError> {
    if rootfs.own_mounts {
        let flags = MountPropagationFlags::from_bits_retain(rootfs.start_propagation as u32)
            | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", flags).at(Step::Propagation, 0)?;
    }
    let directory = |path: &CStr| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let (root, directory) = match (directory(&rootfs.path), tree) {
        (Err(rustix::io::Errno::ACCESS), Some(tree)) => (tree, directory(c"/").at(Step::RootBind, 0)?),
        (found, _) => {
            let tree = open_tree(CWD, &rootfs.path, libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32);
            (tree.at(Step::RootBind, 0)?, found.at(Step::RootBind, 0)?)
        }
    };
    let private = Attributes::propagating(libc::MS_PRIVATE);
    if !rootfs.own_mounts {
        // Mounts in the root must not propagate further.
        prepare(&root, private, Reach::Tree, proc).at(Step::RootBind, 0)?;
    } else if rootfs.start_propagation == libc::MS_SHARED {
        // pivot_root refuses a new root that is shared or has a shared parent mount. `finish`
        // shares it again, in a peer group of its own, without the host.
        prepare(&root, private, Reach::Mount, proc).at(Step::RootBind, 0)?;
        let parent = parent_mount(&directory, proc).at(Step::ParentPropagation, 0)?;
        set_attributes(&parent, private, Reach::Mount, proc).at(Step::ParentPropagation, 0)?;
    }
    attach(&root, &directory).at(Step::RootBind, 0)?;
    close_later(directory);
    Ok(root)
}

/// The mount point at or above `directory`, found by ascending to the first root of a mount.
fn parent_mount(directory: &OwnedFd, proc: Procfs<'_>) -> std::io::Result<OwnedFd> {
    let open = |at: BorrowedFd<'_>, name| {
        rustix::fs::openat(at, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    };
    let mut here = open(directory.as_fd(), c".")?;
    loop {
        if is_mount_root(&here, proc)? {
            return Ok(here);
        }
        here = open(here.as_fd(), c"..")?;
    }
}

/// Creates every mount, device and link. `late` has an entry for each mount that is needed later.
pub fn assemble(
    rootfs: &Rootfs,
    root: BorrowedFd<'_>,
    sources: &Sources<'_>,
    late: &mut [Option<OwnedFd>],
) -> Result<(), StepError> {
    let place = attributes::MountContext {
        root: InRoot(root),
        proc: Procfs::Opened(sources.proc),
        own_cgroup_namespace: sources.own_cgroup_namespace,
        map_ids: sources.map_ids,
    };
    for (index, step) in rootfs.mounts.iter().enumerate() {
        // A change comes after the step whose mount it changes.
        let (before, from_here) = late.split_at_mut_checked(index).unwrap_or_default();
        let given = match step.changes() {
            Some(made_by) => before.get(made_by),
            None => sources.binds.get(index),
        };
        mounts::mount(step, index, &place, given.and_then(Option::as_ref), from_here.first_mut())?;
    }
    let (dev, private) = new_dev(rootfs, late).unzip();
    let dev = devices::Directory {
        root: place.root,
        dev,
        private: private.unwrap_or(false),
        proc: Procfs::Opened(sources.proc),
    };
    devices::make(&rootfs.devices, rootfs.bind_devices, &dev, sources.nodes)?;
    if rootfs.make_dev {
        devices::link(&dev, sources.proc).at(Step::DeviceLink, 0)?;
    }
    Ok(())
}

/// The last mount on /dev, if the container created it, and whether its file system is new: others,
/// such as devtmpfs, may have mounts of the host.
fn new_dev<'a>(rootfs: &Rootfs, late: &'a [Option<OwnedFd>]) -> Option<(BorrowedFd<'a>, bool)> {
    let (step, mount) = rootfs.mounts.iter().zip(late).rfind(|(step, _)| step.mounts_on(c"dev"))?;
    let private = matches!(&step.kind, MountKind::New(new) if new.fstype.as_c_str() == c"tmpfs");
    mount.as_ref().filter(|_| step.holds_nodes).map(|mount| (mount.as_fd(), private))
}

/// Masks paths and makes paths read-only. Before pivot_root, while the host's /dev/null can still
/// be bound.
pub fn protect(rootfs: &Rootfs, root: BorrowedFd<'_>, proc: Procfs<'_>) -> Result<(), StepError> {
    if rootfs.masked.is_empty() && rootfs.readonly_paths.is_empty() {
        return Ok(());
    }
    let null = host_null().map_err(|error| StepError::new(Step::MaskedPath, 0, error.raw_os_error()))?;
    let kernel = KernelDirectories::open(rootfs, InRoot(root)).at(Step::KernelDirectory, 0)?;
    // Read-only first: a path that is both is then completely masked.
    for (index, path) in rootfs.readonly_paths.iter().enumerate() {
        let (place, path) = kernel.place(path, InRoot(root));
        masks::make_readonly(path, place, proc).at(Step::ReadonlyPath, index)?;
    }
    let mut masks = Masks::new(null, &rootfs.mask_options);
    for (index, path) in rootfs.masked.iter().enumerate() {
        let (place, path) = kernel.place(path, InRoot(root));
        masks.cover(path, place).at(Step::MaskedPath, index)?;
    }
    masks.end();
    kernel.0.into_iter().for_each(close_later);
    Ok(())
}

/// The container's own procfs and sysfs, if it has them: paths below /proc and /sys are looked up
/// from them. So a concurrent rename of /proc or /sys cannot redirect the masks, or make a path
/// appear to be missing.
struct KernelDirectories([Option<OwnedFd>; 2]);

/// Name, type, and magic number, statfs(2).
const KERNEL_DIRECTORIES: [(&CStr, &CStr, u64); 2] =
    [(c"proc", c"proc", 0x9fa0), (c"sys", c"sysfs", 0x6265_6572)];

/// The inode number of the root directory in both file systems.
const FIRST_INODE: u64 = 1;

impl KernelDirectories {
    fn open(rootfs: &Rootfs, root: InRoot<'_>) -> rustix::io::Result<Self> {
        let mut found = [None, None];
        for (place, (name, fstype, magic)) in found.iter_mut().zip(KERNEL_DIRECTORIES) {
            // Of several mounts on one name, the last is visible.
            let last = rootfs.mounts.iter().rev().find(|step| step.mounts_on(name));
            let is_ours =
                |kind: &MountKind| matches!(kind, MountKind::New(new) if new.fstype.as_c_str() == fstype);
            if last.is_none_or(|step| !is_ours(&step.kind)) {
                continue;
            }
            let directory = root.open(name, LastLink::Follow)?;
            if rustix::fs::fstatfs(&directory)?.f_type as u64 != magic
                || rustix::fs::fstat(&directory)?.st_ino != FIRST_INODE
            {
                return Err(rustix::io::Errno::STALE);
            }
            *place = Some(directory);
        }
        Ok(Self(found))
    }

    /// The directory and relative path by which `path` is looked up.
    fn place<'p>(&'p self, path: &'p CStr, root: InRoot<'p>) -> (InRoot<'p>, &'p CStr) {
        let named = self.0.iter().zip(KERNEL_DIRECTORIES).find_map(|(directory, (name, ..))| {
            let rest = path.to_bytes_with_nul().strip_prefix(name.to_bytes())?.strip_prefix(b"/")?;
            Some((InRoot(directory.as_ref()?.as_fd()), CStr::from_bytes_with_nul(rest).ok()?))
        });
        named.unwrap_or((root, path))
    }
}

/// Opens the host's /dev/null, and checks that it is the device; an image's own could be anything.
fn host_null() -> rustix::io::Result<OwnedFd> {
    let null =
        rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(rustix::io::Errno::NODEV) }
}

/// The last actions: sets the propagation of `/`, and makes mounts read-only. Only now, because
/// earlier steps may need to mount or to create a file there.
pub fn finish(
    rootfs: &Rootfs,
    root: BorrowedFd<'_>,
    late: &[Option<OwnedFd>],
    proc: Procfs<'_>,
) -> Result<(), StepError> {
    if let Some((flag, reach)) = rootfs.propagation {
        let wanted = Attributes::propagating(flag);
        set_attributes(root, wanted, reach, proc).at(Step::RootPropagation, 0)?;
    }
    for (index, (mount, step)) in late.iter().zip(&rootfs.mounts).enumerate() {
        if let (Some(mount), true) = (mount, step.readonly_late) {
            mounts::make_readonly(mount, index, proc)?;
        }
    }
    if rootfs.readonly {
        set_attributes(root, Attributes::READONLY, Reach::Mount, proc).at(Step::RootReadonly, 0)?;
    }
    Ok(())
}
