//! Descriptors that need not be closed one by one, as all are closed together later.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Resource, getrlimit};

/// Descriptors below this number are left open by [`close_later`].
static LEFT_OPEN_BELOW: AtomicI32 = AtomicI32::new(0);

/// Lets [`close_later`] leave descriptors open in this process. It must call
/// [`super::fd::close_others`] before it executes a program, or waits to be told to. At most 64
/// stay open, and none if the limit of open files is low.
pub fn leave_some_open() {
    const ENOUGH: u64 = 128;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= ENOUGH) {
        LEFT_OPEN_BELOW.store(64, Ordering::Relaxed);
    }
}

/// Closes a descriptor, or after [`leave_some_open`] leaves it to [`super::fd::close_others`],
/// which needs one call for all.
pub fn close_later(file: impl Into<Option<OwnedFd>>) {
    let left = LEFT_OPEN_BELOW.load(Ordering::Relaxed);
    if let Some(file) = file.into().filter(|file| file.as_raw_fd() < left) {
        let _ = file.into_raw_fd();
    }
}
