//! `run`: creates and starts in one process, and in the foreground waits until the program ends.

use std::os::fd::AsFd;

use super::birth::terminal;
use super::control::{has_started, kind_of, poststart};
use super::create::{Launched, launch};
use super::draft::Manner;
use super::foreground::{Foreground, Program};
use super::request::{Run, Settings};
use super::{destroy, hooks};
use crate::error::{Doing, Error, Result};
use crate::init::sync;
use crate::sys::process;

/// `run`. In the foreground, returns the program's exit status, or 128 plus its signal; detached,
/// 0.
pub fn run(settings: &Settings, request: &Run) -> Result<i32> {
    run_then(settings, request, &mut |_| {})
}

/// As [`run`], but calls `created` with the PID of the container's process before its program runs.
pub fn run_then(settings: &Settings, request: &Run, created: &mut dyn FnMut(i32)) -> Result<i32> {
    if request.detach {
        let mut launched = launch(settings, &request.create, Manner::Detached)?;
        let pid = launched.record.init.map_or(0, |init| init.pid);
        created(pid);
        begin(&launched)?;
        let listener = launched.listener.take();
        return listener.map_or(Ok(()), |one| one.until_ready(pid, launched.child.pidfd.as_fd())).map(|()| 0);
    }
    if !request.no_subreaper {
        process::set_subreaper().doing(|| "become the reaper of the container's orphans")?;
    }
    let foreground = Foreground::prepare().doing(|| "take over signals")?;
    let mut launched = launch(settings, &request.create, Manner::Foreground)?;
    let terminal =
        terminal(launched.child.console.as_ref(), &launched.plan).map_err(|error| end(error, &launched))?;
    let pid = launched.record.init.map_or(0, |init| init.pid);
    created(pid);
    begin(&launched)?;
    let listener = launched.listener.take();
    let pidfd = launched.child.pidfd.as_fd();
    let ended = foreground.wait(Program { pid, pidfd, terminal, listener });
    let cleaned =
        if request.keep { Ok(()) } else { destroy::at_the_end(&launched.directory, &launched.record) };
    match ended {
        Ok(status) => cleaned.map(|()| status),
        Err(error) => Err(error.after_cleaning(cleaned)),
    }
}

/// Starts the waiting process and checks that it started. On error everything is undone.
fn begin(launched: &Launched) -> Result<()> {
    // Other commands wait for the lock until the program runs. A hook may run such a command.
    report_ready(launched)
        .and_then(|()| launched.directory.unlock())
        .map_err(|error| end(error, launched))?;
    poststart(&launched.directory, &launched.record)
}

/// Removes everything after an error.
fn end(error: Error, launched: &Launched) -> Error {
    error.after_cleaning(destroy::at_the_end(&launched.directory, &launched.record))
}

fn report_ready(launched: &Launched) -> Result<()> {
    if launched.plan.process.is_none() {
        return Err(Error::invalid("process", "missing; there is nothing to run"));
    }
    sync::go(launched.child.sync.as_fd()).doing(|| "tell the container's process to start")?;
    let hear = || Ok(sync::hear(launched.child.sync.as_fd())?.map(|(word, _)| word));
    match has_started(!launched.plan.hooks.start_container.is_empty(), hear)? {
        None => {
            tracing::debug!("the program runs");
            Ok(())
        }
        Some(fault) => {
            let printed = hooks::printed_inside(fault, launched.child.sync.as_fd());
            Err(Error::new(kind_of(fault), fault.explain(&launched.plan) + &printed))
        }
    }
}
