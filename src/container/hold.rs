//! Test hook: stops the runtime at a named step, to be killed there: EMERGENCE_RUNC_HOLD=STEP.
//! Debug builds only.

use crate::init::Hold;

/// Stops this process (SIGSTOP) if the variable names `step`.
#[cfg(debug_assertions)]
pub(crate) fn stop_at(step: &str) {
    if std::env::var("EMERGENCE_RUNC_HOLD").is_ok_and(|wanted| wanted == step) {
        let own = rustix::process::getpid();
        // A failure cannot be reported to the test.
        let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
    }
}

/// Does nothing: a release build has no such steps.
#[cfg(not(debug_assertions))]
pub(crate) fn stop_at(_: &str) {}

/// Test hook: the step at which the container's process blocks until it is killed.
#[cfg(debug_assertions)]
pub(crate) fn in_child() -> Option<Hold> {
    match std::env::var("EMERGENCE_RUNC_HOLD").ok()?.as_str() {
        "child-cloned" => Some(Hold::Cloned),
        "child-mounts" => Some(Hold::Mounts),
        "child-pivot" => Some(Hold::Pivot),
        "child-waiting" => Some(Hold::Waiting),
        _ => None,
    }
}

/// `None`: a release build has no such steps.
#[cfg(not(debug_assertions))]
pub(crate) fn in_child() -> Option<Hold> {
    None
}
