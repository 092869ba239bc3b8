//! Locks with a limit on the waiting time.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::Error;

/// Poll interval for a lock.
const LOOK: Duration = Duration::from_millis(10);

/// Takes the shared lock.
pub(super) fn shared(file: &impl AsFd, directory: &Path, wait: Duration) -> Result<()> {
    take(file, FlockOperation::NonBlockingLockShared, directory, wait)
}

/// Takes the exclusive lock. A shared lock that this file holds is released meanwhile.
pub(super) fn exclusive(file: &impl AsFd, directory: &Path, wait: Duration) -> Result<()> {
    take(file, FlockOperation::NonBlockingLockExclusive, directory, wait)
}

fn take(file: &impl AsFd, how: FlockOperation, directory: &Path, wait: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if began.elapsed() < wait => std::thread::sleep(LOOK.min(wait)),
            Err(Errno::WOULDBLOCK) => {
                let words = format!("another process has kept it locked for {wait:?}");
                return Err(Fault::refused(Code::StoreLocked, directory.display().to_string(), words));
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Error::from(error).within(format!("lock {}", directory.display())).into());
            }
        }
    }
}
