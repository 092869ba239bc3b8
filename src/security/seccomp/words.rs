//! Validates the names in a profile: actions, operators, architectures and flags become numbers.
//! An unknown name is a fault with its path.

use std::fmt::{self, Display};

use super::arch::{self, Arch, NamedArch};
use super::syscalls::{Finder, Name};
use super::{InvalidField, Listener};
use crate::spec;

/// Actions, seccomp(2): the name, the kernel's `SECCOMP_RET_…`, the maximum of its data.
const ACTION_WORDS: [(&str, u32, Option<u32>); 9] = [
    ("SCMP_ACT_KILL", 0x0000_0000, None),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000, None),
    ("SCMP_ACT_KILL_THREAD", 0x0000_0000, None),
    ("SCMP_ACT_TRAP", 0x0003_0000, None),
    ("SCMP_ACT_ERRNO", ERRNO, Some(MAX_ERRNO)),
    ("SCMP_ACT_TRACE", TRACE, Some(0xffff)),
    ("SCMP_ACT_ALLOW", 0x7fff_0000, None),
    ("SCMP_ACT_LOG", 0x7ffc_0000, None),
    ("SCMP_ACT_NOTIFY", 0x7fc0_0000, None),
];
/// The kernel's maximum errno, linux/err.h; it replaces higher ones by this.
const MAX_ERRNO: u32 = 4095;

/// Kills the thread: the answer for an architecture that is not listed.
pub(super) const KILL: u32 = 0x0000_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
/// The action without its data.
const ACTION: u32 = 0xffff_0000;
/// The answer to calls newer than the profile.
pub(super) const NO_SUCH_CALL: u32 = ERRNO | libc::ENOSYS as u32;

const OPERATOR_WORDS: [(&str, Operator); 7] = [
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Below),
    ("SCMP_CMP_LE", Operator::AtMost),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::AtLeast),
    ("SCMP_CMP_GT", Operator::Above),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

const FLAG_WORDS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    (WAIT_KILLABLE_WORD, WAIT_KILLABLE),
];
const WAIT_KILLABLE_WORD: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
const TSYNC: u32 = 1;
/// Set if a profile has no list of flags, as by runc and crun: the filter then does not enable
/// speculation mitigations.
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;
const WAIT_KILLABLE: u32 = 1 << 5;

/// The names of all actions.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTION_WORDS.iter().map(|(word, ..)| *word)
}

/// The names of all operators.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATOR_WORDS.iter().map(|(word, _)| *word)
}

/// The names of all flags.
pub fn flags() -> impl Iterator<Item = &'static str> {
    FLAG_WORDS.iter().map(|(word, _)| *word)
}

/// An unsigned comparison of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operator {
    NotEqual,
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
    MaskedEqual,
}

/// One comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) operator: Operator,
    /// All ones except for [`Operator::MaskedEqual`].
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// An action for one call if all conditions hold.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: Name,
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
}

/// A profile converted to numbers.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) default: u32,
    /// The native architecture first, without duplicates.
    pub(super) architectures: Vec<Arch>,
    pub(super) rules: Vec<Rule>,
    /// All calls that the profile names, also with the default action.
    pub(super) named: Vec<Name>,
    pub(super) flags: u32,
    pub(super) listener: Option<Listener>,
}

impl Profile {
    /// Whether calls newer than the profile get `ENOSYS`: not if they would be allowed (a tracer
    /// can refuse them itself), and not if the default action is `ENOSYS` already.
    pub(super) fn hides_new_calls(&self) -> bool {
        !matches!(self.default & ACTION, ALLOW | LOG | TRACE) && self.default != NO_SUCH_CALL
    }
}

/// How names of system calls are treated that no architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCalls {
    /// Left out of the filter, with a warning.
    LeftOut,
    /// A fault.
    Refused,
}

/// A field's path, built only for a fault.
type Place<'a> = fmt::Arguments<'a>;

/// Faults and warnings found so far.
#[derive(Default)]
struct Judge {
    faults: Vec<InvalidField>,
    warnings: Vec<String>,
}

/// Converts the names to numbers, with warnings about calls that cannot be filtered.
pub(super) fn judge(
    profile: &spec::Seccomp,
    native: Arch,
    unknown: UnknownCalls,
) -> Result<(Profile, Vec<String>), Vec<InvalidField>> {
    let mut judge = Judge::default();
    let default = judge.action(
        &profile.default_action,
        profile.default_errno_ret,
        (format_args!("defaultAction"), format_args!("defaultErrnoRet")),
    );
    if default & ACTION == NOTIFY {
        judge.fault(
            "defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action: the listener itself would wait for an answer",
        );
    }
    let architectures = judge.architectures(&profile.architectures, native);
    let mut flags = profile.flags.as_deref().map_or(SPEC_ALLOW, |words| judge.flags(words));

    let names = profile.syscalls.iter().map(|rule| rule.names.len()).sum();
    let (mut rules, mut named) = (Vec::with_capacity(names), Vec::with_capacity(names));
    let mut finder = Finder::default();
    let (mut notifies, mut asks_about_sending) = (false, None);
    for (at, rule) in profile.syscalls.iter().enumerate() {
        let action = judge.action(
            &rule.action,
            rule.errno_ret,
            (format_args!("syscalls[{at}].action"), format_args!("syscalls[{at}].errnoRet")),
        );
        let alternatives = judge.conditions(&rule.args, at);
        if rule.names.is_empty() {
            judge.fault(
                format_args!("syscalls[{at}].names"),
                "empty; name the system calls that the rule is for",
            );
        }
        for (place, name) in rule.names.iter().enumerate() {
            let Some(call) = finder.find(name) else {
                judge.unknown(name, format_args!("syscalls[{at}].names[{place}]"), unknown);
                continue;
            };
            named.push(call);
            if action == default {
                continue;
            }
            if action == NOTIFY {
                notifies = true;
                if name == "sendmsg" && asks_about_sending.is_none() {
                    asks_about_sending = Some(format!("syscalls[{at}].names[{place}]"));
                }
            }
            rules.extend(alternatives.iter().map(|conditions| Rule {
                name: call,
                action,
                conditions: conditions.clone(),
            }));
        }
    }
    if !profile.listener_metadata.is_empty() && profile.listener_path.is_empty() {
        judge.fault("listenerMetadata", "given without listenerPath");
    }
    let listener = notifies.then(|| Listener {
        path: profile.listener_path.clone(),
        metadata: profile.listener_metadata.clone(),
        asks_about_sending,
    });
    if notifies {
        flags |= NEW_LISTENER;
        if flags & TSYNC != 0 {
            // Both use the call's return value; with this flag a failed TSYNC is an errno instead.
            flags |= TSYNC_ESRCH;
        }
    } else if flags & WAIT_KILLABLE != 0 {
        let at = profile.flags.iter().flatten().position(|word| word == WAIT_KILLABLE_WORD);
        let reason = format!(
            "{WAIT_KILLABLE_WORD} needs a rule with SCMP_ACT_NOTIFY; without one the kernel refuses it"
        );
        judge.fault(format_args!("flags[{}]", at.unwrap_or_default()), reason);
    }
    if judge.faults.is_empty() {
        Ok((Profile { default, architectures, rules, named, flags, listener }, judge.warnings))
    } else {
        Err(judge.faults)
    }
}

impl Judge {
    fn fault(&mut self, path: impl Display, reason: impl Into<String>) {
        self.faults.push(InvalidField { path: path.to_string(), reason: reason.into() });
    }

    fn unknown(&mut self, name: &str, path: Place<'_>, unknown: UnknownCalls) {
        match unknown {
            UnknownCalls::Refused => self.fault(path, format!("unknown system call {name:?}")),
            UnknownCalls::LeftOut => {
                self.warnings.push(format!("{path}: unknown system call {name:?} is left out"));
            }
        }
    }

    /// The kernel's number for an action with its data. The paths of both values are for faults.
    fn action(&mut self, word: &str, errno: Option<u32>, (action_path, errno_path): (Place, Place)) -> u32 {
        let Some((_, number, most)) = ACTION_WORDS.iter().find(|(name, ..)| *name == word) else {
            self.fault(action_path, format!("unknown action {word:?}"));
            return KILL;
        };
        match (errno, *most) {
            (None, None) => *number,
            (None, Some(_)) => number | libc::EPERM as u32,
            (Some(errno), Some(most)) if errno <= most => number | errno,
            (Some(errno), Some(most)) => {
                self.fault(errno_path, format!("{errno} is more than {most}, the highest for {word}"));
                KILL
            }
            (Some(_), None) => {
                self.fault(errno_path, format!("{word} takes no error number"));
                KILL
            }
        }
    }

    fn architectures(&mut self, words: &[String], native: Arch) -> Vec<Arch> {
        let mut list = vec![native];
        for (at, word) in words.iter().enumerate() {
            match arch::find(word) {
                Some(NamedArch::Compiled(arch)) if arch.runs_on(native) && !list.contains(&arch) => {
                    list.push(arch)
                }
                Some(NamedArch::Compiled(_) | NamedArch::Native) => {}
                Some(NamedArch::Foreign) => {
                    self.warnings.push(format!("architectures[{at}]: calls through {word} are killed"));
                }
                None => {
                    self.fault(format_args!("architectures[{at}]"), format!("unknown architecture {word:?}"))
                }
            }
        }
        list
    }

    fn flags(&mut self, words: &[String]) -> u32 {
        let mut flags = 0;
        for (at, word) in words.iter().enumerate() {
            match FLAG_WORDS.iter().find(|(name, _)| name == word) {
                Some((_, bit)) => flags |= bit,
                None => self.fault(format_args!("flags[{at}]"), format!("unknown flag {word:?}")),
            }
        }
        flags
    }

    /// The conditions of a rule: alternatives, each a list of conditions that must all hold.
    fn conditions(&mut self, args: &[spec::SeccompArg], rule: usize) -> Vec<Vec<Condition>> {
        let mut list: Vec<Condition> = Vec::with_capacity(args.len());
        let mut repeated = false;
        for (at, arg) in args.iter().enumerate() {
            let path = |field: &str| format!("syscalls[{rule}].args[{at}].{field}");
            if arg.index > 5 {
                self.fault(path("index"), format!("{} is not an argument: a call has 0 to 5", arg.index));
            }
            let Some((_, operator)) = OPERATOR_WORDS.iter().find(|(name, _)| *name == arg.op) else {
                self.fault(path("op"), format!("unknown operator {:?}", arg.op));
                continue;
            };
            let (mask, value) = match operator {
                Operator::MaskedEqual => (arg.value, arg.value_two),
                _ => (u64::MAX, arg.value),
            };
            repeated |= list.iter().any(|other| other.index == arg.index);
            list.push(Condition { index: arg.index, operator: *operator, mask, value: value & mask });
        }
        list.sort_by_key(|condition| condition.index);
        // With an empty mask, a condition always holds.
        let asks = |condition: &Condition| condition.mask != 0;
        if repeated {
            list.into_iter().map(|condition| Vec::from_iter(Some(condition).filter(asks))).collect()
        } else {
            list.retain(asks);
            vec![list]
        }
    }
}
