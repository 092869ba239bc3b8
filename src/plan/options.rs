//! Mount options of config.json and their meaning for the kernel. One table, which `features` also
//! prints.
//!
//! Source: runtime-spec config.md, "Linux mount options"; mount(8); mount_setattr(2).

use rustix::mount::MountFlags;

use crate::sys::mount::Reach;

/// The meaning of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountOption {
    /// No effect.
    Default,
    /// MS_… set by mount(2), and the equivalent mount attribute for a bind mount (0: none).
    Set(MountFlags, u64),
    /// The flags and attribute are cleared.
    Clear(MountFlags, u64),
    /// A mount attribute for the mount and all below it.
    RecursiveSet(u64),
    /// A mount attribute cleared for the mount and all below it.
    RecursiveClear(u64),
    /// MS_PRIVATE and similar.
    Propagation(MountFlags, Reach),
    /// Bind.
    Bind(Reach),
    /// Change an existing mount.
    Remount,
    /// Mount idmapped.
    IdMap(Reach),
    /// Copy the covered contents into a tmpfs.
    CopyUp,
    /// Copy a source that is a symbolic link as a link.
    CopySymlink,
    /// Do not follow a source that is a symbolic link.
    SourceNoFollow,
    /// Do not follow a destination that is a symbolic link.
    DestinationNoFollow,
}

use MountOption::{Clear, Propagation, RecursiveClear, RecursiveSet, Set};

const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

const MS_MANDLOCK: MountFlags = MountFlags::PERMIT_MANDATORY_FILE_LOCKING;
const MS_IVERSION: MountFlags = MountFlags::from_bits_retain(libc::MS_I_VERSION as u32);

/// Every option that is not passed to the file system.
pub const WORDS: &[(&str, MountOption)] = &[
    ("async", Clear(MountFlags::SYNCHRONOUS, 0)),
    ("atime", Clear(MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME)),
    ("bind", MountOption::Bind(Reach::Mount)),
    ("copy-symlink", MountOption::CopySymlink),
    ("defaults", MountOption::Default),
    ("dest-nofollow", MountOption::DestinationNoFollow),
    ("dev", Clear(MountFlags::NODEV, NODEV)),
    ("diratime", Clear(MountFlags::NODIRATIME, NODIRATIME)),
    ("dirsync", Set(MountFlags::DIRSYNC, 0)),
    ("exec", Clear(MountFlags::NOEXEC, NOEXEC)),
    ("idmap", MountOption::IdMap(Reach::Mount)),
    ("iversion", Set(MS_IVERSION, 0)),
    ("lazytime", Set(MountFlags::LAZYTIME, 0)),
    ("loud", Clear(MountFlags::SILENT, 0)),
    ("mand", Set(MS_MANDLOCK, 0)),
    ("noatime", Set(MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME)),
    ("nodev", Set(MountFlags::NODEV, NODEV)),
    ("nodiratime", Set(MountFlags::NODIRATIME, NODIRATIME)),
    ("noexec", Set(MountFlags::NOEXEC, NOEXEC)),
    ("noiversion", Clear(MS_IVERSION, 0)),
    ("nolazytime", Clear(MountFlags::LAZYTIME, 0)),
    ("nomand", Clear(MS_MANDLOCK, 0)),
    ("norelatime", Clear(MountFlags::RELATIME, 0)),
    ("nostrictatime", Clear(MountFlags::STRICTATIME, libc::MOUNT_ATTR_STRICTATIME)),
    ("nosuid", Set(MountFlags::NOSUID, NOSUID)),
    ("nosymfollow", Set(MountFlags::NOSYMFOLLOW, NOSYMFOLLOW)),
    ("private", Propagation(MountFlags::from_bits_retain(libc::MS_PRIVATE as u32), Reach::Mount)),
    ("ratime", RecursiveClear(libc::MOUNT_ATTR_NOATIME)),
    ("rbind", MountOption::Bind(Reach::Tree)),
    ("rdev", RecursiveClear(NODEV)),
    ("rdiratime", RecursiveClear(NODIRATIME)),
    ("relatime", Set(MountFlags::RELATIME, 0)),
    ("remount", MountOption::Remount),
    ("rexec", RecursiveClear(NOEXEC)),
    ("ridmap", MountOption::IdMap(Reach::Tree)),
    ("rnoatime", RecursiveSet(libc::MOUNT_ATTR_NOATIME)),
    ("rnodev", RecursiveSet(NODEV)),
    ("rnodiratime", RecursiveSet(NODIRATIME)),
    ("rnoexec", RecursiveSet(NOEXEC)),
    // As in runc: there is no other access time setting that this could name.
    ("rnorelatime", RecursiveClear(ATIME)),
    ("rnostrictatime", RecursiveClear(libc::MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", RecursiveSet(NOSUID)),
    ("rnosymfollow", RecursiveSet(NOSYMFOLLOW)),
    ("ro", Set(MountFlags::RDONLY, RDONLY)),
    ("rprivate", Propagation(MountFlags::from_bits_retain(libc::MS_PRIVATE as u32), Reach::Tree)),
    ("rrelatime", RecursiveClear(ATIME)),
    ("rro", RecursiveSet(RDONLY)),
    ("rrw", RecursiveClear(RDONLY)),
    ("rshared", Propagation(MountFlags::from_bits_retain(libc::MS_SHARED as u32), Reach::Tree)),
    ("rslave", Propagation(MountFlags::from_bits_retain(libc::MS_SLAVE as u32), Reach::Tree)),
    ("rstrictatime", RecursiveSet(libc::MOUNT_ATTR_STRICTATIME)),
    ("rsuid", RecursiveClear(NOSUID)),
    ("rsymfollow", RecursiveClear(NOSYMFOLLOW)),
    ("runbindable", Propagation(MountFlags::from_bits_retain(libc::MS_UNBINDABLE as u32), Reach::Tree)),
    ("rw", Clear(MountFlags::RDONLY, RDONLY)),
    ("shared", Propagation(MountFlags::from_bits_retain(libc::MS_SHARED as u32), Reach::Mount)),
    ("silent", Set(MountFlags::SILENT, 0)),
    ("slave", Propagation(MountFlags::from_bits_retain(libc::MS_SLAVE as u32), Reach::Mount)),
    ("src-nofollow", MountOption::SourceNoFollow),
    ("strictatime", Set(MountFlags::STRICTATIME, libc::MOUNT_ATTR_STRICTATIME)),
    ("suid", Clear(MountFlags::NOSUID, NOSUID)),
    ("symfollow", Clear(MountFlags::NOSYMFOLLOW, NOSYMFOLLOW)),
    ("sync", Set(MountFlags::SYNCHRONOUS, 0)),
    ("tmpcopyup", MountOption::CopyUp),
    ("unbindable", Propagation(MountFlags::from_bits_retain(libc::MS_UNBINDABLE as u32), Reach::Mount)),
];

/// Options that apply to a file system as a whole, and so to all its mounts. `ro` and `rw` do too,
/// but also apply to a single mount; `async` is not listed, because it is the default everywhere.
pub const OF_FILE_SYSTEM: &[&str] =
    &["dirsync", "iversion", "lazytime", "mand", "noiversion", "nolazytime", "nomand", "sync"];

/// The meaning of an option, or `None` if it is data for the file system.
pub fn word(text: &str) -> Option<MountOption> {
    let at = WORDS.binary_search_by_key(&text, |(name, _)| name).ok()?;
    WORDS.get(at).map(|(_, word)| *word)
}

/// The propagation named by `linux.rootfsPropagation`: MS_….
pub fn propagation(text: &str) -> Option<(MountFlags, Reach)> {
    match word(text) {
        Some(Propagation(flag, reach)) => Some((flag, reach)),
        _ => None,
    }
}

/// Builds the attributes. The atime attributes are one field of several bits: setting any of them
/// clears the whole field.
pub fn attributes(set: u64, clear: u64) -> crate::sys::mount::Attributes {
    let touches_atime = (set | clear) & ATIME != 0;
    crate::sys::mount::Attributes {
        set,
        clear: clear | if touches_atime { ATIME } else { 0 },
        propagation: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(WORDS.is_sorted_by_key(|(name, _)| name));
        assert!(WORDS.iter().all(|(name, meaning)| word(name) == Some(*meaning)));
        assert_eq!(word("size=1k"), None);
    }

    #[test]
    fn atime_values_replace_each_other() {
        assert_eq!(attributes(libc::MOUNT_ATTR_NOATIME, 0).clear, ATIME);
        assert_eq!(attributes(RDONLY, 0).clear, 0);
    }
}
