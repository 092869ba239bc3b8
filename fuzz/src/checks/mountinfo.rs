//! The kernel's list of mounts, and after an empty line that of our cgroups: names in both are
//! chosen by other processes.

use emergence_runc::cgroup::Layout;
use emergence_runc::sys::mountinfo::{self, Mount};

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (mounts, groups) = text.split_once("\n\n").unwrap_or((&text, ""));
    let lines = mounts.lines().count();
    let mounts: Vec<Mount> = mountinfo::parse(mounts).collect();
    assert!(mounts.len() <= lines);
    match Layout::of(&mounts, groups) {
        Layout::None => assert!(!mounts.iter().any(|mount| mount.fstype == "cgroup2")),
        Layout::Unified { mount } => {
            assert!(mounts.iter().any(|found| mount.as_os_str() == found.place.as_str()))
        }
        Layout::Legacy { hierarchies, .. } => assert!(!hierarchies.is_empty()),
    }
}
