//! First stage after the clone: closes the runtime's descriptors, and makes this process end with
//! the runtime.
//!
//! The kernel sends the death signal only for a parent that ends after prctl(2) requested it. A
//! runtime killed before that is detected by its end of the conversation, which is closed by then:
//! exit(2) closes descriptors before it signals children. So the order is: close the inherited copy
//! of that end, request the signal, check the end. No heap.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::Beginning;
use crate::plan::{At, Step, StepError};
use crate::sys::mount::Procfs;
use crate::sys::{fd, process};

/// Closes all descriptors from 3 up except those in the lists `own`, which are closed by the next
/// execve, and calls [`end_with_runtime`].
///
/// # Safety
/// Nothing in this process may use or drop a descriptor that is not in `own`.
pub(super) unsafe fn begin(
    beginning: Beginning,
    sync: BorrowedFd<'_>,
    own: [&[u32]; 2],
    proc: Procfs<'_>,
) -> Result<(), StepError> {
    match beginning {
        // SAFETY: the caller guarantees the same.
        Beginning::Cloned => unsafe { fd::close_others(3, own, proc) },
        Beginning::Executed => fd::close_on_exec_from(3),
    }
    .at(Step::Descriptors, 0)?;
    end_with_runtime(sync)
}

/// Requests SIGKILL for when the runtime ends; an error if it has ended. `sync`: this process's end
/// of the conversation.
///
/// A change of credentials clears it (prctl(2), PR_SET_PDEATHSIG): call this again after each.
pub(super) fn end_with_runtime(sync: BorrowedFd<'_>) -> Result<(), StepError> {
    process::die_with_parent(true).at(Step::Sync, 0)?;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut peer = [PollFd::from_borrowed_fd(sync.as_fd(), PollFlags::empty())];
        match rustix::event::poll(&mut peer, Some(&now)) {
            Err(Errno::INTR) => {}
            // With no event requested, only a hang-up is reported.
            Ok(0) => return Ok(()),
            Ok(_) => return Err(Errno::PIPE).at(Step::Sync, 0),
            Err(error) => return Err(error).at(Step::Sync, 0),
        }
    }
}
