//! Constraints: tests that a machine must pass to run an artifact, all of them.
//!
//! ```text
//! constraint = {"kind": KIND, its own members, "optional": true}
//!            | {"anyOf": [constraint…], "allOf": […], "noneOf": […], "optional": true}
//! ```
//! Each list that is present must hold.
//! For kinds with words (arch, os, namespace, lsm, seccomp, label) the lists contain words. An
//! optional constraint that does not hold only causes a warning.

mod parse;
mod values;

use super::node::{Gpu, Node};
use crate::emergence::base::glob;
use crate::emergence::base::refusal::{Code, Fault, Result};
use values::Values;

/// The constraints of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints(Vec<Constraint>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Constraint {
    /// Its JSON, for messages.
    shown: String,
    optional: bool,
    need: Need,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    Lists {
        any: Option<Vec<Constraint>>,
        all: Vec<Constraint>,
        none: Vec<Constraint>,
    },
    Test(Test),
    /// An unknown kind.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Arch(Values),
    Os(Values),
    Namespace(Values),
    Lsm(Values),
    Seccomp(Values),
    Kernel { min: String },
    Cpu { count: u64, features: Vec<String> },
    Memory { min: u64 },
    Disk { min: u64 },
    Gpu(GpuNeed),
    Device { path: String },
    Cgroup { controllers: Vec<String> },
    Label { key: String, values: Values },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GpuNeed {
    vendor: Option<String>,
    model: Option<String>,
    count: usize,
    memory: Option<u64>,
    driver: Option<String>,
}

/// Resources that a container gets because of its constraints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Device nodes of the machine, sorted, without duplicates.
    pub devices: Vec<String>,
    /// Memory to protect from reclaim by others, in bytes.
    pub memory: Option<u64>,
}

/// Whether a constraint holds; if not, the machine's value.
enum Outcome {
    Met,
    Unmet(String),
    /// It is not understood, and the result depends on it.
    Unknown(String),
}

impl Constraints {
    /// Whether there are no constraints.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tests all constraints against `node`. Returns a warning for each optional one that does not
    /// hold.
    ///
    /// `constraint.unmet` lists every constraint that does not hold, with the machine's value; it
    /// is `constraint.unknown` if one of them is of an unknown kind.
    pub fn check(&self, node: &Node) -> Result<Vec<String>> {
        let (mut code, mut found) = (Code::ConstraintUnmet, Vec::new());
        let (mut unmet, mut warnings) = (Vec::new(), Vec::new());
        for one in &self.0 {
            let has = match one.outcome(node, &mut warnings) {
                Outcome::Met => continue,
                Outcome::Unmet(has) => has,
                Outcome::Unknown(what) => {
                    code = Code::ConstraintUnknown;
                    what
                }
            };
            unmet.push(one.shown.clone());
            found.push(has);
        }
        if unmet.is_empty() {
            return Ok(warnings);
        }
        let lines: Vec<_> = unmet.iter().zip(&found).map(|(need, has)| format!("{need} ({has})")).collect();
        let fault = Fault::refused(code, "constraints", format!("not met: {}", lines.join("; ")));
        Err(match fault {
            Fault::Refused(mut refusal, steps) => {
                refusal.expected = Some(unmet.join("; "));
                refusal.actual = Some(found.join("; "));
                Fault::Refused(refusal, steps)
            }
            failed => failed,
        })
    }

    /// Resources for a container on `node`: the devices of each `gpu` and `device` that holds, and
    /// the largest `memory`. Of alternatives, the first that holds.
    pub fn granted(&self, node: &Node) -> Granted {
        let mut granted = Granted::default();
        for one in &self.0 {
            one.grant(node, &mut granted);
        }
        granted.devices.sort();
        granted.devices.dedup();
        granted
    }
}

impl Constraint {
    /// Tests one constraint. An optional one always holds, but may add a warning. Recursion is
    /// bounded: parsing limits the nesting of lists.
    fn outcome(&self, node: &Node, warnings: &mut Vec<String>) -> Outcome {
        let outcome = match &self.need {
            Need::Unknown(kind) => Outcome::Unknown(format!("unknown kind {kind:?}")),
            Need::Test(test) => match test.lacks(node) {
                None => Outcome::Met,
                Some(has) => Outcome::Unmet(has),
            },
            Need::Lists { any, all, none } => {
                let all = every(all, node, warnings);
                let all = combine(all, || any.as_ref().map_or(Outcome::Met, |any| one_of(any, node)));
                combine(all, || no_one(none, node))
            }
        };
        match outcome {
            Outcome::Unmet(has) | Outcome::Unknown(has) if self.optional => {
                warnings.push(format!("optional constraint {} is not met ({has})", self.shown));
                Outcome::Met
            }
            other => other,
        }
    }

    fn holds(&self, node: &Node) -> bool {
        matches!(self.outcome(node, &mut Vec::new()), Outcome::Met)
    }

    fn grant(&self, node: &Node, granted: &mut Granted) {
        match &self.need {
            Need::Lists { any, all, .. } if self.holds(node) => {
                all.iter().for_each(|one| one.grant(node, granted));
                if let Some(first) = any.iter().flatten().find(|one| one.holds(node)) {
                    first.grant(node, granted);
                }
            }
            // Only an optional constraint may be unmet here.
            Need::Test(test) if test.lacks(node).is_some() => {}
            Need::Test(Test::Memory { min }) => {
                granted.memory = granted.memory.max(Some(*min));
            }
            Need::Test(Test::Gpu(need)) => {
                let chosen = node.gpus.iter().filter(|gpu| need.is(gpu)).take(need.count);
                granted.devices.extend(chosen.flat_map(|gpu| gpu.devices.clone()));
            }
            Need::Test(Test::Device { path }) => granted.devices.push(path.clone()),
            _ => {}
        }
    }
}

fn every(list: &[Constraint], node: &Node, warnings: &mut Vec<String>) -> Outcome {
    list.iter().fold(Outcome::Met, |so_far, one| combine(so_far, || one.outcome(node, warnings)))
}

/// Combines two outcomes: unmet takes precedence over unknown, and reasons are joined.
fn combine(first: Outcome, second: impl FnOnce() -> Outcome) -> Outcome {
    match (first, second()) {
        (Outcome::Met, other) | (other, Outcome::Met) => other,
        (Outcome::Unmet(a), Outcome::Unmet(b)) => Outcome::Unmet(format!("{a}, {b}")),
        (Outcome::Unknown(a), Outcome::Unknown(b)) => Outcome::Unknown(format!("{a}, {b}")),
        (Outcome::Unmet(a), Outcome::Unknown(_)) | (Outcome::Unknown(_), Outcome::Unmet(a)) => {
            Outcome::Unmet(a)
        }
    }
}

fn one_of(list: &[Constraint], node: &Node) -> Outcome {
    let (mut has, mut unknown) = (Vec::new(), Vec::new());
    for one in list {
        match one.outcome(node, &mut Vec::new()) {
            Outcome::Met => return Outcome::Met,
            Outcome::Unmet(what) => has.push(what),
            Outcome::Unknown(what) => unknown.push(what),
        }
    }
    if unknown.is_empty() { Outcome::Unmet(has.join(", ")) } else { Outcome::Unknown(unknown.join(", ")) }
}

fn no_one(list: &[Constraint], node: &Node) -> Outcome {
    let mut outcome = Outcome::Met;
    for one in list {
        match one.outcome(node, &mut Vec::new()) {
            Outcome::Met => return Outcome::Unmet(format!("{} holds", one.shown)),
            Outcome::Unmet(_) => {}
            unknown => outcome = unknown,
        }
    }
    outcome
}

impl Test {
    /// The machine's value, if the test fails.
    fn lacks(&self, node: &Node) -> Option<String> {
        let (enough, has) = match self {
            Test::Arch(values) => return values.lack(std::slice::from_ref(&node.arch)),
            Test::Os(values) => return values.lack(std::slice::from_ref(&node.os)),
            Test::Namespace(values) => return values.lack(&node.namespaces),
            Test::Lsm(values) => return values.lack(&node.lsm),
            Test::Seccomp(values) => {
                return if node.seccomp.is_empty() {
                    Some("has no filters of system calls".into())
                } else {
                    values.lack(&node.seccomp)
                };
            }
            Test::Label { key, values } => {
                return match node.labels.get(key) {
                    None => Some("has no such label".into()),
                    Some(value) => values.lack(std::slice::from_ref(value)),
                };
            }
            Test::Kernel { min } => {
                (values::version(&node.kernel) >= values::version(min), format!("has {}", node.kernel))
            }
            Test::Cpu { count, features } => {
                let missing: Vec<_> =
                    features.iter().filter(|one| !node.cpu.features.contains(one)).collect();
                let has = if missing.is_empty() {
                    format!("has {}", node.cpu.count)
                } else {
                    format!("has {}, lacks {}", node.cpu.count, values::joined(&missing))
                };
                (node.cpu.count >= *count && missing.is_empty(), has)
            }
            Test::Memory { min } => (node.memory >= *min, format!("has {}", node.memory)),
            Test::Disk { min } => (node.disk >= *min, format!("has {}", node.disk)),
            Test::Gpu(need) => {
                let fit = node.gpus.iter().filter(|gpu| need.is(gpu)).count();
                (fit >= need.count, format!("has {fit} of {}", node.gpus.len()))
            }
            Test::Device { path } => (node.devices.contains(path), "has no such device".into()),
            Test::Cgroup { controllers } => {
                let here = &node.cgroup.controllers;
                let has = format!("has {}", values::joined(here));
                (controllers.iter().all(|one| here.contains(one)), has)
            }
        };
        (!enough).then_some(has)
    }
}

impl GpuNeed {
    fn is(&self, gpu: &Gpu) -> bool {
        let driver = |wanted: &String| {
            if wanted.starts_with(|c: char| c.is_ascii_digit()) {
                gpu.driver_version.as_ref().is_some_and(|own| values::version(own) >= values::version(wanted))
            } else {
                gpu.driver.as_ref() == Some(wanted)
            }
        };
        self.vendor.as_ref().is_none_or(|vendor| *vendor == gpu.vendor)
            && self.model.as_ref().is_none_or(|model| glob::matches(model, &gpu.model))
            && self.memory.is_none_or(|least| gpu.memory.is_some_and(|own| own >= least))
            && self.driver.as_ref().is_none_or(driver)
    }
}

#[cfg(test)]
mod tests;
