//! Creates a container's cgroup, with as few system calls as the host allows, and moves processes
//! into it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, mkdir, openat, unlinkat};
use rustix::io::Errno;

use super::directory::{self, join};
use super::file::{open_dir, read_at, read_record_at, write_at};
use super::systemd::Property;
use super::{Directory, Group, Legacy, life};
use crate::error::{Doing, Error, Kind, Result};

/// A cgroup that exists and is open.
#[derive(Debug)]
pub struct Made {
    group: Group,
    /// The directories that we created, outermost first.
    made: Vec<PathBuf>,
    /// The v2 directory.
    fd: Option<OwnedFd>,
}

/// How to treat a directory for which the kernel denies permission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfRefused {
    Fail,
    GoWithout,
}

impl Group {
    /// Creates the directories and, in v2, enables every controller of the host for them.
    ///
    /// An existing cgroup is used if it is empty and not frozen. On error, the created directories
    /// are removed.
    pub fn create(&self) -> Result<Option<Made>> {
        self.create_unless(IfRefused::Fail)
    }

    /// As [`Group::create`], for an unprivileged user who asked for no limit. If the kernel denies
    /// permission, there is no cgroup (`None`) or, in v1, a group without that hierarchy; so the
    /// state file must keep [`Made::group`], not this one.
    pub fn create_if_permitted(&self) -> Result<Option<Made>> {
        self.create_unless(IfRefused::GoWithout)
    }

    fn create_unless(&self, if_refused: IfRefused) -> Result<Option<Made>> {
        let mut made = Made { group: self.clone(), made: Vec::new(), fd: None };
        match made.create(if_refused) {
            Ok(()) if made.group.dirs().next().is_none() => Ok(None),
            Ok(()) => Ok(Some(made)),
            Err(error) => Err(error.after_cleaning(made.undo())),
        }
    }

    /// Opens the cgroup of an existing container, to limit it or to add a process.
    pub fn open(&self) -> Result<Made> {
        let fd = self.unified.as_ref().map(|dir| {
            let path = dir.path();
            open_dir(&path).doing(|| format!("open cgroup {}", path.display()))
        });
        Ok(Made { group: self.clone(), made: Vec::new(), fd: fd.transpose()? })
    }

    /// Has systemd create the group's unit with the process inside, and records the cgroup that
    /// systemd chose.
    ///
    /// `Kind::Exists`: the unit belongs to another container or service and is in use. After
    /// another error, [`Group::remove`] removes the leftovers.
    pub fn start(&mut self, pid: i32, properties: &[Property]) -> Result<Made> {
        let (Some(scope), Some(planned)) = (&mut self.scope, &self.unified) else {
            return Err(Error::new(Kind::System, "this cgroup is not a systemd unit"));
        };
        let subgroup =
            planned.below.strip_prefix(&scope.dir.below).unwrap_or_default().trim_start_matches('/');
        let subgroup = subgroup.to_owned();
        scope.dir = scope.start(pid, properties)?;
        let is_moved = scope.is_slice() || !subgroup.is_empty();
        let dir = Directory { mount: scope.dir.mount.clone(), below: join(&scope.dir.below, &subgroup) };
        let path = dir.path();
        self.unified = Some(dir.clone());
        // Directories created below the unit are removed when the unit ends.
        create_with_parents(&dir, &path, &mut Vec::new())?;
        if is_moved {
            self.join(pid)?;
        }
        let fd = open_dir(&path).doing(|| format!("open cgroup {}", path.display()))?;
        // systemd has enabled its controllers; it neither enables nor disables the others (hugetlb,
        // rdma).
        hand_down(&dir, fd.as_fd()).doing(|| format!("enable controllers for cgroup {}", path.display()))?;
        Ok(Made { group: self.clone(), made: Vec::new(), fd: Some(fd) })
    }

    /// Moves a process into the group, in every hierarchy.
    pub fn join(&self, pid: i32) -> Result<()> {
        for dir in self.dirs() {
            let path = dir.path().join("cgroup.procs");
            write_at(CWD, &path.to_string_lossy(), &pid.to_string())
                .doing(|| format!("write \"{pid}\" to {}", path.display()))?;
        }
        Ok(())
    }
}

impl Made {
    /// The group as it was created; the state file keeps it.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The v2 directory (O_PATH), for CLONE_INTO_CGROUP. If [`Group::is_unified`], a process cloned
    /// into it needs no [`Group::join`].
    pub fn dir_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Removes the directories that [`Group::create`] created, after a later step has failed. They
    /// must have no processes.
    pub fn undo(self) -> Result<()> {
        for path in self.made.iter().rev() {
            match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).doing(|| format!("remove cgroup {}", path.display())),
            }
        }
        Ok(())
    }

    /// Moves the container's process into the delegated cgroup, if there is one.
    pub fn enter_delegated(&self, pid: i32) -> Result<()> {
        if self.group.delegated.is_none() {
            return Ok(());
        }
        let inner = self.group.of_processes();
        for dir in inner.dirs() {
            create_with_parents(dir, &dir.path(), &mut Vec::new())?;
        }
        inner.join(pid)
    }

    /// Gives the v2 cgroup, and the delegated one below it, to a user, who may then create cgroups
    /// in it: the directory and the files listed in /sys/kernel/cgroup/delegate, but no limit.
    /// config-linux.md, "Cgroup ownership", says when. Does nothing in v1.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        const USUAL: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";
        let Some(dir) = self.dir_fd().filter(|_| self.group.is_unified()) else { return Ok(()) };
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
        let below = self.group.delegated.as_deref().map(|name| format!("{name}/")).unwrap_or_default();
        let files = || listed.as_deref().unwrap_or(USUAL).lines().chain([""]);
        for name in files().map(str::to_owned).chain(files().map(|name| format!("{below}{name}"))) {
            match rustix::fs::chownat(dir, &name, owner, None, AtFlags::EMPTY_PATH) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).doing(|| format!("give cgroup file {name:?} to user {uid}")),
            }
        }
        Ok(())
    }

    /// Explains why no process can enter the v2 cgroup, after clone3(2) or [`Group::join`] failed
    /// with `EOPNOTSUPP`.
    pub fn why_not_joinable(&self) -> Option<String> {
        let kind = read_at(self.dir_fd()?, "cgroup.type").ok()?;
        let path = self.group.unified.as_ref()?.path();
        (kind == "domain invalid").then(|| {
            format!(
                "cgroup {} is of type \"{kind}\": a cgroup above it is threaded; use another cgroupsPath",
                path.display()
            )
        })
    }

    fn create(&mut self, if_refused: IfRefused) -> Result<()> {
        for legacy in std::mem::take(&mut self.group.legacy) {
            match create_legacy(&legacy, &mut self.made) {
                Ok(()) => self.group.legacy.push(legacy),
                Err(error) if if_refused == IfRefused::GoWithout && refused(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(dir) = &self.group.unified {
            match create_unified(dir, &mut self.made) {
                Ok(fd) => self.fd = Some(fd),
                Err(error) if if_refused == IfRefused::GoWithout && refused(&error) => {
                    self.group.unified = None
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether an unprivileged user must expect this error.
fn refused(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

fn create_unified(dir: &Directory, made: &mut Vec<PathBuf>) -> Result<OwnedFd> {
    let path = dir.path();
    let fresh = create_with_parents(dir, &path, made)?;
    let fd = open_dir(&path).doing(|| format!("open cgroup {}", path.display()))?;
    if !fresh {
        check_unused(&path)?;
        match read_at(fd.as_fd(), "cgroup.freeze") {
            Ok(text) if text == "1" => return Err(frozen(&path)),
            // Linux before 5.2 has no such file.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).doing(|| format!("read {}/cgroup.freeze", path.display())),
        }
    }
    if hand_down(dir, fd.as_fd()).doing(|| format!("enable controllers for cgroup {}", path.display()))? {
        let made = Made { group: Group::unified(dir.clone()), made: Vec::new(), fd: Some(fd) };
        if let Some(words) = made.why_not_joinable() {
            return Err(Error::new(Kind::Unsupported, words));
        }
        return made.fd.ok_or_else(|| Errno::BADF.into());
    }
    Ok(fd)
}

fn create_legacy(legacy: &Legacy, made: &mut Vec<PathBuf>) -> Result<()> {
    let path = legacy.dir.path();
    if !create_with_parents(&legacy.dir, &path, made)? {
        check_unused(&path)?;
        if life::legacy_state(&path)?.is_some_and(|state| state != "THAWED") {
            return Err(frozen(&path));
        }
    }
    if legacy.controllers.iter().any(|name| name == "cpuset") {
        inherit_cpuset(&legacy.dir)?;
    }
    Ok(())
}

/// Creates the directory and its missing parents. Returns false if it existed.
fn create_with_parents(dir: &Directory, path: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match make_one(path) {
        Ok(()) => {
            made.push(path.to_owned());
            return Ok(true);
        }
        Err(Errno::EXIST) => return Ok(false),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).doing(|| format!("create cgroup {}", path.display())),
    }
    let mut above = dir.mount.clone();
    for name in dir.below.split('/') {
        above.push(name);
        match make_one(&above) {
            Ok(()) => made.push(above.clone()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).doing(|| format!("create cgroup {}", above.display())),
        }
    }
    Ok(true)
}

/// Sets the mode explicitly: the container's user must be able to enter the directory, whatever the
/// caller's umask is.
fn make_one(path: &Path) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    mkdir(path, mode)?;
    chmodat(CWD, path, mode, AtFlags::empty())
}

fn check_unused(path: &Path) -> Result<()> {
    match directory::pids(path)?.len() {
        0 => Ok(()),
        count => Err(Error::new(
            Kind::State,
            format!("container's cgroup is not empty: {count} process(es) found in {}", path.display()),
        )),
    }
}

fn frozen(path: &Path) -> Error {
    Error::new(
        Kind::State,
        format!("container's cgroup unexpectedly frozen: {}; thaw it first", path.display()),
    )
}

/// Enables the root's controllers in each cgroup above `leaf`, from the top. Returns true if some
/// could not be enabled.
///
/// A controller that cannot be enabled now (`EBUSY`: processes in a cgroup above; `EACCES`: not
/// ours) matters only to a limit that needs it; that limit's error then says so.
fn hand_down(dir: &Directory, leaf: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    const CONTROLLERS: &str = "cgroup.controllers";
    let all = read_record_at(CWD, dir.mount.join(CONTROLLERS))?;
    if all.is_empty() || read_record_at(leaf, CONTROLLERS)? == all {
        return Ok(false);
    }
    let mut here = open_dir(&dir.mount)?;
    for name in dir.below.split('/') {
        let missing = {
            let enabled = read_at(here.as_fd(), "cgroup.subtree_control")?;
            let is_missing = |name: &&str| !enabled.split(' ').any(|controller| controller == *name);
            all.split(' ').filter(is_missing).map(|name| format!("+{name}")).collect::<Vec<_>>()
        };
        if !missing.is_empty() && may_hand_down(here.as_fd()) {
            enable(here.as_fd(), &missing);
        }
        here = openat(&here, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(read_at(leaf, "cgroup.controllers")? != all)
}

/// Whether controllers may be enabled for the groups below.
///
/// A group with processes of its own accepts only the threaded controllers (cpu, cpuset, pids), and
/// then becomes the root of a threaded tree: no process could enter the groups below any more. The
/// hierarchy's true root, which has no type, is exempt.
pub(super) fn may_hand_down(dir: BorrowedFd<'_>) -> bool {
    matches!(read_at(dir, "cgroup.type"), Err(Errno::NOENT))
        || read_at(dir, "cgroup.procs").is_ok_and(|processes| processes.is_empty())
}

/// Enables all in one write; one by one if that fails, because the kernel enables all controllers
/// of a write or none.
fn enable(dir: BorrowedFd<'_>, controllers: &[String]) {
    const FILE: &str = "cgroup.subtree_control";
    match write_at(dir, FILE, &controllers.join(" ")) {
        // The file can't be opened, or the cgroup can have no controllers at all: single writes
        // would fail too.
        Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::OPNOTSUPP) => {}
        Err(_) => {
            for controller in controllers {
                let _ = write_at(dir, FILE, controller);
            }
        }
    }
}

/// Fills a new v1 cpuset, which has no CPUs and no memory nodes and accepts no process until it
/// has; its parent may be as new.
fn inherit_cpuset(dir: &Directory) -> Result<()> {
    let mut path = dir.mount.clone();
    for name in dir.below.split('/') {
        let above = open_dir(&path).doing(|| format!("open cgroup {}", path.display()))?;
        path.push(name);
        let here = open_dir(&path).doing(|| format!("open cgroup {}", path.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let copy = || match read_at(here.as_fd(), file)?.as_str() {
                "" => write_at(here.as_fd(), file, &read_at(above.as_fd(), file)?),
                _ => Ok(()),
            };
            copy().doing(|| format!("copy {file} from the parent of cgroup {}", path.display()))?;
        }
    }
    Ok(())
}
