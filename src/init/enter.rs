//! An additional process in an existing container (`exec`): from the clone to execve, a flat list
//! of stages. No heap.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use super::sync::{self, Message};
use super::{Hold, Never, Opened, console, identify, identity, namespaces, program, write_file};
use crate::plan::{At, Plan, Step, StepError};
use crate::sys::{cred, process, report};

/// The container's processes are hostile. They see this process from the clone on, or its successor
/// if it has one.
pub(super) fn stages(plan: &Plan, opened: &mut Opened) -> Result<Never, StepError> {
    opened.begin(plan)?; // the runtime's descriptors must not be open here
    process::reset_signals(opened.proc());
    oom_score(plan, opened)?; // while our /proc files belong to our own user
    process::set_undumpable().at(Step::EnterUser, 0)?; // no process inside may trace us or open our files
    namespaces::enter(plan, opened)?; // all with one call; the cgroup was set at the clone
    if let Some(root) = &opened.root {
        rustix::process::fchdir(root).at(Step::ChangeToRoot, 0)?;
        rustix::process::chroot(c".").at(Step::ChangeToRoot, 0)?;
    }
    affinity(plan)?; // within the CPUs of the container's cgroup
    if let Some(name) = &plan.keyring {
        identity::join_keyring(name, opened)?;
    }
    opened.own_session()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty()).at(Step::ChangeToRoot, 0)?;
    let terminal = console::open(plan, root.as_fd(), opened)?;
    drop(root);
    identify(plan, opened, terminal)?;
    opened.hold_at(Hold::Waiting);
    report::end();
    if opened.asks.ready {
        // The runtime sets our terminal's size before the program reads it.
        sync::say_plainly(opened.sync.as_fd(), Message::Waiting).at(Step::Sync, 0)?;
        sync::wait_go(opened.sync.as_fd()).at(Step::Sync, 0)?;
    }
    program::exec(plan, opened)
}

fn oom_score(plan: &Plan, opened: &Opened) -> Result<(), StepError> {
    match plan.process.as_ref().and_then(|process| process.oom_score.as_ref()) {
        Some(score) => {
            write_file(opened.proc.as_fd(), c"self/oom_score_adj", score.as_bytes()).at(Step::OomScore, 0)
        }
        None => Ok(()),
    }
}

fn affinity(plan: &Plan) -> Result<(), StepError> {
    let Some(wanted) = plan.process.as_ref().map(|process| &process.exec_affinity) else { return Ok(()) };
    match (&wanted.last, &wanted.initial) {
        (Some(cpus), _) => cred::set_affinity(cpus).at(Step::Affinity, 0),
        // If only `initial` is given, the kernel decides what the cgroup changes in it.
        (None, Some(_)) => Ok(()),
        (None, None) => {
            identity::any_processor();
            Ok(())
        }
    }
}
