//! Locks that are waited for, but not for ever.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::Error;

/// How often we look whether a lock is free.
const LOOK: Duration = Duration::from_millis(10);

/// Takes the lock together with others.
pub(super) fn shared(file: &impl AsFd, folder: &Path, wait: Duration) -> Result<()> {
    take(file, FlockOperation::NonBlockingLockShared, folder, wait)
}

/// Takes the lock alone. A shared one that this file had is given up meanwhile.
pub(super) fn exclusive(file: &impl AsFd, folder: &Path, wait: Duration) -> Result<()> {
    take(file, FlockOperation::NonBlockingLockExclusive, folder, wait)
}

fn take(file: &impl AsFd, how: FlockOperation, folder: &Path, wait: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if began.elapsed() < wait => std::thread::sleep(LOOK.min(wait)),
            Err(Errno::WOULDBLOCK) => {
                let words = format!("another process has kept it locked for {wait:?}");
                return Err(Fault::refused(Code::StoreLocked, folder.display().to_string(), words));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::from(error).within(format!("lock {}", folder.display())).into()),
        }
    }
}
