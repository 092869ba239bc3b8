//! The likely cause of a step that failed with an ambiguous errno, such as EINVAL.

use super::{MountKind, Plan, Step, StepError};
use crate::error::shortened;
use crate::sys::namespace::Namespace;

/// Maximum length of values of config.json in messages, which may be long.
const SHOWN: usize = 120;

/// The likely cause of namespaces that cannot be created, for which clone(2) and unshare(2) have
/// only an errno.
pub(crate) fn refusal_of_namespaces(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => {
            "may this user create them? see kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
        }
        libc::ENOSPC | libc::EUSERS => {
            "is a limit in /proc/sys/user/max_*_namespaces reached, or are they nested too deep?"
        }
        libc::EAGAIN => "is RLIMIT_NPROC or the cgroup's pids.max reached?",
        _ => return None,
    })
}

impl StepError {
    /// A hint in a few words; `None` if the kernel's error is clear, or the cause is unknown.
    pub(super) fn likely_cause(self, plan: &Plan) -> Option<String> {
        let mapped = plan.namespaces.own(Namespace::User);
        let words = match (self.step, self.errno) {
            (Step::Groups, libc::EINVAL) => "is each of them mapped in linux.gidMappings?",
            (Step::Groups, libc::EPERM) if mapped => {
                "is setgroups(2) denied in the user namespace, /proc/PID/setgroups?"
            }
            (Step::Groups | Step::Gid, libc::EPERM) => "this needs CAP_SETGID",
            (Step::Gid, libc::EINVAL) => "is it mapped in linux.gidMappings?",
            (Step::Uid, libc::EINVAL) => "is it mapped in linux.uidMappings?",
            (Step::Uid, libc::EPERM) => "this needs CAP_SETUID",
            (Step::BoundingSet, libc::EPERM) => "this needs CAP_SETPCAP",
            (Step::Scheduler, libc::EPERM) => {
                "this needs CAP_SYS_NICE; SCHED_DEADLINE also every processor of its root domain"
            }
            (Step::Scheduler, libc::EBUSY) => "the CPUs do not have that much time left for SCHED_DEADLINE",
            (Step::Scheduler, libc::EINVAL) => {
                "is the period within kernel.sched_deadline_period_min_us and _max_us?"
            }
            (Step::IoPriority, libc::EPERM) => "IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN",
            (Step::MemoryPolicy, libc::EINVAL) => {
                "do the host and the cgroup's cpuset.mems have these nodes?"
            }
            (Step::MemoryPolicy, libc::ENOSYS) => "the kernel is built without NUMA",
            (Step::Rlimit, libc::EPERM) => {
                "a higher hard limit needs CAP_SYS_RESOURCE; RLIMIT_NOFILE must not exceed fs.nr_open"
            }
            (Step::Hostname | Step::Domainname, libc::EPERM) if mapped => {
                "does the uts namespace belong to another user namespace?"
            }
            (Step::Seccomp, libc::EBUSY) => {
                "the process has a filter with a listener already; it may have one"
            }
            (Step::UnshareNamespace, errno) => return refusal_of_namespaces(errno).map(str::to_owned),
            (Step::AmbientSet, _) => return Some(plan.ambient(usize::from(self.index))),
            (Step::Sysctl, errno) => return plan.cause_of_sysctl(usize::from(self.index), errno, mapped),
            (Step::Mount, errno) => return plan.cause_of_mount(usize::from(self.index), errno, mapped),
            _ => return None,
        };
        Some(words.to_owned())
    }
}

impl Plan {
    fn ambient(&self, number: usize) -> String {
        let name = caps::all().iter().find(|cap| cap.index() as usize == number).map(ToString::to_string);
        let name = name.unwrap_or_else(|| format!("capability {number}"));
        format!("{name} must be permitted and inheritable, and SECBIT_NO_CAP_AMBIENT_RAISE not set")
    }

    fn cause_of_sysctl(&self, index: usize, errno: i32, mapped: bool) -> Option<String> {
        let (name, value) = self.sysctl.get(index)?;
        let value = shortened(String::from_utf8_lossy(value).trim(), SHOWN).into_owned();
        match errno {
            libc::EINVAL if mapped && name.as_bytes().ends_with(b"/ping_group_range") => {
                Some(format!("is each group of {value:?} mapped in linux.gidMappings?"))
            }
            libc::EINVAL | libc::ERANGE => Some(format!("does the parameter take {value:?}?")),
            libc::ENOENT => Some("does this kernel have the parameter, and is its module loaded?".into()),
            libc::EPERM | libc::EACCES if mapped => {
                Some("does its namespace belong to another user namespace?".into())
            }
            _ => None,
        }
    }

    fn cause_of_mount(&self, index: usize, errno: i32, mapped: bool) -> Option<String> {
        let MountKind::New(new) = &self.rootfs.mounts.get(index)?.kind else { return None };
        let data = new.data.to_string_lossy();
        let has_ids = data.split(',').any(|option| option.starts_with("uid=") || option.starts_with("gid="));
        match errno {
            libc::EINVAL if mapped && has_ids => {
                let data = shortened(&data, SHOWN);
                Some(format!("are the ids in {data:?} mapped in linux.uidMappings and linux.gidMappings?"))
            }
            libc::ENODEV => {
                Some(format!("does this kernel have the file system {}?", new.fstype.to_string_lossy()))
            }
            _ => None,
        }
    }
}
