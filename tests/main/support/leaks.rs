//! Leftovers that a test must not have: processes (zombies too), mounts, cgroups, state
//! directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Env, patience};

/// What is dying when the test ends gets this long.
fn grace() -> Duration {
    patience() / 4
}

impl Drop for Env {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.clean();
            return;
        }
        let end = Instant::now() + grace();
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
            left = self.left();
        }
        self.clean();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Env {
    /// All that is still there, in words.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for pid in self.processes() {
            let words =
                fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
            let (state, parent) = (field("State:"), field("PPid:"));
            if state.starts_with('Z') && parent == "1" {
                continue; // reaping is the first process's job, which takes its time
            }
            left.push(format!("process {pid} {words:?} {state}"));
        }
        left.extend(self.mounts().into_iter().map(|path| format!("mount {}", path.display())));
        // crun 1.8 leaves the cgroup of a create that failed.
        let cgroups = if self.flavour() == "crun" { Vec::new() } else { self.cgroups() };
        left.extend(cgroups.into_iter().map(|path| format!("cgroup {}", path.display())));
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        left.extend(
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with('.'))
                .map(|name| format!("state of {name}")),
        );
        left
    }

    /// Processes in this test's cgroups, or whose root file system is in this test's directory.
    fn processes(&self) -> Vec<i32> {
        let dir = self.dir().to_str().expect("UTF-8");
        let pids = fs::read_dir("/proc").expect("read /proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // What a process's mounts say is the same for all in its mount namespace, and long where
        // many are.
        let mut seen: BTreeMap<PathBuf, bool> = BTreeMap::new();
        let ours = |pid: &i32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            if read("cgroup").contains(&self.parent) {
                return true;
            }
            let rooted_here = || {
                read("mountinfo").lines().any(|line| {
                    let mut fields = line.split(' ').skip(3);
                    let (source, place) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
                    source.starts_with(dir) && place == "/"
                })
            };
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { return rooted_here() };
            *seen.entry(namespace).or_insert_with(rooted_here)
        };
        pids.filter(ours).collect()
    }

    /// Mounts below the test's directory, in the host's mount namespace and in the test's.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let host = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let own = self.program("cat", &["/proc/self/mountinfo"]).privileged().run().ok().stdout;
        let all = host.lines().chain(own.lines());
        let places = all.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let expected = self.expected_mounts.borrow();
        places.filter(|path| path.starts_with(self.dir()) && !expected.contains(path)).collect()
    }

    /// The mounts of the test's namespace, a line of mountinfo each, to compare with those of
    /// later. Left out is what other programs of the machine change meanwhile, though the namespace
    /// is private: a mount vanishes from every namespace when the file that it is on is removed, as
    /// engines do below /run and /var, and who mounts cgroup2 sets its options for all.
    pub(crate) fn mount_table(&self) -> String {
        let all = self.program("cat", &["/proc/self/mountinfo"]).run().ok().stdout;
        let place = |line: &str| {
            line.split(' ').nth(4).is_some_and(|at| !at.starts_with("/run/") && !at.starts_with("/var/"))
        };
        let lasting = all.lines().filter(|line| place(line));
        lasting
            .map(|line| format!("{}\n", line.split_once(" - cgroup2 ").map_or(line, |(mount, _)| mount)))
            .collect()
    }

    /// cgroups below the test's, deepest first; the parent itself may stay, `clean` takes it.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let root = self.cgroup_directory();
        let mut found = Vec::new();
        directories(&root, &mut found);
        found.reverse();
        found
    }

    /// The test's cgroup, through a descriptor of the hierarchy that the test's mount namespace
    /// sees.
    fn cgroup_directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.hierarchy.as_raw_fd(), self.parent))
    }

    /// Kills and removes what is left, so that one failing test does not spoil the next.
    fn clean(&self) {
        for pid in self.processes() {
            let Some(pid) = Pid::from_raw(pid) else { continue };
            if let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                let _ = rustix::process::pidfd_send_signal(fd.as_fd(), Signal::KILL);
            }
        }
        let end = Instant::now() + grace();
        while Instant::now() < end {
            for directory in self.cgroups() {
                let _ = fs::remove_dir(directory);
            }
            let parent = self.cgroup_directory();
            if !parent.exists() || fs::remove_dir(&parent).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn directories(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            directories(&entry.path(), found);
        }
    }
}
