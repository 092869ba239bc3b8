//! /proc/self/mountinfo, read line by line in a buffer on the stack. proc_pid_mountinfo(5).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::super::text::{Text, parse};
use super::{Procfs, of_descriptor};

/// Longest beginning of a line that is kept. All that is read of it stands before the file system's own options; the two paths in
/// it are shorter than 4096 bytes, and up to four times that with their escapes.
const LONGEST: usize = 36 * 1024;

/// What a line tells.
pub struct Mounted<'a> {
    /// The mount's number.
    pub id: i32,
    /// What of its file system is mounted; `/` is all. With escapes, as the next.
    pub root: &'a [u8],
    /// Where it is mounted, as seen from this process's root; as the file writes it, with escapes.
    pub place: &'a [u8],
    /// Its own flags, with commas between.
    pub options: &'a [u8],
    /// Its peer group and master, with spaces between.
    pub propagation: &'a [u8],
    /// Type of its file system.
    pub fstype: &'a [u8],
}

impl Mounted<'_> {
    /// `place` without escapes.
    pub fn path(&self) -> rustix::io::Result<Text<4096>> {
        path(self.place)
    }

    /// Whether it passes on what is mounted and unmounted below it.
    pub fn is_shared(&self) -> bool {
        self.propagation.split(|byte| *byte == b' ').any(|field| field.starts_with(b"shared:"))
    }
}

fn parse_line(line: &[u8]) -> Option<Mounted<'_>> {
    // No path in it has a space.
    let end = line.windows(3).position(|bytes| bytes == b" - ")?;
    let mut fields = line.get(..end)?.splitn(7, |byte| *byte == b' ');
    let id = parse(fields.next()?)?;
    let (root, place, options) = (fields.nth(2)?, fields.next()?, fields.next()?);
    let propagation = fields.next().unwrap_or_default();
    let fstype = line.get(end + 3..)?.split(|byte| *byte == b' ').next()?;
    Some(Mounted { id, root, place, options, propagation, fstype })
}

/// Does `act` with each mount of this process's namespace that it can see.
pub fn each(proc: BorrowedFd<'_>, mut act: impl FnMut(Mounted<'_>) -> io::Result<()>) -> io::Result<()> {
    lines(proc, |line| match parse_line(line) {
        Some(mount) => act(mount),
        // Longer than any that the kernel writes.
        None => Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
    })
}

/// The number of the uppermost mount whose root is the file behind `fd`; `None` when it is not the root of one.
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

/// The path of the file behind `fd` from this process's root, as the kernel tells it. `proc` is the top folder of procfs.
pub fn path_of(fd: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> io::Result<Text<4096>> {
    let mut room = [MaybeUninit::uninit(); 4096];
    let link = of_descriptor(b"fd", fd)?;
    let (path, _) = rustix::fs::readlinkat_raw(proc, link.as_cstr()?, &mut room)?;
    Ok(Text::new(path)?)
}

/// Whether `written` is `path` with the escapes of mountinfo.
fn is_written_as(path: &[u8], written: &[u8]) -> bool {
    let mut bytes = unescape(written);
    path.iter().all(|byte| bytes.next() == Some(*byte)) && bytes.next().is_none()
}

/// The bytes of a path: space, tab, newline and backslash are written as a backslash and three octal digits.
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

/// The path that is written so.
pub(super) fn path(written: &[u8]) -> rustix::io::Result<Text<4096>> {
    let mut path = Text::new(b"")?;
    unescape(written).try_for_each(|byte| path.push(&[byte]))?;
    Ok(path)
}

/// Does `act` with each line, or with the beginning of one that is too long.
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
    // What is cut to fit fits.
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
