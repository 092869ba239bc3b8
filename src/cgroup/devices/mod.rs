//! Device rules: `linux.resources.devices` as a table of allowed accesses, for eBPF (cgroup v2) or
//! `devices.allow` (v1).
//!
//! The rules apply in the order of config.json, then [`DEFAULTS`]. The last matching rule decides,
//! separately for read, write and mknod; without a matching rule, access is denied. A request is
//! allowed if each access in it is. `linux.devices` adds no rule: it only creates nodes, and an
//! engine that makes one read-only says so in its rules.

mod allowed;
mod program;
mod table;

pub use allowed::{Allowed, allowed};
pub use program::{Program, compile};
pub use table::v1_writes;

use super::BadLimit;
use crate::spec::DeviceRule;

/// A set of accesses, as bits of the kernel's BPF_DEVCG_ACC_….
pub type Access = u8;
/// mknod(2).
pub const MKNOD: Access = 1;
/// Opening for reading.
pub const READ: Access = 2;
/// Opening for writing.
pub const WRITE: Access = 4;
/// All three accesses.
pub const ALL: Access = MKNOD | READ | WRITE;

/// The two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// One validated rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether matching access is allowed.
    pub allow: bool,
    /// Device class; `None`: both.
    pub class: Option<Class>,
    /// Major number; `None`: any.
    pub major: Option<u32>,
    /// Minor number; `None`: any.
    pub minor: Option<u32>,
    /// The accesses that the rule allows or denies.
    pub access: Access,
}

const fn allow(class: Class, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
    Rule { allow: true, class: Some(class), major, minor, access }
}

/// Always allowed, as in runc and crun: the default devices, terminals, and creating (not opening)
/// any node.
pub const DEFAULTS: [Rule; 11] = [
    allow(Class::Char, None, None, MKNOD),
    allow(Class::Block, None, None, MKNOD),
    allow(Class::Char, Some(1), Some(3), ALL), // null
    allow(Class::Char, Some(1), Some(5), ALL), // zero
    allow(Class::Char, Some(1), Some(7), ALL), // full
    allow(Class::Char, Some(1), Some(8), ALL), // random
    allow(Class::Char, Some(1), Some(9), ALL), // urandom
    allow(Class::Char, Some(5), Some(0), ALL), // tty
    allow(Class::Char, Some(5), Some(1), ALL), // console
    allow(Class::Char, Some(5), Some(2), ALL), // ptmx
    allow(Class::Char, Some(136), None, ALL),  // pts/*
];

/// The work grows with the square of the list's length. This bound keeps it below 0.1 s; no engine
/// writes more than hundreds.
const MOST_RULES: usize = 4096;

/// The effective rules: those of config.json, then the defaults.
///
/// Errors name every invalid rule. An empty `access` means all; a number of -1 means any, as
/// engines write it.
pub fn rules(spec: &[DeviceRule]) -> Result<Vec<Rule>, Vec<BadLimit>> {
    let mut rules = Vec::with_capacity(spec.len() + DEFAULTS.len());
    let mut bad = Vec::new();
    if spec.len() > MOST_RULES {
        let words = format!("{} rules are too many; at most {MOST_RULES}", spec.len());
        return Err(vec![BadLimit::invalid("linux.resources.devices", words)]);
    }
    for (index, written) in spec.iter().enumerate() {
        match rule(written) {
            Ok(rule) => rules.push(rule),
            Err((member, words)) => {
                bad.push(BadLimit::invalid(format!("linux.resources.devices[{index}].{member}"), words));
            }
        }
    }
    rules.extend(DEFAULTS);
    if bad.is_empty() { Ok(rules) } else { Err(bad) }
}

fn rule(written: &DeviceRule) -> Result<Rule, (&'static str, String)> {
    let class = match written.kind.as_str() {
        "" | "a" => None,
        "b" => Some(Class::Block),
        "c" => Some(Class::Char),
        other => return Err(("type", format!("{other:?} is not a, b or c"))),
    };
    let mut access = 0;
    for letter in written.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(("access", format!("{other:?} is not r, w or m"))),
        };
    }
    if written.access.is_empty() {
        access = ALL;
    }
    let major = number(written.major).map_err(|words| ("major", words))?;
    let minor = number(written.minor).map_err(|words| ("minor", words))?;
    Ok(Rule { allow: written.allow, class, major, minor, access })
}

/// Device numbers have 12 and 20 bits in the kernel; any value that fits an eBPF constant is
/// accepted.
fn number(written: Option<i64>) -> Result<Option<u32>, String> {
    match written {
        None | Some(-1) => Ok(None),
        Some(number) => match i32::try_from(number) {
            Ok(small) if small >= 0 => Ok(Some(small as u32)),
            _ => Err(format!("{number} is not a device number (0 to {}, or -1 for any)", i32::MAX)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_checked() {
        let written = |kind: &str, major, access: &str| DeviceRule {
            allow: true,
            kind: kind.into(),
            major,
            minor: None,
            access: access.into(),
        };
        let any = Rule { allow: true, class: None, major: None, minor: None, access: ALL };
        let table = [
            (written("", None, ""), Ok(any)),
            (written("a", Some(-1), "rwm"), Ok(any)),
            (written("c", Some(10), "rw"), Ok(allow(Class::Char, Some(10), None, READ | WRITE))),
            (written("p", None, ""), Err("type")),
            (written("b", Some(-2), ""), Err("major")),
            (written("b", Some(1 << 31), ""), Err("major")),
            (written("b", None, "rx"), Err("access")),
        ];
        for (written, want) in table {
            assert_eq!(rule(&written).map_err(|(member, _)| member), want, "{written:?}");
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let bad = DeviceRule { kind: "x".into(), ..DeviceRule::default() };
        let faults = rules(&[bad.clone(), DeviceRule::default(), bad]).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["linux.resources.devices[0].type", "linux.resources.devices[2].type"]);
    }
}
