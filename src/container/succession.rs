//! Puts a process among others that may trace it (CVE-2016-9962): by a successor, created as late
//! as its plan allows.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::process::Resource;

use super::hooks::poll_until;
use super::pid::ProcessId;
use crate::error::{Doing, Error, Kind, Result};
use crate::init::{Moment, Origin, Succession, calls_of_successor, procfs};
use crate::plan::Plan;
use crate::security::seccomp::{self, Arch, UnknownCalls};
use crate::spec;
use crate::sys::seccomp::SockFilter;

impl Succession {
    /// A succession for the program of `plan`, into the pid namespace of the file `namespace`,
    /// which comes from `origin`.
    pub fn into(namespace: OwnedFd, origin: Origin, plan: &Plan) -> Result<Self> {
        let mounts = !plan.rootfs.mounts.is_empty();
        let filter = if mounts { procfs_filter()? } else { Vec::new() };
        Ok(Self { namespace: Some(namespace), origin, moment: moment(plan), filter })
    }
}

/// When the successor takes over. The later it happens, the less an attacker gains.
fn moment(plan: &Plan) -> Moment {
    let Some(process) = &plan.process else { return Moment::BeforeLimits };
    let not_inherited = process.scheduler.as_ref().is_some_and(|wanted| {
        wanted.policy == libc::SCHED_DEADLINE as u32
            || wanted.flags & libc::SCHED_FLAG_RESET_ON_FORK as u64 != 0
    });
    let counted = process.rlimits.iter().any(|(resource, ..)| *resource == Resource::Nproc);
    if not_inherited || counted {
        return Moment::BeforeLimits;
    }
    match &plan.seccomp {
        // With no_new_privs, loading a filter needs no privilege, so it comes last.
        Some(filter) if !process.no_new_privileges => {
            let silent = filter.listener.is_none() && filter.lets_through(&calls_of_successor());
            if silent { Moment::Last } else { Moment::BeforeFilter }
        }
        _ => Moment::Last,
    }
}

/// The pid namespace of a container, from its process and the process's pidfd.
pub(crate) fn pid_namespace(init: &ProcessId, pidfd: &OwnedFd) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/pid", init.pid);
    let file = File::open(&path).map(OwnedFd::from);
    // The PID lookup was right if the process still lives. (A signal would need permission.)
    if poll_until(pidfd.as_fd(), Some(Instant::now())).doing(|| "poll a pidfd")? {
        return Err(Error::new(Kind::State, "container not running"));
    }
    file.doing(|| format!("open {path}"))
}

/// The filter of the helper that opens a procfs among processes that may trace it.
pub(crate) fn procfs_filter() -> Result<Vec<SockFilter>> {
    let profile = spec::Seccomp {
        default_action: "SCMP_ACT_KILL_PROCESS".into(),
        syscalls: vec![spec::SeccompRule {
            names: procfs::CALLS.map(String::from).into(),
            action: "SCMP_ACT_ALLOW".into(),
            ..spec::SeccompRule::default()
        }],
        ..spec::Seccomp::default()
    };
    let compiled =
        Arch::native().and_then(|native| seccomp::compile(&profile, native, UnknownCalls::LeftOut).ok());
    let words = "a pid namespace of other processes cannot be joined on this architecture: it has no system call filters";
    compiled.map(|filter| filter.program).ok_or_else(|| Error::new(Kind::Unsupported, words))
}
