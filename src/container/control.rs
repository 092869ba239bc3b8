//! start, state, list, kill, pause, resume and ps: commands on an existing container.

use std::num::NonZero;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::{slice, thread};

use rustix::fs::OFlags;

use super::directory::{Directory, RESULT_FIFO, START_FIFO};
use super::existing::Existing;
use super::record::{Record, UserNames};
use super::request::Settings;
use super::root::StateRoot;
use super::sd_notify::{Listener, Manager};
use super::state::{State, Status};
use super::{ContainerId, destroy, hooks, root};
use crate::cgroup::Group;
use crate::error::{Doing, Error, Kind, LONGEST_WORDS, Result, errno_words, shortened};
use crate::init::sync::{self, Message};
use crate::plan::hooks::named as hooks_named;
use crate::plan::{Step, StepError};
use crate::sys::process;

/// `start`: starts the program, and returns once it runs.
pub fn start(settings: &Settings, id: &ContainerId) -> Result<()> {
    // Of two concurrent starts, the second must see the first one's result.
    let container = Existing::lock(settings, id)?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(wrong_state("cannot start a container that has stopped")),
        Status::Running => return Err(wrong_state("cannot start an already running container")),
        Status::Paused => {
            return Err(wrong_state("cannot start a container in the paused state; resume it first"));
        }
        Status::Creating => return Err(wrong_state("cannot start a container that is still being created")),
    }
    if container.record.programs.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "cannot start a container without a program: its config.json had no process",
        ));
    }
    let listener = Listener::bind(&container.directory, Manager::of_environment())?;
    let result = container
        .directory
        .open_fifo(RESULT_FIFO, OFlags::RDONLY | OFlags::NONBLOCK)
        .doing(|| "open the result")?;
    let word = container
        .directory
        .open_fifo(START_FIFO, OFlags::WRONLY | OFlags::NONBLOCK)
        .doing(|| "container not running")?;
    rustix::io::write(&word, b"go").doing(|| "tell the container's process to start")?;
    // A successful execve closes the other end.
    let hear = || {
        hooks::poll_until(result.as_fd(), None)?;
        sync::hear_plainly(&result)
    };
    has_started(!container.record.start_hooks.is_empty(), hear)?.map_or(Ok(()), |fault| {
        let words = explain(fault, &container.record) + &hooks::printed_inside(fault, result.as_fd());
        Err(Error::new(kind_of(fault), words))
    })?;
    // The execve closes both fifos, but not at once: while this one has a reader, the status is
    // "created". Poll reports the end of the last reader (POLLERR).
    hooks::poll_until(word.as_fd(), None).doing(|| "wait until the container's process runs")?;
    tracing::debug!("the program runs");
    // A hook may delete the container, which would wait for our lock.
    container.directory.unlock()?;
    poststart(&container.directory, &container.record)?;
    let (Some(listener), Some(init)) = (listener, container.record.init) else { return Ok(()) };
    match init.pidfd()? {
        Some(pidfd) => listener.until_ready(init.pid, pidfd.as_fd()),
        None => Ok(()),
    }
}

/// The error kind of a fault that occurs after the start message.
pub(super) fn kind_of(fault: StepError) -> Kind {
    if fault.step == Step::Exec { Kind::NotExecuted } else { Kind::System }
}

/// Waits until the program has started or failed to. End of file is a successful execve; before the
/// end of pending hooks, it means that the process was killed.
pub(super) fn has_started(
    hooks_come_first: bool,
    mut hear: impl FnMut() -> rustix::io::Result<Option<Message>>,
) -> Result<Option<StepError>> {
    let mut hooks_to_come = hooks_come_first;
    loop {
        match hear().doing(|| "receive the result of starting the program")? {
            None if hooks_to_come => {
                let words = "the container's process was killed while its startContainer hooks ran";
                return Err(Error::new(Kind::System, words));
            }
            None => return Ok(None),
            Some(Message::Hooked) => hooks_to_come = false,
            Some(Message::Fault(fault)) => return Ok(Some(fault)),
            Some(_) => {
                let words = "the container's process sent an unexpected message";
                return Err(Error::new(Kind::System, words));
            }
        }
    }
}

/// Runs the poststart hooks; if one fails, the container is stopped. Source: runtime-spec
/// runtime.md, "Lifecycle".
pub(super) fn poststart(directory: &Directory, record: &Record) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let state = State::of(record, Status::Running);
    hooks::run(&record.poststart, &state)
        .map_err(|error| error.after_cleaning(destroy::at_the_end(directory, record)))
}

/// The message for a fault after the start, made from the record as the plan no longer exists.
pub(super) fn explain(fault: StepError, record: &Record) -> String {
    let index = usize::from(fault.index);
    let name = |list: &[String], at: usize| {
        let name = list.get(at).map_or("", String::as_str);
        shortened(name, LONGEST_WORDS).into_owned()
    };
    let hook = || {
        let at = index.saturating_sub(record.create_hooks);
        let named = hooks_named(&format!("hooks.startContainer[{at}]"), &name(&record.start_hooks, at));
        format!("error running {named}")
    };
    match fault.step {
        Step::HookSpawn => format!("{}: {}", hook(), errno_words(fault.errno)),
        Step::HookExit => format!("{}: exit status {}", hook(), fault.errno),
        Step::HookSignal => format!("{}: killed by signal {}", hook(), fault.errno),
        Step::HookTimeout => format!("{}: killed, its timeout has passed", hook()),
        _ => format!("exec {}: {}", name(&record.programs, index), errno_words(fault.errno)),
    }
}

fn wrong_state(words: &str) -> Error {
    Error::new(Kind::State, words)
}

/// `state`.
pub fn state(settings: &Settings, id: &ContainerId) -> Result<State> {
    let container = Existing::open(settings, id)?;
    Ok(State::of(&container.record, container.status()?))
}

/// `list`: every container whose record can be read; the others are reported in the log.
pub fn list(settings: &Settings) -> Result<Vec<State>> {
    let ids = root::all(settings)?;
    let Some(root) = StateRoot::open(settings)? else { return Ok(Vec::new()) };
    let root = Arc::new(root);
    let states = |ids: &[ContainerId]| -> Vec<Result<State>> {
        let mut names = UserNames::default();
        let mut state = |id: &ContainerId| -> Result<State> {
            let container = Existing::read(Directory::open_in(root.clone(), settings, id)?)?;
            Ok(State::with_owner(
                &container.record,
                container.status()?,
                names.of(container.record.owner).to_owned(),
            ))
        };
        ids.iter().map(&mut state).collect()
    };
    let found = ids.iter().zip(in_threads(&ids, states)).map(|(id, state)| match state {
        // Several threads need more descriptors than one.
        Err(error) if error.errno() == Some(libc::EMFILE) => (id, states(slice::from_ref(id)).pop()),
        state => (id, Some(state)),
    });
    let states = found.filter_map(|(id, state)| match state? {
        Ok(state) => Some(state),
        // Deleted meanwhile, or not yet recorded.
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => {
            tracing::warn!("{id}: {error}");
            None
        }
    });
    Ok(states.collect())
}

/// The least number of containers for which a second thread saves time.
const MANY: usize = 64;
/// More would wait for the kernel's locks.
const MOST_THREADS: usize = 8;

/// What `act` returns for all of `ids`, in their order; it runs for parts of them in several
/// threads, if there are many.
fn in_threads<T: Send>(ids: &[ContainerId], act: impl Fn(&[ContainerId]) -> Vec<T> + Sync) -> Vec<T> {
    let most = ids.len() / MANY;
    if most < 2 {
        return act(ids);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(most).min(MOST_THREADS);
    let act = &act;
    thread::scope(|scope| {
        let begin = |part| (part, thread::Builder::new().spawn_scoped(scope, move || act(part)));
        let parts: Vec<_> = ids.chunks(ids.len().div_ceil(threads)).map(begin).collect();
        let end = |(part, thread): (_, std::io::Result<thread::ScopedJoinHandle<'_, Vec<T>>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // A limit of processes.
            Err(_) => act(part),
        };
        parts.into_iter().flat_map(end).collect()
    })
}

/// `kill`: sends a signal to the container's process, or with `all` to every process of its cgroup.
///
/// If the container shares its pid namespace, SIGKILL is sent to all its processes, even after its
/// own process has ended: the kernel kills the others only if that process was the init of a pid
/// namespace.
pub fn kill(settings: &Settings, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let container = Existing::open(settings, id)?;
    if all {
        return kill_all(&container, signal);
    }
    let not_running = || Error::new(Kind::State, "container not running");
    if signal == libc::SIGKILL
        && !container.record.own_pids
        && let Some(group) = destroy::own_group(&container.record)?
    {
        let had_others = !group.pids()?.is_empty();
        let had_init = container.record.init.map_or(Ok(false), |init| init.signal(signal))?;
        group.kill()?;
        return if had_others || had_init { Ok(()) } else { Err(not_running()) };
    }
    if container.status()? == Status::Stopped {
        return Err(not_running());
    }
    let Some(init) = container.record.init else {
        return Err(wrong_state(
            "the container is still being created and has no process yet; delete --force ends it",
        ));
    };
    if !init.signal(signal)? {
        return Err(not_running());
    }
    tracing::debug!("signal {signal} is sent to process {}", init.pid);
    match &container.record.group {
        Some(group) if signal == libc::SIGKILL => group.let_killed_end(),
        _ => Ok(()),
    }
}

/// `pause`: freezes the container's processes until `resume`. Returns once they are frozen.
pub fn pause(settings: &Settings, id: &ContainerId) -> Result<()> {
    // A concurrent `start` would wait forever.
    let container = Existing::lock(settings, id)?;
    match container.status()? {
        Status::Created | Status::Running => own_group(&container.record, "be paused")?.freeze(),
        Status::Paused => Err(wrong_state("container not running: it is paused already")),
        Status::Stopped => Err(wrong_state("container not running")),
        Status::Creating => Err(wrong_state("container not running: it is still being created")),
    }
}

/// `resume`: thaws the processes of a paused container.
///
/// Takes no lock: its holder may be waiting for these processes.
pub fn resume(settings: &Settings, id: &ContainerId) -> Result<()> {
    let container = Existing::open(settings, id)?;
    if container.status()? != Status::Paused {
        return Err(wrong_state("container not paused"));
    }
    let group = own_group(&container.record, "be resumed")?;
    group.thaw()?;
    // The kernel updates the state before the write returns.
    if group.is_frozen()? {
        let words = "the container is still paused: a cgroup above its own is frozen, or it was paused again";
        return Err(wrong_state(words));
    }
    Ok(())
}

/// `ps`: the PIDs of the container's processes in this process's pid namespace; none if it has
/// stopped.
pub fn processes(settings: &Settings, id: &ContainerId) -> Result<Vec<i32>> {
    let container = Existing::open(settings, id)?;
    own_group(&container.record, "list its processes")?.pids()
}

/// The container's cgroup; without one its processes cannot be identified.
pub(super) fn own_group<'a>(record: &'a Record, purpose: &str) -> Result<&'a Group> {
    let words = || format!("container {} has no cgroup of its own, so it cannot {purpose}", record.id);
    record.group.as_ref().ok_or_else(|| Error::new(Kind::Unsupported, words()))
}

fn kill_all(container: &Existing, signal: i32) -> Result<()> {
    tracing::debug!("signal {signal} is sent to every process of the container");
    let Some(group) = &container.record.group else {
        return match container.record.init {
            Some(init) => init.signal(signal).map(drop),
            None => Ok(()),
        };
    };
    if signal == libc::SIGKILL {
        return group.kill();
    }
    group.pids()?.into_iter().try_for_each(|pid| {
        let sent = process::pidfd_open(pid).and_then(|pidfd| process::signal(pidfd.as_fd(), signal));
        match sent {
            // A process that has ended since the list was read needs no signal.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.doing(|| format!("send signal {signal} to process {pid}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_the_order() {
        for count in [0, 1, 2 * MANY - 1, 2 * MANY, 5 * MANY + 3] {
            let ids: Vec<ContainerId> =
                (0..count).map(|number| format!("c{number}").parse().unwrap()).collect();
            assert_eq!(in_threads(&ids, <[_]>::to_vec), ids);
        }
    }
}
