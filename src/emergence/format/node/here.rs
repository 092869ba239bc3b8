//! Facts about this machine, from the kernel's files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::file::text;
use super::{Cgroup, Cpu, Node, gpu};
use crate::emergence::base::bounded::read_document;
use crate::emergence::base::refusal::Result;
use crate::emergence::base::strict::{document, once};
use crate::error::Doing;

/// Labels that the machine's owner assigns.
const LABELS: &str = "etc/emergence/node.json";

/// Maximum number of device nodes listed. More than that are of a kind that no constraint names.
const MOST_DEVICES: usize = 10_000;

/// Namespace types: the file in /proc/self/ns, the name in config.json, the kernel's limit.
const NAMESPACES: [(&str, &str, &str); 8] = [
    ("cgroup", "cgroup", "max_cgroup_namespaces"),
    ("ipc", "ipc", "max_ipc_namespaces"),
    ("mnt", "mount", "max_mnt_namespaces"),
    ("net", "network", "max_net_namespaces"),
    ("pid", "pid", "max_pid_namespaces"),
    ("time", "time", "max_time_namespaces"),
    ("user", "user", "max_user_namespaces"),
    ("uts", "uts", "max_uts_namespaces"),
];

impl Node {
    /// The facts of this machine; `kept`: the directory of artifacts, which may not exist yet.
    ///
    /// Refused if the owner's label file is malformed.
    pub fn here(kept: &Path) -> Result<Self> {
        Self::below(Path::new("/"), kept)
    }

    /// As [`Self::here`], with /proc, /sys, /dev and /etc below `root`. Release, architecture and
    /// disk are this machine's.
    pub(crate) fn below(root: &Path, kept: &Path) -> Result<Self> {
        let uname = rustix::system::uname();
        Ok(Self {
            arch: arch(&uname.machine().to_string_lossy()),
            os: "linux".into(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu(root),
            memory: memory(&text(&root.join("proc/meminfo"))),
            disk: disk(kept)?,
            gpus: gpu::below(root),
            devices: devices(&root.join("dev")),
            cgroup: cgroup(root),
            namespaces: namespaces(root),
            lsm: lsm(root),
            seccomp: words(&text(&root.join("proc/sys/kernel/seccomp/actions_avail"))),
            labels: labels(root)?,
        })
    }
}

fn words(text: &str) -> Vec<String> {
    let sorted: BTreeSet<_> = text.split_ascii_whitespace().collect();
    sorted.into_iter().map(str::to_owned).collect()
}

/// Go's name for a machine of uname(2).
fn arch(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "386",
        "loongarch64" => "loong64",
        arm if arm.starts_with("armv") => "arm",
        other => other,
    }
    .to_owned()
}

fn cpu(root: &Path) -> Cpu {
    let info = text(&root.join("proc/cpuinfo"));
    let features = info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        matches!(name.trim(), "flags" | "Features").then(|| words(value))
    });
    let online = text(&root.join("sys/devices/system/cpu/online"));
    Cpu { count: listed(&online), features: features.unwrap_or_default() }
}

/// Number of elements in a list such as `0-3,7`.
fn listed(list: &str) -> u64 {
    let one = |range: &str| -> Option<u64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').filter_map(one).fold(0, u64::saturating_add)
}

fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    total.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Free bytes for unprivileged users in the file system of `kept`.
fn disk(kept: &Path) -> Result<u64> {
    let existing = kept.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(existing).doing(|| format!("statvfs {}", existing.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Device nodes below /dev, without following links and without directories where programs create
/// nodes at will.
fn devices(dev: &Path) -> Vec<String> {
    let (mut found, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(dev.join(&directory)).into_iter().flatten().flatten() {
            let path = directory.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !["pts", "shm", "mqueue", "fd"].iter().any(|name| path == Path::new(name)) {
                directories.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                found.extend(Path::new("/dev").join(path).to_str().map(str::to_owned));
            }
            if found.len() >= MOST_DEVICES || directories.len() >= MOST_DEVICES {
                break;
            }
        }
    }
    found.sort();
    found
}

fn cgroup(root: &Path) -> Cgroup {
    let whole = root.join("sys/fs/cgroup/cgroup.controllers");
    if whole.exists() {
        return Cgroup { version: 2, controllers: words(&text(&whole)) };
    }
    // /proc/cgroups: name, hierarchy, groups, whether it is enabled.
    let known = text(&root.join("proc/cgroups"));
    let enabled = |line: &str| -> Option<String> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| !name.starts_with('#'))?;
        (words.nth(2) == Some("1")).then(|| if name == "blkio" { "io".into() } else { name.to_owned() })
    };
    let controllers: BTreeSet<_> = known.lines().filter_map(enabled).collect();
    Cgroup { version: 1, controllers: controllers.into_iter().collect() }
}

fn namespaces(root: &Path) -> Vec<String> {
    let can = |file: &str, limit: &str| {
        let limit = text(&root.join("proc/sys/user").join(limit));
        fs::symlink_metadata(root.join("proc/self/ns").join(file)).is_ok() && limit != "0"
    };
    let made = NAMESPACES.iter().filter(|(file, _, limit)| can(file, limit));
    made.map(|(_, word, _)| (*word).to_owned()).collect()
}

/// Without securityfs, only the two modules that can be detected elsewhere.
fn lsm(root: &Path) -> Vec<String> {
    let list = text(&root.join("sys/kernel/security/lsm"));
    if !list.is_empty() {
        return words(&list.replace(',', " "));
    }
    let mut found = Vec::new();
    if text(&root.join("sys/module/apparmor/parameters/enabled")) == "Y" {
        found.push("apparmor".to_owned());
    }
    if root.join("sys/fs/selinux/enforce").exists() {
        found.push("selinux".to_owned());
    }
    found
}

fn labels(root: &Path) -> Result<std::collections::BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Owner {
        #[serde(deserialize_with = "once")]
        labels: std::collections::BTreeMap<String, String>,
    }
    let path = root.join(LABELS);
    let subject = path.display().to_string();
    match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Default::default()),
        opened => {
            let file = opened.doing(|| format!("open {subject}"))?;
            document(&read_document(file, &subject)?, &subject).map(|owner: Owner| owner.labels)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::refusal::Code;

    #[test]
    fn lists_of_processors() {
        for (list, want) in [("0-3,7", 5), ("0", 1), ("", 0), ("3-1", 0), ("0-1", 2)] {
            assert_eq!(listed(list), want, "{list}");
        }
    }

    #[test]
    fn machines_in_the_words_of_images() {
        for (machine, want) in [
            ("x86_64", "amd64"),
            ("aarch64", "arm64"),
            ("armv7l", "arm"),
            ("s390x", "s390x"),
            ("i686", "386"),
        ] {
            assert_eq!(arch(machine), want);
        }
    }

    #[test]
    fn another_machines_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        write("proc/cpuinfo", "processor : 0\nflags : sse2 avx avx\n\nprocessor : 1\nflags : x\n");
        write("sys/devices/system/cpu/online", "0-1\n");
        write(
            "proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\nblkio\t1\t1\t1\npids\t2\t1\t1\nrdma\t0\t1\t0\n",
        );
        write("proc/self/ns/user", "");
        write("proc/self/ns/time", "");
        write("proc/sys/user/max_user_namespaces", "0\n");
        write("sys/kernel/security/lsm", "lockdown,apparmor\n");
        write("proc/sys/kernel/seccomp/actions_avail", "kill trap\n");
        write(LABELS, r#"{"labels":{"zone":"a"}}"#);
        let node = Node::below(directory.path(), directory.path()).unwrap();
        assert_eq!(node.memory, 2 << 20);
        assert_eq!((node.cpu.count, node.cpu.features), (2, vec!["avx".to_owned(), "sse2".into()]));
        assert_eq!(node.cgroup, Cgroup { version: 1, controllers: vec!["io".into(), "pids".into()] });
        assert_eq!(node.namespaces, ["time"]);
        assert_eq!(node.lsm, ["apparmor", "lockdown"]);
        assert_eq!(node.seccomp, ["kill", "trap"]);
        assert_eq!(node.labels.get("zone").map(String::as_str), Some("a"));
        write("sys/fs/cgroup/cgroup.controllers", "memory cpu\n");
        let node = Node::below(directory.path(), directory.path()).unwrap();
        assert_eq!(node.cgroup, Cgroup { version: 2, controllers: vec!["cpu".into(), "memory".into()] });
        write(LABELS, r#"{"labels":{},"zone":"a"}"#);
        let fault = Node::below(directory.path(), directory.path()).unwrap_err();
        assert_eq!(fault.code(), Some(Code::DocUnknownField));
    }
}
