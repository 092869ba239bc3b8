//! Replaces limits as a whole: either all new values are written or the former ones are restored.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::file::{read_at, write_at};
use super::write::SettingDirectory;
use super::{CgroupSettings, Made, Missing, Setting};
use crate::error::{Doing, Result};

/// Files with one line per device or other key, and the value that removes a line. Source:
/// cgroup-v2.rst; for v1, Documentation/admin-guide/cgroup-v1.
const KEYED: &[(&str, &str)] = &[
    ("io.max", "rbps=max wbps=max riops=max wiops=max"),
    ("io.weight", "default"),
    ("io.bfq.weight", "default"),
    ("io.latency", "target=0"),
    ("rdma.max", "hca_handle=max hca_object=max"),
    ("misc.max", "max"),
    ("blkio.throttle.read_bps_device", "0"),
    ("blkio.throttle.write_bps_device", "0"),
    ("blkio.throttle.read_iops_device", "0"),
    ("blkio.throttle.write_iops_device", "0"),
    ("blkio.weight_device", "0"),
    ("blkio.leaf_weight_device", "0"),
    ("blkio.bfq.weight_device", "default"),
    ("net_prio.ifpriomap", "0"),
];

/// The only file of the v1 devices controller that can be read.
const DEVICES_LIST: &str = "devices.list";

/// The contents of a cgroup's files before a change.
pub struct Former<'a> {
    files: Vec<Saved<'a>>,
}

struct Saved<'a> {
    target: SettingDirectory<'a>,
    file: String,
    text: String,
    /// An equivalent value, for when the kernel rejects `text`.
    same: Option<String>,
}

impl Made {
    /// Writes the settings. If the kernel refuses one, every file is restored, and the kernel's
    /// error is returned.
    ///
    /// Files that can only be written, such as `memory.reclaim`, cannot be restored.
    pub fn change(&self, settings: &CgroupSettings) -> Result<Former<'_>> {
        settings.writes.iter().try_for_each(|setting| self.check_file(setting))?;
        let former = self.former(settings)?;
        match self.apply(settings) {
            Ok(()) => Ok(former),
            Err(error) => Err(error.after_cleaning(former.put_back())),
        }
    }

    fn former(&self, settings: &CgroupSettings) -> Result<Former<'_>> {
        let mut files: Vec<Saved<'_>> = Vec::with_capacity(settings.writes.len());
        for setting in &settings.writes {
            for file in touched(setting) {
                if files.iter().any(|saved| saved.file == file) {
                    continue;
                }
                // Without a directory for the file, the write fails before it changes anything.
                let Ok(target) = self.target(setting) else { continue };
                let place = || format!("read {}/{file}", target.path().display());
                if let Some(text) = present(target.dir(), file).doing(place)? {
                    let same = effective_of_empty(target.dir(), file, &text);
                    files.push(Saved { target, file: file.to_owned(), text, same });
                }
            }
        }
        Ok(Former { files })
    }
}

/// The text of a file; `None` if it does not exist or can only be written: then it holds nothing to
/// restore.
fn present(dir: BorrowedFd<'_>, file: &str) -> rustix::io::Result<Option<String>> {
    match read_at(dir, file) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The effective list of an empty cpuset, which is its parent's: a cpuset with processes in it
/// cannot be emptied again.
fn effective_of_empty(dir: BorrowedFd<'_>, file: &str, text: &str) -> Option<String> {
    let is_list = matches!(file, "cpuset.cpus" | "cpuset.mems");
    if is_list && text.is_empty() { read_at(dir, format!("{file}.effective")).ok() } else { None }
}

/// The files that writing this setting may change.
fn touched(setting: &Setting) -> impl Iterator<Item = &str> {
    let own = match setting.file.as_ref() {
        "devices.allow" | "devices.deny" => DEVICES_LIST,
        file => file,
    };
    let instead = match &setting.missing {
        Missing::Instead(file, _) => Some(*file),
        _ => None,
    };
    // The kernel resets the weight to its default when a group stops being idle.
    let weight = (own == "cpu.idle").then_some("cpu.weight");
    [Some(own), instead, weight].into_iter().flatten()
}

impl Former<'_> {
    /// Writes the former values where the present ones differ, the last change first.
    ///
    /// Failed writes are tried once more at the end: a value may fit only after another one is
    /// restored.
    pub fn put_back(&self) -> Result<()> {
        let failed: Vec<_> = self.files.iter().rev().filter(|saved| saved.put_back().is_err()).collect();
        failed.into_iter().map(Saved::put_back).fold(Ok(()), Result::and)
    }
}

impl Saved<'_> {
    fn put_back(&self) -> Result<()> {
        let dir = self.target.dir();
        let place = |file: &str| format!("{}/{file}", self.target.path().display());
        let now = read_at(dir, &self.file).doing(|| format!("read {}", place(&self.file)))?;
        for (file, line) in back(&self.file, &self.text, &now) {
            let mut written = write_at(dir, file, &line);
            if let (Err(Errno::NOSPC), Some(same)) = (written, &self.same) {
                written = write_at(dir, file, same);
            }
            written.doing(|| format!("write {line:?} back to {}", place(file)))?;
        }
        Ok(())
    }
}

/// The writes that restore a file from its contents `now` to its former contents: (file, line).
fn back<'a>(file: &'a str, was: &str, now: &str) -> Vec<(&'a str, String)> {
    if was == now {
        return Vec::new();
    }
    if let Some((_, reset)) = KEYED.iter().find(|(name, _)| *name == file) {
        let key = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        let gone = now.lines().map(key).filter(|new| was.lines().all(|line| key(line) != *new));
        let gone = gone.map(|key| format!("{key} {reset}"));
        let changed = was.lines().filter(|line| now.lines().all(|other| other != *line));
        return gone.chain(changed.map(str::to_owned)).map(|line| (file, line)).collect();
    }
    match file {
        DEVICES_LIST => {
            let all = |line: &str| if line.starts_with("a ") { "a".to_owned() } else { line.to_owned() };
            let allowed = was.lines().map(|line| ("devices.allow", all(line)));
            std::iter::once(("devices.deny", "a".to_owned())).chain(allowed).collect()
        }
        // `oom_kill_disable 0`, and lines that are only informative.
        "memory.oom_control" => {
            let first = was.lines().next().and_then(|line| line.split_whitespace().nth(1));
            first.map(|word| (file, word.to_owned())).into_iter().collect()
        }
        // A write of zero bytes has no effect, so an empty list is written as an empty line.
        _ if was.is_empty() => vec![(file, "\n".to_owned())],
        _ => vec![(file, was.to_owned())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File, its former contents, its present contents, and the writes that restore it.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);

    #[test]
    fn returning_to_the_former_namespace() {
        let table: &[Case<'_>] = &[
            ("memory.max", "100", "100", &[]),
            ("memory.max", "max", "100", &[("memory.max", "max")]),
            ("cpuset.cpus", "", "0", &[("cpuset.cpus", "\n")]),
            (
                "io.max",
                "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max",
                "8:0 rbps=9 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n8:32 rbps=3",
                &[
                    ("io.max", "8:32 rbps=max wbps=max riops=max wiops=max"),
                    ("io.max", "8:0 rbps=1 wbps=max riops=max wiops=max"),
                ],
            ),
            (
                "io.weight",
                "default 100",
                "default 7\n8:0 50",
                &[("io.weight", "8:0 default"), ("io.weight", "default 100")],
            ),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0",
                "oom_kill_disable 1\nunder_oom 0",
                &[("memory.oom_control", "0")],
            ),
            (
                "devices.list",
                "c 1:3 rwm\nb *:* m",
                "a *:* rwm",
                &[("devices.deny", "a"), ("devices.allow", "c 1:3 rwm"), ("devices.allow", "b *:* m")],
            ),
            ("devices.list", "a *:* rwm", "c 1:3 rwm", &[("devices.deny", "a"), ("devices.allow", "a")]),
        ];
        for (file, was, now, want) in table {
            let got = back(file, was, now);
            let got: Vec<_> = got.iter().map(|(file, line)| (*file, line.as_str())).collect();
            assert_eq!(got, *want, "{file}");
        }
    }
}
