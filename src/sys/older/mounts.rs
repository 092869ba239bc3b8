//! Attributes and propagation of mounts without mount_setattr(2).
//!
//! mount(2) only changes mounts that are attached in this process's mount namespace. A detached
//! mount is therefore temporarily attached, changed and cloned in a mount namespace that only this
//! process sees. It reaches its final place with its attributes set, as with the new call, and is
//! never visible without them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create, fsmount,
    fsopen, mount_change, mount_remount,
};

use super::super::check;
use super::super::namespace::Namespace;
use super::super::raw::mount::{Attributes, Reach, attach, clone_mount};
use super::super::raw::namespaces::{WayBack, unshare};
use super::{Procfs, mounted, of_descriptor};

/// A flag in statfs(2), in mount_setattr(2), in mount(2), and in mountinfo.
struct Flag(u64, u64, MountFlags, &'static [u8]);

const FLAGS: [Flag; 6] = [
    Flag(1, libc::MOUNT_ATTR_RDONLY, MountFlags::RDONLY, b"ro"),
    Flag(2, libc::MOUNT_ATTR_NOSUID, MountFlags::NOSUID, b"nosuid"),
    Flag(4, libc::MOUNT_ATTR_NODEV, MountFlags::NODEV, b"nodev"),
    Flag(8, libc::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC, b"noexec"),
    Flag(0x800, libc::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME, b"nodiratime"),
    Flag(0x2000, libc::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW, b"nosymfollow"),
];

/// `ST_NOATIME`, `ST_RELATIME`, statfs(2).
pub(in crate::sys) const ST_NOATIME: u64 = 0x400;
pub(in crate::sys) const ST_RELATIME: u64 = 0x1000;

/// The flags for mount(2) that change a mount with the `current` flags (statfs(2)) as `wanted`:
/// mount(2) clears the flags that it is not given.
///
/// `None`: a combination that mount_setattr would reject too.
fn flags(current: u64, wanted: Attributes) -> Option<MountFlags> {
    let mut flags = MountFlags::BIND;
    for Flag(now, attribute, flag, _) in FLAGS {
        let set = wanted.set & attribute != 0 || current & now != 0 && wanted.clear & attribute == 0;
        flags.set(flag, set);
    }
    const TIMES: u64 = libc::MOUNT_ATTR__ATIME;
    let times = match (wanted.set & TIMES, wanted.clear & TIMES) {
        (0, 0) if current & ST_NOATIME != 0 => MountFlags::NOATIME,
        (0, 0) if current & ST_RELATIME != 0 => MountFlags::RELATIME,
        (0, 0) => MountFlags::STRICTATIME,
        (0, TIMES) => MountFlags::RELATIME,
        (libc::MOUNT_ATTR_NOATIME, TIMES) => MountFlags::NOATIME,
        (libc::MOUNT_ATTR_STRICTATIME, TIMES) => MountFlags::STRICTATIME,
        _ => return None,
    };
    Some(flags | times)
}

/// Changes a mount of this namespace. ENOSYS: recursive attributes, which only the new call
/// supports.
pub(in crate::sys) fn change(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    reach: Reach,
    proc: Procfs<'_>,
) -> io::Result<()> {
    let flags_change = wanted.set | wanted.clear != 0;
    if flags_change && reach == Reach::Tree {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let proc = proc.open()?;
    if wanted.propagation != 0 {
        propagate(mount, wanted.propagation, reach, &proc)?;
    }
    if flags_change { set_flags(mount, wanted, &proc) } else { Ok(()) }
}

/// Changes a detached mount, or its tree. Its descriptor then refers to a changed clone.
pub(in crate::sys) fn prepare(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    reach: Reach,
    proc: Procfs<'_>,
) -> io::Result<()> {
    let proc = proc.open()?;
    let way_back = WayBack::open(&proc)?;
    way_back.take()?; // permission to return must be known before it is needed
    unshare(Namespace::Mount)?;
    let changed = change_in_new_namespace(mount, wanted, reach, &proc);
    // Staying in this namespace would be worse than any other error.
    way_back.take()?;
    let changed = changed?;
    // SAFETY: dup3 closes the old mount's descriptor and atomically puts the new one's in its
    // place: the owner of that number still owns an open descriptor.
    let done =
        unsafe { libc::syscall(libc::SYS_dup3, changed.as_raw_fd(), mount.as_raw_fd(), libc::O_CLOEXEC) };
    check(done).map(drop)
}

/// Changes the mount in this new mount namespace, after a chroot in which only the mount is
/// visible. Returns a clone of it.
fn change_in_new_namespace(
    mount: BorrowedFd<'_>,
    wanted: Attributes,
    reach: Reach,
    proc: &OwnedFd,
) -> io::Result<OwnedFd> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let cell = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let top = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    attach(&cell, &top)?;
    // mountinfo lists only mounts below this process's root.
    rustix::process::fchdir(&cell)?;
    rustix::process::chroot(c".")?;

    let is_directory = FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode) == FileType::Directory;
    let place = if is_directory {
        rustix::fs::mkdirat(&cell, c"mount", Mode::RWXU)?;
        rustix::fs::openat(&cell, c"mount", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?
    } else {
        let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&cell, c"mount", make, Mode::RUSR)?
    };
    attach(mount, &place)?;
    if wanted.propagation != 0 {
        propagate(mount, wanted.propagation, reach, proc)?;
    }
    if wanted.set | wanted.clear != 0 {
        set_flags(mount, wanted, proc)?;
        if reach == Reach::Tree {
            set_flags_below(&cell, wanted, proc)?;
        }
    }
    clone_mount(mount, Reach::Tree)
}

fn propagate(mount: BorrowedFd<'_>, flag: u64, reach: Reach, proc: &OwnedFd) -> io::Result<()> {
    let mut flags = MountPropagationFlags::from_bits_retain(flag as u32);
    flags.set(MountPropagationFlags::REC, reach == Reach::Tree);
    at_path(mount, proc, |path| mount_change(path, flags))
}

fn set_flags(mount: BorrowedFd<'_>, wanted: Attributes, proc: &OwnedFd) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    // A read-only file system is reported as a read-only mount, and becomes one: stricter than
    // before, until it is unmounted.
    let current = rustix::fs::fstatfs(mount)?.f_flags as u64;
    let flags = flags(current, wanted).ok_or_else(invalid)?;
    at_path(mount, proc, |path| mount_remount(path, flags, c""))?;
    // An old kernel ignores an unknown flag.
    let now = rustix::fs::fstatfs(mount)?.f_flags as u64;
    let missed = FLAGS.iter().any(|Flag(bit, attribute, ..)| wanted.set & attribute != 0 && now & bit == 0);
    if missed { Err(invalid()) } else { Ok(()) }
}

/// Sets flags of the mounts below the one in `cell`, this process's root. ENOSYS: another mount
/// hides one of them, so that no path leads to it.
fn set_flags_below(cell: &OwnedFd, wanted: Attributes, proc: &OwnedFd) -> io::Result<()> {
    let hidden = || io::Error::from_raw_os_error(libc::ENOSYS);
    mounted::each(proc.as_fd(), |below| {
        let Some(path) = below.place.strip_prefix(b"/mount/").map(mounted::path).transpose()? else {
            return Ok(());
        };
        let mount = rustix::fs::openat(cell, c"mount", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(mount, path.as_cstr()?, look, Mode::empty());
        let found = found.map_err(|_| hidden())?;
        match set_flags(found.as_fd(), wanted, proc) {
            // Not the root of a mount: another mount covers it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(hidden()),
            done => done,
        }
    })?;
    // If two mounts are stacked, only the upper one was found.
    mounted::each(proc.as_fd(), |below| {
        let has = |name: &[u8]| below.options.split(|byte| *byte == b',').any(|option| option == name);
        let missed = |Flag(_, attribute, _, name): &Flag| {
            wanted.set & attribute != 0 && !has(name) || wanted.clear & attribute != 0 && has(name)
        };
        if below.place.starts_with(b"/mount") && FLAGS.iter().any(missed) { Err(hidden()) } else { Ok(()) }
    })
}

/// Calls `act` with a path for `mount`, the one in procfs for its descriptor. The working directory
/// is changed meanwhile.
fn at_path(
    mount: BorrowedFd<'_>,
    proc: &OwnedFd,
    act: impl FnOnce(&CStr) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let path = of_descriptor(b"fd", mount)?;
    let before = rustix::fs::open(c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    rustix::process::fchdir(proc)?;
    let done = act(path.as_cstr()?);
    // A process in a new user namespace may lack permission for its working directory, which it
    // does not need.
    if let Ok(before) = before {
        rustix::process::fchdir(before)?;
    }
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_that_was_not_to_be_cleared() {
        const RO: u64 = libc::MOUNT_ATTR_RDONLY;
        const TIMES: u64 = libc::MOUNT_ATTR__ATIME;
        let change = |set, clear| Attributes { set, clear, propagation: 0 };
        let (b, rel) = (MountFlags::BIND, MountFlags::RELATIME);
        let table = [
            ("read-only", 0, change(RO, 0), Some(b | MountFlags::RDONLY | MountFlags::STRICTATIME)),
            (
                "the others stay",
                2 | 4 | 8 | 0x800 | ST_RELATIME,
                change(RO, 0),
                Some(
                    b | rel
                        | MountFlags::RDONLY
                        | MountFlags::NOSUID
                        | MountFlags::NODEV
                        | MountFlags::NOEXEC
                        | MountFlags::NODIRATIME,
                ),
            ),
            ("writable", 1 | 2 | ST_RELATIME, change(0, RO), Some(b | rel | MountFlags::NOSUID)),
            ("times stay", ST_NOATIME, change(RO, 0), Some(b | MountFlags::RDONLY | MountFlags::NOATIME)),
            (
                "times",
                ST_NOATIME,
                change(libc::MOUNT_ATTR_STRICTATIME, TIMES),
                Some(b | MountFlags::STRICTATIME),
            ),
            ("times back", ST_NOATIME, change(0, TIMES), Some(b | rel)),
            ("times without a clear", 0, change(libc::MOUNT_ATTR_NOATIME, 0), None),
        ];
        for (name, current, wanted, want) in table {
            assert_eq!(flags(current, wanted), want, "{name}");
        }
    }
}
