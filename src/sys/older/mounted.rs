//! /proc/self/mountinfo, read line by line in a buffer on the stack. proc_pid_mountinfo(5).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::super::text::{Text, parse};
use super::{Procfs, of_descriptor};

/// Maximum length of the kept part of a line. All parsed fields precede the file system's own
/// options; the two paths are shorter than 4096 bytes, or four times that with escapes.
const LONGEST: usize = 36 * 1024;

/// A parsed line.
pub struct Mounted<'a> {
    /// The mount ID.
    pub id: i32,
    /// Root of the mount within its file system; `/` is all of it. With escapes, like the next
    /// field.
    pub root: &'a [u8],
    /// Mount point, relative to this process's root; with escapes.
    pub place: &'a [u8],
    /// Per-mount options, separated by commas.
    pub options: &'a [u8],
    /// Peer group and master, separated by spaces.
    pub propagation: &'a [u8],
    /// Type of its file system.
    pub fstype: &'a [u8],
}

impl Mounted<'_> {
    /// `place` without escapes.
    pub fn path(&self) -> rustix::io::Result<Text<4096>> {
        path(self.place)
    }

    /// Whether mounts and unmounts below it are propagated to other mounts.
    pub fn is_shared(&self) -> bool {
        self.propagation.split(|byte| *byte == b' ').any(|field| field.starts_with(b"shared:"))
    }
}

fn parse_line(line: &[u8]) -> Option<Mounted<'_>> {
    // Spaces in paths are escaped.
    let end = line.windows(3).position(|bytes| bytes == b" - ")?;
    let mut fields = line.get(..end)?.splitn(7, |byte| *byte == b' ');
    let id = parse(fields.next()?)?;
    let (root, place, options) = (fields.nth(2)?, fields.next()?, fields.next()?);
    let propagation = fields.next().unwrap_or_default();
    let fstype = line.get(end + 3..)?.split(|byte| *byte == b' ').next()?;
    Some(Mounted { id, root, place, options, propagation, fstype })
}

/// Calls `act` with each mount that is visible in this process's mount namespace.
pub fn each(proc: BorrowedFd<'_>, mut act: impl FnMut(Mounted<'_>) -> io::Result<()>) -> io::Result<()> {
    lines(proc, |line| match parse_line(line) {
        Some(mount) => act(mount),
        // Longer than any line that the kernel writes.
        None => Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
    })
}

/// The ID of the topmost mount whose root is the file `fd`; `None` if it is not the root of a
/// mount.
pub(in crate::sys) fn uppermost(fd: BorrowedFd<'_>, proc: Procfs<'_>) -> io::Result<Option<i32>> {
    let proc = proc.open()?;
    let path = path_of(fd, proc.as_fd())?;
    let mut found = None;
    each(proc.as_fd(), |mount| {
        if is_written_as(path.bytes(), mount.place) {
            found = Some(mount.id);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The path of the file `fd` from this process's root, as given by the kernel. `proc` is the top
/// directory of procfs.
pub fn path_of(fd: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> io::Result<Text<4096>> {
    let mut room = [MaybeUninit::uninit(); 4096];
    let link = of_descriptor(b"fd", fd)?;
    let (path, _) = rustix::fs::readlinkat_raw(proc, link.as_cstr()?, &mut room)?;
    Ok(Text::new(path)?)
}

/// Whether `written` is `path` with mountinfo's escapes.
fn is_written_as(path: &[u8], written: &[u8]) -> bool {
    let mut bytes = unescape(written);
    path.iter().all(|byte| bytes.next() == Some(*byte)) && bytes.next().is_none()
}

/// Decodes a path: space, tab, newline and backslash are written as a backslash and three octal
/// digits.
pub(super) fn unescape(written: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = written;
    std::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        let digits = behind.get(..3).filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        match (first, digits) {
            (b'\\', Some(digits)) => {
                rest = behind.get(3..).unwrap_or_default();
                Some(digits.iter().fold(0u8, |byte, digit| byte.wrapping_mul(8).wrapping_add(digit - b'0')))
            }
            _ => {
                rest = behind;
                Some(*first)
            }
        }
    })
}

/// Decodes a path.
pub(super) fn path(written: &[u8]) -> rustix::io::Result<Text<4096>> {
    let mut path = Text::new(b"")?;
    unescape(written).try_for_each(|byte| path.push(&[byte]))?;
    Ok(path)
}

/// Calls `act` with each line, or with the beginning of one that is too long.
fn lines(proc: BorrowedFd<'_>, mut act: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, c"self/mountinfo", flags, Mode::empty())?;
    let mut line = Text::<LONGEST>::new(b"")?;
    let mut room = [0u8; 4096];
    loop {
        let read = match rustix::io::read(&file, &mut room) {
            Err(rustix::io::Errno::INTR) => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(());
        }
        let mut rest = room.get(..read).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            keep(&mut line, rest.get(..end).unwrap_or_default());
            act(line.bytes())?;
            line.cut(0);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        keep(&mut line, rest);
    }
}

fn keep(line: &mut Text<LONGEST>, more: &[u8]) {
    let space = LONGEST - 1 - line.bytes().len();
    // Cannot fail: it is cut to the space left.
    let _ = line.push(more.get(..space).unwrap_or(more));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134 ro,noatime master:1 - ext3 /dev/root rw";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.id, mount.options), (36, &b"ro,noatime"[..]));
        assert_eq!((mount.root, mount.fstype, mount.is_shared()), (&b"/mnt1"[..], &b"ext3"[..], false));
        let line = br"37 36 0:5 /a /b rw shared:3 master:1 - tmpfs none rw";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.root, mount.propagation), (&b"/a"[..], &b"shared:3 master:1"[..]));
        assert!(mount.is_shared());
        let mount = parse_line(b"37 36 0:5 /a /b rw - proc proc rw").unwrap();
        assert_eq!((mount.options, mount.fstype, mount.is_shared()), (&b"rw"[..], &b"proc"[..], false));
        let mount =
            parse_line(br"36 35 98:0 /mnt1 /a\040b\134 ro,noatime master:1 - ext3 /dev/root rw").unwrap();
        assert!(is_written_as(br"/a b\", mount.place));
        assert_eq!(path(mount.place).unwrap().bytes(), br"/a b\");
        for other in [&br"/a b"[..], br"/a b\c", b"", br"/a\040b\134"] {
            assert!(!is_written_as(other, mount.place));
        }
        assert!(parse_line(b"36 35").is_none());
    }

    #[test]
    fn the_root_is_a_mount_and_a_file_in_it_is_not() {
        let open =
            |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(uppermost(open("/").as_fd(), Procfs::Here).unwrap().is_some());
        assert!(uppermost(open("/proc").as_fd(), Procfs::Here).unwrap().is_some());
        assert_eq!(uppermost(open("/proc/self").as_fd(), Procfs::Here).unwrap(), None);
    }
}
