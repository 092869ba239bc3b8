//! Groups of the resctrl file system: shares of CPU caches and memory bandwidth, and counters of
//! their use.
//!
//! A group is a directory, as with cgroups, and the kernel creates its files: `tasks` lists
//! threads, `schemata` the shares, and below `mon_groups` are groups that only count. Intel calls
//! it RDT; AMD processors have it too. Source: runtime-spec config-linux.md, "IntelRdt"; kernel:
//! Documentation/filesystems/resctrl.rst.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::file::{read_at, write_at};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::mountinfo;

/// This host's resctrl: its mount point and features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resctrl {
    /// The mount point.
    pub mount: PathBuf,
    /// The resources that have shares: `L3`, `L2`, `MB`, …; also those that are counted, such as
    /// `L3_MON`.
    pub resources: Vec<String>,
    /// The counters: `llc_occupancy`, `mbm_total_bytes`, …
    pub counters: Vec<String>,
}

/// A container's validated request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResctrlWish {
    /// The mount point of resctrl.
    pub mount: PathBuf,
    /// Name of the group; `/` is the default group, `None` a group named after the container.
    pub clos: Option<String>,
    /// Lines of shares; if a group of this name exists, it must have them already.
    pub shares: Vec<String>,
    /// Lines of shares that are written after `shares`, in any case.
    pub schemata: Vec<String>,
    /// Whether the container has counters of its own.
    pub counted: bool,
}

/// A container's group, created or not; the state file keeps it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ResctrlGroup {
    /// Its directory.
    pub control: PathBuf,
    /// Whether the group is created and deleted with the container.
    pub ours: bool,
    /// Whether others may use it, since its name is in the configuration.
    pub shared: bool,
    /// The directory with the container's own counters.
    pub counting: Option<PathBuf>,
}

impl Resctrl {
    /// Finds its mount point and features. `None`: not mounted.
    pub fn find() -> Result<Option<Self>> {
        let mounts = mountinfo::of("self").doing(|| "read /proc/self/mountinfo")?;
        let mount = mounts.into_iter().find(|mount| mount.fstype == "resctrl");
        mount.map(|mount| Self::at(mount.place.into())).transpose()
    }

    /// Reads the features of the resctrl mounted here.
    pub fn at(mount: PathBuf) -> Result<Self> {
        let info = mount.join("info");
        let entries = fs::read_dir(&info).doing(|| format!("read {}", info.display()))?;
        let mut resources = Vec::new();
        for entry in entries {
            let entry = entry.doing(|| format!("read {}", info.display()))?;
            if entry.file_type().doing(|| format!("stat {}", entry.path().display()))?.is_dir() {
                resources.extend(entry.file_name().into_string().ok());
            }
        }
        resources.sort();
        let counters = match fs::read_to_string(info.join("L3_MON/mon_features")) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.doing(|| format!("read {}/L3_MON/mon_features", info.display()))?,
        };
        Ok(Self { mount, resources, counters: counters.lines().map(str::to_owned).collect() })
    }
}

impl ResctrlWish {
    /// Decides where the group of container `id` is; creates nothing.
    ///
    /// Errors if an existing group has other shares than requested, or is to be the container's own
    /// and has tasks; and if a group that must exist does not.
    pub fn place(&self, id: &str) -> Result<ResctrlGroup> {
        const CLOS: &str = "linux.intelRdt.closID";
        let name = self.clos.as_deref().unwrap_or(id);
        let control = if name == "/" { self.mount.clone() } else { self.mount.join(name) };
        let is_there = control.try_exists().doing(|| format!("stat {}", control.display()))?;
        let counting = self.counted.then(|| control.join("mon_groups").join(id));
        if self.clos.is_none() {
            let group = ResctrlGroup { control, ours: true, shared: false, counting };
            return group.check_unused().map(|()| group);
        }
        if !is_there && self.shares.is_empty() && self.schemata.is_empty() {
            let words = format!("no such group: {}; create it first, or give schemata", control.display());
            return Err(Error::invalid(CLOS, words));
        }
        if is_there && !self.shares.is_empty() {
            let file = control.join("schemata");
            let held = read(&file)?;
            if let Some(line) = self.shares.iter().find(|line| !holds(&held, line)) {
                let words =
                    format!("{} already exists, with other schemata than {line:?}", control.display());
                return Err(Error::invalid(CLOS, words));
            }
        }
        Ok(ResctrlGroup { control, ours: !is_there, shared: true, counting })
    }
}

impl ResctrlGroup {
    /// Creates the group and sets the shares. On error, nothing of it is left, except that a group
    /// that existed may keep the requested shares.
    pub fn make(&mut self, wish: &ResctrlWish) -> Result<()> {
        if self.ours {
            match fs::create_dir(&self.control) {
                Ok(()) => {}
                // Created concurrently, or left over from a container of this name.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.take_over()?,
                Err(error) => {
                    return Err(error).doing(|| format!("linux.intelRdt: create {}", self.control.display()));
                }
            }
        }
        let fill = || {
            if self.ours {
                self.share(&wish.shares)?;
            }
            self.share(&wish.schemata)?;
            match &self.counting {
                Some(directory) => match fs::create_dir(directory) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error)
                        .doing(|| format!("linux.intelRdt.enableMonitoring: create {}", directory.display())),
                    _ => Ok(()),
                },
                None => Ok(()),
            }
        };
        let filled = fill();
        filled.map_err(|error| error.after_cleaning(self.remove()))
    }

    fn take_over(&mut self) -> Result<()> {
        if self.shared {
            self.ours = false;
            return Ok(());
        }
        let free = self.check_unused();
        if free.is_err() {
            // Another container's group: it must not be removed either.
            (self.ours, self.counting) = (false, None);
        }
        free
    }

    fn check_unused(&self) -> Result<()> {
        if !self.is_used()? {
            return Ok(());
        }
        let words = format!("linux.intelRdt: {} already exists and has tasks", self.control.display());
        Err(Error::new(Kind::State, words))
    }

    /// Writes lines of shares in one write: the kernel accepts all or none. Returns the replaced
    /// text for [`Self::put_back`].
    pub fn share(&self, lines: &[String]) -> Result<String> {
        if lines.is_empty() {
            return Ok(String::new());
        }
        let file = self.control.join("schemata");
        let held = read(&file)?;
        self.write("schemata", &format!("{}\n", lines.join("\n")))?;
        Ok(held)
    }

    /// Restores the shares that [`Self::share`] replaced.
    pub fn put_back(&self, held: &str) -> Result<()> {
        self.share(&held.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).map(drop)
    }

    /// Moves a thread into the group; its later children start there too.
    pub fn join(&self, thread: i32) -> Result<()> {
        self.write("tasks", &format!("{thread}\n"))?;
        match &self.counting {
            Some(directory) => {
                let file = directory.join("tasks");
                write_at(CWD, &file.to_string_lossy(), &format!("{thread}\n"))
                    .doing(|| format!("write \"{thread}\" to {}", file.display()))
            }
            None => Ok(()),
        }
    }

    /// Removes the directories created for the container. No error if they no longer exist. A
    /// shared group stays while it has tasks.
    pub fn remove(&self) -> Result<()> {
        let gone = |directory: &Path| match fs::remove_dir(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", directory.display()))
            }
            _ => Ok(()),
        };
        if let Some(directory) = &self.counting {
            gone(directory)?;
        }
        if !self.ours || self.shared && self.is_used()? {
            return Ok(());
        }
        gone(&self.control)
    }

    /// Whether a task of the group still runs. The group also lists zombies.
    fn is_used(&self) -> Result<bool> {
        let file = self.control.join("tasks");
        let tasks = match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            text => text.doing(|| format!("read {}", file.display()))?,
        };
        for task in tasks.lines() {
            let stat = match fs::read(format!("/proc/{task}/stat")) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
                stat => stat.doing(|| format!("read /proc/{task}/stat"))?,
            };
            // The name before the state may contain any byte.
            let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
            if !matches!(state, Some(b'Z' | b'X')) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.control.join(name);
        write_at(CWD, &file.to_string_lossy(), text).doing(|| {
            // The errno says little; the kernel writes its reason to this file.
            let why = self.control.ancestors().map(|above| above.join("info/last_cmd_status"));
            let why = why.filter_map(|file| fs::read_to_string(file).ok()).next().unwrap_or_default();
            let why = match why.trim() {
                "" | "ok" => String::new(),
                words => format!(" ({words})"),
            };
            format!("linux.intelRdt: write {:?} to {}{why}", text.trim_end(), file.display())
        })
    }
}

fn read(file: &Path) -> Result<String> {
    read_at(CWD, file).doing(|| format!("read {}", file.display()))
}

/// Whether the text of a `schemata` file has the shares of `line`: the same number for each domain
/// that it names.
fn holds(schemata: &str, line: &str) -> bool {
    let Some((name, wanted)) = shares(line) else { return false };
    let held = schemata.lines().filter_map(shares).find(|(other, _)| *other == name);
    held.is_some_and(|(_, held)| wanted.iter().all(|(domain, share)| held.get(domain) == Some(share)))
}

/// Parses `L3:0=00f;1=F` into a name and a share for each domain, without leading zeros and in
/// lower case.
fn shares(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (name, domains) = line.trim().split_once(':')?;
    let share = |text: &str| text.trim().trim_start_matches('0').to_ascii_lowercase();
    let domains = domains.split(';').map(|part| part.split_once('='));
    let domains = domains.map(|part| part.map(|(domain, text)| (domain.trim(), share(text))));
    Some((name.trim(), domains.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests;
