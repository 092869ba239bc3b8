//! The mounts visible to a process, from /proc/PID/mountinfo: proc_pid_mountinfo(5).

use std::{fs, io};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount ID, as in fdinfo.
    pub id: u32,
    /// `MAJOR:MINOR` of the file system.
    pub device: String,
    /// Root of the mount within the file system.
    pub root: String,
    /// Mount point, relative to the root of the process.
    pub place: String,
    /// Type of the file system.
    pub fstype: String,
    /// Options of the file system, not of the mount: `rw,cpu,cpuacct`.
    pub options: String,
}

/// The mounts of a process, `self` or a PID, in the order of the file.
pub fn of(process: &str) -> io::Result<Vec<Mount>> {
    let text = fs::read(format!("/proc/{process}/mountinfo"))?;
    Ok(parse(&String::from_utf8_lossy(&text)).collect())
}

/// Parses the text of such a file. Malformed lines are skipped.
pub fn parse(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(line)
}

/// Parses `31 23 0:28 ROOT PLACE OPTIONS… - TYPE SOURCE OPTIONS`.
fn line(line: &str) -> Option<Mount> {
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

/// Decodes space, tab, newline and backslash, which are written as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_its_places() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n36 35\n";
        let want = Mount {
            id: 36,
            device: "98:0".into(),
            root: "/mnt1".into(),
            place: "/mnt 2".into(),
            fstype: "ext3".into(),
            options: "rw,errors=continue".into(),
        };
        assert_eq!(parse(text).collect::<Vec<_>>(), [want]);
        assert_eq!(unescape("\\134040"), "\\040");
        assert!(!of("self").unwrap().is_empty());
    }
}
