//! Lists open descriptors in /proc/self/fd, to close or mark them without close_range(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, RawDir};

use super::super::text::parse;
use super::Procfs;

/// Calls `act` with every open descriptor from `first` on. It may close the descriptor.
pub(in crate::sys) fn each(proc: Procfs<'_>, first: u32, mut act: impl FnMut(i32)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = rustix::fs::openat(proc.open()?, c"self/fd", flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); 4096];
    // The kernel continues after the last number that it returned, so descriptors closed meanwhile
    // do not matter.
    let mut entries = RawDir::new(&list, &mut room);
    while let Some(entry) = entries.next() {
        let number = parse(entry?.file_name().to_bytes());
        if let Some(number) = number.filter(|number| *number >= first as i32 && *number != list.as_raw_fd()) {
            act(number);
        }
    }
    Ok(())
}
