//! Device rules: `linux.resources.devices` as a table of who may do what, for eBPF (cgroup v2) or `devices.allow` (v1).
//!
//! The rules in the order of config.json, then [`DEFAULTS`]; the last rule that matches decides, for each of read, write and mknod
//! by itself; what no rule names is denied. A request is allowed when each access in it is. `linux.devices` adds no rule: it
//! only makes nodes, and an engine that makes one read-only says so in its rules.

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
/// All three.
pub const ALL: Access = MKNOD | READ | WRITE;

/// The two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// One rule, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether matching access is allowed.
    pub allow: bool,
    /// Absent: both.
    pub class: Option<Class>,
    /// Absent: any.
    pub major: Option<u32>,
    /// Absent: any.
    pub minor: Option<u32>,
    /// Which accesses the rule speaks of.
    pub access: Access,
}

const fn allow(class: Class, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
    Rule { allow: true, class: Some(class), major, minor, access }
}

/// Always allowed, as runc and crun do: the default devices, terminals, and making (not opening) any node.
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

/// The work on a list grows with its square; this keeps it below a tenth of a second, and no engine writes more than hundreds.
const MOST_RULES: usize = 4096;

/// The rules in force: those of config.json, then the defaults.
///
/// Errors name every rule that can't be understood. An empty `access` is all; a number of -1 is any, as engines write it.
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
        other => return Err(("type", format!("{other:?} is none of a, b, c"))),
    };
    let mut access = 0;
    for letter in written.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(("access", format!("{other:?} is none of r, w, m"))),
        };
    }
    if written.access.is_empty() {
        access = ALL;
    }
    let major = number(written.major).map_err(|words| ("major", words))?;
    let minor = number(written.minor).map_err(|words| ("minor", words))?;
    Ok(Rule { allow: written.allow, class, major, minor, access })
}

/// Device numbers have 12 and 20 bits in the kernel; anything that an eBPF constant holds may be written.
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
    fn every_fault_is_told_with_its_place() {
        let bad = DeviceRule { kind: "x".into(), ..DeviceRule::default() };
        let faults = rules(&[bad.clone(), DeviceRule::default(), bad]).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["linux.resources.devices[0].type", "linux.resources.devices[2].type"]);
    }
}
