//! The steps of the container's process; a failed one is eight bytes from the child, formatted as
//! text in the parent.

use super::Plan;
use crate::error::errno_words;
use crate::sys::report;

/// Everything that can fail between clone and exec, roughly in execution order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // `Plan::describe` has the texts
pub enum Step {
    Sync,
    JoinNamespace,
    /// Joining the namespaces of the container's process.
    JoinContainer,
    UnshareNamespace,
    TimeOffsets,
    EnterUser,
    Keyring,
    Session,
    Loopback,
    Hostname,
    Domainname,
    Propagation,
    RootBind,
    ParentPropagation,
    MountTarget,
    MountOnLink,
    NothingMounted,
    MountSource,
    Mount,
    MountAttributes,
    MountPropagation,
    CopyUp,
    CgroupMount,
    DeviceDirectory,
    Device,
    DeviceTaken,
    DeviceOfHost,
    DeviceLink,
    ConsoleOpen,
    ConsoleSend,
    ConsoleMount,
    ConsoleAttach,
    HookSpawn,
    HookExit,
    HookSignal,
    HookTimeout,
    KernelDirectory,
    MaskedPath,
    ReadonlyPath,
    ChangeToRoot,
    Pivot,
    HideKernelDirectories,
    MoveRoot,
    RootPropagation,
    RootReadonly,
    MountReadonly,
    EnterContainer,
    Unmount,
    MakeCwd,
    Sysctl,
    Affinity,
    Scheduler,
    IoPriority,
    MemoryPolicy,
    Personality,
    OomScore,
    Rlimit,
    Apparmor,
    Selinux,
    NoNewPrivileges,
    Seccomp,
    SeccompListener,
    BoundingSet,
    KeepCapabilities,
    Groups,
    Gid,
    Uid,
    Capabilities,
    AmbientSet,
    Cwd,
    CwdOutside,
    LookUpMissing,
    LookUpDenied,
    LookUpDirectory,
    LookUpStat,
    Descriptors,
    OwnProgram,
    Exec,
}

/// All steps, by their numbers.
const ALL: &[Step] = &[
    Step::Sync,
    Step::JoinNamespace,
    Step::JoinContainer,
    Step::UnshareNamespace,
    Step::TimeOffsets,
    Step::EnterUser,
    Step::Keyring,
    Step::Session,
    Step::Loopback,
    Step::Hostname,
    Step::Domainname,
    Step::Propagation,
    Step::RootBind,
    Step::ParentPropagation,
    Step::MountTarget,
    Step::MountOnLink,
    Step::NothingMounted,
    Step::MountSource,
    Step::Mount,
    Step::MountAttributes,
    Step::MountPropagation,
    Step::CopyUp,
    Step::CgroupMount,
    Step::DeviceDirectory,
    Step::Device,
    Step::DeviceTaken,
    Step::DeviceOfHost,
    Step::DeviceLink,
    Step::ConsoleOpen,
    Step::ConsoleSend,
    Step::ConsoleMount,
    Step::ConsoleAttach,
    Step::HookSpawn,
    Step::HookExit,
    Step::HookSignal,
    Step::HookTimeout,
    Step::KernelDirectory,
    Step::MaskedPath,
    Step::ReadonlyPath,
    Step::ChangeToRoot,
    Step::Pivot,
    Step::HideKernelDirectories,
    Step::MoveRoot,
    Step::RootPropagation,
    Step::RootReadonly,
    Step::MountReadonly,
    Step::EnterContainer,
    Step::Unmount,
    Step::MakeCwd,
    Step::Sysctl,
    Step::Affinity,
    Step::Scheduler,
    Step::IoPriority,
    Step::MemoryPolicy,
    Step::Personality,
    Step::OomScore,
    Step::Rlimit,
    Step::Apparmor,
    Step::Selinux,
    Step::NoNewPrivileges,
    Step::Seccomp,
    Step::SeccompListener,
    Step::BoundingSet,
    Step::KeepCapabilities,
    Step::Groups,
    Step::Gid,
    Step::Uid,
    Step::Capabilities,
    Step::AmbientSet,
    Step::Cwd,
    Step::CwdOutside,
    Step::LookUpMissing,
    Step::LookUpDenied,
    Step::LookUpDirectory,
    Step::LookUpStat,
    Step::Descriptors,
    Step::OwnProgram,
    Step::Exec,
];

impl Step {
    /// The step with this number, if it exists.
    pub fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }

    /// Whether a hook in the container ran and failed: its output is then reported too.
    pub fn is_failed_hook(self) -> bool {
        matches!(self, Step::HookExit | Step::HookSignal | Step::HookTimeout)
    }
}

/// The only data that the child sends: it owns no heap memory, so sending it cannot fail half way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepError {
    /// The failed step.
    pub step: Step,
    /// The index into the plan, if the step has several.
    pub index: u16,
    /// The errno; for hooks the exit status or signal.
    pub errno: i32,
}

impl StepError {
    /// A system call error.
    pub fn of(step: Step, index: usize, error: &std::io::Error) -> Self {
        Self::new(step, index, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The fault with this errno.
    pub fn new(step: Step, index: usize, errno: i32) -> Self {
        Self { step, index: short(index), errno }
    }

    /// Formats the message, in the parent, from the plan that both sides share: `mount proc on
    /// /proc (mounts[2]): operation not permitted`.
    pub fn explain(self, plan: &Plan) -> String {
        let doing = plan.describe(self.step, usize::from(self.index));
        match self.step {
            Step::HookExit => format!("{doing}: exit status {}", self.errno),
            Step::HookSignal => format!("{doing}: killed by signal {}", self.errno),
            Step::HookTimeout
            | Step::MountOnLink
            | Step::NothingMounted
            | Step::LookUpMissing
            | Step::LookUpDenied
            | Step::LookUpDirectory => doing,
            Step::TimeOffsets if self.errno == libc::EINVAL => {
                "create a time namespace (linux.namespaces), which Linux has since 5.6".into()
            }
            // Every other call that older kernels lack here has a fallback.
            Step::MountAttributes | Step::CgroupMount | Step::Mount | Step::ReadonlyPath
                if self.errno == libc::ENOSYS =>
            {
                format!(
                    "{doing}: not all mounts below can be reached without mount_setattr(2), which Linux has since 5.12"
                )
            }
            Step::Mount if self.errno == libc::EINVAL && self.likely_cause(plan).is_none() => {
                let hint =
                    plan.options_of(usize::from(self.index)).map_or_else(String::new, |(fstype, options)| {
                        format!("; does {fstype} accept its options {options}?")
                    });
                format!("{doing}: {}{hint}", errno_words(self.errno))
            }
            Step::MountAttributes if self.errno == libc::EPERM => {
                format!(
                    "{doing}: {}; in a user namespace the kernel keeps ro, nosuid, nodev, noexec and access times of the host's mounts",
                    errno_words(self.errno)
                )
            }
            // umount(2) has no other errno for it.
            Step::Unmount if self.errno == libc::EINVAL => format!("{doing}: nothing is mounted there"),
            Step::CwdOutside => format!("{doing}: possible container breakout detected"),
            _ => {
                let answer = errno_words(self.errno);
                match self.likely_cause(plan) {
                    Some(cause) => format!("{doing}: {answer} ({cause})"),
                    None => format!("{doing}: {answer}"),
                }
            }
        }
    }
}

/// A system call's result, with its step in the plan. Successful steps are reported too if the
/// runtime has asked for it.
pub trait At<T> {
    /// Adds the step and index to an error.
    fn at(self, step: Step, index: usize) -> Result<T, StepError>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: Step, index: usize) -> Result<T, StepError> {
        self.inspect(|_| report::done(step as u8, short(index)))
            .map_err(|error| StepError::of(step, index, &error))
    }
}

impl<T> At<T> for Result<T, rustix::io::Errno> {
    fn at(self, step: Step, index: usize) -> Result<T, StepError> {
        self.inspect(|_| report::done(step as u8, short(index)))
            .map_err(|errno| StepError::new(step, index, errno.raw_os_error()))
    }
}

/// An index as a message carries it, used only for texts. Indexes above 65535 are all reported as
/// 65535.
fn short(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for (number, step) in ALL.iter().enumerate() {
            assert_eq!(*step as usize, number);
        }
        assert_eq!(ALL.last(), Some(&Step::Exec));
        assert_eq!(Step::from_number(ALL.len() as u8), None);
    }
}
