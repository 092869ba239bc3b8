//! The option `remount`: changes an existing mount, and its file system only if the container
//! created it. Child side, no heap.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fspick};

use super::attributes::{MountContext, attributes_of, configure, propagate};
use super::inroot::LastLink;
use crate::plan::mount_step::{Reconfigured, Remount};
use crate::plan::{At, MountStep, Step, StepError};
use crate::sys::mount::{Reach, is_mount_root, set_attributes};

/// Executes the step. `made` is the mount whose file system changes; its name may lead elsewhere by
/// now.
pub fn change(
    step: &MountStep,
    change: &Remount,
    index: usize,
    place: &MountContext<'_>,
    made: Option<&OwnedFd>,
) -> Result<(), StepError> {
    let found;
    let mount = match (&change.file_system, made) {
        (Some(file_system), Some(made)) => {
            reconfigure(made, file_system).at(Step::Mount, index)?;
            made
        }
        (Some(_), None) => return Err(Errno::STALE).at(Step::Mount, index),
        (None, _) => {
            found = uppermost(step, index, place)?;
            &found
        }
    };
    // mount(2) would clear unnamed flags, and without its flag for bind mounts change the file
    // system.
    for (attributes, reach) in
        [(attributes_of(step, mount, index)?, Reach::Mount), (step.recursive, Reach::Tree)]
    {
        if !attributes.is_empty() {
            set_attributes(mount, attributes, reach, place.proc).at(Step::MountAttributes, index)?;
        }
    }
    propagate(step, index, mount, place.proc)
}

/// The visible mount at the target.
fn uppermost(step: &MountStep, index: usize, place: &MountContext<'_>) -> Result<OwnedFd, StepError> {
    let last = LastLink::nofollow(step.target_nofollow || step.refuses_link);
    let found = place.root.open(&step.target, last).at(Step::MountTarget, index)?;
    if is_mount_root(&found, place.proc).at(Step::MountTarget, index)? {
        Ok(found)
    } else {
        Err(Errno::INVAL).at(Step::NothingMounted, index)
    }
}

/// Changes only the named options: fspick(2), Linux 5.2.
fn reconfigure(mount: &OwnedFd, wanted: &Reconfigured) -> rustix::io::Result<()> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = fspick(mount, c"", flags)?;
    configure(context.as_fd(), &wanted.options)?;
    fsconfig_reconfigure(&context)
}
