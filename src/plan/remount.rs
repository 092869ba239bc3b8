//! The option `remount` and what it may change. The container's mounts are its own; most of their
//! file systems also have mounts of the host.

use std::ffi::CStr;

use super::mount_options::{Entry, Fits, data_options, unmapped};
use super::mount_step::{MountKind, MountStep, NewFs, Reconfigured, Remount};
use super::{Context, Judge};
use crate::sys::namespace::Namespace;

/// Validates a mount with the option `remount`. `before` are the steps of the previous mounts.
pub(super) fn plan(
    entry: &Entry<'_>,
    target: &CStr,
    before: &mut [MountStep],
    judge: &mut Judge,
) -> Option<Remount> {
    let Entry { mount, path, parsed, context } = *entry;
    unmapped(mount, path, judge);
    let made_by = before.iter().rposition(|step| step.mounts_on(target));
    let mut earlier = made_by.and_then(|at| before.get_mut(at));
    if let Some(earlier) = &mut earlier
        && parsed.attributes().clear & libc::MOUNT_ATTR_RDONLY != 0
    {
        earlier.readonly_late = false; // it would undo this
    }
    if parsed.bind.is_some() || mount.kind == "bind" {
        parsed.judge(Fits::RemountOne, path, judge);
        for option in &parsed.data {
            let words = format!(
                "{option:?} is an option of the file system, which a remount with bind does not change"
            );
            judge.fault(format!("{path}.options"), words);
        }
        return Some(Remount { file_system: None });
    }
    parsed.judge(Fits::RemountAll, path, judge);
    let own = earlier.and_then(|step| match &step.kind {
        MountKind::New(new) if is_own(new, context) => {
            Some((new.fstype.to_string_lossy().into_owned(), step))
        }
        _ => None,
    });
    let Some((fstype, earlier)) = own else {
        let words = "remount without bind changes a whole file system, and no earlier entry of mounts has made the one at this \
                     destination for the container alone; add bind to change only this mount of it";
        judge.fault(format!("{path}.options"), words);
        return None;
    };
    if !matches!(mount.kind.as_str(), "" | "none") && mount.kind != fstype {
        let words = format!("{:?}: at this destination is a {fstype}; write that, or none", mount.kind);
        judge.fault(format!("{path}.type"), words);
    }
    earlier.changed_later = true;
    let flags = mount.options.iter().filter(|option| FLAGS.contains(&option.as_str())).cloned();
    let words: Vec<String> = flags.chain(parsed.data.iter().cloned()).collect();
    let options = data_options(&words, path, judge)?;
    Some(Remount { file_system: Some(Reconfigured { made_by: made_by?, options }) })
}

/// Options of every file system, under their fsconfig(2) names.
const FLAGS: [&str; 9] = ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "ro", "rw", "sync"];

/// Whether each new mount of this type is a new file system, or one that shows only the container's
/// new namespace.
fn is_own(new: &NewFs, context: &Context<'_>) -> bool {
    match new.fstype.to_bytes() {
        b"tmpfs" | b"ramfs" | b"devpts" | b"overlay" | b"hugetlbfs" | b"bpf" => true,
        b"proc" => context.makes(Namespace::Pid),
        b"sysfs" => context.makes(Namespace::Network),
        b"mqueue" => context.makes(Namespace::Ipc),
        _ => false,
    }
}

/// Whether a new mount of this type is known to share a file system that has other mounts.
pub(super) fn is_shared(fstype: &str, context: &Context<'_>) -> bool {
    match fstype {
        "sysfs" => !context.makes(Namespace::Network),
        "mqueue" => !context.makes(Namespace::Ipc),
        "devtmpfs" | "securityfs" | "debugfs" | "tracefs" | "configfs" | "pstore" | "efivarfs"
        | "selinuxfs" | "fusectl" => true,
        _ => false,
    }
}
