//! Leftovers of a container that its engine has removed: none is allowed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{PATIENCE, shell};

/// Asserts that nothing in the machine is named for the container any more: no process, mount,
/// cgroup, or file below /run, where runtimes and engines keep their state, and systemd a file for
/// each unit of theirs, failed ones too.
#[track_caller]
pub(crate) fn nothing_left(id: &str) {
    assert!(id.len() > 3, "{id:?} would be found everywhere");
    let end = Instant::now() + PATIENCE;
    let mut left = look(id);
    while !left.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        left = look(id);
    }
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn look(id: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        if command.contains(id) {
            left.push(format!("process {}: {command}", entry.file_name().display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    left.extend(mounts.lines().filter(|line| line.contains(id)).map(|line| format!("mount: {line}")));
    for place in ["/sys/fs/cgroup", "/run", "/run/user/1000"] {
        named(Path::new(place), id, &mut left);
    }
    left
}

/// Names with `id` in them, below a directory and on its file system.
fn named(directory: &Path, id: &str, found: &mut Vec<String>) {
    let script = format!("find {} -xdev -name '*{id}*' 2>/dev/null || true", directory.display());
    found.extend(shell(&script).ok().stdout.lines().map(str::to_owned));
}
