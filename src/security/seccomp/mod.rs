//! Compiles `linux.seccomp` into classic BPF: validates it, then builds a filter that answers
//! exactly as libseccomp's does, in fewer steps.
//!
//! ```text
//! spec::Seccomp ─words→ Profile (actions as numbers, conditions, architectures)
//!               ─compile→ per architecture: call number → answer, as ranges in a balanced tree
//!               ─emit→ Vec<SockFilter>
//! ```
//!
//! Two answers go beyond the profile. A call newer than all calls in the profile fails with
//! `ENOSYS`, so that a new C library falls back to an older call instead of failing (runc's
//! behaviour since 1.0). A call through an architecture that is not listed kills the thread.
//!
//! This module uses only the profile's type of the other modules, so it serves as a library:
//!
//! ```
//! use emergence_runc::security::seccomp::{Arch, UnknownCalls, compile};
//! use emergence_runc::spec::Seccomp;
//!
//! let profile: Seccomp = serde_json::from_str(
//!     r#"{
//!         "defaultAction": "SCMP_ACT_ERRNO",
//!         "architectures": ["SCMP_ARCH_X86_64"],
//!         "syscalls": [
//!             {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
//!             {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
//!              "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 8}]}
//!         ]
//!     }"#,
//! )?;
//! let filter = compile(&profile, Arch::X86_64, UnknownCalls::LeftOut).expect("a valid profile");
//! assert_eq!(filter.program.len(), 17, "instructions for seccomp(2)");
//!
//! // Each error names its field.
//! let wrong = Seccomp { default_action: "ALLOW".into(), ..Seccomp::default() };
//! let invalid = compile(&wrong, Arch::X86_64, UnknownCalls::LeftOut).unwrap_err();
//! assert_eq!(invalid[0].path, "defaultAction");
//! assert_eq!(invalid[0].reason, "unknown action \"ALLOW\"");
//! # Ok::<(), serde_json::Error>(())
//! ```

mod answer;
mod arch;
mod choice;
mod compile;
mod emit;
mod syscalls;
#[cfg(test)]
mod tests;
mod words;

pub use answer::Call;
pub use arch::{Arch, architectures};
/// One instruction of classic BPF, `struct sock_filter` of linux/filter.h.
pub use libc::sock_filter as SockFilter;
pub use words::{UnknownCalls, actions, flags, operators};

use crate::spec;

/// An invalid field of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The path below `linux.seccomp`, such as `syscalls[3].args[0].op`.
    pub path: String,
    /// Why it is refused.
    pub reason: String,
}

/// A filter, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Filter {
    /// At most 4096 instructions.
    pub program: Vec<SockFilter>,
    /// `SECCOMP_FILTER_FLAG_…` for seccomp(2).
    pub flags: u32,
    /// Present if a rule notifies a listener, that is if `flags` has
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub listener: Option<Listener>,
    /// Parts of the profile that were left out of the filter, as messages for the log.
    pub warnings: Vec<String>,
}

/// The process that answers calls with `SCMP_ACT_NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unix socket that receives the listener's file descriptor; empty if config.json names none.
    pub path: String,
    /// Passed on as written.
    pub metadata: String,
    /// Path of a name in the profile that notifies the listener of sendmsg(2), which also passes
    /// file descriptors. The process that loads the filter then cannot send the listener itself.
    pub asks_about_sending: Option<String>,
}

/// Compiles `profile` for a machine whose native architecture is `native`.
///
/// * Names that no architecture has are treated as `unknown` says (the annotation
///   `run.oci.seccomp_fail_unknown_syscall`).
/// * Rules whose action is the default action are left out, as runc does.
/// * If several rules for one call hold, the rule decides that libseccomp's filter selects: the
///   first without conditions; otherwise conditions on later arguments come before those on earlier
///   ones, values before ranges, higher values before lower ones.
/// * A profile without a list of flags has `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, as with runc and crun.
/// * If a rule has several conditions on one argument, its conditions are alternatives, as in runc.
/// * `listenerPath` is not required: the caller may know another receiver.
///
/// Errors list all invalid fields. Spec: runtime-spec config-linux.md, "Seccomp"; kernel: seccomp(2),
/// linux/seccomp.h.
pub fn compile(
    profile: &spec::Seccomp,
    native: Arch,
    unknown: UnknownCalls,
) -> Result<Filter, Vec<InvalidField>> {
    let (profile, warnings) = words::judge(profile, native, unknown)?;
    let program = compile::program(&profile).ok_or_else(|| {
        let reason = format!("the filter needs more than {} instructions", emit::LONGEST);
        vec![InvalidField { path: "syscalls".to_owned(), reason }]
    })?;
    Ok(Filter { program, flags: profile.flags, listener: profile.listener, warnings })
}
