//! The known escapes from containers, each played by an attacker: docs/security.md lists them. For
//! each defence tests/mutations has a patch that takes it out, and `hack/mutants` shows that the
//! test then fails. An attack then succeeds: it may only aim at what is the test's own, or at what
//! stays as it is.

mod actor;
mod descriptors;
mod devices;
mod entering;
mod identity;
mod kernel;
mod links;
mod mounts;
mod program;
mod races;
mod terminal;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::support::Bundle;

/// More parents than any test directory is deep.
const UP: &str = "../../../../../../../../../..";

/// The three sets in which a process has these capabilities.
fn capabilities(names: &[&str]) -> Value {
    json!({"bounding": names, "permitted": names, "effective": names})
}

/// Somebody outside of the container who shares a directory with it: `one` and `other` change
/// places all the time, until this is dropped.
struct Exchange {
    over: Arc<AtomicBool>,
    at_work: Option<JoinHandle<u32>>,
}

impl Exchange {
    fn of(one: &Path, other: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (one, other, ends) = (one.to_owned(), other.to_owned(), Arc::clone(&over));
        let work = move || {
            let mut count = 0;
            // An even number, so that both end where they were.
            while !ends.load(Ordering::Relaxed) || count % 2 == 1 {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("exchange two names");
                count += 1;
            }
            count
        };
        Self { over, at_work: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let count = self.at_work.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(count.is_some_and(|count| count.is_ok_and(|count| count > 0)), "nothing was exchanged");
        }
    }
}

/// The bundle without what `spec` mounts on /dev and below it: the image's own /dev then counts.
fn with_dev_of_image(bundle: Bundle) -> Bundle {
    ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"].into_iter().fold(bundle, Bundle::without_mount)
}
