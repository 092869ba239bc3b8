//! The creation of a container, by `create` or `restore`: its directory and record, its hooks and
//! limits, and the clean-up after an error.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::directory::Directory;
use super::draft::Draft;
use super::group::{IfForbidden, guard_devices};
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::{Create, Settings};
use super::state::{State, Status};
use super::{destroy, hold, hooks};
use crate::cgroup::Made;
use crate::error::Result;
use crate::plan::Plan;
use crate::sys::namespace::Namespace;

/// Creates the container's directory, locked, and its record, then runs `set_up`. On error
/// everything is undone.
pub(super) fn recorded<T>(
    settings: &Settings,
    request: &Create,
    draft: &Draft,
    set_up: impl FnOnce(&Directory, &mut Record) -> Result<T>,
) -> Result<(Directory, Record, T)> {
    let directory = Directory::make(settings, &request.id)?;
    tracing::debug!("state directory {}/{} is created", settings.root.display(), request.id);
    let mut record = match record(draft, request, &directory) {
        Ok(record) => record,
        Err(error) => return Err(error.after_cleaning(directory.remove())),
    };
    match set_up(&directory, &mut record) {
        Ok(made) => Ok((directory, record, made)),
        // Once there was a process, poststop hooks run as at any other end.
        Err(error) if record.init.is_some() => {
            Err(error.after_cleaning(destroy::with_hooks(&directory, &record)))
        }
        Err(error) => Err(error.after_cleaning(destroy::everything(&directory, &record))),
    }
}

fn record(draft: &Draft, request: &Create, directory: &Directory) -> Result<Record> {
    let text =
        |list: &[std::ffi::CString]| list.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let plan = &draft.plan;
    let hooks = &plan.hooks;
    let rootfs = PathBuf::from(OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let record = Record {
        id: request.id.to_string(),
        bundle: draft.bundle.clone(),
        bundle_goes: request.bundle_goes,
        mount_below: if plan.rootfs.own_mounts { None } else { destroy::mount_id(&rootfs)? },
        rootfs,
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        owner: directory.owner()?,
        annotations: draft.spec.annotations.clone(),
        new_keyring: !request.no_new_keyring,
        phase: Phase::Creating,
        creator: ProcessId::own()?,
        init: None,
        own_pids: plan.namespaces.creates(Namespace::Pid),
        group: draft.group.clone(),
        owns_group: false,
        group_made: None,
        rdt: draft.rdt.clone(),
        programs: plan.process.as_ref().map_or_else(Vec::new, |process| text(&process.candidates)),
        start_hooks: hooks
            .start_container
            .iter()
            .map(|hook| hook.path.to_string_lossy().into_owned())
            .collect(),
        create_hooks: hooks.create_container.len(),
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
    };
    directory.write_first(&record)?;
    directory.write_config(&draft.config)?;
    hold::stop_at("recorded");
    Ok(record)
}

/// The runtime's work for a container whose first process is created by a clone or by criu.
pub(super) struct Creation<'a> {
    pub plan: &'a Plan,
    pub directory: &'a Directory,
    pub record: &'a mut Record,
    /// The cgroup.
    pub made: Option<Made>,
    pub if_forbidden: IfForbidden,
    /// Whether the cgroup's limits are set.
    pub limited: bool,
    /// Whether the record already says that the processes in the cgroup are the container's.
    pub group_recorded: bool,
}

impl Creation<'_> {
    /// Notes the container's process. `None`: it has already ended, so its PID is of no use.
    ///
    /// It is written into the record at once if a hook may ask for it, or if nothing else
    /// identifies the process; otherwise with the next phase.
    pub(crate) fn note_init(&mut self, init: Option<ProcessId>) -> Result<()> {
        if init.is_some() {
            self.record.init = init;
            let hooks = &self.plan.hooks;
            let has_hooks = !hooks.create_runtime.is_empty() || !hooks.create_container.is_empty();
            if has_hooks || !self.group_recorded {
                self.directory.write(self.record)?;
            }
        }
        hold::stop_at("cloned");
        Ok(())
    }

    /// Runs the prestart and createRuntime hooks.
    pub(crate) fn run_hooks(&self) -> Result<()> {
        let state = State::of(self.record, Status::Creating);
        hooks::run(&self.plan.hooks.create_runtime, &state)?;
        hold::stop_at("hooks");
        Ok(())
    }

    /// Attaches the BPF program that controls access to devices.
    pub(crate) fn guard_devices(&self) -> Result<()> {
        self.made.as_ref().map_or(Ok(()), |made| guard_devices(made, self.plan, self.if_forbidden))
    }

    /// Sets the cgroup's limits. Called as late as possible: set-up work runs in the cgroup too,
    /// and the limits are not meant for it.
    pub(crate) fn set_limits(&mut self) -> Result<()> {
        self.limited = true;
        self.made.as_ref().map_or(Ok(()), |made| made.apply(&self.plan.limits))
    }
}
