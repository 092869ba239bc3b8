//! An image's /etc/passwd, as the container's process reads it: without heap, in a buffer of one
//! page.

use std::os::fd::AsFd;

use emergence_runc::init::read_home;
use emergence_runc::rootfs::path::PathBuffer;
use rustix::fs::MemfdFlags;

/// A line of this length or longer does not fit into the buffer.
const ROOM: usize = 4096;

pub fn check(bytes: &[u8]) {
    let file = rustix::fs::memfd_create(c"passwd", MemfdFlags::CLOEXEC).expect("a file in memory");
    assert_eq!(rustix::io::pwrite(&file, bytes, 0), Ok(bytes.len()));
    for uid in [0, 1000] {
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).expect("the file's start");
        let mut home = PathBuffer::new(b"HOME=").expect("room");
        let found = read_home(file.as_fd(), uid, &mut home).map(|()| home.bytes().to_vec());
        match slowly(bytes, uid) {
            Some(want) => assert_eq!(found, Ok([b"HOME=", want].concat()), "{uid}"),
            None => assert!(found.is_err(), "{uid}: {found:?}"),
        }
    }
}

/// The same with the whole file at hand.
fn slowly(bytes: &[u8], uid: u32) -> Option<&[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| line.len() < ROOM).find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let found: u32 = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?;
        let home = *fields.get(5)?;
        (found == uid).then_some(home)
    })
}
