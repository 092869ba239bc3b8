//! The mounts that a process sees, from /proc/PID/mountinfo. Source: proc_pid_mountinfo(5).

use std::{fs, io};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, also in fdinfo.
    pub id: u32,
    /// `MAJOR:MINOR` of the file system.
    pub device: String,
    /// What of the file system is mounted.
    pub root: String,
    /// Where, from the root of the process.
    pub place: String,
    /// Type of the file system.
    pub fstype: String,
    /// Options of the file system, not of this mount of it: `rw,cpu,cpuacct`, …
    pub options: String,
}

impl Mount {
    /// Whether it shows control groups, of either version.
    pub fn is_cgroup(&self) -> bool {
        matches!(self.fstype.as_str(), "cgroup" | "cgroup2")
    }
}

/// The mounts of a process, `self` or a number, in the order of the list.
pub fn of(process: &str) -> io::Result<Vec<Mount>> {
    Ok(parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{process}/mountinfo"))?)))
}

/// The mounts in such a text; what is no line of it is left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

/// One line: `31 23 0:28 ROOT PLACE OPTIONS… - TYPE SOURCE OPTIONS`.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let (mut left, mut right) = (left.split(' '), right.split(' '));
    Some(Mount {
        id: left.next()?.parse().ok()?,
        device: left.nth(1)?.to_owned(),
        root: unescape(left.next()?),
        place: unescape(left.next()?),
        fstype: right.next()?.to_owned(),
        options: right.nth(1)?.to_owned(),
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_its_places() {
        let line =
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let want = Mount {
            id: 36,
            device: "98:0".into(),
            root: "/mnt1".into(),
            place: "/mnt 2".into(),
            fstype: "ext3".into(),
            options: "rw,errors=continue".into(),
        };
        assert_eq!(parse(&format!("36 35\n{line}\n")), [want]);
        assert!(!of("self").unwrap().is_empty());
    }
}
