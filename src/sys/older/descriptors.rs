//! Descriptors closed, or marked to be closed, without close_range(2): as /proc/self/fd lists them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, RawDir};

use super::super::text::parse;
use super::Procfs;

/// Does `act` with the number of every open descriptor from `first` on. It may close it.
pub(in crate::sys) fn each(proc: Procfs<'_>, first: u32, mut act: impl FnMut(i32)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = rustix::fs::openat(proc.open()?, c"self/fd", flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); 4096];
    // The kernel goes on behind the number that it has told last, so what is closed meanwhile does not matter.
    let mut entries = RawDir::new(&list, &mut room);
    while let Some(entry) = entries.next() {
        let number = parse(entry?.file_name().to_bytes());
        if let Some(number) = number.filter(|number| *number >= first as i32 && *number != list.as_raw_fd()) {
            act(number);
        }
    }
    Ok(())
}
