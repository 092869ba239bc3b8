//! Applies options, attributes and propagation to mounts of every kind. Child side, no heap.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::inroot::InRoot;
use crate::plan::mount_step::FsOption;
use crate::plan::{At, MountStep, Step, StepError};
use crate::sys::mount::{Attributes, Procfs, Reach, access_times, attach, prepare, set_attributes};

/// Asks the runtime to idmap a detached mount, with the mapping of the mount with this index.
pub type MapIds<'a> = dyn Fn(usize, BorrowedFd<'_>) -> std::io::Result<()> + 'a;

/// The resources for mounting, in addition to the plan.
pub struct MountContext<'a> {
    /// The container's root.
    pub root: InRoot<'a>,
    /// The host's procfs.
    pub proc: Procfs<'a>,
    /// Whether the container's cgroup namespace differs from the runtime's.
    pub own_cgroup_namespace: bool,
    /// Used for a source that this process has to open itself.
    pub map_ids: &'a MapIds<'a>,
}

/// Sets options of a file system that is created or changed.
pub(super) fn configure(context: BorrowedFd<'_>, options: &[FsOption]) -> rustix::io::Result<()> {
    use rustix::mount::{fsconfig_set_flag, fsconfig_set_string};
    options.iter().try_for_each(|(key, value)| match value {
        Some(value) => fsconfig_set_string(context, key, value),
        None => fsconfig_set_flag(context, key),
    })
}

/// The mount attributes that are equivalent to these flags of mount(2).
pub(super) fn attributes(flags: MountFlags) -> MountAttrFlags {
    const SAME: &[(MountFlags, MountAttrFlags)] = &[
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let same = SAME.iter().filter(|(flag, _)| flags.contains(*flag));
    let set = same.fold(MountAttrFlags::empty(), |set, (_, attribute)| set | *attribute);
    // The access times are one field: the last of these wins, as in mount(2).
    if flags.contains(MountFlags::STRICTATIME) {
        set | MountAttrFlags::MOUNT_ATTR_STRICTATIME
    } else if flags.contains(MountFlags::NOATIME) {
        set | MountAttrFlags::MOUNT_ATTR_NOATIME
    } else {
        set
    }
}

/// The attributes to change on this mount.
pub(super) fn attributes_of(
    step: &MountStep,
    mount: &OwnedFd,
    index: usize,
) -> Result<Attributes, StepError> {
    let mut attributes = step.attributes;
    if let Some(undone) = step.undone_times
        && access_times(mount).at(Step::MountAttributes, index)? == undone
    {
        attributes.clear |= libc::MOUNT_ATTR__ATIME;
    }
    Ok(attributes)
}

/// Sets the propagation: last, once the mount is in place.
pub(super) fn propagate(
    step: &MountStep,
    index: usize,
    mount: &OwnedFd,
    proc: Procfs<'_>,
) -> Result<(), StepError> {
    for (propagation, reach) in &step.propagation {
        let wanted = Attributes::propagating(*propagation);
        set_attributes(mount, wanted, *reach, proc).at(Step::MountPropagation, index)?;
    }
    Ok(())
}

/// Attaches a clone of a host mount instead of a new file system, with the requested options.
pub(super) fn attach_of_host(
    mount: OwnedFd,
    step: &MountStep,
    reach: Reach,
    target: BorrowedFd<'_>,
    proc: Procfs<'_>,
) -> std::io::Result<OwnedFd> {
    let mut wanted = step.attributes;
    if wanted.set & libc::MOUNT_ATTR__ATIME == 0 {
        // Ignores relatime, which every config.json has: a user namespace locks the host's access
        // times, and these files have none that matter.
        wanted.clear &= !libc::MOUNT_ATTR__ATIME;
    }
    // Attributes are cleared on this mount only: below it, the host may have locked them.
    let below = Attributes::setting(wanted.set & !libc::MOUNT_ATTR__ATIME);
    for (wanted, reach) in [(below, reach), (wanted, Reach::Mount)] {
        if !wanted.is_empty() {
            prepare(&mount, wanted, reach, proc)?;
        }
    }
    attach(&mount, target)?;
    Ok(mount)
}

/// The errno of an I/O error.
pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}
