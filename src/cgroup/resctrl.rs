//! Groups of the resctrl file system: shares of the processor's caches and of the memory's bandwidth, and counters of their use.
//!
//! A group is a directory, as with cgroups, and the kernel fills it: `tasks` takes threads, `schemata` the shares, and below
//! `mon_groups` are groups that only count. Intel calls it RDT; processors of AMD have it too.
//! Source: runtime-spec config-linux.md, "IntelRdt"; kernel: Documentation/filesystems/resctrl.rst.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::file::{read_at, write_at};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::mountinfo;

/// This host's resctrl: where it is and what it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resctrl {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// What there are shares of: `L3`, `L2`, `MB`, …; with `L3_MON`, what is counted too.
    pub resources: Vec<String>,
    /// What is counted: `llc_occupancy`, `mbm_total_bytes`, …
    pub counters: Vec<String>,
}

/// What a container asks of it, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResctrlWish {
    /// Where resctrl is mounted.
    pub mount: PathBuf,
    /// Name of the group; `/` is the one of all that is in no other, `None` one of the container's own.
    pub clos: Option<String>,
    /// Lines of shares that a group of this name must have already, if it is there.
    pub shares: Vec<String>,
    /// Lines of shares that are written after those, in any case.
    pub schemata: Vec<String>,
    /// Whether the container is counted by itself.
    pub counted: bool,
}

/// A container's group, made or not: what the state file keeps of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ResctrlGroup {
    /// Its directory.
    pub control: PathBuf,
    /// Whether the container brings it and takes it away.
    pub ours: bool,
    /// Whether others may have come to use it, since its name is in the configuration.
    pub shared: bool,
    /// The directory that counts the container alone.
    pub counting: Option<PathBuf>,
}

impl Resctrl {
    /// Looks where it is mounted and what it can. `None`: nowhere.
    pub fn find() -> Result<Option<Self>> {
        let mounts = mountinfo::of("self").doing(|| "read /proc/self/mountinfo")?;
        let mount = mounts.into_iter().find(|mount| mount.fstype == "resctrl");
        mount.map(|mount| Self::at(mount.place.into())).transpose()
    }

    /// What the one that is mounted here can.
    pub fn at(mount: PathBuf) -> Result<Self> {
        let info = mount.join("info");
        let entries = fs::read_dir(&info).doing(|| format!("read {}", info.display()))?;
        let mut resources = Vec::new();
        for entry in entries {
            let entry = entry.doing(|| format!("read {}", info.display()))?;
            if entry.file_type().doing(|| format!("look at {}", entry.path().display()))?.is_dir() {
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
    /// Decides where the group of container `id` is; nothing is made.
    ///
    /// Errors when a group that is there has other shares than were asked for, or is to be the container's own and has tasks; and when
    /// one that should be there is not.
    pub fn place(&self, id: &str) -> Result<ResctrlGroup> {
        const CLOS: &str = "linux.intelRdt.closID";
        let name = self.clos.as_deref().unwrap_or(id);
        let control = if name == "/" { self.mount.clone() } else { self.mount.join(name) };
        let is_there = control.try_exists().doing(|| format!("look at {}", control.display()))?;
        let counting = self.counted.then(|| control.join("mon_groups").join(id));
        if self.clos.is_none() {
            let group = ResctrlGroup { control, ours: true, shared: false, counting };
            return group.check_unused().map(|()| group);
        }
        if !is_there && self.shares.is_empty() && self.schemata.is_empty() {
            let words = format!("there is no group {}; make it before, or give schemata", control.display());
            return Err(Error::invalid(CLOS, words));
        }
        if is_there && !self.shares.is_empty() {
            let file = control.join("schemata");
            let held = read(&file)?;
            if let Some(line) = self.shares.iter().find(|line| !holds(&held, line)) {
                let words = format!("{} is there and has other shares than {line:?}", control.display());
                return Err(Error::invalid(CLOS, words));
            }
        }
        Ok(ResctrlGroup { control, ours: !is_there, shared: true, counting })
    }
}

impl ResctrlGroup {
    /// Makes what is to be made and sets the shares. After an error nothing of it is left; shares of a group that was there may
    /// be those asked for.
    pub fn make(&mut self, wish: &ResctrlWish) -> Result<()> {
        if self.ours {
            match fs::create_dir(&self.control) {
                Ok(()) => {}
                // Somebody was faster, or a container of this name has left it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.take_over()?,
                Err(error) => {
                    return Err(error).doing(|| format!("linux.intelRdt: make {}", self.control.display()));
                }
            }
        }
        let fill = || {
            if self.ours {
                self.share(&wish.shares)?;
            }
            self.share(&wish.schemata)?;
            match &self.counting {
                Some(folder) => match fs::create_dir(folder) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error)
                        .doing(|| format!("linux.intelRdt.enableMonitoring: make {}", folder.display())),
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
            // And so not to be taken away either.
            (self.ours, self.counting) = (false, None);
        }
        free
    }

    fn check_unused(&self) -> Result<()> {
        if !self.is_used()? {
            return Ok(());
        }
        let words = format!("linux.intelRdt: {} is there and has tasks", self.control.display());
        Err(Error::new(Kind::State, words))
    }

    /// Writes lines of shares, together: the kernel takes all or none. What they replace is the text for [`Self::put_back`].
    pub fn share(&self, lines: &[String]) -> Result<String> {
        if lines.is_empty() {
            return Ok(String::new());
        }
        let file = self.control.join("schemata");
        let held = read(&file)?;
        self.write("schemata", &format!("{}\n", lines.join("\n")))?;
        Ok(held)
    }

    /// Gives the shares back that [`Self::share`] has replaced.
    pub fn put_back(&self, held: &str) -> Result<()> {
        self.share(&held.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).map(drop)
    }

    /// Moves a thread in, and with it what it forks from then on.
    pub fn join(&self, thread: i32) -> Result<()> {
        self.write("tasks", &format!("{thread}\n"))?;
        match &self.counting {
            Some(folder) => {
                let file = folder.join("tasks");
                write_at(CWD, &file.to_string_lossy(), &format!("{thread}\n"))
                    .doing(|| format!("write \"{thread}\" to {}", file.display()))
            }
            None => Ok(()),
        }
    }

    /// Takes away what the container has brought. Fine when it is gone. A group whose name others may know stays while it has
    /// tasks.
    pub fn remove(&self) -> Result<()> {
        let gone = |folder: &Path| match fs::remove_dir(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", folder.display()))
            }
            _ => Ok(()),
        };
        if let Some(folder) = &self.counting {
            gone(folder)?;
        }
        if !self.ours || self.shared && self.is_used()? {
            return Ok(());
        }
        gone(&self.control)
    }

    /// Whether a task is in the group that has not ended. One that nobody has waited for yet is still listed.
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
            // The name before the state may hold any byte.
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
            // The kernel's number says little; beside it, it has words.
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

/// Whether the text of a `schemata` file has the shares of `line`: for each domain that it names the same number.
fn holds(schemata: &str, line: &str) -> bool {
    let Some((name, wanted)) = shares(line) else { return false };
    let held = schemata.lines().filter_map(shares).find(|(other, _)| *other == name);
    held.is_some_and(|(_, held)| wanted.iter().all(|(domain, share)| held.get(domain) == Some(share)))
}

/// `L3:0=00f;1=F` as a name and, for each domain, its share without leading zeros, in small letters.
fn shares(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (name, domains) = line.trim().split_once(':')?;
    let share = |text: &str| text.trim().trim_start_matches('0').to_ascii_lowercase();
    let domains = domains.split(';').map(|part| part.split_once('='));
    let domains = domains.map(|part| part.map(|(domain, text)| (domain.trim(), share(text))));
    Some((name.trim(), domains.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests;
