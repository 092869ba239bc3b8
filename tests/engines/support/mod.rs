//! Support for every test of an engine: the runtime, calls of programs, and a check for leftovers.

mod call;
mod left;

pub(crate) use call::{Output, call, shell, terminal};
pub(crate) use left::nothing_left;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest a test waits for something that should happen soon, on an emulated machine that may be a
/// busy one.
const PATIENCE: Duration = Duration::from_secs(200);

/// The runtime that an engine is configured to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Debian's crun: the control.
    Crun,
    /// This project's, where the engines of the test machine expect it.
    Ours,
}

impl Runtime {
    /// The name that the engines' configuration knows it by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Ours => "emergence-runc",
        }
    }

    /// Where it is.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Crun => "/usr/bin/crun",
            Self::Ours => "/usr/local/bin/emergence-runc",
        }
    }
}

/// Whether this is the test machine; says where the test runs when it is not.
pub(crate) fn in_machine() -> bool {
    let machine = std::env::var_os("EMERGENCE_TEST_MACHINE").is_some();
    if !machine {
        println!("skipped: runs in the test machine (hack/vm/test)");
    }
    machine
}

/// A name that no other container has.
pub(crate) fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Asks again and again until `done`, and fails the test with `what` when that takes too long.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Makes two tests of each function: `NAME::crun` and `NAME::ours`. `$world` makes what the
/// function takes from the runtime.
macro_rules! on_both {
    ($world:expr; $($name:ident)*) => { $(
        mod $name {
            #[allow(unused_imports)] // what `$world` names, if it names anything
            use super::*;

            #[test]
            fn crun() {
                if $crate::support::in_machine() {
                    super::$name(&$world($crate::support::Runtime::Crun));
                }
            }

            #[test]
            fn ours() {
                if $crate::support::in_machine() {
                    super::$name(&$world($crate::support::Runtime::Ours));
                }
            }
        }
    )* };
}
pub(crate) use on_both;
