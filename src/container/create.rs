//! `create` and the first half of `run`: from the bundle to a process that waits for the word to start.
//!
//! Whatever moment this is killed at, `delete --force` finds all: each thing is noted in the record before it is made. The
//! child ends by itself when we are gone before it waits.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::birth::{clone, consoles, tell_outside};
use super::conversation::Conversation;
use super::draft::{Draft, Manner, draft};
use super::folder::{Folder, RESULT_FIFO, START_FIFO};
use super::group::make_groups;
use super::open::{self, Given};
use super::open_files::Raised;
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::{Create, Settings};
use super::sd_notify::Manager;
use super::{destroy, hold, members, sd_notify};
use crate::cgroup::Group;
use crate::error::{Doing, Result};
use crate::init::{self, Gate, sync};
use crate::plan::Plan;
use crate::spec::Spec;

/// A container that is set up, its process waiting.
pub struct Launched {
    /// Its folder.
    pub folder: Folder,
    /// What is noted of it.
    pub record: Record,
    /// The plan, which has the words for faults.
    pub plan: Plan,
    /// Its process.
    pub pidfd: OwnedFd,
    /// Our end of the conversation.
    pub sync: OwnedFd,
    /// Carries the terminal's master to us, when it does.
    pub console: Option<OwnedFd>,
    /// Hears whether the container is ready, if a service manager wants to know.
    pub listener: Option<sd_notify::Listener>,
}

/// `create`.
pub fn create(settings: &Settings, request: &Create) -> Result<()> {
    launch(settings, request, Manner::Later)?.folder.unlock()
}

/// Creates the container, and keeps its lock. After an error nothing of it is left.
pub fn launch(settings: &Settings, request: &Create, manner: Manner) -> Result<Launched> {
    let draft = draft(settings, request, manner, Manager::of_environment())?;
    let (folder, record, (listener, ends)) = recorded(settings, request, &draft, |folder, record| {
        let listener = listen(folder, &draft, manner)?;
        Ok((listener, set_up(settings, request, manner, &draft, folder, record)?))
    })?;
    let (pidfd, sync, console) = ends;
    Ok(Launched { folder, record, plan: draft.plan, pidfd, sync, console, listener })
}

/// Begins the container's directory, locked, and its record, and has `set_up` make the rest. After an error nothing is left of it all.
pub(super) fn recorded<T>(
    settings: &Settings,
    request: &Create,
    draft: &Draft,
    set_up: impl FnOnce(&Folder, &mut Record) -> Result<T>,
) -> Result<(Folder, Record, T)> {
    let folder = Folder::make(settings, &request.id)?;
    tracing::debug!("state folder {}/{} is made", settings.root.display(), request.id);
    let mut record = match record(draft, request, &folder) {
        Ok(record) => record,
        Err(error) => return Err(error.after_cleaning(folder.remove())),
    };
    match set_up(&folder, &mut record) {
        Ok(made) => Ok((folder, record, made)),
        // Once there was a process, its end is one like any other: with poststop hooks.
        Err(error) if record.init.is_some() => {
            Err(error.after_cleaning(destroy::with_hooks(&folder, &record)))
        }
        Err(error) => Err(error.after_cleaning(destroy::everything(&folder, &record))),
    }
}

fn record(draft: &Draft, request: &Create, folder: &Folder) -> Result<Record> {
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
        owner: folder.owner()?,
        annotations: draft.spec.annotations.clone(),
        new_keyring: !request.no_new_keyring,
        phase: Phase::Creating,
        creator: ProcessId::own()?,
        init: None,
        own_pids: plan.namespaces.creates(libc::CLONE_NEWPID),
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
    folder.write(&record)?;
    folder.write_config(&draft.config)?;
    hold::here("recorded");
    Ok(record)
}

/// The socket for messages to the service manager. `start` listens itself.
fn listen(folder: &Folder, draft: &Draft, manner: Manner) -> Result<Option<sd_notify::Listener>> {
    let Some(manager) = draft.manager.as_ref().filter(|_| draft.plan.process.is_some()) else {
        return Ok(None);
    };
    sd_notify::make_directory(folder)?;
    let manager = (manner != Manner::Later).then(|| manager.clone());
    sd_notify::Listener::bind(folder, manager)
}

type Ends = (OwnedFd, OwnedFd, Option<OwnedFd>);

fn set_up(
    settings: &Settings,
    request: &Create,
    manner: Manner,
    draft: &Draft,
    folder: &Folder,
    record: &mut Record,
) -> Result<Ends> {
    let made = make_groups(settings, draft, record)?;
    let joins_late = record.group.as_ref().is_some_and(Group::is_joined_late);
    let (ours, theirs) = sync::pair().doing(|| "make a socket pair")?;
    let (console, console_end) = consoles(&draft.plan, request.console_socket.as_deref(), manner)?;
    let born_in_group = !joins_late && made.as_ref().is_some_and(|made| made.dir_fd().is_some());
    if born_in_group {
        // From here on the container is known by what is in its group, even while there is no init.
        folder.write(record)?;
    }
    let raised = Raised::for_plan(&draft.plan);
    let given = Given {
        sync: theirs,
        console: console_end,
        gate: gate(folder, manner)?,
        joins_group_late: joins_late,
        born_in_group,
        open_files: raised.before(),
    };
    let (mut opened, making) = open::open(&draft.spec, &draft.plan, &draft.bundle, &record.id, given)?;
    let (pid, pidfd) = clone(&draft.plan, &mut opened, &making, made.as_ref(), init::run)?;
    let mut talk = Conversation {
        plan: &draft.plan,
        folder,
        record,
        sync: ours,
        pid,
        pidfd,
        awaits_successor: opened.has_successor(),
        sources: std::mem::take(&mut opened.sources),
        raised: Some(raised),
        joins_late,
        made,
        limited: false,
        tolerant: settings.rootless,
    };
    if !opened.asks.map_ids {
        talk.close_sources();
    }
    // The child's ends must be the child's alone, so that its death closes them.
    drop(opened);
    // Beside the child's work, as it takes as long as reading the document did.
    members::warn::<Spec>("config.json", &draft.config);
    talk.begin().map_err(|error| talk.last_words().unwrap_or(error))?;
    talk.until_waiting()?;
    let Conversation { pid, pidfd, sync, .. } = talk;
    record.phase = Phase::Created;
    folder.write(record)?;
    if manner == Manner::Later {
        sync::go(sync.as_fd()).doing(|| "tell the container's process that it is noted")?;
    }
    hold::here("created");
    let annotated = draft.spec.annotations.get("run.oci.pidfd_receiver").map(PathBuf::from);
    let pidfd_socket = request.pidfd_socket.as_deref().or(annotated.as_deref());
    tell_outside(pidfd_socket, request.pid_file.as_deref(), pid, &pidfd)?;
    Ok((pidfd, sync, console))
}

fn gate(folder: &Folder, manner: Manner) -> Result<Gate> {
    if manner != Manner::Later {
        return Ok(Gate::Sync);
    }
    Ok(Gate::Fifos { start: folder.make_fifo(START_FIFO)?, result: folder.make_fifo(RESULT_FIFO)? })
}
