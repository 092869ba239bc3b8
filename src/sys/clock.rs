//! Time as poll(2) and similar calls take it.

use std::time::Instant;

use rustix::event::Timespec;

/// The time left until `end`; 0 if that has passed.
pub fn left(end: Instant) -> Timespec {
    let left = end.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
}
