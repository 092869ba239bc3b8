//! Writes settings and device programs into a cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::create::may_hand_down;
use super::devices::Program;
use super::file::{open_dir, read_at, write_at};
use super::oom::kills;
use super::{CgroupSettings, Made, Missing, Setting};
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::bpf;

impl Made {
    /// Writes the settings in their order.
    ///
    /// Writes that fail with EINVAL are tried once more at the end: a limit may fit only after
    /// another one has changed (memory below memory + swap, quota above burst), and which of the
    /// two must come first depends on the present values.
    pub fn apply(&self, settings: &CgroupSettings) -> Result<()> {
        self.check_usage(settings.usage_at_most)?;
        let mut again = Vec::new();
        for setting in &settings.writes {
            match self.write(setting) {
                Err(error) if error.errno() == Some(libc::EINVAL) => again.push(setting),
                done => done?,
            }
        }
        again.into_iter().try_for_each(|setting| self.write(setting))
    }

    /// Attaches the program that decides about devices to a new cgroup; `None`: all devices are
    /// allowed.
    ///
    /// The errno is `EPERM` if we may not use eBPF (in a user namespace). v2 only.
    pub fn guard_devices(&self, program: Option<&Program>) -> Result<()> {
        let Some(program) = program else { return Ok(()) };
        let cgroup = self.v2()?;
        let loaded = load(program)?;
        bpf::attach_device_program(cgroup, loaded.as_fd()).doing(|| "attach the device program to the cgroup")
    }

    /// Replaces the attached programs, without a moment in between that allows more. v2 only.
    ///
    /// On error, the previously attached programs are restored.
    pub fn replace_device_program(&self, program: Option<&Program>) -> Result<()> {
        let cgroup = self.v2()?;
        let old = bpf::device_programs(cgroup).doing(|| "list the device programs of the cgroup")?;
        let new = program.map(load).transpose()?;
        if let (Some(new), [only]) = (&new, old.as_slice())
            && bpf::replace_device_program(cgroup, new.as_fd(), only.as_fd()).is_ok()
        {
            return Ok(());
        }
        if let Some(new) = &new {
            bpf::attach_device_program(cgroup, new.as_fd())
                .doing(|| "attach the device program to the cgroup")?;
        }
        for (gone, former) in old.iter().enumerate() {
            let Err(error) = bpf::detach_device_program(cgroup, former.as_fd()) else { continue };
            let as_before = || {
                let mut again = old.iter().take(gone);
                again.try_for_each(|former| bpf::attach_device_program(cgroup, former.as_fd()))?;
                new.as_ref().map_or(Ok(()), |new| bpf::detach_device_program(cgroup, new.as_fd()))
            };
            let error = Error::from(error).within("detach the cgroup's former device program");
            return Err(error.after_cleaning(as_before().doing(|| "attach it again")));
        }
        Ok(())
    }

    /// Whether the kernel has killed a process of this v2 cgroup because it was out of memory.
    pub fn has_killed(&self) -> bool {
        let events = self.dir_fd().and_then(|dir| read_at(dir, "memory.events").ok());
        events.is_some_and(|events| kills(&events) > 0)
    }

    /// Restores the period of an unlimited quota after `change`, a change of the unit's properties:
    /// systemd writes its default period to cpu.max of a unit without a quota, whichever period it
    /// keeps.
    pub fn keep_cpu_period<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        const FILE: &str = "cpu.max";
        let dir = self.v2()?;
        // Without the controller, the file does not exist.
        let before = read_at(dir, FILE).ok().filter(|text| text.starts_with("max "));
        let changed = change()?;
        if let Some(text) = before
            && read_at(dir, FILE).is_ok_and(|now| now.starts_with("max ") && now != text)
        {
            write_at(dir, FILE, &text).doing(|| format!("write {text:?} to {FILE} after systemd"))?;
        }
        Ok(changed)
    }

    fn v2(&self) -> Result<BorrowedFd<'_>> {
        self.dir_fd().ok_or_else(|| Error::new(Kind::Unsupported, "device programs need cgroup v2"))
    }

    fn write(&self, setting: &Setting) -> Result<()> {
        let target = match self.target(setting) {
            Err(error) if error.kind() == Kind::Unsupported && setting.missing == Missing::Skip => {
                tracing::debug!("{error}");
                return Ok(());
            }
            other => other?,
        };
        let dir = target.dir();
        let result = lines(dir, &setting.file, &setting.value);
        let (file, value, result) = match (result, &setting.missing) {
            (Err(Errno::NOENT), Missing::Skip) => return Ok(()),
            (Err(Errno::NOENT), Missing::Instead(file, value)) => {
                (*file, value.as_str(), lines(dir, file, value))
            }
            (result, _) => (setting.file.as_ref(), setting.value.as_str(), result),
        };
        match result {
            Ok(()) => {
                tracing::debug!(
                    "{}: {value:?} is written to {}/{file}",
                    setting.field,
                    target.path().display()
                );
                Ok(())
            }
            // The file does not exist in this cgroup; opening it can never create it.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) if has_file(dir, file) == Ok(false) => {
                Err(self.absent(dir, &target, setting))
            }
            Err(error) => Err(error).doing(|| {
                format!("{}: write {value:?} to {}/{file}", setting.field, target.path().display())
            }),
        }
    }

    /// Checks that the file exists or may be missing; otherwise returns the error that writing it
    /// would give.
    pub(super) fn check_file(&self, setting: &Setting) -> Result<()> {
        if setting.missing != Missing::Refuse {
            return Ok(());
        }
        let target = self.target(setting)?;
        let place = || format!("{}: look for {}/{}", setting.field, target.path().display(), setting.file);
        if has_file(target.dir(), &setting.file).doing(place)? {
            return Ok(());
        }
        Err(self.absent(target.dir(), &target, setting))
    }

    /// The directory of the setting's file.
    pub(super) fn target(&self, setting: &Setting) -> Result<SettingDirectory<'_>> {
        let group = self.group();
        if let (Some(fd), Some(dir), true) = (self.dir_fd(), &group.unified, group.is_unified()) {
            return Ok(SettingDirectory::Unified(fd, dir.path()));
        }
        let Some(dir) = group.legacy_dir(setting.controller()) else {
            let words = format!("{}: the {} controller is not mounted", setting.field, setting.controller());
            return Err(Error::new(Kind::Unsupported, words));
        };
        let path = dir.path();
        let fd = open_dir(&path).doing(|| format!("open cgroup {}", path.display()))?;
        Ok(SettingDirectory::Legacy(fd, path))
    }

    /// The reason why the file is missing. Reads further files only in this case.
    fn absent(&self, dir: BorrowedFd<'_>, target: &SettingDirectory<'_>, setting: &Setting) -> Error {
        let (field, file, controller, path) =
            (&setting.field, &setting.file, setting.controller(), target.path());
        let here = read_at(dir, "cgroup.controllers").unwrap_or_default();
        let known = controller.is_empty() || here.split(' ').any(|name| name == controller);
        let words = if known || matches!(target, SettingDirectory::Legacy(..)) {
            let other = match &setting.missing {
                Missing::Instead(other, _) => format!(" or {other}"),
                _ => String::new(),
            };
            format!("{field}: this kernel has no file {file}{other} in cgroup {}", path.display())
        } else {
            let why = self.why_not_handed_down(controller);
            format!(
                "{field}: the {controller} controller is not available in cgroup {} ({why}); it has: {here}",
                path.display()
            )
        };
        Error::new(Kind::Unsupported, words)
    }

    /// Finds the first cgroup that does not enable a controller for its children, and retries to
    /// get the kernel's reason.
    fn why_not_handed_down(&self, controller: &str) -> String {
        let Some(dir) = &self.group().unified else { return "cgroup v2 is not mounted".into() };
        let mut path = dir.mount.clone();
        let has = |path: &PathBuf, file: &str| {
            let text = open_dir(path).and_then(|dir| read_at(dir.as_fd(), file)).unwrap_or_default();
            text.split(' ').any(|name| name == controller)
        };
        if !has(&path, "cgroup.controllers") {
            return "this host does not have it in cgroup v2".into();
        }
        for name in dir.below.split('/') {
            if !has(&path, "cgroup.subtree_control") {
                let asked_again = open_dir(&path).and_then(|dir| {
                    if may_hand_down(dir.as_fd()) {
                        write_at(dir.as_fd(), "cgroup.subtree_control", &format!("+{controller}"))
                    } else {
                        Err(Errno::BUSY)
                    }
                });
                let reason = match asked_again {
                    Err(Errno::BUSY) => "it has processes of its own".to_owned(),
                    Err(error) => Error::from(error).to_string(),
                    Ok(()) => "it was not enabled there".to_owned(),
                };
                return format!("{} does not hand it down: {reason}", path.display());
            }
            path.push(name);
        }
        "it was disabled above".into()
    }
}

/// The directory of a setting's file.
pub(super) enum SettingDirectory<'a> {
    Unified(BorrowedFd<'a>, PathBuf),
    Legacy(OwnedFd, PathBuf),
}

impl SettingDirectory<'_> {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unified(dir, _) => *dir,
            Self::Legacy(dir, _) => dir.as_fd(),
        }
    }

    pub(super) fn path(&self) -> &PathBuf {
        match self {
            Self::Unified(_, path) | Self::Legacy(_, path) => path,
        }
    }
}

fn load(program: &Program) -> Result<OwnedFd> {
    bpf::load_device_program(program.insns(), c"devices")
        .doing(|| "load the device program (linux.resources.devices)")
}

/// Writes each line separately, because the kernel accepts one device or key per write; an empty
/// value is written too.
fn lines(dir: BorrowedFd<'_>, file: &str, value: &str) -> rustix::io::Result<()> {
    if value.trim().contains('\n') {
        return value
            .lines()
            .filter(|line| !line.trim().is_empty())
            .try_for_each(|line| write_at(dir, file, line));
    }
    // A write of zero bytes has no effect: the kernel would neither empty a list nor refuse the
    // value.
    write_at(dir, file, if value.is_empty() { "\n" } else { value })
}

fn has_file(dir: BorrowedFd<'_>, file: &str) -> rustix::io::Result<bool> {
    match rustix::fs::accessat(dir, file, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
