//! Decides when a program is restarted, and which others with it. Source: Erlang/OTP, "Supervisor
//! Behaviour".

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::spec::group::{ProgramGroup, Restart, Strategy};
use crate::sys::process::Exit;

/// Whether an exit triggers a restart.
pub(super) fn wants_restart(restart: Restart, exit: Exit) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => exit != Exit::Code(0),
        Restart::Temporary => false,
    }
}

/// The members that are ended and restarted when `one` of `group` is, including those that still
/// run. Temporary members are only ended.
pub(super) fn concerned(group: &ProgramGroup, one: usize) -> Range<usize> {
    match group.strategy {
        Strategy::OneForOne => one..one + 1,
        Strategy::OneForAll => 0..group.members.len(),
        Strategy::RestForOne => one..group.members.len(),
    }
}

/// Counts recent restarts.
#[derive(Debug, Default)]
pub(super) struct Intensity(VecDeque<Instant>);

impl Intensity {
    /// Counts a restart at `now`. Returns whether it is within the limit.
    pub(crate) fn allows(&mut self, group: &ProgramGroup, now: Instant) -> bool {
        let span = Duration::from_secs(group.seconds.into());
        while self.0.front().is_some_and(|first| now.saturating_duration_since(*first) > span) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= group.restarts as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::group::Member;

    fn group(strategy: Strategy) -> ProgramGroup {
        let member =
            |name: &str| Member { name: name.into(), args: vec!["/x".into()], restart: Restart::Permanent };
        let members = ["a", "b", "c"].map(member).into();
        ProgramGroup { strategy, restarts: 2, seconds: 5, stop_signal: 15, grace: 1, members }
    }

    #[test]
    fn restarted_members() {
        let (fine, bad, killed) = (Exit::Code(0), Exit::Code(1), Exit::Signal(9));
        let table = [
            (Restart::Permanent, [true, true, true]),
            (Restart::Transient, [false, true, true]),
            (Restart::Temporary, [false, false, false]),
        ];
        for (restart, want) in table {
            assert_eq!([fine, bad, killed].map(|exit| wants_restart(restart, exit)), want, "{restart:?}");
        }
        assert_eq!(concerned(&group(Strategy::OneForOne), 1), 1..2);
        assert_eq!(concerned(&group(Strategy::OneForAll), 1), 0..3);
        assert_eq!(concerned(&group(Strategy::RestForOne), 1), 1..3);
    }

    #[test]
    fn parsing_stops_at_the_limit() {
        let (group, start) = (group(Strategy::OneForOne), Instant::now());
        let mut intensity = Intensity::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let table = [(0, true), (1, true), (2, false), (7, true), (8, true), (9, false), (60, true)];
        for (seconds, want) in table {
            assert_eq!(intensity.allows(&group, at(seconds)), want, "{seconds}");
        }
        let never = ProgramGroup { restarts: 0, ..group };
        assert!(!Intensity::default().allows(&never, start));
    }
}
