//! Texts for successful steps, printed by `--debug`, from the plan that the child executes.

use super::{Plan, Step};
use crate::sys::namespace::Namespace;

/// The log level of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// For users who look for the reason why a container does not start.
    Debug,
    /// For users who look for time spent: parts of a step that is reported anyway, and waiting.
    Trace,
}

impl Step {
    /// `None`: its success is not reported, because it only checks something.
    fn detail(self) -> Option<Detail> {
        match self {
            Step::CwdOutside
            | Step::DeviceTaken
            | Step::HookExit
            | Step::HookSignal
            | Step::HookTimeout
            | Step::KernelDirectory
            | Step::LookUpMissing
            | Step::LookUpDenied
            | Step::LookUpDirectory
            | Step::LookUpStat
            | Step::Exec => None,
            Step::Sync
            | Step::Session
            | Step::ParentPropagation
            | Step::MountTarget
            | Step::MountSource
            | Step::MountAttributes
            | Step::MountPropagation
            | Step::DeviceDirectory
            | Step::ConsoleSend
            | Step::ChangeToRoot
            | Step::EnterContainer
            | Step::MakeCwd
            | Step::KeepCapabilities
            | Step::Descriptors
            | Step::OwnProgram => Some(Detail::Trace),
            _ => Some(Detail::Debug),
        }
    }
}

impl Plan {
    /// The text for the step with this index. `None`: nothing worth reporting.
    pub fn success_text(&self, step: Step, index: u16) -> Option<(Detail, String)> {
        let detail = step.detail()?;
        if step == Step::EnterUser && !self.namespaces.own(Namespace::User) {
            return None; // it is root already
        }
        let words = match step {
            Step::Cwd => {
                let cwd = self.process.as_ref().map(|process| process.cwd.to_string_lossy().into_owned());
                format!("change to the working directory {}", cwd.unwrap_or_default())
            }
            // The error's text without "error".
            Step::HookSpawn => self
                .describe(step, usize::from(index))
                .trim_start_matches("error running")
                .replacen(' ', "run ", 1),
            Step::Sync => "go on after the runtime's answer".into(),
            _ => self.describe(step, usize::from(index)),
        };
        Some((detail, without_advice(words)))
    }
}

/// Removes the advice in brackets at the end of an error. Brackets without a space contain a JSON
/// path, not advice.
fn without_advice(mut words: String) -> String {
    let advice = words
        .rfind(" (")
        .filter(|at| words.ends_with(')') && words.get(at + 2..).is_some_and(|inside| inside.contains(' ')));
    if let Some(at) = advice {
        words.truncate(at);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_for_errors() {
        let table = [
            ("mount proc on /proc (mounts[0])", "mount proc on /proc (mounts[0])"),
            ("pivot_root (on a ramfs root, use --no-pivot)", "pivot_root"),
            ("set process.apparmorProfile (is the profile loaded?)", "set process.apparmorProfile"),
            ("start a session", "start a session"),
        ];
        for (words, want) in table {
            assert_eq!(without_advice(words.to_owned()), want);
        }
    }
}
