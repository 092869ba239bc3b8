//! Descriptors that the caller passes to the program: --preserve-fds and socket activation,
//! sd_listen_fds(3).

use std::os::fd::AsFd;

use crate::error::{Doing, Result};
use crate::plan::passed::{Listen, Passed};
use crate::sys::{fd, process};

/// The descriptors that the caller passes on: the sockets of systemd's protocol, then `preserve`
/// more numbers. Closed numbers are skipped. All others of the caller are marked close-on-exec.
///
/// Call it before the runtime opens anything that stays open across execve: that is how the
/// caller's descriptors are recognized.
pub(crate) fn passed(preserve: u32) -> Result<Passed> {
    let listen = listening();
    let count = listen.as_ref().map_or(0, |listen| listen.count).saturating_add(preserve);
    let mut descriptors = Vec::new();
    if count > 0 {
        let last = 2u32.saturating_add(count);
        fd::each_inherited(3, last, |number| descriptors.push(number))
            .doing(|| "list inherited descriptors")?;
        descriptors.sort_unstable();
    }
    fd::close_on_exec_from(3).doing(|| "mark inherited descriptors close-on-exec")?;
    Ok(Passed { descriptors, listen })
}

/// The sockets that systemd's protocol passes to this process.
fn listening() -> Option<Listen> {
    let variable = |name: &str| std::env::var(name).ok();
    let own = || (process::own_pid(), own_pidfd_id());
    addressed(variable, own)
}

/// As sd_listen_fds(3): the variables count only if they name this process. Every process that a
/// socket-activated service starts inherits them, and its descriptor 3 may be any file.
fn addressed(
    variable: impl Fn(&str) -> Option<String>,
    own: impl FnOnce() -> (i32, Option<u64>),
) -> Option<Listen> {
    let pid: i32 = variable("LISTEN_PID")?.parse().ok()?;
    let count: u32 = variable("LISTEN_FDS")?.parse().ok()?;
    let (own_pid, own_id) = own();
    let other_process = match (variable("LISTEN_PIDFDID"), own_id) {
        // A PID is reused; the inode number of a pidfd is not.
        (Some(id), Some(own_id)) => id.parse() != Ok(own_id),
        _ => false,
    };
    let most = i32::MAX.unsigned_abs() - 3;
    let valid = pid == own_pid && !other_process && (1..=most).contains(&count);
    valid.then(|| Listen { count, names: variable("LISTEN_FDNAMES") })
}

/// The inode number of a pidfd of this process, which no other process ever has. `None`: all pidfds
/// share one inode (kernels before 6.9).
fn own_pidfd_id() -> Option<u64> {
    /// The type of pidfs, statfs(2).
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    let pidfd = process::pidfd_open(process::own_pid()).ok()?;
    let unique = rustix::fs::fstatfs(pidfd.as_fd()).is_ok_and(|found| found.f_type as u64 == PIDFS_MAGIC);
    if unique { rustix::fs::fstat(&pidfd).ok().map(|stat| stat.st_ino) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_count_only_if_they_name_this_process() {
        type Variables = &'static [(&'static str, &'static str)];
        let table: [(Variables, Option<u32>); 12] = [
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2")], Some(2)),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_PIDFDID", "99")], Some(2)),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_PIDFDID", "98")], None),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_PIDFDID", "x")], None),
            (&[("LISTEN_PID", "8"), ("LISTEN_FDS", "2")], None),
            (&[("LISTEN_PID", "1"), ("LISTEN_FDS", "2")], None),
            (&[("LISTEN_PID", ""), ("LISTEN_FDS", "2")], None),
            (&[("LISTEN_FDS", "2")], None),
            (&[("LISTEN_PID", "7")], None),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")], None),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")], None),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "4294967295")], None),
        ];
        for (variables, want) in table {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(
                addressed(variable, || (7, Some(99))).map(|listen| listen.count),
                want,
                "{variables:?}"
            );
        }
        let older = |name: &str| Some(if name == "LISTEN_PIDFDID" { "98" } else { "7" }.to_owned());
        assert_eq!(addressed(older, || (7, None)).map(|listen| listen.count), Some(7), "an older kernel");
    }
}
