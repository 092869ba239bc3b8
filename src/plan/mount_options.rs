//! Reads the options of one mount as a whole: their combined effect, and which of them its kind
//! cannot have.

use rustix::mount::MountFlags;

use super::mount_step::FsOption;
use super::options::{self, MountOption};
use super::{Context, Judge, Place};
use crate::spec;
use crate::sys::mount::{Attributes, Reach};

/// One entry of `mounts`.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// As written.
    pub mount: &'a spec::Mount,
    /// Its path in config.json: `mounts[2]`.
    pub path: Place<'a>,
    /// Its parsed options.
    pub parsed: &'a MountOptions,
    /// Shared inputs of the plan.
    pub context: &'a Context<'a>,
}

/// The error for an id mapping of a mount that cannot have one.
const NOTHING_TO_MAP: &str = "idmapped mounts are for new bind mounts only; add bind or rbind";

/// The combined `options` of one mount.
#[derive(Debug)]
pub(crate) struct MountOptions {
    /// MS_…
    pub flags: MountFlags,
    /// Propagation, in order: MS_….
    pub propagation: Vec<(u64, Reach)>,
    /// `bind` or `rbind`.
    pub bind: Option<Reach>,
    /// `idmap` or `ridmap`.
    pub idmap: Option<Reach>,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `copy-symlink`.
    pub copy_symlink: bool,
    /// `src-nofollow`.
    pub source_nofollow: bool,
    /// `dest-nofollow`.
    pub target_nofollow: bool,
    /// Options that apply to the file system, not to one of its mounts.
    pub of_file_system: Vec<String>,
    /// Options that only the file system type understands.
    pub data: Vec<String>,
    set: u64,
    clear: u64,
    recursive_set: u64,
    recursive_clear: u64,
}

/// The kind of a mount, as far as options depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fits<'a> {
    /// A new instance of a file system of this type.
    New(&'a str),
    /// A new mount of a file system instance that has other mounts too: of this type.
    Shared(&'a str),
    /// A new bind mount.
    Bind,
    /// A change of one mount only.
    RemountOne,
    /// A change of a mount and its file system.
    RemountAll,
}

const TIMES: u64 = libc::MOUNT_ATTR__ATIME;

impl MountOptions {
    /// Parses the options; later ones win.
    pub(crate) fn read(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            propagation: Vec::new(),
            bind: None,
            idmap: None,
            remount: false,
            copy_up: false,
            copy_symlink: false,
            source_nofollow: false,
            target_nofollow: false,
            of_file_system: Vec::new(),
            data: Vec::new(),
            set: 0,
            clear: 0,
            recursive_set: 0,
            recursive_clear: 0,
        };
        for option in options {
            match options::word(option) {
                Some(word) => parsed.take(word, option),
                None => parsed.data.push(option.clone()),
            }
        }
        parsed
    }

    fn take(&mut self, word: MountOption, text: &str) {
        if options::OF_FILE_SYSTEM.contains(&text) {
            self.of_file_system.push(text.to_owned());
        }
        match word {
            MountOption::Default => {}
            MountOption::Set(flag, attribute) => {
                self.flags.insert(flag);
                self.set |= attribute;
                self.clear &= !attribute;
            }
            MountOption::Clear(flag, attribute) => {
                self.flags.remove(flag);
                self.clear |= attribute;
                self.set &= !attribute;
            }
            MountOption::RecursiveSet(attribute) => {
                self.recursive_set |= attribute;
                self.recursive_clear &= !attribute;
            }
            MountOption::RecursiveClear(attribute) => {
                self.recursive_clear |= attribute;
                self.recursive_set &= !attribute;
            }
            MountOption::Propagation(flag, reach) => self.propagation.push((flag.bits().into(), reach)),
            MountOption::Bind(Reach::Mount) if self.bind == Some(Reach::Tree) => {}
            MountOption::Bind(reach) => self.bind = Some(reach),
            MountOption::IdMap(reach) => self.idmap = Some(reach),
            MountOption::Remount => self.remount = true,
            MountOption::CopyUp => self.copy_up = true,
            MountOption::CopySymlink => self.copy_symlink = true,
            MountOption::SourceNoFollow => self.source_nofollow = true,
            MountOption::DestinationNoFollow => self.target_nofollow = true,
        }
    }

    /// `MOUNT_ATTR_…` set on the mount or on all mounts below it.
    pub(crate) fn set_anywhere(&self) -> u64 {
        self.set | self.recursive_set
    }

    /// Attributes for this mount only. Only named ones change: the access times change with
    /// `relatime`, and stay without it.
    pub(crate) fn attributes(&self) -> Attributes {
        let times = if self.flags.contains(MountFlags::STRICTATIME) {
            (libc::MOUNT_ATTR_STRICTATIME, TIMES)
        } else if self.flags.contains(MountFlags::NOATIME) {
            (libc::MOUNT_ATTR_NOATIME, TIMES)
        } else if self.flags.contains(MountFlags::RELATIME) || self.undoes_all_times() {
            (libc::MOUNT_ATTR_RELATIME, TIMES)
        } else {
            (0, 0)
        };
        Attributes { set: self.set & !TIMES | times.0, clear: self.clear & !TIMES | times.1, propagation: 0 }
    }

    /// Attributes for the mount and all below it.
    pub(crate) fn recursive(&self) -> Attributes {
        options::attributes(self.recursive_set, self.recursive_clear)
    }

    /// The MOUNT_ATTR_… that `atime` or `nostrictatime` replaces by relatime; other access times
    /// stay.
    pub(crate) fn undone_times(&self) -> Option<u64> {
        match self.clear & TIMES {
            0 => None,
            undone if self.attributes().clear & TIMES == 0 => Some(undone),
            _ => None,
        }
    }

    fn undoes_all_times(&self) -> bool {
        let both = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;
        self.clear & both == both
    }

    /// Refuses mutually exclusive options, and those that a mount of this kind cannot have.
    pub(crate) fn judge(&self, fits: Fits<'_>, path: Place<'_>, judge: &mut Judge) {
        let mut refuse = |words: String| judge.fault(format!("{path}.options"), words);
        if self.flags.contains(MountFlags::NOATIME | MountFlags::STRICTATIME) {
            refuse("noatime and strictatime exclude each other; write one of them".into());
        }
        let both = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;
        if self.recursive_set & both == both {
            refuse("rnoatime and rstrictatime exclude each other; write one of them".into());
        }
        if self.copy_up && fits != Fits::New("tmpfs") {
            refuse("tmpcopyup is for a new tmpfs only".into());
        }
        let of_bind = [(self.copy_symlink, "copy-symlink"), (self.source_nofollow, "src-nofollow")];
        for (_, name) in of_bind.iter().filter(|(parsed, _)| *parsed && fits != Fits::Bind) {
            refuse(format!("{name} is for a new bind mount only"));
        }
        if self.idmap.is_some() && fits != Fits::Bind {
            refuse(NOTHING_TO_MAP.into());
        }
        for name in &self.of_file_system {
            match fits {
                Fits::New(fstype) if name == "iversion" && !counts_versions(fstype) => {
                    refuse(format!("{name}: {fstype} has no such option"));
                }
                Fits::RemountAll if name.ends_with("iversion") => {
                    refuse(format!("{name} cannot be changed by a remount"));
                }
                Fits::New(_) | Fits::RemountAll => {}
                Fits::Shared(what) => {
                    refuse(format!(
                        "{name} is an option of the file system, and this {what} is not the container's alone"
                    ));
                }
                Fits::Bind | Fits::RemountOne => {
                    refuse(format!(
                        "{name} is an option of the file system; a mount of it alone has only ro, nosuid, nodev, noexec, \
                         nosymfollow and access times"
                    ));
                }
            }
        }
        if self.of_file_system.iter().any(|name| name == "mand")
            && matches!(fits, Fits::New(_) | Fits::RemountAll)
        {
            judge.warn(format!(
                "{path}.options: mand has no effect since Linux 5.15, which has no mandatory locks"
            ));
        }
    }
}

/// Whether the kernel passes `iversion` to this type, or the type always counts versions.
fn counts_versions(fstype: &str) -> bool {
    matches!(fstype, "ext4" | "xfs" | "btrfs")
}

/// Refuses id mappings for a mount that cannot be idmapped.
pub(super) fn unmapped(mount: &spec::Mount, path: Place<'_>, judge: &mut Judge) {
    for (list, name) in [(&mount.uid_mappings, "uidMappings"), (&mount.gid_mappings, "gidMappings")] {
        if !list.is_empty() {
            judge.fault(format!("{path}.{name}"), NOTHING_TO_MAP);
        }
    }
}

/// Splits the options of a file system: key, and value or flag.
pub(super) fn data_options(words: &[String], path: Place<'_>, judge: &mut Judge) -> Option<Vec<FsOption>> {
    let place = format_args!("{path}.options");
    let words = words.iter().flat_map(|word| split_data(word)).filter(|word| !word.is_empty());
    let pairs = words.map(|word| match word.split_once('=') {
        Some((key, value)) if is_label(key) => {
            Some((judge.cstring(place, key)?, Some(judge.cstring(place, &value.replace('"', ""))?)))
        }
        Some((key, value)) => Some((judge.cstring(place, key)?, Some(judge.cstring(place, value)?))),
        None => Some((judge.cstring(place, word)?, None)),
    });
    pairs.collect()
}

/// Whether this is SELinux's option for a security label, in which mount(2) takes quotes.
fn is_label(key: &str) -> bool {
    matches!(key, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// Splits data of mount(2) at its commas, except those within a quoted security label.
fn split_data(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest?;
        let label = data.split_once('=').is_some_and(|(key, _)| is_label(key));
        let mut quoted = false;
        let end = data.find(|character| {
            quoted ^= label && character == '"';
            character == ',' && !quoted
        });
        let (word, after) = match end {
            Some(end) => (data.get(..end)?, data.get(end + 1..)),
            None => (data, None),
        };
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> MountOptions {
        MountOptions::read(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// fsconfig(2) takes a label as it is, where mount(2) takes it in quotes.
    #[test]
    fn labels_keep_their_commas() {
        let words = [r#"mode=755,context="u:r:t:s0:c1,c2",size=1k"#, "nr_inodes=1,,huge"];
        let split: Vec<_> = words.iter().flat_map(|word| split_data(word)).collect();
        let want = ["mode=755", r#"context="u:r:t:s0:c1,c2""#, "size=1k", "nr_inodes=1", "", "huge"];
        assert_eq!(split, want);
        let mut judge = Judge::default();
        let options = data_options(&words.map(String::from), format_args!("mounts[0]"), &mut judge).unwrap();
        let shown: Vec<_> = options
            .iter()
            .map(|(key, value)| (key.to_str().unwrap(), value.as_ref().map(|value| value.to_str().unwrap())))
            .collect();
        let want = [
            ("mode", Some("755")),
            ("context", Some("u:r:t:s0:c1,c2")),
            ("size", Some("1k")),
            ("nr_inodes", Some("1")),
            ("huge", None),
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn later_words_win() {
        let parsed = parsed(&["ro", "nosuid", "rw", "size=1k", "mode=755", "rbind", "bind"]);
        assert_eq!(parsed.flags, MountFlags::NOSUID);
        let Attributes { set, clear, .. } = parsed.attributes();
        assert_eq!((set, clear), (libc::MOUNT_ATTR_NOSUID, libc::MOUNT_ATTR_RDONLY));
        assert_eq!(parsed.data, ["size=1k", "mode=755"]);
        assert_eq!(parsed.bind, Some(Reach::Tree));
    }

    /// The access times of a bind mount: a new value, or relatime if the source has this one.
    #[test]
    fn access_times_change_when_they_are_named() {
        const NO: u64 = libc::MOUNT_ATTR_NOATIME;
        const STRICT: u64 = libc::MOUNT_ATTR_STRICTATIME;
        type Want = (u64, u64, Option<u64>);
        let table: [(&[&str], Want); 14] = [
            (&[], (0, 0, None)),
            (&["relatime"], (0, TIMES, None)),
            (&["noatime"], (NO, TIMES, None)),
            (&["strictatime"], (STRICT, TIMES, None)),
            // As in the kernel: relatime is the weakest.
            (&["noatime", "relatime"], (NO, TIMES, None)),
            (&["strictatime", "relatime"], (STRICT, TIMES, None)),
            (&["atime"], (0, 0, Some(NO))),
            (&["nostrictatime"], (0, 0, Some(STRICT))),
            (&["atime", "nostrictatime"], (0, TIMES, None)),
            (&["noatime", "atime"], (0, 0, Some(NO))),
            (&["atime", "noatime"], (NO, TIMES, None)),
            (&["norelatime"], (0, 0, None)),
            (&["relatime", "norelatime"], (0, 0, None)),
            (&["nodiratime"], (libc::MOUNT_ATTR_NODIRATIME, 0, None)),
        ];
        for (words, want) in table {
            let parsed = parsed(words);
            let Attributes { set, clear, .. } = parsed.attributes();
            assert_eq!((set, clear, parsed.undone_times()), want, "{words:?}");
        }
        let recursive = |words| parsed(words).recursive();
        assert_eq!((recursive(&["rnorelatime"]).set, recursive(&["rnorelatime"]).clear), (0, TIMES));
        assert_eq!(recursive(&["rnoatime"]).set, NO);
    }

    #[test]
    fn options_that_a_mount_type_cannot_have_are_refused() {
        let faults = |words: &[&str], fits| {
            let mut judge = Judge::default();
            parsed(words).judge(fits, format_args!("mounts[0]"), &mut judge);
            judge.faults.len()
        };
        let of_file_system =
            ["sync", "dirsync", "lazytime", "nolazytime", "mand", "nomand", "iversion", "noiversion"];
        for fits in [Fits::Bind, Fits::RemountOne, Fits::Shared("cgroup")] {
            assert_eq!(faults(&of_file_system, fits), of_file_system.len(), "{fits:?}");
            assert_eq!(
                faults(&["async", "defaults", "silent", "loud", "rprivate", "ro"], fits),
                0,
                "{fits:?}"
            );
        }
        assert_eq!(faults(&["iversion"], Fits::New("tmpfs")), 1);
        assert_eq!(faults(&["iversion"], Fits::New("ext4")), 0);
        assert_eq!(faults(&["iversion", "noiversion"], Fits::RemountAll), 2);
        assert_eq!(faults(&["noiversion", "nolazytime", "nomand"], Fits::New("tmpfs")), 0);
        assert_eq!(faults(&["sync", "dirsync", "lazytime", "mand"], Fits::New("tmpfs")), 0);
        assert_eq!(faults(&["tmpcopyup"], Fits::New("tmpfs")), 0);
        assert_eq!(faults(&["copy-symlink", "src-nofollow", "idmap"], Fits::Bind), 0);
        for fits in [Fits::New("proc"), Fits::Shared("cgroup"), Fits::RemountOne, Fits::RemountAll] {
            assert_eq!(faults(&["tmpcopyup", "copy-symlink", "src-nofollow", "idmap"], fits), 4, "{fits:?}");
        }
        for both in [["noatime", "strictatime"], ["rstrictatime", "rnoatime"]] {
            assert_eq!(faults(&both, Fits::Bind), 1);
        }
        assert_eq!(faults(&["noatime", "atime", "strictatime"], Fits::Bind), 0);
    }
}
